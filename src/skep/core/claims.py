"""A task taken by hand: by an agent that a person started, which works in a worktree and is judged like any other."""

from __future__ import annotations

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core import resources
from skep.core.model import Agent, AgentSpec, Entry
from skep.core.placement import HAND, kind_of
from skep.core.settle import base_of, limited
from skep.core.turn import Turn
from skep.errors import Conflict, Invalid

#: Agents of the kind that stands for whoever claims.
SPEC = AgentSpec(name=HAND, runtime=HAND, count=0, max_load=1)


def claim(turn: Turn, given: inp.Claim) -> str:
    """Gives a ready task to whoever asks for it by hand; returns the nonce of the attempt.

    Raises:
        Conflict: it is not ready (the reason is told), a limit of the session is reached, or the session is closed.
        Invalid: it has no prompt.
    """
    state, entry = turn.state, turn.entry(given.task)
    if state.closed or limited(state):
        raise Conflict(f"session {state.session} is {'closed' if state.closed else f'paused: {state.why}'}", "Raise the limit.")
    if kind_of(entry.task) != "prompt":
        raise Invalid(f"task '{given.task}' has no prompt: Skep carries it out itself", "Claim a task with a `prompt`.")
    if entry.state != "ready" or entry.attempt is not None:
        raise Conflict(f"task '{given.task}' is {entry.state}, not ready", "`skep ready` shows what can be claimed, and why not.")
    for lock, most in resources.locks_of(state, entry).items():
        if len(holders := state.locks.get(lock, [])) >= most:
            raise Conflict(f"task '{given.task}' waits for a lock that {', '.join(holders)} holds", "Claim it when that is over.")
    if state.running >= state.limit:
        raise Conflict(f"{state.running} attempts are under way, as many as may be", "Wait for one, or raise `limits.agents`.")
    agent, node = _agent(turn)
    n = entry.attempts + 1
    nonce = turn.nonce(given.task, n)
    base = base_of(turn, entry, agent)
    state.queue.withdraw(entry)
    turn.emit(ev.TaskAssigned(turn.at, given.task, n, nonce, agent.id, node, state.queue.slot, 0.0, base, None, 0.0))
    return nonce


def _agent(turn: Turn) -> tuple[Agent, str]:
    """A free one of that kind, and a node that is there."""
    state = turn.state
    known = state.specs.get(HAND)
    if known is not None and known.runtime != HAND:
        raise Conflict(f"the file has an agent called '{HAND}'", "Give that agent another name, then `skep resume --file`.")
    if known is None:
        turn.emit(ev.AgentsDeclared(turn.at, (SPEC,)))
    free = [agent for agent in state.agents.values() if agent.spec == HAND and agent.load < agent.max_load]
    nodes = [node.id for node in state.nodes.values() if not node.lost]
    if not (free and nodes):
        raise Conflict("nobody carries the session out here", "Try again in a moment.")
    return min(free, key=lambda agent: agent.number), nodes[0]


def release(turn: Turn, given: inp.Release) -> None:
    """The attempt of a claim ends before its time, by whoever holds it: its work is kept, no try is counted.

    Raises:
        Conflict: there is no such claim any more.
    """
    entry = turn.entry(given.task)
    held = held_by(entry)
    if held != given.nonce or entry.attempt is None or entry.attempt.stage not in ("starting", "working"):
        raise Conflict(f"this claim of task '{given.task}' is over", "`skep status` shows how the task stands.")
    turn.emit(ev.AttemptEnding(turn.at, given.task, entry.attempt.n, "stopped"))


def held_by(entry: Entry) -> str:
    """The nonce of the claim by which the task is held, or nothing."""
    attempt = entry.attempt
    return attempt.nonce if attempt is not None and attempt.agent.rpartition("-")[0] == HAND else ""
