"""What a node may say that was only invited: what concerns itself, and the attempts that the log gave to it."""

from __future__ import annotations

import math
import re

from skep.core import inputs as inp
from skep.core.model import Attempt, Cost, Entry, Resources
from skep.core.proposals import beyond
from skep.core.state import State
from skep.errors import Denied

#: What a report may tell of tokens, dollars and reports without a price, so that sums of them stay within 64 bits.
MOST_SPENT = 10**10
#: Cores, bytes or slots of a node; its labels, and characters of each, and of what it calls its start.
MOST_GIVEN = 2**53
MAX_LABELS, MAX_LABEL = 64, 200
#: How long a report may park its task, milliseconds.
LONGEST_PARKED = 31 * 86_400_000
_COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_DIGEST = re.compile("[0-9a-f]{64}")

_OF_NODE = (inp.JoinNode, inp.GrantCredit, inp.LoseNode)
_OF_ATTEMPT = (
    inp.Spawned,
    inp.Spoke,
    inp.Spent,
    inp.Ask,
    inp.Use,
    inp.Worked,
    inp.Ended,
    inp.Gone,
    inp.Escalate,
    inp.Send,
)


def check(state: State, node: str, given: inp.Input) -> None:
    """Raises Denied for what is not an invited node's to say.

    A report of an attempt that is over passes: its fence is refused like any late one's. Nobody can name an attempt, by its
    nonce, that the state does not have yet.

    Args:
        state: as its writer has it.
        node: who says it, as their seal proves.
        given: what they say.
    """
    if isinstance(given, _OF_NODE):
        if given.node != node:
            raise _denied(state, node, f"speaks for node '{given.node}'")
        if not isinstance(given, inp.LoseNode) and (why := _unlikely_node(given)):
            raise _denied(state, node, why)
    elif isinstance(given, _OF_ATTEMPT):
        entry = state.entries.get(given.task)
        attempt = entry.attempt if entry is not None else None
        if isinstance(given, inp.Send) and not given.task:
            raise _denied(state, node, f"sends a message of '{given.source}' without an attempt")
        if entry is not None and attempt is not None and attempt.n == given.n and attempt.nonce == given.nonce:
            _check_attempt(state, node, given, attempt)
            if why := _unlikely(state, entry, given):
                raise _denied(state, node, f"reports of attempt {given.n} of task '{given.task}' {why}")
    elif not isinstance(given, inp.Delivered):
        raise _denied(state, node, f"says '{type(given).__struct_config__.tag}', which is not a node's to say")
    elif not any(one.attempt is not None and _is(one.attempt, node, given.target) for one in state.entries.values()):
        raise _denied(state, node, f"takes messages of '{given.target}', who does not work there")


def _check_attempt(state: State, node: str, given: inp.Input, attempt: Attempt) -> None:
    if attempt.node != node:
        raise _denied(state, node, f"reports attempt {attempt.n} of node '{attempt.node}'")
    if isinstance(given, inp.Send) and given.source != attempt.agent:
        raise _denied(state, node, f"sends a message of '{given.source}' in an attempt of '{attempt.agent}'")


def _unlikely_node(given: inp.JoinNode | inp.GrantCredit) -> str:
    """What no node of ours would say of itself; empty if it may be so."""
    resources, slots = list[Resources](), list[int]()
    if isinstance(given, inp.JoinNode):
        resources, slots = [given.capacity], [given.slots]
        texts = [*given.labels, *given.labels.values(), given.boot]
        if len(given.labels) > MAX_LABELS or any(len(text) > MAX_LABEL for text in texts):
            return f"has more than {MAX_LABELS} labels, or one of more than {MAX_LABEL} characters"
    if given.credit is not None:
        resources.append(given.credit)
        slots.append(given.credit.slots)
    amounts = [*slots, *(each for one in resources for each in (one.cpu, one.memory, one.storage))]
    return "" if all(_within(amount, MOST_GIVEN) for amount in amounts) else "gives what no machine has"


def _unlikely(state: State, entry: Entry, given: inp.Input) -> str:
    """What no attempt can have done, which a writer would count, or hand on to others; empty if it may be so."""
    if isinstance(given, inp.Spent):
        return "" if _payable(given.cost) else "a cost that nothing has"
    if isinstance(given, inp.Gone):
        return _no_commit(entry, given.wip)
    if not isinstance(given, inp.Worked | inp.Ended):
        return ""
    for name, output in (given.outputs or {}).items():
        if name not in entry.task.outputs or not _DIGEST.fullmatch(output.digest) or not _within(output.size, MOST_GIVEN):
            return f"an output '{name[:MAX_LABEL]}' that it cannot have"
    if given.proposal is not None and (name := beyond(state, entry, given.proposal)):
        return f"tasks of which it says '{name}', which is for people alone"
    if isinstance(given, inp.Ended) and given.until > state.at + LONGEST_PARKED:
        return "that it is to wait for more than a month"
    return _no_commit(entry, given.commit)


def _no_commit(entry: Entry, commit: str) -> str:
    if not commit:
        return ""
    mode = entry.task.mode or ("none" if entry.task.call is not None else "")
    return "" if _COMMIT.fullmatch(commit) and commit.strip("0") and mode != "none" else "a commit that it cannot have"


def _payable(cost: Cost) -> bool:
    return all(
        _within(amount, MOST_SPENT) for amount in (cost.input, cost.cached, cost.output, cost.usd, cost.unpriced, cost.estimated)
    )


def _within(amount: float, most: float) -> bool:
    """Whether it is a number from 0 to `most`."""
    return math.isfinite(amount) and 0 <= amount <= most


def _is(attempt: Attempt, node: str, agent: str) -> bool:
    return attempt.node == node and attempt.agent == agent


def _denied(state: State, node: str, what: str) -> Denied:
    fix = "It was invited for its own attempts. What else it is to do needs the key of the store."
    return Denied(f"session {state.session}: node '{node}' {what}: refused", fix)
