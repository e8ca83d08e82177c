"""Port Terminal: a process group behind a gate, its output, its end. `native` is the PTY of this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from msgspec import Struct

from skep.terminals.plain import Plain as Plain
from skep.terminals.plain import Tail as Tail


class Profile(Struct, frozen=True, kw_only=True, gc=False):
    """What to start.

    Args:
        name: for people.
        argv: an argument list, never a shell line.
        cwd: absolute.
        env: the whole environment; nothing is inherited.
        nonce: marks every process of it (`SKEP_NONCE` in the environment): recovery finds leftovers by it.
        stdin: `null`, the terminal itself, a pipe for a conversation, or these bytes.
        tty: whether stdout and stderr are a terminal; otherwise one pipe for both.
        columns, rows: size of the terminal.
    """

    name: str
    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    nonce: str
    stdin: Literal["null", "tty", "pipe"] | bytes = "null"
    tty: bool = True
    columns: int = 120
    rows: int = 32


class Exit(Struct, frozen=True, gc=False):
    """How the first process ended: its exit code, or the signal that ended it; seconds of cpu, bytes of memory at most.

    `lost`: it ended because what kept it was killed, which is nobody's failure.
    """

    code: int | None
    signal: int | None = None
    cpu: float = 0.0
    memory: int = 0
    lost: bool = False


class Terminal(Protocol):
    """One started process, waiting at its gate until `release`."""

    pid: int
    born: int  #: start time in clock ticks since boot (field 22 of /proc/PID/stat)

    def release(self) -> None:
        """Opens the gate: the program runs. Call it when pid, start time and nonce are recorded."""

    def write(self, data: bytes) -> None:
        """Types into the terminal, or writes to the pipe. Raises Invalid if stdin is neither."""

    def finish(self) -> None:
        """Nothing more is written: the program finds the end of its input. Raises Invalid if stdin is no pipe."""

    def resize(self, columns: int, rows: int) -> None:
        """Changes the terminal's size."""

    async def wait(self) -> Exit:
        """Waits until the first process has ended and its output is read to the end (bounded: leftovers do not hold it)."""

    async def end(self, grace: float = 2.0) -> None:
        """Ends everything of it: SIGTERM to the group, after `grace` seconds SIGKILL, also to what left the group.

        Returns when no process of it is left. Also to be called after `wait`: it ends what the first process left behind.
        """


class Terminals(Protocol):
    """A source of terminals."""

    async def create(self, profile: Profile, output: Callable[[bytes], None]) -> Terminal:
        """Starts the process up to its gate. `output` gets what it prints, as it comes.

        Raises Invalid (no such program or folder), Exhausted (the pool is full), Unavailable (cannot start processes here).
        """

    async def close(self) -> None:
        """Ends all of them and what watches them."""
