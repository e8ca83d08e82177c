"""How a session that is followed is shown: as lines, or as JSON, one line per change. `screen` is the third way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from skep.core import events as ev
from skep.interfaces.cli.lines import Teller
from skep.interfaces.cli.out import VERSION, Out
from skep.interfaces.cli.report import report
from skep.runtime.views import SessionView
from skep.store.codec import public

if TYPE_CHECKING:
    from skep.app import Session


def now() -> int:
    """Wall-clock ms."""
    return time.time_ns() // 1_000_000


class Face(Protocol):
    """What a session that is followed is shown by."""

    def begin(self, view: SessionView) -> None:
        """The session as it stands when following begins."""

    def event(self, number: int, event: ev.Event) -> None:
        """The next event."""

    def note(self, text: str) -> None:
        """Something that Skep itself has to say."""

    async def live(self, session: Session) -> None:
        """Keeps what is shown fresh until it is cancelled."""

    def close(self) -> None:
        """Following is over, however it went; `end` may still come."""

    def end(self, view: SessionView, code: int) -> None:
        """Nothing goes on any more; the command ends with `code`."""


class Lines:
    """One readable line per change, then the report."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self._teller = Teller(out.mark)
        self._since = now()

    def begin(self, view: SessionView) -> None:
        """The session's name, and how it is confined."""
        said = ("  REHEARSAL: stand-ins in place of the agents, no model is called" if view.rehearsal else "", "yellow")
        self._out.line((view.name, "bold"), said, f"  {view.confinement}" + (f"  {view.objective}" if view.objective else ""))

    def event(self, number: int, event: ev.Event) -> None:
        """Its line, if it has one."""
        line = self._teller.tell(event)
        if line:
            self._out.line(*line)

    def note(self, text: str) -> None:
        """A line."""
        self._out.line(text)

    async def live(self, session: Session) -> None:
        """Nothing grows stale."""

    def close(self) -> None:
        """Nothing is open."""

    def end(self, view: SessionView, code: int) -> None:
        """The report."""
        self._out.line()
        self._out.lines(report(view, self._out.mark, now(), self._since))


class Json:
    """JSON lines: `session`, then `event` and `note`, at last `result`."""

    def __init__(self, out: Out) -> None:
        self._out = out

    def _line(self, which: str, **fields: Any) -> None:
        self._out.json({"version": VERSION, "type": which, **fields})

    def begin(self, view: SessionView) -> None:
        """The session without its tasks."""
        import msgspec

        whole = msgspec.to_builtins(view)
        del whole["tasks"]
        self._line("session", session=whole)

    def event(self, number: int, event: ev.Event) -> None:
        """Its number, its name, its fields."""
        fields = public(event)
        self._line("event", seq=number, name=fields.pop("event"), event=fields)

    def note(self, text: str) -> None:
        """Its text."""
        self._line("note", text=text)

    async def live(self, session: Session) -> None:
        """Nothing grows stale."""

    def close(self) -> None:
        """Nothing is open."""

    def end(self, view: SessionView, code: int) -> None:
        """The exit code, and the session with all its tasks."""
        self._line("result", exit=code, session=view)
