"""A task as it is handed over, and what it is made of: retries, resources, a budget, a foreach, a vote.

Definitions are frozen. Times are wall-clock milliseconds since the epoch, durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from skep.core.consensus import Rule
from skep.core.terms import Command

Priority = Literal["low", "normal", "high", "critical"]
#: Higher runs first.
PRIORITY_RANK: dict[str, int] = {"low": 0, "normal": 1, "high": 2, "critical": 3}

Mode = Literal["isolated", "shared", "none"]


class Retries(Struct, frozen=True, omit_defaults=True, gc=False):
    """How often a failed task is tried again. `max` = 2 means three attempts.

    Args:
        max: further attempts after the first.
        backoff: seconds before the second attempt; doubles each time, at most 300, and up to a quarter more by chance.
        feedback: whether the next attempt is told why the last one failed.
        start: from a fresh base, or from what the last attempt left.
    """

    max: int = 0
    backoff: float = 0.0
    feedback: bool = True
    start: Literal["fresh", "last"] = field(default="fresh", name="from")


class Resources(Struct, frozen=True, omit_defaults=True, gc=False):
    """What an attempt reserves on its node: cpu in cores, memory and storage in bytes."""

    cpu: float = 0.0
    memory: int = 0
    storage: int = 0


class Budget(Struct, frozen=True, omit_defaults=True, gc=False):
    """What may be spent: dollars, tokens read and written, seconds at work (`core.clocks`); 0 = no bound."""

    usd: float = 0.0
    tokens: int = 0
    time: float = 0.0


class Foreach(Struct, frozen=True, omit_defaults=True, gc=False):
    """One task per item of a list that an earlier task made.

    Args:
        source: path of the list, such as `needs.plan.outputs.list`.
        key: field of an item that names its task; without it the item itself (a scalar) or its index.
        max_items: more items than this fail the task.
        max_parallel: items under way at once; 0 = no limit of its own.
        fail_fast: whether one failed item cancels the others.
    """

    source: str = field(name="in")
    key: str = ""
    max_items: int = 100
    max_parallel: int = 0
    fail_fast: bool = True


class Vote(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How the best of several candidates is chosen.

    Args:
        by: name of a declared agent; each of its `count` has one vote.
        rule: how the votes are counted (`core.consensus`).
        threshold: share of the electorate that wins; empty = the rule's own.
        weights: elector (`judge-2`) -> whole number, for the rule weighted; who is not named has 1.
        otherwise: what happens without a decision: ask a person, or the task fails.
        timeout: seconds until the ballot is counted as it stands; 0 = when everybody has voted.
    """

    by: str
    rule: Rule = "quorum"
    threshold: str = ""
    weights: dict[str, int] = {}
    otherwise: Literal["ask", "fail"] = "ask"
    timeout: float = 0.0


class Task(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One piece of work, as handed over. Exactly one of `run`, `call`, `prompt` says what to do.

    Args:
        id: unique in its session; empty = given at submission (`t1`, `t2`, ...).
        run: a command (see `Command`).
        call: a Python callable, `module:function`, with `args` as keyword arguments.
        prompt: text for an agent; `${{ a.b }}` is looked up when the attempt starts.
        objective: title for people.
        type: task type, for the statistics; inferred when empty.
        agent: name of a declared agent; empty = the best one that fits.
        priority: order among the waiting.
        needs: ids of tasks that come first.
        condition: the `if` expression (`core.conditions`); empty = success().
        foreach: makes one task per item.
        capabilities: what its agent must be able to do.
        constraints: labels that its node must carry, name -> value.
        resources: reserved on the node while an attempt runs.
        budget: what all its attempts together may cost.
        locks: names of which it is the only holder while it runs.
        deadline: wall-clock milliseconds after which it is not worth finishing; 0 = none.
        timeout: seconds an attempt may take; 0 = no limit.
        retries: how often it is tried again.
        exit_codes: exit codes of `run` that are a success.
        mode: own worktree, the session's worktree under a lock, or none; empty = isolated for run and prompt, none for call.
        setup: commands that prepare its worktree.
        env: environment variables, on top of the allow-list.
        secrets: names of secrets that reach this task only.
        verify: command that must succeed in a clean checkout of its commit.
        protect: glob patterns of paths that it must not change.
        outputs: name -> file below $SKEP_OUT, kept as artifacts.
        merge: whether its commit goes to the session's branch by itself, never, or after a yes.
        on_conflict: what happens if it does not merge: an agent resolves it, or it runs again, once; or a person is asked.
        approve: a person's yes before it starts or before its result counts.
        recovery: after a crash with unknown outcome, run again or ask.
        item: the item, for a task made by a foreach.
        parent: the task that made it, of which it is an item, a candidate, a voter or the resolution of its conflict.
        options: what only its runtime knows.
        metadata: carried along, never interpreted.
        inferred: field -> from what it was inferred.
        candidates: agents that each carry it out apart from the others, empty names = the best that fits; one result is merged.
        vote: how that one is chosen; None = the first that is done, in the order of `candidates`.
        seat: the number of the agent that must have it; 0 = any of its kind.
        ballot: the ballot in which it is a vote.
        resolves: the commit that does not merge, for the task that resolves the conflict.
        plans: whether it is a planner's: it must leave a plan, and a person is always asked about that.
        generation: proposals that lie between it and what a person wrote.
        phase: the phase it belongs to, if the session has any.
        gate: whether it is the gate of its phase (`core.phase`); then it has a command, a vote, or nothing to do.
    """

    id: str = ""
    run: Command | None = None
    call: str | None = None
    args: dict[str, Any] = {}
    prompt: str | None = None
    objective: str = ""
    type: str = ""
    complexity: Literal["", "low", "medium", "high"] = ""
    agent: str = ""
    priority: Priority = "normal"
    needs: tuple[str, ...] = ()
    condition: str = field(default="", name="if")
    foreach: Foreach | None = None
    capabilities: tuple[str, ...] = ()
    constraints: dict[str, str] = {}
    resources: Resources | None = None
    budget: Budget | None = None
    locks: tuple[str, ...] = ()
    deadline: int = 0
    timeout: float = 0.0
    retries: Retries | int = 0
    exit_codes: tuple[int, ...] = (0,)
    mode: Mode | Literal[""] = ""
    setup: tuple[Command, ...] = ()
    env: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    verify: Command | None = None
    protect: tuple[str, ...] = ()
    outputs: dict[str, str] = {}
    merge: Literal["auto", "never", "ask"] = "auto"
    on_conflict: Literal["task", "rerun", "ask"] = "rerun"
    approve: Literal["", "before", "after"] = ""
    recovery: Literal["rerun", "ask"] = "rerun"
    item: Any = None
    parent: str = ""
    options: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    inferred: dict[str, str] = {}
    candidates: tuple[str, ...] = ()
    vote: Vote | None = None
    seat: int = 0
    ballot: str = ""
    resolves: str = ""
    plans: bool = False
    generation: int = 0
    phase: str = ""
    gate: bool = False
