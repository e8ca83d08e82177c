"""Reports of attempts: accepted with the current attempt and nonce, otherwise refused."""

from __future__ import annotations

from msgspec.structs import replace

from skep.core import budgets, placement, proposals
from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.closing import MAX_DETAIL, after_success, close
from skep.core.model import Entry, TaskState
from skep.core.retry import HELD, MAX_INTERRUPTIONS, pause, retries_of, wait
from skep.core.turn import Turn
from skep.errors import Conflict, Invalid

#: Longest `feedback` that the log takes, characters; what is longer keeps its end.
MAX_FEEDBACK = 32_000
#: Characters of the id of a client's thread.
MAX_CONVERSATION = 500
#: Wait after a failure that was the environment's: the disk or the setup may recover, milliseconds.
INFRASTRUCTURE_WAIT = 1_000
#: How long a task stays away from a client that is not logged in while others may have it, milliseconds.
LOGIN_AWAY = 3_600_000


def spawned(turn: Turn, report: inp.Spawned) -> None:
    """The process exists; its gate opens when this is recorded. Refused when the attempt must end anyway."""
    entry, attempt = turn.fenced(report.task, report.n, report.nonce)
    if attempt.stage == "working" and attempt.pid == report.pid:
        return
    if attempt.stage != "starting" or entry.state != "running":
        raise Conflict(f"attempt {report.n} of task '{report.task}' was ended before it began, or began already")
    turn.emit(ev.AttemptSpawned(turn.at, report.task, report.n, report.pid, report.born, report.confinement))


def spoke(turn: Turn, report: inp.Spoke) -> None:
    """The client told the id of its thread."""
    entry, attempt = turn.fenced(report.task, report.n, report.nonce)
    if len(report.conversation) > MAX_CONVERSATION:
        raise Invalid(f"the client of task '{report.task}' names its thread with {len(report.conversation)} characters")
    if report.conversation != entry.conversation:
        turn.emit(ev.AttemptSpoke(turn.at, report.task, attempt.n, report.conversation))


def spent(turn: Turn, report: inp.Spent) -> None:
    """It cost something, whatever became of it: also an attempt that is being ended is charged. Told twice it counts once."""
    entry, attempt = turn.fenced(report.task, report.n, report.nonce)
    if 0 < report.number <= attempt.told:
        return
    turn.emit(ev.AttemptSpent(turn.at, report.task, report.n, report.cost, report.model, report.number, report.owing))
    if entry.state == "running" and attempt.stage != "ending" and (why := budgets.over(entry, turn.at)):
        close(turn, entry, "limit", why)


def inquired(turn: Turn, report: inp.Inquired) -> None:
    """A question after the end has cost something: the session is charged; the task and its attempts stay as they are."""
    turn.emit(ev.TaskInquired(turn.at, report.task, report.cost, report.model, report.by))


def _charge(turn: Turn, entry: Entry, n: int) -> None:
    """An attempt is over: if it never told what it cost, it is charged all the same."""
    cost = budgets.unreported(turn.state, entry)
    if cost is not None:
        turn.emit(ev.AttemptSpent(turn.at, entry.task.id, n, cost))


def worked(turn: Turn, report: inp.Worked) -> None:
    """The agent ended well; its commit is to be verified."""
    entry, attempt = turn.fenced(report.task, report.n, report.nonce)
    _charge(turn, entry, report.n)
    if entry.state != "running":
        turn.emit(ev.AttemptGone(turn.at, report.task, report.n, report.commit))
    elif attempt.ending == "lost":
        interrupted(turn, entry, _void(report, report.commit))
    elif attempt.stage != "verifying":
        proposals.note(turn, entry, report)
        turn.emit(
            ev.AttemptWorked(
                turn.at, report.task, report.n, report.commit, report.result, report.exit_code, report.outputs or None
            )
        )


def ended(turn: Turn, report: inp.Ended) -> None:
    """The attempt is over. First in the log wins: a result that comes before its cancellation counts."""
    entry, attempt = turn.fenced(report.task, report.n, report.nonce)
    _charge(turn, entry, report.n)
    if entry.state != "running":
        if report.gone:
            turn.emit(ev.AttemptGone(turn.at, report.task, report.n, report.commit))
    elif attempt.ending == "lost":
        interrupted(turn, entry, replace(report, until=0, cause="", detail=""))
    elif report.outcome == "ok":
        refused = proposals.note(turn, entry, report) or "it left no plan"
        if entry.task.plans and entry.proposal is None:
            failed(turn, entry, replace(report, outcome="failed", cause="verify-failed", detail=refused, feedback=refused))
        else:
            proposals.take_by_rule(turn, entry)
            succeeded(turn, entry, report)
    elif report.outcome == "failed" and report.cause != "infrastructure":
        failed(turn, entry, report)
    else:
        interrupted(turn, entry, report)


def gone(turn: Turn, report: inp.Gone) -> None:
    """No process of the attempt is left. If nobody had decided the task, it was interrupted, unless it is being verified."""
    entry, attempt = turn.fenced(report.task, report.n, report.nonce)
    _charge(turn, entry, report.n)
    if entry.state != "running":
        turn.emit(ev.AttemptGone(turn.at, report.task, report.n, report.wip))
    elif attempt.stage != "verifying":
        interrupted(turn, entry, _void(report, report.wip))


