"""Landlock, seccomp and, where the kernel lets us, a network of its own: for machines without bubblewrap.

Files are shown where they are, so some things are lost; each is named. `skep.security.confine` does the work, in the process that
becomes the program.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec.structs import replace

from skep.errors import Unavailable
from skep.security import Bounds, confine, seccomp
from skep.security.sandbox import PATIENCE, handing_over, own_home, write_filter
from skep.security.tools import ETC, SYSTEM, inside
from skep.terminals import Profile

#: Oldest version that keeps files from being cut short; oldest that keeps signals in.
LEAST, SIGNALS = 3, 6
#: What every program may write: nothing stays there.
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/shm")
_LOST = {
    "pids": "processes of others can be seen in /proc, their names and arguments among them",
    "modes": "Landlock lets modes, owners and times of your files be changed, and shows that they are there",
    "settings": "files are shown as they are",
    "ipc": "/dev/shm is shared with others",
}


class Landlock:
    """Starts programs by `confine.py`.

    Args:
        folder: takes the seccomp program; nothing that is confined sees it.
        namespaces: whether network, ipc and host name are its own.
        lost: what is lost for other reasons.
    """

    name = "landlock"

    def __init__(self, folder: Path, namespaces: bool, lost: Mapping[str, str]) -> None:
        out = {} if confine.abi() >= SIGNALS else {"processes": f"Landlock of version {confine.abi()} lets signals out"}
        if not namespaces:
            out["hosts"] = "no network of its own can be made"
        self.lost: Mapping[str, str] = {**_LOST, **out, **lost}
        self._namespaces = namespaces
        name = f"seccomp-{'own' if namespaces else 'no'}-network.bpf"
        self._filter = str(write_filter(folder, name, seccomp.program(network=namespaces)))
        self._ever = (*SYSTEM, *(f"/etc/{name}" for name in ETC), "/proc", "/sys/devices/system/cpu")

    def confine(self, profile: Profile, bounds: Bounds) -> Profile:
        """See the port."""
        home = own_home(profile, bounds) or profile.env.get("HOME", "")
        scratch = f"{bounds.home}/.tmp" if bounds.home else ""
        if scratch:
            os.makedirs(scratch, exist_ok=True)
        said = {
            "read": [*self._ever, *_shown(bounds.read, bounds.hidden)],
            "write": [*_DEVICES, *_shown(bounds.write, bounds.hidden), *filter(None, [bounds.home])],
            "namespaces": self._namespaces and not bounds.listens,
            **handing_over(profile, bounds),
            "filter": self._filter,
        }
        words = (sys.executable, "-I", "-S", str(confine.__file__), json.dumps(said), *profile.argv)
        env = {name: value for name, value in profile.env.items() if name not in ("XDG_RUNTIME_DIR", "TMPDIR")}
        env |= {"HOME": home} | ({"TMPDIR": scratch} if scratch else {})
        return replace(profile, argv=words, env=env)


def _shown(paths: Iterable[str], hidden: tuple[str, ...]) -> Iterator[str]:
    """The paths; of one in which something is hidden, all that lies around that, as it is now."""
    for path in paths:
        if not any(inside(other, path) for other in hidden):
            yield path
        elif path not in hidden:
            try:
                yield from _shown((f"{path.rstrip('/')}/{name}" for name in sorted(os.listdir(path))), hidden)
            except OSError:
                continue


def choose(folder: Path, lost: Mapping[str, str]) -> Landlock | str:
    """Landlock, tried once; or why it cannot be had.

    Args:
        folder, lost: see `Landlock`.

    Raises:
        Unavailable: the folder cannot be written.
    """
    if confine.abi() < LEAST:
        return f"the kernel's Landlock is {'off or missing' if not confine.abi() else 'too old'}"
    if not seccomp.program():
        return f"no seccomp program is known for {os.uname().machine}"
    said = ""
    for namespaces in (True, False):
        sandbox = Landlock(folder, namespaces, lost)
        trial = Profile(name="trial", argv=("true",), cwd="/", env={"PATH": os.defpath}, nonce="")
        trial = sandbox.confine(trial, Bounds())
        try:
            ran = subprocess.run(trial.argv, cwd="/", env=trial.env, capture_output=True, text=True, timeout=PATIENCE)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"Landlock cannot be tried: {error}.", "Check the machine's load and memory.") from error
        if ran.returncode == 0:
            return sandbox
        said = ran.stderr.strip()
    return f"Landlock does not work here: {said}"
