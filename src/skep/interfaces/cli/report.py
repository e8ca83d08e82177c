"""The end of a run in lines: every task, failures counted by cause, what to do next."""

from __future__ import annotations

from collections.abc import Callable
from shlex import quote

from skep.core.model import TERMINAL
from skep.interfaces.cli import asks, picture
from skep.interfaces.cli.words import COLOURS, Line, count, duration, one_line, short
from skep.runtime.views import SessionView, TaskView

#: Tasks listed one by one; of more, those that are done are only counted. So are those not begun, if they are more than a few.
MOST, FEW = 200, 10


def report(view: SessionView, mark: Callable[[str], str], now: int, since: int = 0) -> list[Line]:
    """The whole report.

    Args:
        mark: state -> mark.
        now, since: as in `picture.header`.
    """
    lines = [picture.header(view, now, since), *picture.phase_lines(view, mark), *_table(view, mark, now)]
    if view.causes:
        causes = sorted(view.causes.items(), key=lambda item: (-item[1], item[0]))
        lines.append([("not done: ", "bold"), (", ".join(f"{number:,} {cause}" for cause, number in causes), "")])
    if view.idle and view.state == "active":
        lines.append([("idle: ", "bold"), (one_line(view.idle), "")])
    if view.untold:
        lines.append([("notify: ", "yellow"), (one_line(view.untold), "")])
    if view.unpublished:
        lines.append([("publish: ", "yellow"), (one_line(view.unpublished), "")])
    if view.unread:
        lines.append([("letters: ", "yellow"), (one_line(view.unread, 400), "")])
    if view.rehearsal:
        lines += _rehearsal(view)
    return [*lines, *_next(view)]


def _rehearsal(view: SessionView) -> list[Line]:
    """What a rehearsal has shown, and what it has not."""
    left = [task for task in view.tasks if task.state == "done" and task.detail and not task.gate]
    said = "no model was called; nothing of this is for your branch"
    if left:
        said += f"; {count(len(left), 'check')} failed on the work of stand-ins: see that only a real agent is missing there"
    return [[("rehearsal: ", "bold"), (said, "")]]


def _table(view: SessionView, mark: Callable[[str], str], now: int) -> list[Line]:
    idle = [task for task in view.tasks if not task.attempts and task.state in ("waiting", "ready")]
    apart = {task.id for task in idle} if len(idle) > FEW else frozenset()
    tasks = [task for task in view.tasks if task.id not in apart]
    tasks = tasks if len(tasks) <= MOST else [task for task in tasks if task.state != "done"][:MOST]
    names = min(picture.NAME, max((len(one_line(task.id, picture.NAME)) for task in tasks), default=0))
    agents = min(picture.AGENT, max((len(one_line(task.agent, picture.AGENT)) for task in tasks), default=0))
    lines: list[Line] = []
    for task in tasks:
        timed = task.started and (task.ended or task.state == "running")
        spent = duration(task.took(now) / 1000) if timed else ""
        tries = count(task.attempts, "try", "tries") if task.attempts else ""
        cells = f"{one_line(task.agent, picture.AGENT):{agents}}  {tries:7}  {spent:6}"
        lines.append(
            [
                (mark(task.state), COLOURS.get(task.state, "")),
                (f" {one_line(task.id, picture.NAME):{names}}  ", "bold"),
                (f"{cells}  {_outcome(task)}", ""),
            ]
        )
    if apart:
        lines.append([(f"{mark('waiting')} ... {len(apart):,} not begun", "dim")])
    hidden = sum(view.counts.values()) - len(tasks) - len(apart)
    if hidden > 0:
        lines.append([(f"  ... {hidden:,} more; `skep session show --json` has them", "dim")])
    return lines


def _outcome(task: TaskView) -> str:
    if task.state == "done":
        how = f"merged {short(task.merged)}" if task.merged else f"commit {short(task.commit)}" if task.commit else "done"
        return f"{how}: {one_line(task.detail)}" if task.detail else how
    if task.asks:
        return f"NEEDS YOU: {one_line(task.asks[0].about)}"
    if task.state == "needs-you":
        about = f" ({one_line(task.detail)})" if task.question == "login" else ""
        return f"NEEDS YOU: {asks.words(task.question)}{about}"
    if task.state in TERMINAL:
        return f"{task.state}: {picture.why(task)}"
    kept = f", its work is kept as {short(task.wip)}" if task.wip else ""
    return f"{task.state}{kept}" + (f": {picture.why(task)}" if task.cause else "")


def _next(view: SessionView) -> list[Line]:
    """What the user can do now."""
    name = quote(view.name)
    steps: list[tuple[str, str]] = []
    asking = [task for task in view.tasks if task.state == "needs-you"]
    for task in asking[:5]:
        lines = asks.leave(task.asks[0].id, task.asks[0].tool) if task.asks else asks.answers(task.question, task.id)
        steps += [(line, one_line(f"answer {task.id}", 60)) for line in lines]
    if asking or view.state in ("paused", "active"):
        steps.append((f"skep resume {name}", "go on"))
    bad = [task for task in view.tasks if task.state in ("failed", "gave-up")]
    for task in bad[:3]:
        steps += [(f"skep logs {quote(task.id)}", "see what it printed"), (f"skep retry {quote(task.id)}", "try it again")]
    if view.tip != view.base:
        steps.append((f"skep diff -s {name}", "see what was done"))
        if not view.landed and not view.rehearsal:
            steps.append((f"skep merge {name}", "bring it to your branch"))
    steps = [(one_line(line), about) for line, about in steps]
    wide = max((len(line) for line, _ in steps), default=0)
    return [
        [("next: " if number == 0 else "      ", "bold"), (f"{line:{wide}}  ", ""), (about, "dim")]
        for number, (line, about) in enumerate(steps)
    ]
