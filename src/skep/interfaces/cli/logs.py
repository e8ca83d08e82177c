"""`logs` and `attach`: what a task's agent printed, and prints."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skep.core.model import TERMINAL
from skep.errors import Conflict, NotFound
from skep.interfaces.cli import exits, place
from skep.interfaces.cli.out import VERSION, Out, document
from skep.interfaces.cli.registry import command, json_option, session_option
from skep.interfaces.cli.words import clean

if TYPE_CHECKING:
    from skep.app import Session
    from skep.interfaces.cli.follow import Interrupts
    from skep.terminals.transcript import Recording

#: Seconds between two looks at whether a followed task goes on.
LOOK = 0.2
#: Ctrl-] leaves `attach`.
LEAVE = b"\x1d"


@command(
    "logs",
    ("skep logs api", "its newest attempt, whole"),
    ("skep logs api -f", "and what comes, until the task is over"),
    ("skep logs api --attempt 1", "an earlier attempt"),
    ("skep logs api --search error", "lines with a word, of all attempts"),
    ("skep logs api --play", "as it was printed, in its own time"),
)
@click.argument("task")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes until the task is over.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="That attempt; otherwise the newest.")
@click.option("--search", metavar="WORD", help="Only lines with this word, in any case; exit code 1 if there are none.")
@click.option("--play", is_flag=True, help="Play it back in its own time, colours and cursor included.")
@click.option("--speed", type=click.FloatRange(0.1, 100), default=1.0, metavar="X", help="How fast --play plays.")
@click.option("--raw", is_flag=True, help="Every byte as it was printed. It may do anything to your terminal.")
@session_option
@json_option
def logs(
    task: str,
    follow: bool,
    attempt: int | None,
    search: str | None,
    play: bool,
    speed: float,
    raw: bool,
    session: str,
    as_json: bool,
) -> int:
    """Print what TASK's agent printed, and what its verification printed. Works with nothing running."""
    if sum((follow, play, search is not None)) > 1:
        raise click.UsageError("Choose one of --follow, --play and --search.")

    async def work() -> int:
        async with place.session(session) as found:
            await found.task(task)
            logbook = Logbook(found, task, Out(), raw, as_json)
            if search is not None:
                return logbook.search(search, attempt)
            if follow:
                await logbook.follow(attempt)
            elif play:
                await logbook.play(attempt, speed)
            else:
                logbook.print(attempt)
            return 0

    return place.go(work())


