"""Gates of pipes: a test learns that a task has begun, and lets it go on, without anybody sleeping."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Gate:
    """A folder with pipes: `begun`, into which tasks write a word; `go`, from which each reads a line before it goes on; `never`,
    in which there is never anything to read.

    The test holds both ends of all of them open, so nobody blocks on opening one.

    Args:
        folder: made; its path is the variable GATE of tasks.
    """

    #: Says that it has begun, waits until it may go on.
    PASS = 'echo "${SKEP_TASK:-x}" > "$GATE/begun"; read -r _ < "$GATE/go"'

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.env = {"GATE": str(folder)}
        self._heard = b""
        for name in ("begun", "go", "never"):
            os.mkfifo(folder / name)
        self._begun = os.open(folder / "begun", os.O_RDWR | os.O_NONBLOCK)
        self._go = os.open(folder / "go", os.O_RDWR | os.O_NONBLOCK)
        self._never = os.open(folder / "never", os.O_RDWR | os.O_NONBLOCK)

    async def begun(self, count: int = 1) -> list[str]:
        """Waits until so many tasks have begun; returns their words."""
        loop = asyncio.get_running_loop()
        enough = loop.create_future()

        def read() -> None:
            self._heard += os.read(self._begun, 65536)
            if self._heard.count(b"\n") >= count and not enough.done():
                enough.set_result(None)

        if self._heard.count(b"\n") < count:
            loop.add_reader(self._begun, read)
            try:
                await enough
            finally:
                loop.remove_reader(self._begun)
        words = self._heard.split(b"\n")
        self._heard = b"\n".join(words[count:])
        return [word.decode() for word in words[:count]]

    def go(self, count: int = 1) -> None:
        """Lets so many tasks go on."""
        os.write(self._go, b"go\n" * count)

    def close(self) -> None:
        """Closes the test's ends."""
        os.close(self._begun)
        os.close(self._go)
        os.close(self._never)


@contextmanager
def gates(folder: Path) -> Iterator[Callable[[], Gate]]:
    """Makes gates below a folder, and closes them."""
    made: list[Gate] = []

    def make() -> Gate:
        made.append(Gate(folder / f"gate-{len(made)}"))
        return made[-1]

    yield make
    for gate in made:
        gate.close()
