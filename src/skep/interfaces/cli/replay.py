"""`replay`: all that happened in a session, from its log."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from skep.interfaces.cli import place
from skep.interfaces.cli.lines import Teller
from skep.interfaces.cli.out import Out
from skep.interfaces.cli.registry import command, json_option, session_argument

if TYPE_CHECKING:
    from skep.core.events import Event


class Numbered:
    """Events as lines with number and time; those that have no line of their own with their bare name."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self._teller = Teller(out.mark)

    def event(self, number: int, event: Event) -> None:
        """Prints one."""
        when = time.strftime("%H:%M:%S", time.localtime(event.at / 1000))
        line = self._teller.tell(event)
        if line is None:
            about = [str(getattr(event, name)) for name in ("task", "n") if hasattr(event, name)]
            line = [(f"  {type(event).__struct_config__.tag} {' '.join(about)}", "dim")]
        self._out.line((f"{number:7}  {when}  ", "dim"), *line)


@command(
    "replay",
    ("skep replay", "the newest session"),
    ("skep replay feature-7 --to 120", "and how it stood after event 120"),
    ("skep replay --step", "one by one; q leaves"),
)
@session_argument
@click.option("--to", "last", type=click.IntRange(1), metavar="N", help="Only to event N; then show how the session stood.")
@click.option("--step", is_flag=True, help="Wait for a key after each event; q leaves.")
@json_option
def replay(name: str, last: int | None, step: bool, as_json: bool) -> None:
    """Step through all that happened in a session. It is read from the log; nothing is done again."""
    place.go(_replay(name, last, step and sys.stdin.isatty(), as_json))


async def _replay(name: str, last: int | None, step: bool, as_json: bool) -> None:
    from skep.interfaces.cli.faces import Json
    from skep.interfaces.cli.keys import pressed
    from skep.interfaces.cli.report import report

    out = Out()
    face = Json(out) if as_json else Numbered(out)
    async with place.session(name) as session:
        whole = (await session.status(tasks=False)).seq
        view = await session.at(last) if last is not None else None
        number, at = 0, 0
        async with pressed() if step else nullcontext() as keys:
            async for number, event in session.follow(after=0):
                face.event(number, event)
                at = event.at
                if number >= (last or whole) or (keys is not None and await keys.get() in b"qQ"):
                    break
        if step and view is None and number < whole:
            view = await session.at(number)
    if view is None:
        return
    if isinstance(face, Json):
        face.end(view, 0)
    else:
        out.line()
        out.lines(report(view, out.mark, at))