class Logbook:
    """The recordings of one task, and the ways to print them."""

    def __init__(self, session: Session, task: str, out: Out, raw: bool, as_json: bool) -> None:
        self._session = session
        self._task = task
        self._out = out
        self._raw = raw
        self._json = as_json

    @property
    def _folder(self) -> Path:
        from skep.config import STATE, TRANSCRIPTS

        return self._session.hive.workspace / STATE / TRANSCRIPTS

    def recorded(self, attempt: int | None = None) -> list[tuple[int, str]]:
        """(attempt, part) of what was recorded: of one attempt, or of all."""
        from skep.terminals.transcript import recordings

        found = recordings(self._folder, self._session.name, self._task)
        return [(n, part) for n, part in found if attempt in (None, n)]

    def recording(self, attempt: int, part: str) -> Recording:
        """One of them."""
        from skep.terminals.transcript import Recording, place

        return Recording(place(self._folder, self._session.name, self._task, attempt, part))

    def _newest(self, attempt: int | None) -> list[tuple[int, str]]:
        """What there is of an attempt, or of the newest one. Raises NotFound if an attempt that was named has nothing."""
        found = self.recorded(attempt)
        if not found:
            if attempt is not None:
                tried = ", ".join(str(n) for n in dict.fromkeys(n for n, _ in self.recorded())) or "none"
                raise NotFound(f"nothing is recorded of attempt {attempt} of '{self._task}'", f"Recorded are: {tried}.")
            click.echo(f"'{clean(self._task)}' has printed nothing yet", err=True)
            return []
        return [(n, part) for n, part in found if n == found[-1][0]]

    def _head(self, attempt: int, part: str) -> None:
        """Names what follows, where it is not simply the agent's."""
        if part and not self._raw:
            self._out.line((f"--- {part} of attempt {attempt}", "dim"))

    def print(self, attempt: int | None) -> None:
        """An attempt, whole."""
        chosen = self._newest(attempt)
        if self._json:
            parts = [{"attempt": n, "part": part or "agent", "text": self.recording(n, part).text()} for n, part in chosen]
            self._out.json(document(session=self._session.name, task=self._task, recordings=parts))
            return
        for n, part in chosen:
            self._head(n, part)
            if self._raw:
                for _, kind, text in self.recording(n, part).events():
                    if kind == "o":
                        self._out.write(text)
            else:
                for line in self.recording(n, part).text().splitlines():
                    self._out.line(line)

    def search(self, word: str, attempt: int | None) -> int:
        """Lines that hold a word; the exit code."""
        found = [
            {"attempt": n, "part": part or "agent", "line": number, "text": text}
            for n, part in self.recorded(attempt)
            for number, text in self.recording(n, part).search(word)
        ]
        if self._json:
            self._out.json(document(session=self._session.name, task=self._task, found=found))
        else:
            for hit in found:
                part = "" if hit["part"] == "agent" else f" {hit['part']}"
                self._out.line((f"{hit['attempt']}{part}:{hit['line']}: ", "dim"), str(hit["text"]))
        return 0 if found else exits.FAILED

    async def play(self, attempt: int | None, speed: float) -> None:
        """An attempt in its own time."""
        from skep.interfaces.cli.seemly import Seemly

        for n, part in self._newest(attempt):
            self._head(n, part)
            seemly = Seemly()
            try:
                async for text in self.recording(n, part).play(speed):
                    self._out.write(text if self._raw else seemly.feed(text))
            finally:
                self._out.write(seemly.end() if self._out.terminal else "")

    async def follow(self, attempt: int | None, shown: Callable[[str], str] | None = None) -> None:
        """The newest attempt and those that follow, until the task is over or nobody carries it on.

        Args:
            attempt: only this one.
            shown: turns output into what is printed; otherwise it becomes plain text.
        """
        done: set[tuple[int, str]] = set()
        first = True
        while True:
            over = await self._over()
            there = self.recorded(attempt)
            if first and there and attempt is None:
                done.update(key for key in there if key[0] != there[-1][0])
            first = False
            fresh = [key for key in there if key not in done]
            if fresh:
                await self._follow_one(*fresh[0], over or len(fresh) > 1, shown)
                done.add(fresh[0])
            elif over:
                return
            else:
                await asyncio.sleep(LOOK)

    async def _over(self) -> bool:
        """Whether nothing more comes: the task is over or asks, or its session was stopped or left."""
        view = await self._session.task(self._task)
        if view.state in TERMINAL or view.state == "needs-you":
            return not view.pid
        whole = await self._session.status(tasks=False)
        return not whole.live or (whole.state != "active" and not view.pid)

    async def _follow_one(self, n: int, part: str, finished: bool, shown: Callable[[str], str] | None) -> None:
        from skep.terminals.plain import Plain

        self._head(n, part)
        over, plain = asyncio.Event(), Plain()

        async def watch() -> None:
            nothing_more = finished
            while not nothing_more and self.recorded()[-1] == (n, part):
                await asyncio.sleep(LOOK)
                nothing_more = await self._over()
            over.set()

        watching = asyncio.ensure_future(watch())
        try:
            async for text in self.recording(n, part).follow(over):
                if self._json:
                    self._out.json(
                        {
                            "version": VERSION,
                            "type": "output",
                            "attempt": n,
                            "part": part or "agent",
                            "text": plain.feed(text.encode()),
                        }
                    )
                elif self._raw:
                    self._out.write(text)
                else:
                    self._out.write(shown(text) if shown else clean(plain.feed(text.encode())))
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching


@command("attach", ("skep attach api", "watch it; Ctrl-] leaves"))
@click.argument("task")
@session_option
def attach(task: str, session: str) -> None:
    """Watch TASK's terminal while it runs. Read-only; Ctrl-] or Ctrl-C leaves and harms nothing."""

    async def work() -> None:
        from skep.interfaces.cli.follow import interrupts
        from skep.interfaces.cli.seemly import Seemly

        async with interrupts() as asked, place.session(session) as found:
            view = await found.task(task)
            out, seemly = Out(on_broken=asked.more), Seemly()
            if view.state in TERMINAL and not view.pid:
                raise Conflict(
                    f"task '{task}' is {view.state}: nothing runs to watch", f"`skep logs {task}` has what it printed."
                )
            click.echo(f"watching {clean(task)}; Ctrl-] leaves", err=True)
            showing = asyncio.ensure_future(
                Logbook(found, task, out, False, False).follow(None, seemly.feed if out.terminal else None)
            )
            leaving = asyncio.ensure_future(_leave(asked))
            try:
                await asyncio.wait([showing, leaving], return_when=asyncio.FIRST_COMPLETED)
                if showing.done():
                    showing.result()
            finally:
                for waiting in (showing, leaving):
                    waiting.cancel()
                await asyncio.gather(showing, leaving, return_exceptions=True)
                out.write(seemly.end() if out.terminal else "")

    place.go(work())


async def _leave(asked: Interrupts) -> None:
    """Until the user wants to leave: Ctrl-], or an interrupt."""
    from skep.interfaces.cli.keys import pressed

    async def key() -> None:
        while LEAVE not in await keys.get():
            pass

    async with pressed() as keys:
        waiting = [asyncio.ensure_future(asked.wait(1)), asyncio.ensure_future(key())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
