"""The one pure door: a state and what is said to it become events. Apply has been done when it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from skep.core import approvals, attempts, budgets, claims, fleets, merges, messages, people
from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.closing import close
from skep.core.intake import taken_in
from skep.core.model import TERMINAL
from skep.core.placement import BY_HAND
from skep.core.plans import change, check_plan, declare
from skep.core.settle import limited, settle, stop
from skep.core.state import State
from skep.core.submit import submit
from skep.core.turn import Turn
from skep.errors import Bug, Conflict, Exhausted, Invalid, NotFound, SkepError

#: Checkpoints of one session.
MAX_MARKS = 10_000


class Decision(Struct, frozen=True):
    """What came of a turn.

    Args:
        events: to be appended, whole; they are applied already.
        answers: one per input: a value, or the error with which it was refused (a refused input changed nothing).
        more: the turn's bounds were reached; another turn, without input, goes on.
    """

    events: list[ev.Event]
    answers: list[Any]
    more: bool


def decide(
    state: State,
    inputs: Sequence[inp.Input],
    at: int,
    salt: bytes,
    hands: bool = True,
    letters: Sequence[tuple[str, int]] = (),
) -> Decision:
    """Decides a batch of inputs in order, then what follows from them.

    Args:
        state: live; changed in place. If the append that follows fails, drop it and load it again.
        inputs: at most a few hundred.
        at: wall-clock ms. A clock that went back is held at the time of the last event.
        salt: 16 fresh random bytes.
        hands: whether anybody is there to carry out what is decided; without, nothing is assigned and no merge begins.
        letters: in which the inputs came, sender and number of each; the last of each sender.

    Raises:
        Bug: the state and an event do not fit. The state must be dropped.
    """
    turn = Turn(state, max(at, state.at), salt)
    answers: list[Any] = []
    for given in inputs:
        try:
            given = taken_in(given)
            if not state.session and not isinstance(given, inp.OpenSession):
                raise Conflict("the session is not open yet", "Open it first.")
            answers.append(_HANDLERS[given.__class__](turn, given))
        except SkepError as error:
            if isinstance(error, Bug):
                raise
            answers.append(error)
    more = settle(turn, hands) if state.session else False
    if letters and state.session:
        turn.emit(ev.LettersTaken(turn.at, tuple(letters)))
    return Decision(turn.events, answers, more)


def _open(turn: Turn, given: inp.OpenSession) -> None:
    if turn.state.seq:
        raise Conflict(f"session {turn.state.session} is open already", "Choose another name.")
    check_plan(given.plan)
    opened = ev.SessionOpened(turn.at, given.session, given.plan, given.base, given.kind, given.branch, by=given.by)
    turn.emit(msgspec.structs.replace(opened, left_out=given.left_out))


def _set_base(turn: Turn, given: inp.SetBase) -> None:
    if not turn.state.base:
        turn.emit(ev.SessionBased(turn.at, given.base, given.kind, given.branch, given.left_out))


def _fork(turn: Turn, given: inp.ForkSession) -> None:
    if given.session == turn.state.session:
        raise Conflict(f"session {given.session} cannot be a fork of itself", "Give the fork another name.")
    turn.emit(ev.SessionForked(turn.at, given.session, given.origin, turn.state.seq, given.by))


def _join(turn: Turn, given: inp.JoinNode) -> None:
    """A node is (back) there. What ran under its former boot is lost, except verifications, which are simply begun again."""
    node = turn.state.nodes.get(given.node)
    anew = node is None or node.boot != given.boot
    # First of all, as this event alone tells how long nobody was there: that time counts against no limit.
    turn.emit(ev.NodeJoined(turn.at, given.node, given.boot, given.capacity, given.slots, given.labels))
    if anew:
        _give_up(turn, given.node)
    if given.credit is not None:
        turn.emit(ev.NodeGranted(turn.at, given.node, given.credit))


def _grant(turn: Turn, given: inp.GrantCredit) -> None:
    node = turn.state.nodes.get(given.node)
    if node is None:
        raise NotFound(f"no node '{given.node}'", "`skep doctor` lists the nodes.")
    if node.credit != given.credit:
        turn.emit(ev.NodeGranted(turn.at, given.node, given.credit))


def _lose(turn: Turn, given: inp.LoseNode) -> None:
    node = turn.state.nodes.get(given.node)
    if node is None:
        raise NotFound(f"no node '{given.node}'", "`skep doctor` lists the nodes.")
    if not node.lost and given.boot in ("", node.boot):  # else it has come back meanwhile
        turn.emit(ev.NodeLost(turn.at, given.node, given.why))
        _give_up(turn, given.node)
        # Nobody is there to say that they ended. Whatever still runs there is fenced: its reports are refused.
        for entry in list(turn.state.entries.values()):
            if entry.attempt is not None and entry.attempt.node == given.node:
                attempts.lost(turn, entry)


def _give_up(turn: Turn, node: str) -> None:
    for entry in list(turn.state.entries.values()):
        attempt = entry.attempt
        if attempt is not None and attempt.node == node and attempt.stage in ("starting", "working"):
            turn.emit(ev.AttemptEnding(turn.at, entry.task.id, attempt.n, "lost"))


def _pause(turn: Turn, given: inp.Pause) -> None:
    if turn.state.closed:
        raise Conflict(f"session {turn.state.session} is closed", "There is nothing left to pause.")
    if given.stop:
        stop(turn, given.why, given.by)
    elif turn.state.counter and not turn.state.open_tasks:
        raise Conflict(f"every task of session {turn.state.session} is finished already", "There is nothing left to pause.")
    elif not turn.state.paused or (given.why == BY_HAND != turn.state.why and not limited(turn.state)):
        turn.emit(ev.SessionPaused(turn.at, False, given.why, given.by))


def _resume(turn: Turn, given: inp.Resume) -> None:
    if turn.state.closed:
        raise Conflict(f"session {turn.state.session} is closed", "Fork it to go on from where it ended.")
    if turn.state.paused:
        left = turn.state.plan.limits.time * 1000 - turn.state.worked
        if turn.state.plan.limits.time and left <= 0:
            raise Exhausted(
                f"session {turn.state.session} has used up its {turn.state.plan.limits.time:g} seconds",
                "Raise limits.time in the workflow file, then `skep resume --file`.",
            )
        if why := budgets.used_up(turn.state, turn.at):
            fix = "Raise it in the workflow file (limits, budget), or tell the price in skep.toml; then `skep resume --file`."
            raise Exhausted(f"session {turn.state.session}: {why}", fix)
        turn.emit(ev.SessionResumed(turn.at, given.by))


def _close(turn: Turn, given: inp.Close) -> None:
    state = turn.state
    if state.closed:
        return
    merges.refuse_stacked(state, state.entries)
    for entry in reversed(list(state.entries.values())):
        if entry.state not in TERMINAL:
            close(turn, entry, "cancelled", "the session was closed", given.by)
    turn.emit(ev.SessionClosed(turn.at, given.by))


def _landed(turn: Turn, given: inp.Landed) -> None:
    turn.emit(ev.SessionLanded(turn.at, given.branch, given.commit, given.tip, given.by))


def _mark(turn: Turn, given: inp.Mark) -> int:
    """Returns the event's number in the log."""
    if not given.name or len(given.name) > 100:
        raise Invalid("a checkpoint needs a name of at most 100 characters", "Give it one.")
    if len(turn.state.marks) >= MAX_MARKS:
        raise Exhausted(f"session {turn.state.session} has {MAX_MARKS} checkpoints, no more are kept", "Use one of these.")
    if given.name in turn.state.marks:
        raise Conflict(f"there is a checkpoint '{given.name}' already", "Choose another name.")
    turn.emit(ev.SessionMarked(turn.at, given.name, turn.state.tip, given.by))
    return turn.state.seq


