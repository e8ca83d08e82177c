"""What an agent reports, as lines of its transcript: the same for every client, readable while it happens."""

from __future__ import annotations

from datetime import datetime

from skep.agents import Remembers, Report, Said, Spent, Talks, Used, Waits

#: Characters of what a tool is about.
ABOUT = 500


def shown(report: Report) -> bytes:
    """The lines for a report; control characters in them are shown, never obeyed."""
    return _text(report).encode(errors="replace")


def _text(report: Report) -> str:
    if isinstance(report, Said):
        return "".join(f"{_tame(line)}\r\n" for line in report.text.splitlines())
    if isinstance(report, Used):
        if report.ok is None:
            return f"> {_tame(report.tool)}  {_tame(report.about)[:ABOUT]}\r\n"
        return "" if report.ok else f"x {_tame(report.tool)} failed  {_tame(report.about)[:ABOUT]}\r\n"
    if isinstance(report, Spent):
        price = "price unknown" if report.usd is None else "its price is told later" if report.owing else f"${report.usd:.4f}"
        if report.usd and not (report.input or report.cached or report.output):
            return f"$ {price} for what was told above\r\n"
        return f"$ {report.input + report.cached} tokens in, {report.output} out, {price}\r\n"
    if isinstance(report, Waits):
        until = f" until {datetime.fromtimestamp(report.until / 1000):%H:%M:%S}" if report.until else ""
        return f"‖ waits{until}: {_tame(report.why)}\r\n"
    if isinstance(report, Remembers):
        return f"= {_tame(report.key)} is not kept: there is no memory yet\r\n"
    assert isinstance(report, Talks)
    return ""


def _tame(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)
