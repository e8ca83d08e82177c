"""Command lines as a user gives them: in this process for what is short, in a process of their own for what lives."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.workspace.repository import Repository

#: A live command that prints nothing more for so long will not, seconds.
PATIENCE = 60.0


class Ran(NamedTuple):
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document that it printed."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The documents that it printed."""
        return [json.loads(line) for line in self.out.splitlines()]

    def of(self, which: str) -> list[dict[str, Any]]:
        """The documents of one type."""
        return [line for line in self.lines if line["type"] == which]


class Live:
    """A command in a process of its own, with its output in a pipe."""

    def __init__(self, args: list[str], cwd: Path, env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            args,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._held = b""

    def until(self, text: str) -> str:
        """Reads up to and with the first line that holds the text; returns all that was read."""
        assert self.process.stdout is not None
        handle, seen = self.process.stdout.fileno(), ""
        while text not in seen or not seen.endswith("\n"):
            if b"\n" not in self._held:
                ready, _, _ = select.select([handle], [], [], PATIENCE)
                data = os.read(handle, 65_536) if ready else b""
                assert data, f"no {text!r} in:\n{seen}"
                self._held += data
                continue
            line, _, self._held = self._held.partition(b"\n")
            seen += line.decode() + "\n"
        return seen

    def signal(self, number: int) -> None:
        """To the process alone, as a terminal sends it to the group that is in front; its agents are in groups of their own."""
        os.killpg(self.process.pid, number)

    def end(self) -> Ran:
        """Waits for its end."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return Ran(self.process.returncode, (self._held + out).decode(), err.decode())

    def close(self) -> None:
        """Ends it if it is still there."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class User:
    """Somebody at a shell in a repository."""

    def __init__(self, repo: Repository, folder: Path) -> None:
        self.repo = repo
        self.folder = folder
        self.live: list[Live] = []
        keep = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "COVERAGE_PROCESS_START")
        self.env = {name: os.environ[name] for name in keep if name in os.environ}
        self.env |= {"HOME": str(folder / "no-home"), "LC_ALL": "C.UTF-8", "SKEP_SANDBOX": "off"}

    def write(self, name: str, text: str) -> Path:
        """A file of the user's that is not in the repository's commits."""
        path = self.repo.top / name
        path.write_text(text)
        return path

    def gate(self, name: str) -> Path:
        """A pipe that `read x < pipe` in a task waits at until `open` is called with it."""
        path = self.folder / name
        os.mkfifo(path)
        return path

    @staticmethod
    def open(gate: Path) -> None:
        """Lets one reader of a gate go on."""
        with gate.open("w") as pipe:
            pipe.write("\n")

    def command(self, *args: str) -> list[str]:
        """The command line."""
        return [sys.executable, "-P", "-m", "skep", *args]

    def start(self, *args: str, **env: str) -> Live:
        """Starts a command and lets it run."""
        live = Live(self.command(*args), self.repo.top, self.env | env)
        self.live.append(live)
        return live

    def run(self, *args: str, **env: str) -> Ran:
        """Runs a command in a process of its own."""
        return self.start(*args, **env).end()

    def close(self) -> None:
        """Ends what still runs."""
        for live in self.live:
            live.close()