def _tick(turn: Turn, given: inp.Tick) -> None:
    """Nothing of its own: `settle` does what time brings."""


_HANDLERS: dict[type, Callable[[Turn, Any], Any]] = {
    inp.OpenSession: _open,
    inp.SetBase: _set_base,
    inp.ForkSession: _fork,
    inp.Submit: submit,
    inp.DeclareAgents: declare,
    inp.ChangePlan: change,
    inp.JoinNode: _join,
    inp.GrantCredit: _grant,
    inp.LoseNode: _lose,
    inp.Spawned: attempts.spawned,
    inp.Spoke: attempts.spoke,
    inp.Spent: attempts.spent,
    inp.Ask: approvals.ask,
    inp.Use: approvals.use,
    inp.Inquired: attempts.inquired,
    inp.Worked: attempts.worked,
    inp.Ended: attempts.ended,
    inp.Gone: attempts.gone,
    inp.MergeEnded: merges.ended,
    inp.Cancel: people.cancel,
    inp.Retry: people.retry,
    inp.Say: people.answer,
    inp.Send: messages.send,
    inp.Escalate: messages.escalate,
    inp.Delivered: messages.delivered,
    inp.Permit: approvals.permit,
    inp.Claim: claims.claim,
    inp.Release: claims.release,
    inp.Interrupt: people.interrupt,
    inp.Pause: _pause,
    inp.Resume: _resume,
    inp.Close: _close,
    inp.Landed: _landed,
    inp.Mark: _mark,
    inp.Tick: _tick,
    **fleets.HANDLERS,
}
