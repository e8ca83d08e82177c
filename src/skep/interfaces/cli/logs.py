"""`logs` and `attach`: what a task's agent printed, and prints."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from skep.core.model import TERMINAL
from skep.errors import Conflict, Invalid, NotFound, SkepError, Unavailable
from skep.interfaces.cli import exits, place
from skep.interfaces.cli.out import VERSION, Out, document
from skep.interfaces.cli.registry import Finite, command, json_option, session_option
from skep.interfaces.cli.words import clean

if TYPE_CHECKING:
    from skep.app import Session
    from skep.interfaces.cli.follow import Interrupts
    from skep.runtime.kept import RecordingView
    from skep.terminals.transcript import Recording

#: Seconds between two looks at whether a followed task goes on.
LOOK = 0.2
#: The same of one that runs on another node, which shows it as often.
LOOK_ON = 1.0
#: Looks at whether what was printed on another node has arrived, once its task is over.
ARRIVES = 25
#: What can be shown: see `RecordingView.where`.
SHOWN = ("here", "store")
#: What cannot be had though it was printed.
MISSING = ("away", "doubt")
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
@click.option("--speed", type=Finite(0.1, 100), default=1.0, metavar="X", help="How fast --play plays.")
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
            logbook = Logbook(found, task, Out(), raw, as_json, Path(copies))
            if search is not None:
                return await logbook.search(search, attempt)
            if follow:
                await logbook.follow(attempt)
            elif play:
                await logbook.play(attempt, speed)
            else:
                await logbook.print(attempt)
            return 0

    with tempfile.TemporaryDirectory(prefix="skep-logs-") as copies:
        return place.go(work())


class Logbook:
    """The recordings of one task, and the ways to print them.

    Args:
        session: the task's.
        task: its id.
        out: where they are printed.
        raw: as they are, otherwise as plain text.
        as_json: as documents of JSON.
        folder: for copies of what is not on this machine; whoever made it removes it.
    """

    def __init__(self, session: Session, task: str, out: Out, raw: bool, as_json: bool, folder: Path) -> None:
        self._session = session
        self._task = task
        self._out = out
        self._raw = raw
        self._json = as_json
        self._folder = folder
        self._read: dict[tuple[int, str], _Read] = {}

    async def recorded(self, attempt: int | None = None) -> list[RecordingView]:
        """What there is of one attempt, or of all, and what there is but cannot be had."""
        from skep.runtime.requests import Recordings

        found = await self._session.hive.call(Recordings(session=self._session.name, task=self._task))
        return [view for view in found if attempt in (None, view.attempt)]

    async def recording(self, view: RecordingView) -> Recording:
        """One of those that can be had; fetched if it is not on this machine."""
        from skep.runtime.requests import GetRecording
        from skep.terminals.transcript import Recording

        if view.path:
            return Recording(Path(view.path))
        path = self._folder / f"{view.attempt}-{view.part}.cast"
        if not path.exists():
            asked = GetRecording(session=self._session.name, task=self._task, attempt=view.attempt, part=view.part)
            data: bytes = await self._session.hive.call(asked)
            path.write_bytes(data)
        return Recording(path)

    async def _newest(self, attempt: int | None) -> list[RecordingView]:
        """What there is of an attempt, or of the newest one. Raises if an attempt that was named has nothing.

        Raises:
            NotFound: nothing is recorded of it.
            Unavailable: that is on another machine.
        """
        found = await self.recorded(attempt)
        there = [view for view in found if view.where in SHOWN]
        away = [view for view in found if view.where in MISSING]
        if there:
            newest = [view for view in there if view.attempt == there[-1].attempt]
            self._say_away(*(view for view in away if view.attempt > newest[0].attempt or _beside(view, newest[0])))
            return newest
        if attempt is None:
            self._say_away(*away)
            if away and not await self._over():
                click.echo("`skep logs -f` shows what runs on another node", err=True)
            if not away:
                click.echo(f"'{clean(self._task)}' has printed nothing yet", err=True)
            return []
        if away:
            raise Unavailable(self._where(away[0]), "Look there, in the node's folder, if it still is.")
        if found:
            click.echo(f"attempt {attempt} of '{clean(self._task)}' has printed nothing", err=True)
            return []
        tried = ", ".join(str(n) for n in dict.fromkeys(view.attempt for view in await self.recorded())) or "none"
        raise NotFound(f"nothing is recorded of attempt {attempt} of '{self._task}'", f"Recorded are: {tried}.")

    def _where(self, view: RecordingView) -> str:
        """Where that is which cannot be had, or why it is not known."""
        if view.where == "doubt":
            part = f" (its {view.part})" if view.part else ""
            return f"what attempt {view.attempt} of '{clean(self._task)}' printed{part} is missing here: {clean(view.doubt)}"
        node = f"node '{clean(view.node)}'" if view.node else "another node"
        return f"what attempt {view.attempt} of '{clean(self._task)}' printed lies on {node}: not available here"

    def _say_away(self, *views: RecordingView) -> None:
        for view in views:
            click.echo(self._where(view), err=True)

    async def _had(self, views: Sequence[RecordingView]) -> list[tuple[RecordingView, Recording]]:
        """Those that can be had; of the others it is said that they are missing. Raises what is in the way if none can."""
        had: list[tuple[RecordingView, Recording]] = []
        lost: list[SkepError] = []
        for view in views:
            try:
                had.append((view, await self.recording(view)))
            except (Invalid, NotFound) as error:
                lost.append(error)
                self._say_away(replace(view, where="doubt", doubt=error.message))
        if lost and not had:
            raise lost[0]
        return had

    def _head(self, view: RecordingView) -> None:
        """Names what follows, where it is not simply the agent's."""
        if view.part and not self._raw:
            self._out.line((f"--- {view.part} of attempt {view.attempt}", "dim"))

    async def print(self, attempt: int | None) -> None:
        """An attempt, whole."""
        chosen = await self._newest(attempt)
        if self._json:
            parts = [
                {"attempt": view.attempt, "part": view.part or "agent", "text": recording.text()}
                for view, recording in await self._had(chosen)
            ]
            self._out.json(document(session=self._session.name, task=self._task, recordings=parts))
            return
        for view, recording in await self._had(chosen):
            self._head(view)
            if self._raw:
                for _, kind, text in recording.events():
                    if kind == "o":
                        self._out.write(text)
                    else:
                        click.echo(text, err=True)
            else:
                for line in recording.text().splitlines():
                    self._out.line(line)

    async def search(self, word: str, attempt: int | None) -> int:
        """Lines that hold a word; the exit code."""
        views = await self.recorded(attempt)
        self._say_away(*(view for view in views if view.where in MISSING))
        found = [
            {"attempt": view.attempt, "part": view.part or "agent", "line": number, "text": text}
            for view, recording in await self._had([view for view in views if view.where in SHOWN])
            for number, text in recording.search(word)
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

        for view, recording in await self._had(await self._newest(attempt)):
            self._head(view)
            seemly = Seemly()
            try:
                async for text in recording.play(speed):
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
        first, looks = True, 0
        while True:
            over = await self._over()
            views = await self.recorded(attempt)
            if first and views and attempt is None:
                done.update(_key(view) for view in views if view.attempt != views[-1].attempt)
            first = False
            left = [view for view in views if view.where != "nothing" and _key(view) not in done]
            fresh = [view for view in left if view.where in SHOWN]
            if fresh:
                await self._follow_one(fresh[0], over or len(fresh) > 1 or fresh[0].where == "store", shown)
                done.add(_key(fresh[0]))
            elif over and (not left or looks > ARRIVES):
                self._say_away(*left)
                return
            else:
                looks += over  # what was printed on another node is sent when its attempt is over
                if left and not over:
                    await self._look_on(left[-1], shown)
                await asyncio.sleep(LOOK_ON if left and not over else LOOK)

    async def _look_on(self, view: RecordingView, shown: Callable[[str], str] | None) -> None:
        """Prints what comes from an attempt that runs on another node, as far as that shows it."""
        from skep.runtime.requests import LookOn
        from skep.terminals.transcript import Recording

        asked = LookOn(session=self._session.name, task=self._task, attempt=view.attempt)
        data: bytes = await self._session.hive.call(asked)
        path, read = self._folder / "running.cast", self._read_of(view)
        path.write_bytes(data)
        for at, kind, text in Recording(path).events() if data else ():
            if at > read.after:
                read.after = at
                self._print_one(view, text if kind == "o" else "\r\n[output is missing here]\r\n", shown)

    async def _over(self) -> bool:
        """Whether nothing more comes: the task is over or asks, or its session was stopped or left."""
        view = await self._session.task(self._task)
        if view.state in TERMINAL or view.state == "needs-you":
            return not view.pid
        whole = await self._session.status(tasks=False)
        return not whole.live or (whole.state != "active" and not view.pid)

    async def _follow_one(self, view: RecordingView, finished: bool, shown: Callable[[str], str] | None) -> None:
        self._head(view)
        over = asyncio.Event()

        async def watch() -> None:
            nothing_more = finished
            try:
                while not nothing_more and _key((await self.recorded())[-1]) == _key(view):
                    await asyncio.sleep(LOOK)
                    nothing_more = await self._over()
            finally:
                over.set()

        watching = asyncio.ensure_future(watch())
        try:
            async for text in (await self.recording(view)).follow(over, after=self._read_of(view).after):
                self._print_one(view, text, shown)
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    def _read_of(self, view: RecordingView) -> _Read:
        return self._read.setdefault(_key(view), _Read())

    def _print_one(self, view: RecordingView, text: str, shown: Callable[[str], str] | None) -> None:
        """Prints what a recording that is followed goes on with."""
        plain = self._read_of(view).plain
        if self._json:
            part = view.part or "agent"
            said = {"type": "output", "attempt": view.attempt, "part": part, "text": plain.feed(text.encode())}
            self._out.json({"version": VERSION, **said})
        elif self._raw:
            self._out.write(text)
        else:
            self._out.write(shown(text) if shown else clean(plain.feed(text.encode())))


class _Read:
    """How far a recording that is followed was read (s since its beginning), and what makes it plain."""

    def __init__(self) -> None:
        from skep.terminals.plain import Plain

        self.after, self.plain = -1.0, Plain()


def _beside(view: RecordingView, shown: RecordingView) -> bool:
    """Whether it is another part of the attempt that is shown, of which nothing is known."""
    return view.where == "doubt" and view.attempt == shown.attempt


def _key(view: RecordingView) -> tuple[int, str]:
    return view.attempt, view.part


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
                Logbook(found, task, out, False, False, Path(copies)).follow(None, seemly.feed if out.terminal else None)
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

    with tempfile.TemporaryDirectory(prefix="skep-logs-") as copies:
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
