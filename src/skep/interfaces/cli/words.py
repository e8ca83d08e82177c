"""Text for people: nothing that could steer a terminal, times that can be read, marks that the terminal can show."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skep.core.estimates import Estimate
    from skep.core.model import Cost

#: State of a task -> its mark, and the one for terminals that know ASCII only.
MARKS: dict[str, tuple[str, str]] = {
    "done": ("✔", "+"),
    "failed": ("✘", "x"),
    "gave-up": ("✘", "x"),
    "cancelled": ("✘", "x"),
    "skipped": ("-", "-"),
    "replaced": ("-", "-"),
    "needs-you": ("!", "!"),
    "parked": ("‖", "="),
    "running": ("▶", ">"),
    "ready": ("·", "."),
    "waiting": ("·", "."),
}
#: State of a task -> how its mark is coloured.
COLOURS: dict[str, str] = {
    "done": "green",
    "failed": "red",
    "gave-up": "red",
    "cancelled": "red",
    "needs-you": "yellow",
    "parked": "yellow",
    "running": "cyan",
}
#: Text and its style, a key of `STYLES`.
Part = tuple[str, str]
Line = list[Part]
STYLES: dict[str, str] = {"": "", "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

# Escape sequences as ECMA-48 has them; strings (OSC, DCS, ...) only where they end soon, so that an open one hides nothing.
_ESCAPES = re.compile(
    "\x1b\\][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\\\)"
    "|\x1b[PX^_][^\x1b\n]{0,4096}\x1b\\\\"
    "|\x1b\\[[0-?]*[ -/]*[@-~]"
    "|\x1b[ -/]*[0-~]"
    "|\x9b[0-?]*[ -/]*[@-~]"
)
_BREAKS = re.compile("\r+\n|\r|\x0b|\x0c|\x85|\u2028|\u2029")
#: What stays of control characters is nothing; also the marks that turn the direction of writing, which make text lie.
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """The text without escape sequences and control characters; lines stay lines, tabs stay."""
    return _CONTROLS.sub("", _BREAKS.sub("\n", _ESCAPES.sub("", text)))


def one_line(text: str, limit: int = 200) -> str:
    """The text, cleaned, on one line, at most `limit` characters long."""
    flat = " ".join(clean(text[: limit * 8]).split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def duration(seconds: float) -> str:
    """Such as 40s, 6m12s, 2h05m, 3d04h; below ten seconds with a tenth."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3_600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3_600}h{whole % 3_600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3_600:02}h"


def clock(at: int) -> str:
    """Wall-clock ms as local time, with the date if it is not today."""
    when, today = time.localtime(at / 1000), time.localtime()
    return time.strftime("%H:%M" if when[:3] == today[:3] else "%Y-%m-%d %H:%M", when)


def count(number: int, one: str, many: str = "") -> str:
    """1 task, 2 tasks."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def money(cost: Cost, limit: float = 0.0) -> str:
    """Such as $3.41/$15; with ~ where a part is estimated, with ? where a price is not known."""
    shown = ("~" if cost.estimated else "") + dollars(cost.usd)
    return shown + ("+?" if cost.unpriced else "") + (f"/${limit:g}" if limit else "")


def dollars(usd: float) -> str:
    """Such as $3.41; what is less than a cent with more digits."""
    return f"${usd:.2f}" if usd >= 0.005 or not usd else f"${usd:.4f}"


def price(found: Estimate, limit: float = 0.0) -> str:
    """What something may cost, in a sentence that says where that comes from and what nobody knows.

    Args:
        limit: dollars at which it is stopped, 0 = none.
    """
    if found.p50 is None or found.p90 is None:
        known = "price unknown"
    else:
        known = f"price {dollars(found.p50)} (p50) to {dollars(found.p90)} (p90)"
    told = [f"{known}, {found.tokens50:,} to {found.tokens90:,} tokens"]
    some = len(found.guessed) < found.tasks
    if found.past:
        told.append(f"from {count(found.past, 'past task')} here")
    if found.guessed:
        told.append(f"a cold guess for {_names(found.guessed)}" if some else "a cold guess, as nothing like it was done here yet")
    if found.unpriced:
        whose = "" if found.p50 is None else f" of {_names(found.unpriced)}, which is not in the dollars"
        told.append(f"[prices] in skep.toml can tell the price{whose}")
    if found.open:
        told.append(f"{_names(found.open)} counted once, as the number of items is not known")
    if limit and found.p90 is not None and found.p90 > limit:
        told.append(f"stopped at ${limit:g}")
    return "; ".join(told)


def _names(tasks: tuple[str, ...]) -> str:
    names = [one_line(name, 28) for name in dict.fromkeys(tasks)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def short(commit: str) -> str:
    """A commit as git shows it."""
    return commit[:10]
