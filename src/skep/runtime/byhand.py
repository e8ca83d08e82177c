"""A program started in the sandbox by hand, on the terminal of whoever starts it."""

from __future__ import annotations

import os
import secrets
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from skep.core.confinement import Confinement
from skep.errors import Unavailable
from skep.runtime.bounds import bounds
from skep.runtime.confined import FIX
from skep.security.choice import choose
from skep.security.limits import Group
from skep.terminals import Profile
from skep.terminals.native import find_program
from skep.workspace import Around

#: Exit code of a program that was killed by a signal: this and the signal's number, as shells have it.
KILLED = 128


def run(argv: Sequence[str], cwd: Path, state: Path, said: Confinement, env: Mapping[str, str]) -> int:
    """Runs a program confined and waits for it. It can read the folder, and change only what is granted.

    Args:
        argv: the program and its arguments.
        cwd: the folder.
        state: the state folder, never seen.
        said: what holds, from `settled`.
        env: its whole environment.

    Returns:
        The program's exit code.

    Raises:
        Invalid: there is no such program.
        Unavailable: it cannot be confined here.
    """
    find_program(argv[0], env.get("PATH", os.defpath), str(cwd))
    with tempfile.TemporaryDirectory(prefix="skep-sandbox-") as folder:
        sandbox = choose(Path(folder))
        if isinstance(sandbox, str):
            raise Unavailable(f"Programs cannot be confined here: {sandbox}.", FIX)
        config = cwd / ".git" / "config"
        around = Around(read=(str(cwd),), instead={os.path.realpath(config): os.devnull} if config.is_file() else {})
        within = bounds(said, cwd, state, env, around, (), "")
        nonce = secrets.token_hex(16)
        profile = Profile(name=argv[0], argv=tuple(argv), cwd=os.path.realpath(cwd), env=dict(env), nonce=nonce)
        profile = sandbox.confine(profile, within)
        group = Group(nonce, within.limits)
        try:
            return _wait(profile, group)
        finally:
            group.close()


def _wait(profile: Profile, group: Group) -> int:
    """Starts it, held back until it is under its limits."""
    entrance, gate = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(gate)
            os.chdir(profile.cwd)
            if os.read(entrance, 1):
                os.execve(profile.argv[0], profile.argv, profile.env)
        finally:
            os._exit(126)
    os.close(entrance)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program's own affair
    try:
        group.take(pid)
        os.write(gate, b"!")
    finally:
        os.close(gate)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else KILLED - code
