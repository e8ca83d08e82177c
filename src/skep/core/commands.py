"""What is owed to the world: derived from the state, performed at least once, fenced by task, attempt and nonce."""

from __future__ import annotations

from msgspec import Struct

from skep.core.intent import MergeIntent
from skep.core.model import Task
from skep.core.terms import Command


class StartAttempt(Struct, frozen=True, gc=False):
    """Carry the task out on this agent, from commit `base`, and report spawned, then worked or ended.

    `origin` is where the task's work began: `base` itself, unless that is what the last attempt left. `conversation` is the
    client's thread to go on in: that of the last attempt, if the same kind of agent gets the task again. `usd`: dollars that it
    may cost at most, 0 = no bound.
    """

    task: Task
    n: int
    nonce: str
    agent: str
    spec: str
    node: str
    slot: int
    base: str
    feedback: str
    origin: str
    conversation: str = ""
    usd: float = 0.0


class VerifyAttempt(Struct, frozen=True, gc=False):
    """Run the task's `verify` in a clean checkout of `commit`, and report ended."""

    task: Task
    n: int
    nonce: str
    node: str
    slot: int
    commit: str


class EndAttempt(Struct, frozen=True, gc=False):
    """End every process of the attempt, keep what it left as a commit, and report gone."""

    task: Task
    n: int
    nonce: str
    node: str
    base: str
    why: str


class Stacked(Struct, frozen=True, gc=False):
    """What the task of a candidate says of its merge.

    `protect`: patterns of paths that it must not change. `resolves`: the two commits whose conflict it resolves, if it does.
    """

    title: str
    protect: tuple[str, ...] = ()
    resolves: tuple[str, str] | None = None


class Merge(Struct, frozen=True, gc=False):
    """Build the merges that the intent describes, judge each, verify the topmost, move the session's branch, and report.

    `tasks`: those of the stack.
    """

    intent: MergeIntent
    tasks: tuple[Stacked, ...]
    verify: Command | None
    setup: tuple[Command, ...] = ()


Owed = StartAttempt | VerifyAttempt | EndAttempt | Merge
