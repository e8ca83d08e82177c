"""Events as readable lines, one per change that matters to people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skep.core import events as ev
from skep.core.envelope import QUESTION
from skep.core.model import TERMINAL
from skep.core.phase import GATE
from skep.core.references import spell
from skep.core.topology import PERSON
from skep.core.voting import told
from skep.interfaces.cli import asks, picture
from skep.interfaces.cli.words import COLOURS, Line, count, duration, one_line, short

#: Tasks whose begin is remembered, for their duration.
KEEP = 100_000


class Teller:
    """Turns the events of one session, in order, into lines.

    Args:
        mark: state of a task -> its mark.
    """

    def __init__(self, mark: Callable[[str], str]) -> None:
        self._mark = mark
        self._begun: dict[str, tuple[int, str]] = {}

    def tell(self, event: ev.Event) -> Line | None:
        """The line of an event, or None if it is of no interest by itself."""
        found = _TELL.get(event.__class__)
        if found is None:
            return None
        told: tuple[str, str, str] | None = found(self, event)
        if told is None:
            return None
        state, name, text = told
        mark = (self._mark(state), COLOURS.get(state, "")) if state else (" ", "")
        return [mark, (f" {one_line(name)}  " if name else " ", "bold"), (one_line(text, 400), "")]

    def _since(self, task: str, at: int) -> str:
        begun = self._begun.pop(task, None)
        return f"{begun[1]}  {duration((at - begun[0]) / 1000)}" if begun else ""

    def _based(self, e: ev.SessionOpened | ev.SessionBased) -> tuple[str, str, str] | None:
        if not e.base:
            return None
        if e.kind == "copy":
            return "", "", "no git repository with a commit: every attempt works on a copy"
        start = f"works from {f'{e.branch} at ' if e.branch else ''}{short(e.base)}"
        return "", "", start + (f"; {count(e.left_out, 'uncommitted file')} NOT included" if e.left_out else "")

    def _paused(self, e: ev.SessionPaused) -> tuple[str, str, str]:
        return "parked", "", ("stopping: " if e.stop else "") + (e.why or "paused")

    def _resumed(self, e: ev.SessionResumed) -> tuple[str, str, str]:
        return "running", "", "goes on"

    def _closed(self, e: ev.SessionClosed) -> tuple[str, str, str]:
        return "", "", "the session is closed"

    def _marked(self, e: ev.SessionMarked) -> tuple[str, str, str]:
        return "", "", f"checkpoint '{e.name}'"

    def _forked(self, e: ev.SessionForked) -> tuple[str, str, str]:
        return "", "", f"goes on from event {e.seq} of {e.origin}"

    def _plan(self, e: ev.PlanChanged) -> tuple[str, str, str]:
        return "", "", "the plan changed"

    def _lost(self, e: ev.NodeLost) -> tuple[str, str, str]:
        return "needs-you", "", f"node {e.node} is lost: {e.why}"

    def _submitted(self, e: ev.TasksSubmitted) -> tuple[str, str, str]:
        return (
            "waiting",
            "",
            f"{count(len(e.tasks), 'task')}: {', '.join(task.id for task in e.tasks[:12])}"
            + (", ..." if len(e.tasks) > 12 else ""),
        )

    def _opened(self, e: ev.PhaseOpened) -> tuple[str, str, str]:
        return "running", "", f"phase {e.phase} is open"

    def _over(self, e: ev.PhaseEnded) -> tuple[str, str, str]:
        return picture.PHASE_MARKS[e.state], "", f"phase {e.phase} {picture.PHASED[e.state]}" + (f": {e.why}" if e.why else "")

    def _expanded(self, e: ev.TaskExpanded) -> tuple[str, str, str] | None:
        if not e.children and e.task.startswith(GATE):
            return None
        return "running", e.task, f"became {count(len(e.children), 'task')}"

    def _assigned(self, e: ev.TaskAssigned) -> tuple[str, str, str]:
        if len(self._begun) >= KEEP:
            self._begun.clear()
        self._begun[e.task] = (e.at, e.agent)
        return "running", e.task, f"{e.agent}" + (f"  try {e.n}" if e.n > 1 else "")

    def _asked_leave(self, e: ev.ApprovalAsked) -> tuple[str, str, str] | None:
        what = one_line(f"{e.tool}: {e.about}", 300)
        if e.verdict:
            return ("", e.task, f"refused {what} ({e.rule})") if e.verdict == "no" else None
        return "needs-you", e.task, f"NEEDS YOU: {what}  ({' | '.join(asks.leave(f'{e.task}/{e.number}', e.tool))})"

    def _escalated(self, e: ev.MessageSent) -> tuple[str, str, str] | None:
        one = e.message
        if (one.type, one.target) != (QUESTION, PERSON):
            return None
        return "needs-you", one.source, f"NEEDS YOU: {one_line(spell(one.payload), 300)}  ({asks.question(one.source, one.id)})"

    def _answered_leave(self, e: ev.ApprovalAnswered) -> tuple[str, str, str]:
        said = (
            f"{'allowed' if e.allowed else 'denied'} {e.task}/{e.number}"
            + (", and the same from now on" if e.always else "")
            + (f" by {e.by}" if e.by else "")
        )
        return "", e.task, said + (f": {e.comment}" if e.comment else "")

    def _worked(self, e: ev.AttemptWorked) -> tuple[str, str, str]:
        return "running", e.task, f"verifying {short(e.commit)}" if e.commit else "verifying"

    def _ended(self, e: ev.AttemptEnded) -> tuple[str, str, str] | None:
        if e.then == "needs-you":
            return self._asks(e.task, e.question, e.detail if e.question == "login" else "")
        if e.outcome == "ok":
            return ("done", e.task, self._since(e.task, e.at)) if e.then == "done" else None
        if e.outcome == "cancelled":
            return None
        why = picture.reason(e.cause, e.detail)
        if e.outcome == "interrupted" and e.then not in TERMINAL:
            return "parked", e.task, f"interrupted ({why}); no try counted"
        spent = self._since(e.task, e.at)
        if e.then in TERMINAL:
            return e.then, e.task, f"{spent}  {e.then} at try {e.n}: {why}"
        again = "waits, then goes on" if e.then == "parked" else "tries again"
        return "failed", e.task, f"{spent}  try {e.n} failed, {again}: {why}"

    def _ending(self, e: ev.AttemptEnding) -> tuple[str, str, str] | None:
        return ("parked", e.task, f"try {e.n} was lost; no try counted") if e.why == "lost" else None

    def _gone(self, e: ev.AttemptGone) -> tuple[str, str, str] | None:
        return ("", e.task, f"what try {e.n} left is kept as {short(e.wip)}") if e.wip else None

    def _task_closed(self, e: ev.TaskClosed) -> tuple[str, str, str]:
        self._begun.pop(e.task, None)
        if e.state == "done":
            return "done", e.task, e.detail
        return e.state, e.task, f"{e.state}: {picture.reason(e.cause, e.detail)}"

    def _asked(self, e: ev.TaskAsked) -> tuple[str, str, str]:
        return self._asks(e.task, e.question, e.detail)

    def _asks(self, task: str, question: str, detail: str) -> tuple[str, str, str]:
        about = f" ({detail})" if detail else ""
        return "needs-you", task, f"NEEDS YOU: {asks.words(question)}{about}  ({' | '.join(asks.answers(question, task))})"

    def _answered(self, e: ev.TaskAnswered) -> tuple[str, str, str]:
        return "", e.task, f"{e.answer}" + (f" by {e.by}" if e.by else "") + (f": {e.comment}" if e.comment else "")

    def _retried(self, e: ev.TaskRetried) -> tuple[str, str, str]:
        return "waiting", e.task, "goes round again" + (f": {e.comment}" if e.comment else "")

    def _ballot(self, e: ev.BallotOpened) -> tuple[str, str, str]:
        return (
            "running",
            e.task,
            f"{count(len(e.voters), 'voter')} on {count(len(e.options), 'option' if e.task.startswith(GATE) else 'candidate')}",
        )

    def _counted(self, e: ev.BallotClosed) -> tuple[str, str, str]:
        return "", e.task, told(e.result)

    def _chosen(self, e: ev.CandidateChosen) -> tuple[str, str, str] | None:
        if e.then == "needs-you":
            return self._asks(e.task, e.question, f"{e.candidate} was chosen")
        return "", e.task, f"takes {e.candidate}" + (f": {e.why}" if e.why else "")

    def _refused(self, e: ev.CandidateRefused) -> tuple[str, str, str]:
        return "", e.task, f"{e.candidate} is refused: {e.why}"

    def _merged(self, e: ev.Merged) -> tuple[str, str, str]:
        return "done", e.task, f"{self._since(e.task, e.at)}  merged as {short(e.commit)}".strip()

    def _merge_failed(self, e: ev.MergeFailed) -> tuple[str, str, str]:
        if e.then == "needs-you":
            return self._asks(e.task, e.question, e.detail)
        if e.resolver is not None:
            return "running", e.task, f"resolving a conflict ({e.resolver.id}): {picture.reason(e.cause, e.detail)}"
        then = e.then if e.then in TERMINAL else "tries again"
        return "failed", e.task, f"not merged, {then}: {picture.reason(e.cause, e.detail)}"

    def _resolved(self, e: ev.ConflictResolved) -> tuple[str, str, str]:
        if e.then == "needs-you":
            return self._asks(e.task, e.question, f"{e.resolver} resolved its conflict")
        return "", e.task, f"takes what {e.resolver} made of it"


_TELL: dict[type, Callable[[Teller, Any], tuple[str, str, str] | None]] = {
    ev.SessionOpened: Teller._based,
    ev.SessionBased: Teller._based,
    ev.SessionPaused: Teller._paused,
    ev.SessionResumed: Teller._resumed,
    ev.SessionClosed: Teller._closed,
    ev.SessionMarked: Teller._marked,
    ev.SessionForked: Teller._forked,
    ev.PlanChanged: Teller._plan,
    ev.NodeLost: Teller._lost,
    ev.TasksSubmitted: Teller._submitted,
    ev.TaskExpanded: Teller._expanded,
    ev.TaskAssigned: Teller._assigned,
    ev.MessageSent: Teller._escalated,
    ev.ApprovalAsked: Teller._asked_leave,
    ev.ApprovalAnswered: Teller._answered_leave,
    ev.AttemptWorked: Teller._worked,
    ev.AttemptEnded: Teller._ended,
    ev.AttemptEnding: Teller._ending,
    ev.AttemptGone: Teller._gone,
    ev.TaskClosed: Teller._task_closed,
    ev.TaskAsked: Teller._asked,
    ev.TaskAnswered: Teller._answered,
    ev.TaskRetried: Teller._retried,
    ev.BallotOpened: Teller._ballot,
    ev.BallotClosed: Teller._counted,
    ev.CandidateChosen: Teller._chosen,
    ev.CandidateRefused: Teller._refused,
    ev.Merged: Teller._merged,
    ev.PhaseOpened: Teller._opened,
    ev.PhaseEnded: Teller._over,
    ev.MergeFailed: Teller._merge_failed,
    ev.ConflictResolved: Teller._resolved,
}
