"""A terminal window with a command in front, on a pseudo-terminal of the standard library."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Mapping
from pathlib import Path

from skep.terminals.plain import plain
from tests.interfaces.cli.terminal import PATIENCE


class Window:
    """Runs a command with this window as its controlling terminal.

    Args:
        columns, lines: its size.
    """

    def __init__(self, args: list[str], cwd: Path, env: Mapping[str, str], columns: int = 100, lines: int = 24) -> None:
        self._side, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            args, cwd=cwd, env={"TERM": "xterm-256color", **env}, close_fds=True, preexec_fn=lambda: os.login_tty(inner)
        )
        os.close(inner)
        self.data = b""

    def _read(self) -> bytes:
        ready, _, _ = select.select([self._side], [], [], PATIENCE)
        assert ready, f"nothing more came after:\n{self.text}"
        try:
            return os.read(self._side, 65_536)
        except OSError as error:
            if error.errno != errno.EIO:  # the other side is closed
                raise
            return b""

    @property
    def text(self) -> str:
        """All that was shown so far, without escape sequences."""
        return plain(self.data)

    def until(self, text: str) -> None:
        """Reads until a text was shown."""
        while text not in self.text:
            data = self._read()
            assert data, f"no {text!r} in:\n{self.text}"
            self.data += data

    def type(self, keys: bytes) -> None:
        """Presses keys."""
        os.write(self._side, keys)

    def end(self) -> int:
        """Reads to the end; returns the exit code."""
        while data := self._read():
            self.data += data
        return self.process.wait(PATIENCE)

    def frames(self) -> list[str]:
        """What was drawn between two movements of the cursor upwards, each without escape sequences."""
        return [plain(frame) for frame in re.split(rb"\x1b\[\d*A", self.data)]

    def close(self) -> None:
        """Ends the command if it is still there, and closes the window."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._side)
