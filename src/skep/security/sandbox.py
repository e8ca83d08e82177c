"""Bubblewrap: namespaces and a root of its own, made of bind mounts of what the bounds name (`bwrap(1)`, 0.8 or newer).

The program's first process stays the one that the terminal knows: `sh` opens the seccomp program and becomes `bwrap`, which waits
for the program and ends as it does. What `bwrap` is told lies in the state folder, which no program sees.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from skep.errors import Unavailable
from skep.security import Bounds, confine, seccomp
from skep.security.egress import own_port
from skep.security.tools import copy_etc, inside
from skep.terminals import Profile

#: Bytes of each of /tmp, /dev/shm and a HOME in memory where no limit says otherwise.
MEMORY_FILES = 2 << 30
#: A folder that programs of every system are in: what is no real folder at the top is a link, and stays one.
TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
SHELL = "/bin/sh"
_SCRIPT = 'filter=$1; shift; exec "$0" --seccomp 9 "$@" 9<"$filter"'
#: Seconds that the trial may take.
PATIENCE = 10.0


class Bubblewrap:
    """Starts programs by `bwrap`.

    Args:
        program: path of `bwrap`.
        folder: takes what is made for all: the seccomp program, a part of /etc. Nothing that is confined sees it.
        lost: see the port.

    Raises:
        Unavailable: the folder cannot be written.
    """

    name = "bubblewrap"

    def __init__(self, program: str, folder: Path, lost: Mapping[str, str]) -> None:
        self.lost = lost
        self._program = program
        self._filter = str(write_filter(folder, "seccomp.bpf", seccomp.program()))
        self._ever = _ever(str(copy_etc(folder)))

    def confine(self, profile: Profile, bounds: Bounds) -> Profile:
        """See the port."""
        mounts = _mounts(bounds, profile)
        words = [*self._ever]
        if not (bounds.door or bounds.listens):
            words.append("--unshare-net")
        size = str(min(bounds.limits.disk or MEMORY_FILES, MEMORY_FILES))
        for path in ("/tmp", "/dev/shm"):
            words += ("--size", size, "--tmpfs", path)
        for path in sorted(mounts, key=lambda path: path.split("/")):  # what lies in another comes after it
            how, source = mounts[path]
            words += ("--size", size, how, path) if how == "--tmpfs" else (how, source, path)
        # The user's number may be 0, whose files in /proc/sys anyone with that number may write, capable or not.
        words += (
            "--remount-ro",
            "/proc",
            "--remount-ro",
            "/dev",
            "--remount-ro",
            "/",
            "--chdir",
            profile.cwd,
            "--",
            *profile.argv,
        )
        env = {name: value for name, value in profile.env.items() if name != "XDG_RUNTIME_DIR"}
        argv: tuple[str, ...] = (SHELL, "-c", _SCRIPT, self._program, self._filter, *words)
        if bounds.door:
            said = json.dumps({"namespaces": True, **handing_over(profile, bounds)})
            argv = (sys.executable, "-I", "-S", str(confine.__file__), said, *argv)
        return replace(profile, argv=argv, env=env | {"TMPDIR": "/tmp"})


def _ever(etc: str) -> tuple[str, ...]:
    """What holds for every program: namespaces, no capabilities, the system's own folders."""
    words = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox"]
    words += ["--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]
    words += ["--ro-bind", "/usr", "/usr", "--ro-bind", etc, "/etc"]
    for name in TOP:
        path = f"/{name}"
        if os.path.islink(path):
            words += ("--symlink", os.readlink(path), path)
        elif os.path.isdir(path):
            words += ("--ro-bind", path, path)
    return (*words, "--dir", "/run", "--symlink", "/tmp", "/var/tmp")


def own_home(profile: Profile, bounds: Bounds) -> str:
    """The folder that stands where HOME does; empty if HOME is left: the program may change it, so it is its own already."""
    home = profile.env.get("HOME", "")
    return "" if any(inside(home, path) for path in bounds.write) else bounds.home


def handing_over(profile: Profile, bounds: Bounds) -> dict[str, object]:
    """What `skep.security.confine` is told about the door."""
    return {"door": bounds.door, "listeners": (("127.0.0.1", own_port(bounds.near)), *bounds.near), "nonce": profile.nonce}


def _mounts(bounds: Bounds, profile: Profile) -> dict[str, tuple[str, str]]:
    """Path -> how it is mounted, and from where. Where two speak of one path, the one that lets do more holds."""
    mounts: dict[str, tuple[str, str]] = dict.fromkeys(bounds.hidden, ("--tmpfs", ""))
    home, own = profile.env.get("HOME", ""), own_home(profile, bounds)
    if home.startswith("/") and home != "/" and (own or not bounds.home):
        mounts[home] = ("--bind", own) if own else ("--tmpfs", "")
    mounts |= {path: ("--ro-bind-try", path) for path in bounds.read if path != home}
    mounts |= {path: ("--ro-bind-try", source) for path, source in bounds.instead.items()}
    mounts |= {path: ("--bind-try", path) for path in bounds.write}
    return mounts


def choose(folder: Path, lost: Mapping[str, str]) -> Bubblewrap | str:
    """Bubblewrap, tried once with all that it needs; or why it cannot be had, and what would help.

    Args:
        folder, lost: see `Bubblewrap`, also for what is raised.
    """
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap is not installed (Debian and others: apt-get install bubblewrap)"
    if not seccomp.program():
        return f"no seccomp program is known for {os.uname().machine}"
    sandbox = Bubblewrap(program, folder, lost)
    trial = sandbox.confine(Profile(name="trial", argv=("true",), cwd="/usr", env={"PATH": os.defpath}, nonce=""), Bounds())
    try:
        ran = subprocess.run(trial.argv, cwd="/", env=trial.env, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap cannot be tried: {error}"
    if ran.returncode:
        said = ran.stderr.strip().splitlines()
        return f"bubblewrap does not work here: {said[-1] if said else f'exit code {ran.returncode}'}"
    return sandbox


def write_filter(folder: Path, name: str, code: bytes) -> Path:
    """Keeps a seccomp program in a file that is whole whenever it is there. Raises Unavailable if that cannot be done."""
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != code:
            draft = folder / f"{name}.{os.getpid()}"
            draft.write_bytes(code)
            draft.replace(path)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}.", "Check the disk, and who owns that folder.") from error
    return path
