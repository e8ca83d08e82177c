"""What becomes of a client whose provider does not answer.

A limit parks the task, an outage interrupts it, a login that is missing or refused asks a person, the rest fails it.
"""

from __future__ import annotations

import json
import re
import time
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from skep.agents import Ending
from skep.agents.client import inner

#: No time that a client names is believed beyond this, in milliseconds: eight days, as the longest limits are weekly.
LONGEST = 8 * 86_400_000
LIMITS = (429, 503, 529)
#: Characters of what a client said that stand for the failure.
SIZE = 500
#: Nothing that waiting mends, though its words may look like a limit.
_PERSON = re.compile(r"insufficient_quota|billing|credit balance", re.I)
#: How clients and providers say that nobody is logged in, or that the login is not taken.
_LOGIN = re.compile(
    r"unauthori[sz]ed|unauthenticated|authenticat(e|ion)|set an auth method|set the \W?\w+_(api_key|token)\b"
    r"|not logged in|run \W?(\w+ )*/?login|(please|to) log ?in|log ?in (again|first|is required|required)"
    r"|(invalid|incorrect|missing|expired|revoked|no)\W{0,3}(bearer |x-)?(api.?key|token|credentials?)"
    r"|(api.?key|token|credentials?) (is |was |has |are |been )*(not (valid|set)|invalid|incorrect|missing|expired|revoked)",
    re.I,
)
#: Statuses that say so.
REFUSALS = (401, 403)
_LIMIT = re.compile(
    r"(rate|usage|session|weekly|quota)[ _-]*limit|hit your .{1,20}limit|too many requests|overloaded|resource.?exhausted|quota",
    re.I,
)
_DOWN = re.compile(
    r"connect(ion|ing)? (error|refused|reset|closed|failed)|unable to connect|cannot connect|econn\w+|etimedout|enotfound"
    r"|eai_again|network error|socket|fetch failed|stream (disconnected|error|ended)|terminated|request timed out"
    r"|premature close|server_error|internal server|high demand|temporary error|temporarily unavailable",
    re.I,
)
_STATUS = re.compile(
    r"(?:status|code|error|http)\W{0,5}(?:code\W{0,3})?([45]\d\d)\b|\b([45]\d\d) (?:too many|internal|service|bad gateway)"
    r"|\(([45]\d\d)\)",
    re.I,
)
_SPAN = re.compile(r"(?:again|retry|reset\w*)\s+(?:in|after)\s+((?:\d+(?:\.\d+)?\s*[a-z]+[\s,]*(?:and\s+)?){1,5})", re.I)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.I)
_CLOCK = re.compile(
    r"(?:again|resets?)\s+(?:at\s+|on\s+)?(?:([a-z]{3})[a-z]*\s+(\d{1,2})(?:st|nd|rd|th)?,?\s+(?:(\d{4}),?\s+)?(?:at\s+)?)?"
    r"(\d{1,2})(?::(\d\d))?\s*([ap])m\b(?:\s*\(([\w/+-]+)\))?",
    re.I,
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_UNITS = {"d": 86_400_000, "h": 3_600_000, "ms": 1, "m": 60_000, "s": 1_000}


def judged(said: str, status: int = 0, until: int = 0) -> Ending:
    """The ending of an attempt whose client gave up with an error of its provider.

    Args:
        said: the client's words.
        status: of HTTP, if the client tells it; otherwise it is looked for in the words.
        until: wall-clock ms of the provider's own word when to come back; 0 = looked for in the words.
    """
    said = plain(said)
    detail = last_line(said) or (f"the provider answered with status {status}" if status else "the provider did not answer")
    found = _STATUS.search(said)
    status = status or (int(found[1] or found[2] or found[3]) if found else 0)
    now = int(time.time() * 1000)
    if status in REFUSALS or (_LOGIN.search(said) and status not in LIMITS and status < 500):
        return unproven(detail)
    if _PERSON.search(said):
        return Ending(ok=False, cause="error", detail=detail)
    if status in LIMITS or (not 400 <= status < 500 and _LIMIT.search(said)) or until > now:
        told = now + wait if (wait := span(said)) else 0
        back = next((each for each in (until, clock(said, now)) if each > now), told)
        return Ending(ok=False, interrupted=True, cause="limit", detail=detail, until=min(back, now + LONGEST))
    if status >= 500 or (not status and _DOWN.search(said)):
        return Ending(ok=False, interrupted=True, cause="infrastructure", detail=detail)
    return Ending(ok=False, cause="error", detail=detail)


def unproven(detail: str) -> Ending:
    """The login is missing or was refused: nobody's failure, but nothing goes on before a person has logged in."""
    return Ending(ok=False, interrupted=True, cause="login", detail=detail)


def span(said: str) -> int:
    """The time that a client says to wait (`try again in 2h 5m`), in milliseconds; 0 if it says none."""
    found = _SPAN.search(said)
    total = 0.0
    for number, unit in _PART.findall(found[1]) if found else ():
        name = unit.lower()
        known = name if name in _UNITS else name[0]
        total += float(number) * _UNITS.get(known, 0)
    return min(int(total), LONGEST)


def clock(said: str, now: int) -> int:
    """The time of day that a client says to wait for (`try again at 3:34 PM`, `resets Nov 23, 10pm (UTC)`), in wall-clock ms.

    That minute is over then, as it tells no seconds. 0 if it says none. Without a zone it is the machine's.
    """
    found = _CLOCK.search(said)
    if found is None:
        return 0
    month, day, year, hour, minute, half, zone = found.groups()
    try:
        here = datetime.fromtimestamp(now / 1000, ZoneInfo(zone) if zone else None)
        at = here.replace(hour=int(hour) % 12 + 12 * (half in "pP"), minute=int(minute or 0), second=0, microsecond=0)
        if month:
            at = at.replace(year=int(year or here.year), month=_MONTHS.index(month.lower()) + 1, day=int(day))
            if at < here and not year:
                at = at.replace(year=here.year + 1)
        at += timedelta(minutes=1)
        return int((at if at > here or month else at + timedelta(days=1)).timestamp() * 1000)
    except (ValueError, KeyError, OverflowError, OSError):
        return 0


def plain(said: object) -> str:
    """An error's words; clients hand on what their provider said, which may be JSON."""
    text = str(said or "")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    error = found.get("error", found) if isinstance(found, dict) else None
    words, code = inner(error, "message"), inner(error, "code")
    return f"{words} ({code})" if words and code else str(words or text)


def last_line(text: str) -> str:
    """The last line that says something, its end if it is long."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")[-SIZE:]
