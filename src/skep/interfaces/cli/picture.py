"""A session as lines: the header, and a line per task that matters now. Pure; `screen` and `status` print them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from skep.core.model import TERMINAL
from skep.interfaces.cli import asks
from skep.interfaces.cli.words import COLOURS, Line, clock, count, duration, money, one_line
from skep.runtime.views import SessionView, TaskView

#: Order of the lines: what needs somebody first. Done, skipped and cancelled tasks share a line.
ORDER = ("needs-you", "failed", "gave-up", "parked", "running", "ready", "waiting")
TOGETHER = ("done", "skipped", "cancelled")
#: Causes that their details name in other words.
SAID = ("exit", "needs", "condition", "cancelled", "interrupted", "replaced")
#: Stages of running tasks that are said instead of what the agent printed last.
STAGES = {
    "verifying": "verifying",
    "merging": "merging",
    "ending": "ending",
    "expanded": "",
    "resolving": "resolving a conflict",
}
#: States of phases -> what is said of them.
PHASED = {"passed": "is passed", "failed": "failed", "closed": "stays closed", "waiting": "waits", "open": "is open"}
#: States of phases -> those of tasks with the same mark.
PHASE_MARKS = {"passed": "done", "failed": "failed", "closed": "skipped", "waiting": "waiting", "open": "running"}
#: Widest column of names and of agents, characters.
NAME, AGENT = 28, 16
#: Finished tasks from which on the time left is estimated.
ENOUGH = 3


def header(view: SessionView, now: int, since: int = 0) -> Line:
    """The first line: name, progress, time, commits, confinement.

    Args:
        now: wall-clock ms.
        since: when the clock that is shown began, ms; 0 = the session's own, which stands still while it is paused.
    """
    total, done = sum(view.counts.values()), view.counts.get("done", 0)
    parts: Line = [(one_line(view.name, 60), "bold"), ("  REHEARSAL" if view.rehearsal else "", "yellow")]
    parts.append((f"  {done:,}/{total:,} done", ""))
    for state in ("failed", "gave-up"):
        if number := view.counts.get(state, 0):
            parts.append((f", {number:,} {state}", "red"))
    left = time_left(view, now)
    parts.append((f"  {duration(elapsed(view, now, since) / 1000)}", ""))
    if left:
        parts.append((f", ~{duration(left)} left", ""))
    if view.cost.tokens or view.cost.usd or view.cost.unpriced or view.limits.cost_usd:
        parts.append((f"  {money(view.cost, view.limits.cost_usd)}", ""))
    merged = sum(1 for task in view.tasks if task.merged)
    if view.base:
        parts.append((f"  {one_line(view.branch or view.base[:10], 40)}+{count(merged, 'commit')}", ""))
    if view.state != "active":
        why = f": {one_line(view.why, 60)}" if (view.state == "paused" or view.limit) and view.why else ""
        parts.append((f"  {view.state}{why}", "green" if view.state == "completed" and not view.limit else "yellow"))
    parts.append((f"  {view.confinement}" if view.confinement else "", "dim"))
    return parts


def phase_line(view: SessionView) -> list[Line]:
    """The phases in one line, if there are any."""
    if not view.phases:
        return []
    said: Line = [("phases: ", "bold")]
    for number, phase in enumerate(view.phases):
        done = f" {phase.done}/{phase.tasks}" if phase.state == "open" else ""
        judged = ", its gate is judged" if phase.judging else ""
        text = f"{one_line(phase.id, NAME)} {phase.state}{done}{judged}"
        said += [(" > " if number else "", "dim"), (text, COLOURS.get(PHASE_MARKS[phase.state], ""))]
    return [said]


def question_lines(view: SessionView, mark: Callable[[str], str], now: int) -> list[Line]:
    """A line for each question of an agent to a person."""
    lines: list[Line] = []
    for asked in view.questions:
        head = f" {one_line(asked.agent, AGENT)}  NEEDS YOU {duration(max(0, now - asked.since) / 1000)}: "
        how = f"  {asks.question(asked.agent, asked.id)}"
        lines.append([(mark("needs-you"), "yellow"), (head, "bold"), (one_line(asked.text, 300), ""), (how, "dim")])
    return lines


def phase_lines(view: SessionView, mark: Callable[[str], str]) -> list[Line]:
    """A line for each phase: how it stands, how much of it is done, what is in its way."""
    names = min(NAME, max((len(one_line(phase.id, NAME)) for phase in view.phases), default=0))
    lines: list[Line] = []
    for phase in view.phases:
        state = PHASE_MARKS[phase.state]
        about = f"{phase.state:7}  {phase.done}/{phase.tasks} done"
        about += f"  {phase.gate} is {phase.judging}" if phase.judging else ""
        about += f"  {one_line(phase.why, 400)}" if phase.why else ""
        lines.append(
            [(mark(state), COLOURS.get(state, "")), (f" phase {one_line(phase.id, NAME):{names}}  ", "bold"), (about, "")]
        )
    return lines


def elapsed(view: SessionView, now: int, since: int) -> int:
    """Time at work, ms: of the session, or since a moment of a command's."""
    over = view.state in ("completed", "failed", "closed")
    until = max((task.ended for task in view.tasks), default=0) if over else 0
    if since:
        return max(0, (until or now) - since)
    return view.worked + (max(0, (until or now) - view.resumed) if view.resumed else 0)


