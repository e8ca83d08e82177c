"""What programs need of this machine to run at all: the few files of /etc that everything reads, and where the user's tools are.

Of the user's home nothing is shown but folders that hold tools, by name: a program on the PATH may be there, a key may not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

#: What a sandbox shows of itself, always.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
#: Of /etc: names, certificates, time, the loader, how programs are set up. Nothing of it is secret.
ETC = (
    "alternatives", "bash.bashrc", "bash_completion.d", "ca-certificates", "ca-certificates.conf", "crypto-policies",
    "debian_version", "default/locale", "fonts", "gai.conf", "gitconfig", "group", "host.conf", "hosts", "inputrc", "java",
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "locale.conf", "localtime", "magic", "mime.types",
    "networks", "nsswitch.conf", "os-release", "passwd", "perl", "pki/ca-trust", "pki/tls/certs", "pki/tls/cert.pem",
    "pki/tls/openssl.cnf", "profile", "profile.d", "protocols", "python3", "python3.11", "python3.12", "python3.13",
    "redhat-release", "rpc", "services", "shells", "ssl/cert.pem", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone",
    "xml", "zoneinfo",
)  # fmt: skip
#: Of the user's home: tools that are installed there. Each of them keeps what is secret elsewhere.
_HOME = (
    ".asdf", ".bun/bin", ".bun/install/global", ".cargo/bin", ".cargo/env", ".deno/bin", ".fnm", ".goenv", ".jenv",
    ".juliaup", ".linuxbrew", ".local/bin", ".local/lib", ".local/opt", ".local/pipx", ".local/share/claude",
    ".local/share/fnm", ".local/share/mise", ".local/share/pipx", ".local/share/pnpm", ".local/share/rtx",
    ".local/share/uv", ".local/share/virtualenvs", ".n", ".nodenv", ".npm-global", ".nvm", ".opam", ".opencode/bin",
    ".pyenv", ".rbenv", ".rustup", ".rvm", ".sdkman", ".volta", "anaconda3", "go/bin", "go/pkg", "mambaforge", "miniconda3",
    "miniforge3", "sdk",
)  # fmt: skip
#: What counts of a program's environment.
_COUNTS = ("HOME", "PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
#: Seconds for which what was found holds: many attempts begin at once, and looking takes longer than all else of their bounds.
_HOLDS = 2.0
#: Links that may lead from one to the next.
_LINKS = 40
#: Elsewhere.
_ELSEWHERE = ("/opt", "/nix/store", "/run/current-system/sw", "/snap/bin")


def copy_etc(folder: Path) -> Path:
    """A folder that holds what confined programs see of /etc: one mount in the place of forty, which is quicker.

    Args:
        folder: where it is made, under a name that changes when any of it does.
    """
    stamp = hashlib.sha256(repr([(name, _changed(f"/etc/{name}")) for name in ETC]).encode()).hexdigest()[:16]
    made = folder / f"etc-{stamp}"
    if not made.is_dir():
        draft = folder / f"etc-draft-{os.getpid()}"
        for name in ETC:
            source, target = Path("/etc", name), draft / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError, shutil.Error):  # what cannot be read here cannot be read there
                if source.is_dir() and not source.is_symlink():
                    shutil.copytree(source, target, symlinks=True, ignore_dangling_symlinks=True)
                elif os.path.lexists(source):
                    shutil.copy2(source, target, follow_symlinks=False)
        draft.rename(made)
    return made


def _changed(path: str) -> int:
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return 0


def tools(env: Mapping[str, str]) -> tuple[str, ...]:
    """Folders and files that a confined program may read besides the system's own, without symbolic links, sorted.

    Args:
        env: of the program: its PATH, HOME and certificates count.
    """
    return _found(tuple((name, env[name]) for name in _COUNTS if name in env), int(time.monotonic() / _HOLDS))


@lru_cache(maxsize=64)
def _found(given: tuple[tuple[str, str], ...], _when: int) -> tuple[str, ...]:
    env = dict(given)
    home = os.path.realpath(env.get("HOME") or "/nonexistent")
    found = {os.path.realpath(path) for path in _named(env, home)}
    # A PATH that names the home itself, or what it lies in, does not open it.
    return outermost(path for path in found if not inside(home, path) and not _covered(path) and os.path.exists(path))


def _named(env: Mapping[str, str], home: str) -> Iterator[str]:
    yield from (f"{home}/{name}" for name in _HOME)
    yield from _ELSEWHERE
    yield from (sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]))
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        yield from (path for path in env.get(name, "").split(os.pathsep) if path.startswith("/"))
    for place in env.get("PATH", "").split(os.pathsep):
        if place.startswith("/"):
            yield from _installed(place)


def _installed(place: str) -> Iterator[str]:
    """A folder of the PATH, and what its programs need: a virtual environment is whole, Node's modules lie beside `bin`."""
    yield place
    around = Path(place).parent
    if Path(place).name == "shims":  # of pyenv and its kin: they lead to what lies around them
        yield str(around)
    if (around / "pyvenv.cfg").is_file():
        yield str(around)
        for line in (around / "pyvenv.cfg").read_text(errors="replace").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "home" and value.strip().startswith("/"):
                yield os.path.dirname(os.path.realpath(value.strip()))
    for name in ("lib/node_modules", "lib/python3"):
        if (around / name).is_dir():
            yield str(around / name)


def installed(program: str, env: Mapping[str, str]) -> tuple[str, ...]:
    """What a program needs of where it is installed: itself, what leads to it, what lies around it; empty if it is not there.

    Args:
        program: a path, or a name that is looked for.
        env: of the program: its PATH and HOME count.
    """
    found = shutil.which(os.path.expanduser(program), path=env.get("PATH", os.defpath))
    needed: list[str] = []
    for _ in range(_LINKS):
        if found is None:
            break
        needed += _around(os.path.abspath(found))
        found = os.path.join(os.path.dirname(found), os.readlink(found)) if os.path.islink(found) else None
    home = os.path.realpath(env.get("HOME") or "/nonexistent")
    return outermost({real for path in needed if not inside(home, real := os.path.realpath(path)) and not _covered(real)})


def _around(program: str) -> Iterator[str]:
    """A program, and what is installed with it: Node's modules from the outermost on, an environment, or the folder `bin`."""
    yield program
    place = os.path.dirname(program)
    above, sign, _ = program.partition("/node_modules/")
    if sign:
        yield f"{above}/node_modules"
    elif os.path.basename(place) == "bin":
        yield from _installed(place)


def outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Paths, sorted, without those that lie in another of them."""
    kept: list[str] = []
    for path in sorted(paths, key=lambda path: path.split("/")):
        if not kept or not inside(path, kept[-1]):
            kept.append(path)
    return tuple(kept)


def inside(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _covered(path: str) -> bool:
    return path == "/" or any(inside(path, folder) for folder in SYSTEM)