def lost(turn: Turn, entry: Entry) -> None:
    """The node of its attempt is gone for good. A verification is begun again with the next attempt, on what this one left."""
    attempt = entry.attempt
    assert attempt is not None
    report = inp.Gone(at=turn.at, task=entry.task.id, n=attempt.n, nonce=attempt.nonce)
    if attempt.stage == "verifying" and entry.state == "running":
        interrupted(turn, entry, _void(report, ""))
    else:
        gone(turn, report)


def _void(report: inp.Worked | inp.Gone, commit: str) -> inp.Ended:
    """The end of an attempt that says nothing about its task; `commit` is what it left."""
    return inp.Ended(at=report.at, task=report.task, n=report.n, nonce=report.nonce, outcome="interrupted", commit=commit)


def succeeded(turn: Turn, entry: Entry, report: inp.Ended) -> None:
    """The work is accepted: it is done, or its commit goes to the merge, or a person must say yes first."""
    attempt, task = entry.attempt, entry.task
    assert attempt is not None
    verified = attempt.stage == "verifying"
    commit = attempt.commit if verified else report.commit
    if commit == entry.base:
        commit = ""
    then, question = after_success(entry, commit)
    turn.emit(
        ev.AttemptEnded(
            turn.at,
            task.id,
            attempt.n,
            "ok",
            then,
            report.gone,
            detail=report.detail[-MAX_DETAIL:],
            result=entry.result if verified else report.result,
            exit_code=entry.exit_code if verified else report.exit_code,
            commit=commit,
            outputs=(entry.outputs if verified else report.outputs) or None,
            question=question,
        )
    )


def failed(turn: Turn, entry: Entry, report: inp.Ended) -> None:
    """It counts as a failure: again, later, or never."""
    attempt, policy = entry.attempt, retries_of(entry.task)
    assert attempt is not None
    failures = entry.failures + 1
    then: TaskState = "failed"
    until = 0
    if entry.task.gate and entry.outdated:
        then = "waiting"  # what it was about went round again meanwhile
    elif failures <= policy.max and not budgets.over(entry, turn.at):
        delay = wait(policy, failures, attempt.nonce)
        then, until = again(entry, turn.at + delay if delay else 0)
    turn.emit(
        ev.AttemptEnded(
            turn.at,
            entry.task.id,
            attempt.n,
            "failed",
            then,
            report.gone,
            report.cause or "exit",
            report.detail[-MAX_DETAIL:],
            exit_code=report.exit_code,
            commit=report.commit or attempt.commit,
            until=until,
            feedback=report.feedback[-MAX_FEEDBACK:] if policy.feedback else "",
        )
    )


def interrupted(turn: Turn, entry: Entry, report: inp.Ended) -> None:
    """Nobody's failure. Crashes have a limit of their own; a stop by a person, or waiting for a provider, counts for nothing.

    So does an interruption by a person, who says how the task goes on, and a login that is missing: agents of another runtime
    take the task; without any a person is asked, and it is not tried again by itself.
    """
    attempt, task = entry.attempt, entry.task
    assert attempt is not None
    if report.outcome == "interrupted" and report.cause == "limit" and not report.until:
        refusals = (entry.refusals or {}).get(turn.state.agents[attempt.agent].spec, 0)
        report = replace(report, until=turn.at + pause(refusals, attempt.nonce))
    stopped, waits, login = attempt.ending == "stopped", report.until > turn.at, report.cause == "login"
    held = attempt.ending == HELD
    counted = not (stopped or waits or login or held)
    cause, detail = report.cause or "interrupted", report.detail
    if not detail:
        detail = "its owner or node died" if attempt.ending == "lost" else attempt.ending or "its process vanished"
    begun = attempt.pid != 0 or task.call is not None
    if waits:
        until = report.until
    elif cause == "infrastructure":
        until = turn.at + INFRASTRUCTURE_WAIT * 2**entry.interruptions
    else:
        until = 0
    spec = turn.state.agents[attempt.agent].spec
    refusing = placement.refusing(turn.state, spec, cause) if waits or (login and not stopped and not held) else ()
    elsewhere = bool(refusing) and placement.elsewhere(turn.state, entry, refusing)
    then, until = again(entry, 0 if elsewhere else until)
    if elsewhere and then == "ready":
        until = turn.at + LOGIN_AWAY if login else report.until  # for those who refuse it
    question = ""
    if budgets.out_of_time(entry, turn.at):
        # Of money only what was told ends a task: an interruption may have charged it all that was held.
        then, until, cause, detail = "failed", 0, "limit", budgets.over(entry, turn.at)
    elif counted and entry.interruptions + 1 >= MAX_INTERRUPTIONS:
        then, until = "gave-up", 0
    elif held:
        then, until, question = "needs-you", 0, "held"
    elif login and not stopped and not elsewhere:
        then, until, question = "needs-you", 0, "login"
    elif login and elsewhere:
        detail = f"{detail}; agents of another runtime may take it"
    elif task.recovery == "ask" and begun and not waits and cause != "infrastructure":
        then, until, question = "needs-you", 0, "rerun"
    turn.emit(
        ev.AttemptEnded(
            turn.at,
            task.id,
            attempt.n,
            "interrupted",
            then,
            report.gone,
            cause,
            detail[-MAX_DETAIL:],
            commit=report.commit or attempt.commit,
            until=until,
            question=question,
            feedback=entry.feedback,
            counted=counted,
        )
    )


def again(entry: Entry, until: int = 0) -> tuple[TaskState, int]:
    """The state of a task that may be tried again, and until when it is parked (0 = at once).

    What it needs may have been sent round again meanwhile; then it waits for that.
    """
    if entry.unmet:
        return "waiting", 0
    return ("parked", until) if until else ("ready", 0)