def time_left(view: SessionView, now: int) -> float:
    """Seconds that the open tasks may still take, going by the mean of the finished ones; 0 = nothing to go by.

    It takes the agents as always busy, so a narrow graph takes longer.
    """
    took = [task.took(now) for task in view.tasks if task.state == "done" and task.started]
    opened = [task for task in view.tasks if task.state not in TERMINAL]
    if view.state != "active" or view.idle or len(took) < ENOUGH or not opened or view.counts.get("needs-you"):
        return 0.0
    mean = sum(took) / len(took)
    work = sum(max(0.0, mean - task.took(now)) for task in opened)
    return work / 1000 / max(1, min(view.agents, len(opened)))


def task_lines(
    view: SessionView,
    mark: Callable[[str], str],
    now: int,
    most: int,
    width: int = 100,
    activity: Mapping[str, str] | None = None,
    keyed: str = "",
) -> list[Line]:
    """One line per task that is not over, failures included, at most `most` lines; the rest is counted.

    Args:
        mark: state -> mark.
        now: wall-clock ms.
        width: of the line that the finished tasks share.
        activity: task -> what its agent printed last.
        keyed: id of what is asked that keys answer.
    """
    lines = [_together(view.tasks, state, mark, width) for state in TOGETHER if view.counts.get(state)]
    rest = sorted((task for task in view.tasks if task.state in ORDER), key=lambda task: ORDER.index(task.state))
    names = min(NAME, max((len(one_line(task.id, NAME)) for task in rest), default=0))
    agents = min(AGENT, max((len(one_line(task.agent, AGENT)) for task in rest), default=0))
    room = max(1, most - len(lines))
    shown = rest if len(rest) <= room else rest[: max(0, room - 1)]
    for task in shown:
        head = (f"{one_line(task.id, NAME):{names}}  {one_line(task.agent, AGENT):{agents}}  ", "bold")
        said = (activity or {}).get(task.id, "")
        lines.append([(mark(task.state), COLOURS.get(task.state, "")), (" ", ""), head, (_about(task, now, said, keyed), "")])
    hidden: dict[str, int] = {}
    for task in rest[len(shown) :]:
        hidden[task.state] = hidden.get(task.state, 0) + 1
    if hidden:
        lines.append([("  ... " + ", ".join(f"{number:,} more {state}" for state, number in hidden.items()), "dim")])
    return lines


def _together(tasks: Sequence[TaskView], state: str, mark: Callable[[str], str], width: int) -> Line:
    names = [one_line(task.id, NAME) for task in tasks if task.state == state]
    text, shown = "", 0
    while shown < len(names) and len(text) + len(names[shown]) + 14 <= width:
        text += f" {names[shown]}"
        shown += 1
    more = f" ... {len(names) - shown:,} more" if shown < len(names) else ""
    word = "" if state == "done" else f" ({state})"
    return [(mark(state), COLOURS.get(state, "")), (f"{text}{more}{word}", "dim")]


def _leave(task: TaskView, now: int, keyed: str) -> str:
    """What an attempt asks, the oldest first."""
    ask, *more = task.asks
    answers = "[a]llow [d]eny" if ask.id == keyed else "  |  ".join(asks.leave(ask.id, ask.tool))
    what = one_line(f"{ask.tool}: {ask.about}", 400 if ask.id == keyed else 80)
    rest = f"  (and {len(more)} more)" if more else ""
    return f"NEEDS YOU {duration((now - ask.at) / 1000)}: {what}  {answers}{rest}"


def _about(task: TaskView, now: int, said: str, keyed: str) -> str:
    """What there is to say of a task, by its state."""
    spent = duration(task.took(now) / 1000) if task.started else ""
    if task.asks:
        return _leave(task, now, keyed)
    if task.state == "needs-you":
        waited = f" {duration((now - task.since) / 1000)}" if task.since else ""
        return f"NEEDS YOU{waited}: {asks.words(task.question)}  " + "  |  ".join(asks.answers(task.question, task.id))
    if task.state in ("failed", "gave-up"):
        return f"{task.state} after {count(task.attempts, 'try', 'tries')}: {why(task)}"
    if task.state == "parked":
        until = f"until {clock(task.until)}" if task.until else "waits"
        return f"{until}: {why(task)}"
    if task.state == "running":
        tried = ""
        if task.attempts > 1 and task.cause == "interrupted":
            tried = "  again after an interruption"
        elif task.attempts > 1 and task.cause:
            tried = f"  try {task.attempts}/{max(task.most, task.attempts)}: {why(task)}"
        stage = STAGES.get(task.stage, said)
        return f"{spent}{tried}" + (f"  {one_line(stage)}" if stage else "")
    if task.state == "waiting" and task.waits:
        some = ", ".join(one_line(name, NAME) for name in task.waits[:6])
        return f"waits: {some}" + (f", ... {len(task.waits) - 6} more" if len(task.waits) > 6 else "")
    if not (task.attempts and task.cause):
        return task.state
    how = "was interrupted" if task.cause == "interrupted" else "failed"
    return f"{task.state}, try {task.attempts} {how}: {why(task)}"


def why(task: TaskView) -> str:
    """Cause and the agent's last error line."""
    return reason(task.cause, task.detail)


def reason(cause: str, detail: str) -> str:
    """A cause and its detail on one line; a cause that the detail says anyway is left out."""
    if not detail:
        return cause or "no reason was given"
    return one_line(detail if not cause or cause in SAID else f"{cause}: {detail}", 400)
