"""The live screen: one session, redrawn when something changed and once a second."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from skep.config import STATE, TRANSCRIPTS
from skep.core import events as ev
from skep.core.approvals import QUESTION
from skep.errors import SkepError
from skep.interfaces.cli import picture
from skep.interfaces.cli.faces import now
from skep.interfaces.cli.keys import pressed
from skep.interfaces.cli.lines import Teller
from skep.interfaces.cli.out import Out
from skep.interfaces.cli.report import report
from skep.interfaces.cli.words import Line, clean
from skep.runtime.notify import kind_of
from skep.runtime.views import SessionView
from skep.terminals.transcript import Recording, place

if TYPE_CHECKING:
    from skep.app import Session

#: Seconds between two pictures while things change, and while nothing does.
FAST, SLOW = 0.1, 1.0
#: Seconds for which a question must have been marked with its keys before one counts: nobody answers what they did not see.
READ = 0.7
#: Of the time, asking for the session's state may take at most one part in so many.
SHARE = 10


class Screen:
    """Shows a session that is followed on a terminal."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self._since = now()
        self._teller = Teller(out.mark)
        self._view: SessionView | None = None
        self._said: dict[str, str] = {}
        self._dirty = asyncio.Event()
        #: The question that keys answer, and since when it does so.
        self._keyed, self._keyed_at = "", 0.0
        self._console = Console(
            file=out.stream, no_color=not out.colour, highlight=False, markup=False, emoji=False, force_terminal=True
        )
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)

    def begin(self, view: SessionView) -> None:
        """Draws for the first time."""
        self._view = view
        self._live.start()
        self._draw()

    def event(self, number: int, event: ev.Event) -> None:
        """Something changed: the picture is stale. From what the session starts is said once, for good."""
        self._dirty.set()
        if kind_of(event) == "needs-you":
            self._console.bell()
        if isinstance(event, ev.SessionOpened | ev.SessionBased) and (line := self._teller.tell(event)):
            self._console.print(text(line))

    def note(self, text: str) -> None:
        """A line above the picture."""
        self._console.print(Text(clean(text)))

    async def live(self, session: Session) -> None:
        """Redraws and minds the keys until it is cancelled."""
        async with pressed() as keys, asyncio.TaskGroup() as group:
            group.create_task(self._redraw(session))
            group.create_task(self._mind(session, keys))

    async def _mind(self, session: Session, keys: asyncio.Queue[bytes]) -> None:
        """Keys answer the one question that is marked with them, once it could be read."""
        loop = asyncio.get_running_loop()
        while True:
            key = await keys.get()
            if key not in (b"a", b"d") or not self._keyed or loop.time() - self._keyed_at < READ:
                continue
            ask = self._keyed
            try:
                await (session.allow(ask) if key == b"a" else session.refuse(ask))
            except SkepError as error:
                self.note(error.message)
            self._dirty.set()

    def _oldest(self, view: SessionView) -> str:
        """What has waited longest; it gets the keys, which stay with it as long as it is there. Words are no keys."""
        first = [ask for task in view.tasks for ask in sorted(task.asks, key=lambda ask: ask.at)[:1]]
        ids = [ask.id for ask in first if ask.tool != QUESTION]
        keyed = self._keyed if self._keyed in ids else next(iter(ids), "")
        if keyed != self._keyed:
            self._keyed, self._keyed_at = keyed, asyncio.get_running_loop().time()
        return keyed

    async def _redraw(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        listened = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SLOW):
                    await self._dirty.wait()
            pause = FAST
            if self._dirty.is_set():
                self._dirty.clear()
                began = loop.time()
                with contextlib.suppress(SkepError):  # an owner that goes is the business of whoever follows
                    self._view = await session.status()
                pause = max(FAST, SHARE * (loop.time() - began))
            if loop.time() - listened >= SLOW:
                listened = loop.time()
                await asyncio.to_thread(self._listen, session)
            self._draw()
            await asyncio.sleep(pause)

    def _listen(self, session: Session) -> None:
        """Looks up what the agents of the tasks that fit on the screen printed last."""
        running = [task for task in self._view.tasks if task.state == "running"] if self._view is not None else []
        folder = session.hive.workspace / STATE / TRANSCRIPTS
        self._said = {}
        for task in running[: self._console.size[1]]:
            last = Recording(place(folder, session.name, task.id, task.attempts)).tail(1)
            self._said[task.id] = last[0] if last else ""

    def close(self) -> None:
        """Takes the picture away."""
        if self._view is not None:
            self._view = None
            self._live.update("", refresh=True)
            self._live.stop()

    def end(self, view: SessionView, code: int) -> None:
        """Prints the report in the picture's place."""
        self._out.lines(report(view, self._out.mark, now(), self._since))

    def _draw(self) -> None:
        if self._view is not None:
            self._live.update(self._picture(self._view), refresh=True)

    def _picture(self, view: SessionView) -> RenderableType:
        width, height = self._console.size
        keyed = self._oldest(view)
        lines = self._lines(view, width, height, keyed)
        if keyed and not any("[a]llow" in line.plain and line.cell_len <= width for line in lines):
            self._keyed = ""  # a key must not answer what is not all to be seen
            lines = self._lines(view, width, height, "")
        return Group(*lines)

    def _lines(self, view: SessionView, width: int, height: int, keyed: str) -> list[Text]:
        asked = picture.question_lines(view, self._out.mark, now())[: height // 3]
        most = max(1, height - 2 - bool(view.phases) - len(asked))
        lines = [
            picture.header(view, now(), self._since),
            *picture.phase_line(view),
            *asked,
            *picture.task_lines(view, self._out.mark, now(), most, width, self._said, keyed),
        ]
        return [text(line) for line in lines[: max(1, height - 1)]]


def text(line: Line) -> Text:
    """A line for rich: cut at the window's edge."""
    return Text.assemble(*((clean(part), style) for part, style in line), no_wrap=True, overflow="ellipsis")
