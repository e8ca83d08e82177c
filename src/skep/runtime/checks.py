"""Commands that Skep runs itself: setups and verifications, each in a terminal, its last lines kept for whoever comes next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from skep.agents import LOST
from skep.core.terms import Command
from skep.errors import Invalid, SkepError
from skep.terminals import Profile, Terminals
from skep.terminals.plain import Tail

#: Lines of a failed command's output that the next attempt and the report get.
FEEDBACK_LINES = 200
#: Characters of these lines, and of the command that stands before them: the log takes 32,000 in all.
FEEDBACK_SIZE = 24_000
COMMAND_SIZE = 2_000
#: A check may take this long unless its task says otherwise, seconds.
CHECK_TIMEOUT = 3_600.0


class Checked(Struct, frozen=True):
    """How a command ended. `feedback` = what it was, how it ended, its last lines; empty if it succeeded.

    `lost`: it was not judged at all, because it could not start or what ran it was killed. `code`: how it ended, if it did.
    """

    ok: bool
    detail: str = ""
    feedback: str = ""
    lost: bool = False
    code: int | None = None


def excused(found: Checked) -> Checked:
    """What a verification of a stand-in's work comes to in a rehearsal: that it fails is no wonder, but that it cannot be run
    (the shell's 126 and 127, a timeout, a signal) is what one rehearses for.
    """
    if found.ok or found.lost or found.code in (None, 126, 127):
        return found
    return Checked(True, f"needs a real agent: {found.detail}")


def argv(command: Command) -> tuple[str, ...]:
    """A string runs under bash, strictly; a list runs as it is."""
    return ("bash", "-euo", "pipefail", "-c", command) if isinstance(command, str) else tuple(command)


def shown(command: Command) -> str:
    """A command as a person would write it."""
    return command if isinstance(command, str) else " ".join(command)


async def check(
    terminals: Terminals,
    what: str,
    command: Command,
    cwd: str,
    env: Mapping[str, str],
    nonce: str,
    output: Callable[[bytes], None],
    timeout: float = CHECK_TIMEOUT,
) -> Checked:
    """Runs one command to its end; nothing of it is left when this returns or is cancelled.

    Args:
        what: for people: `verify`, `setup`.
        timeout: seconds; 0 = `CHECK_TIMEOUT`.
    """
    tail = Tail(FEEDBACK_LINES)

    def heard(data: bytes) -> None:
        tail.feed(data)
        output(data)

    output(f"\x1b[2m$ {shown(command)}\x1b[0m\r\n".encode())
    profile = Profile(name=what, argv=argv(command), cwd=cwd, env=dict(env), nonce=nonce)
    try:
        terminal = await terminals.create(profile, heard)
    except SkepError as error:
        lost = not isinstance(error, Invalid)
        return Checked(False, f"{what}: {error.message}", f"{what} could not start: {error}", lost)
    try:
        terminal.release()
        async with asyncio.timeout(timeout or CHECK_TIMEOUT):
            ended = await terminal.wait()
    except TimeoutError:
        return _failed(what, command, f"took more than {timeout or CHECK_TIMEOUT:g} s", tail)
    finally:
        await asyncio.shield(terminal.end())
    if ended.code == 0:
        return Checked(True)
    if ended.lost:
        return Checked(False, f"{what}: {LOST.detail}", lost=True)
    how = f"exit code {ended.code}" if ended.code is not None else f"signal {ended.signal}"
    return _failed(what, command, how, tail, ended.code)


def _failed(what: str, command: Command, how: str, tail: Tail, code: int | None = None) -> Checked:
    lines = tail.lines()
    last = next((line for line in reversed(lines) if line.strip()), "")
    detail = f"{what} `{shown(command)[:200]}`: {how}" + (f": {last.strip()[:300]}" if last else "")
    words = "\n".join(lines)[-FEEDBACK_SIZE:]
    return Checked(False, detail, f"{what} failed: {shown(command)[:COMMAND_SIZE]}\n{how}\n{words}", code=code)


async def setups(
    terminals: Terminals,
    commands: Sequence[Command],
    cwd: str,
    env: Mapping[str, str],
    nonce: str,
    output: Callable[[bytes], None],
) -> Checked:
    """Prepares a worktree, one command after the other, until one fails."""
    for command in commands:
        found = await check(terminals, "setup", command, cwd, env, nonce, output)
        if not found.ok:
            return found
    return Checked(True)
