# tidy: long because it is one table of bugs
"""Bugs to plant: each breaks one rule of the house (architecture.md, "What keeps it right"), once. The simulator must see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

from msgspec.structs import replace

from skep.core import apply as applying
from skep.core import attempts, decide, due, merges, resources, settle
from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.commands import Merge, Owed
from skep.core.due import Due
from skep.core.intent import Candidate, MergeIntent
from skep.core.model import TERMINAL, Attempt, Entry, Node, Resources, Retries, Task, TaskState
from skep.core.queue import Queue
from skep.core.state import State
from skep.core.turn import Turn
from skep.errors import Conflict, SkepError
from skep.runtime import stacks
from skep.runtime.loop import Item, Loop
from skep.runtime.session import Query
from skep.runtime.stacks import Refusal, Verify
from skep.store import Append, Taken, chain
from skep.store.ephemeral import EphemeralLog, EphemeralSession
from tests.simulation import owners
from tests.simulation.disk import Disk
from tests.simulation.git import Git
from tests.simulation.hands import SimHands
from tests.simulation.world import Process

Bug = Callable[[], AbstractContextManager[None]]


@contextmanager
def swapped(owner: Any, name: Any, value: Any) -> Iterator[None]:
    """Puts something else in the place of an attribute, or of an item of a dict, for a while."""
    held = owner[name] if isinstance(owner, dict) else owner.__dict__[name]
    put = owner.__setitem__ if isinstance(owner, dict) else partial(setattr, owner)
    put(name, value)
    try:
        yield
    finally:
        put(name, held)


def swap(owner: Any, name: Any, value: Any) -> Bug:
    """As `swapped`, each time anew."""
    return lambda: swapped(owner, name, value)


# 1. One append in flight; every answer waits for the log; an input's events are never split; a failed append drops the state.


class AnswersFirst(Loop):
    """Callers hear their answers while the append is still under way."""

    def _take(self) -> list[Item]:
        self.batch = super()._take()
        return self.batch

    async def _append(self, events: list[ev.Event], leaving: list[Entry], taken: list[Taken]) -> None:
        for given, future in self.batch:
            if future is not None and not future.done() and isinstance(given, inp.Submit):
                future.set_result(self.state.keys.get(given.key, ()))
        await super()._append(events, leaving, taken)


class AsksAtOnce(Loop):
    """A question is answered from a state that the log may not hold yet."""

    def ask(self, query: Query) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_result(query(self.state))
        return future


class ActsFirst(Loop):
    """What is owed is begun before the log holds why."""

    async def _append(self, events: list[ev.Event], leaving: list[Entry], taken: list[Taken]) -> None:
        self._perform()
        await super()._append(events, leaving, taken)


class MergesFirst(Loop):
    """A merge is begun before its intent is in the log."""

    async def _append(self, events: list[ev.Event], leaving: list[Entry], taken: list[Taken]) -> None:
        assert self._hands is not None
        for key in self.state.due.fresh:
            command: Owed | None = due.command(self.state, key)
            if isinstance(command, Merge):
                self._hands.perform(self, command, self.state.entries[key[1]])
        await super()._append(events, leaving, taken)


class Splits(Loop):
    """The events of one turn lie in two appends."""

    async def _append(self, events: list[ev.Event], leaving: list[Entry], taken: list[Taken]) -> None:
        await super()._append(events[:1], leaving, taken)
        if events[1:]:
            await super()._append(events[1:], [], [])


class KeepsDiverged(Loop):
    """After an append that failed the state goes on as if it had not."""

    async def _load(self, acquired: Any, live: bool = True) -> None:
        if not self.state.session:
            await super()._load(acquired, live)
        self.head = acquired


class ForgetsReports(Loop):
    """Reports that were in an append that failed are not told again."""

    def _again(self, batch: list[Item], error: SkepError) -> list[Item]:
        super()._again(batch, error)
        return []


class BeginsAgain(Loop):
    """After an append that failed all that is owed is begun again, also what is done and reported."""

    def _perform(self) -> None:
        self._held = False
        super()._perform()


class ForgetsWaiters(Loop):
    """Whoever waits for a task is not told when the append with its end was answered with an error."""

    async def _tell_late(self) -> None:
        pass


class LosesArchive(Loop):
    """Finished tasks leave the state and do not arrive in the archive."""

    async def _append(self, events: list[ev.Event], leaving: list[Entry], taken: list[Taken]) -> None:
        await super()._append(events, [], taken)


# 2. An append carries a batch id, an epoch and the sequence it follows.

_extend = chain.extend
_Tail = chain.Tail


def _anyone(key: bytes, session: str, tail: _Tail, epoch: int, seq: int, batch: bytes, count: int, blob: bytes) -> Append | None:
    """Whoever writes, writes at the end."""
    return _extend(key, session, tail, tail.head.epoch, tail.head.seq, batch, count, blob)


def _batch_forgotten(
    key: bytes, session: str, tail: _Tail, epoch: int, seq: int, batch: bytes, count: int, blob: bytes
) -> Append | None:
    """An append of one's own, repeated, looks like another writer's."""
    return _extend(key, session, replace(tail, batch=b""), epoch, seq, batch, count, blob)


def _written_twice(
    key: bytes, session: str, tail: _Tail, epoch: int, seq: int, batch: bytes, count: int, blob: bytes
) -> Append | None:
    """An append of one's own, repeated, is written again."""
    seq = tail.head.seq if batch == tail.batch else seq
    return _extend(key, session, tail, epoch, seq, batch, count, blob)


class TakesBack(Loop):
    """An owner whose append failed takes the session back from whoever owns it by now."""

    async def _recover(self, again: list[Item]) -> None:
        await self._load(await self._log.acquire(self.name))
        self._inbox.extendleft(reversed(again))


# 3. and 12. What was written stays written; a snapshot is a cache.


def _not_synced(self: Disk) -> None:
    """What was appended last was in a cache only."""
    session = self.kept.sessions.get(self._world.session)
    if session is not None and len(session.log) > 1:
        session.log.pop()
        last = session.log[-1]
        session.head = replace(session.head, seq=last.last, hash=last.hash)
        session.sealed = chain.seal_head(self.kept.key, self._world.session, session.head)
    self.watch()


def _believed(self: EphemeralLog, session: str, kept: EphemeralSession) -> list[int]:
    """Every snapshot passes for whole."""
    return sorted(kept.snapshots, reverse=True)


_save = State.save


def _without(field: str, empty: object) -> Callable[[State], bytes]:
    """A snapshot that misses a field."""

    def save(self: State) -> bytes:
        held = getattr(self, field)
        setattr(self, field, empty)
        try:
            return _save(self)
        finally:
            setattr(self, field, held)

    return save


_rebuild = State.rebuild


def _owes_nothing(self: State) -> State:
    """What is owed is not derived from a state that was loaded."""
    _rebuild(self)
    self.due.owed.clear()
    self.due.fresh.clear()
    return self


# 4. to 8. Merges, gates, groups of processes and what they hold.


def _blind(self: Git, old: str, new: str) -> bool:
    """The branch moves wherever it stands."""
    self.ref = new
    self.moves.append((old, new))
    return True


def _start_another(turn: Turn) -> None:
    """A merge begins while another one is under way."""
    state = turn.state
    held, state.intent = state.intent, None
    seq = state.seq
    _start(turn)
    if state.seq == seq:
        state.intent = held


_start = merges.start
_judge = stacks._judge
_refused = applying._APPLY[ev.MergeFailed]


def _misjudged(how: Callable[[int, Refusal], tuple[int, Refusal | None]]) -> Callable[..., Any]:
    """Of a stack that fails another part lands, or another task is refused."""

    async def judge(intent: MergeIntent, commits: Sequence[str], verify: Verify) -> tuple[int, Refusal | None]:
        good, refusal = await _judge(intent, commits, verify)
        return (good, None) if refusal is None else how(good, refusal)

    return judge


async def _believes_once(intent: MergeIntent, commits: Sequence[str], verify: Verify) -> tuple[int, Refusal | None]:
    """A verification that fails once is believed."""
    known: dict[str, Refusal | None] = {}

    async def once(top: Candidate, commit: str) -> Refusal | None:
        return known[commit] if commit in known else known.setdefault(commit, await verify(top, commit))

    return await _judge(intent, commits, once)


def _loses_stack(state: State, event: ev.MergeFailed) -> None:
    """What stood above a culprit is not in the queue any more."""
    _refused(state, event)
    state.merge_queue.clear()


def _counts_stack(turn: Turn, report: inp.MergeEnded) -> None:
    """Whoever stood above a culprit has failed with it."""
    merges.ended(turn, report)
    for candidate in report.intent.stack[len(report.commits) + 1 :] if report.cause == "verify-failed" else ():
        merges._refuse(turn, candidate.task, report)


_recorded = SimHands.recorded


async def _let_go(self: SimHands, session: Loop, process: Process) -> bool:
    """The gate opens at once."""
    self.world.release(process)
    return await _recorded(self, session, process)


def _freed_at_once(turn: Turn, node: str) -> None:
    """What a dead owner's attempts held returns while their processes still run."""
    for entry in list(turn.state.entries.values()):
        if entry.attempt is not None and entry.attempt.stage in ("starting", "working") and entry.state == "running":
            report = inp.Ended(at=turn.at, task=entry.task.id, n=entry.attempt.n, nonce="", outcome="interrupted")
            attempts.interrupted(turn, entry, report)


def _gone_already(turn: Turn, report: inp.Ended) -> None:
    """A result frees what its attempt holds, also while children of it are left."""
    attempts.ended(turn, replace(report, gone=True))


def _gives_twice(node: Node, need: Resources | None) -> None:
    """A slot comes back twice."""
    _give_back(node, need)
    node.used_slots -= 1


_give_back = resources.give_back
_release = State.release


def _unlocks_others(self: State, entry: Entry) -> None:
    """An attempt that is gone takes the locks of others with it."""
    assert entry.attempt is not None
    names = entry.attempt.locks
    _release(self, entry)
    for name in names:
        self.locks.pop(name, None)


def _no_locks(state: State, entry: Entry) -> dict[str, int]:
    """Nobody takes a lock."""
    return {}


def _forgets_hands(self: SimHands, session: Loop, command: Owed, entry: Entry) -> None:
    """Work in hand is not known."""
    self.in_hand.clear()
    _perform(self, session, command, entry)


_perform = SimHands.perform


# 3., 9., 10., 11., 13., 15. Fences, outcomes, time, forks, approvals.


def _unfenced(self: Turn, task: str, n: int, nonce: str) -> tuple[Entry, Attempt]:
    """A report counts for whatever attempt the task has now."""
    entry = self.entry(task)
    if entry.attempt is None:
        raise Conflict("no attempt")
    return entry, entry.attempt


def _twice(turn: Turn, report: inp.Ended) -> None:
    """A result counts again as long as the attempt has processes."""
    entry, _ = turn.fenced(report.task, report.n, report.nonce)
    decided = {"ok": attempts.succeeded, "failed": attempts.failed, "interrupted": attempts.interrupted}
    decided[report.outcome](turn, entry, report)


def _counted_as_failure(turn: Turn, entry: Entry, report: inp.Ended) -> None:
    """Whose owner dies has failed."""
    attempts.failed(turn, entry, replace(report, outcome="failed"))


def _endless(task: Task) -> Retries:
    """A task is tried again without end."""
    return Retries(max=1_000_000)


class GoesBack(Turn):
    """The clock is believed when it goes back."""

    def __init__(self, state: State, at: int, salt: bytes) -> None:
        super().__init__(state, at - salt[0], salt)


def _too_early(self: Due, at: int) -> list[str]:
    """Whatever waits for a time is told of it at once."""
    return _elapsed(self, at + 60_000)


_elapsed = Due.elapsed


def _no_deadlines(entry: Entry) -> list[int]:
    """Deadlines are not watched."""
    return [entry.until] if entry.state == "parked" else []


def _done(self: State, entry: Entry, need: str) -> TaskState:
    """Whatever ended, ended well."""
    return "done"


def _old_base(turn: Turn, entry: Entry) -> str:
    """Every attempt starts where the session started."""
    return turn.state.base


def _ignores_pause(turn: Turn) -> bool:
    """A paused session assigns."""
    held, turn.state.paused = turn.state.paused, False
    try:
        return _assign(turn)
    finally:
        turn.state.paused = held


_assign = settle.assign


def _no_question(entry: Entry, commit: str) -> tuple[TaskState, str]:
    """Nobody is asked before a result counts."""
    return ("merging", "") if commit and entry.task.merge != "never" else ("done", "")


def _keeps_attempts(state: State, event: ev.SessionForked) -> None:
    """A fork goes on with the attempts of the session that it came from."""
    state.origin, state.session, state.paused = event.origin, event.session, False


_forked = applying._APPLY[ev.SessionForked]


def _keeps_approvals(state: State, event: ev.SessionForked) -> None:
    """A fork goes on with the approvals of the session that it came from."""
    approved = [entry for entry in state.entries.values() if entry.approved]
    _forked(state, event)
    for entry in approved:
        entry.approved = True


def _leaves_early(self: State, entry: Entry) -> bool:
    """A finished task leaves while others still look at it."""
    return entry.state in TERMINAL and entry.attempt is None


class Planted(NamedTuple):
    """A bug, and what it breaks: a rule of the house by its number, or a feature by its name in the list."""

    rule: int | str
    bug: Bug


PLANTED: dict[str, Planted] = {
    "answers before the append": Planted(1, swap(owners, "Loop", AnswersFirst)),
    "questions answered before the append": Planted(1, swap(owners, "Loop", AsksAtOnce)),
    "an input's events in two appends": Planted(1, swap(owners, "Loop", Splits)),
    "a failed append keeps the diverged state": Planted(1, swap(owners, "Loop", KeepsDiverged)),
    "reports forgotten with a failed append": Planted(1, swap(owners, "Loop", ForgetsReports)),
    "waiters forgotten with a lost reply": Planted(1, swap(owners, "Loop", ForgetsWaiters)),
    "no compare-and-append": Planted(2, swap(chain, "extend", _anyone)),
    "batch id not looked up": Planted(2, swap(chain, "extend", _batch_forgotten)),
    "an append repeated is written twice": Planted(2, swap(chain, "extend", _written_twice)),
    "an old owner takes the session back": Planted(2, swap(owners, "Loop", TakesBack)),
    "key of a submission forgotten": Planted(2, swap(State, "remember", lambda self, key, tasks: None)),
    "no fsync": Planted(3, swap(Disk, "crashed", _not_synced)),
    "two merges at once": Planted(5, swap(merges, "start", _start_another)),
    "a merge before its intent": Planted(5, swap(owners, "Loop", MergesFirst)),
    "the branch moved without compare-and-swap": Planted(5, swap(Git, "move", _blind)),
    "a culprit lands": Planted(5, swap(stacks, "_judge", _misjudged(lambda good, why: (good + 1, None)))),
    "the lowest of a stack accused": Planted(5, swap(stacks, "_judge", _misjudged(lambda good, why: (0, why)))),
    "a verification that fails once believed": Planted(5, swap(stacks, "_judge", _believes_once)),
    "what stood above a culprit lost": Planted(5, swap(applying._APPLY, ev.MergeFailed, _loses_stack)),
    "what stood above a culprit counted as failed": Planted(5, swap(decide._HANDLERS, inp.MergeEnded, _counts_stack)),
    "a dependent starts from an old base": Planted(5, swap(settle, "base_of", _old_base)),
    "act before record": Planted(7, swap(owners, "Loop", ActsFirst)),
    "the gate opens before the record": Planted(7, swap(SimHands, "recorded", _let_go)),
    "attempts of a dead owner not looked for": Planted(7, swap(decide, "_give_up", lambda turn, node: None)),
    "attempts of a dead owner freed while they run": Planted(7, swap(decide, "_give_up", _freed_at_once)),
    "resources back before the group is gone": Planted(8, swap(decide._HANDLERS, inp.Ended, _gone_already)),
    "a slot given back twice": Planted(8, swap(resources, "give_back", _gives_twice)),
    "locks of others released": Planted(8, swap(State, "release", _unlocks_others)),
    "locks not taken": Planted(8, swap(resources, "locks_of", _no_locks)),
    "stale attempt accepted": Planted(8, swap(Turn, "fenced", _unfenced)),
    "double completion": Planted(8, swap(decide._HANDLERS, inp.Ended, _twice)),
    "dependents released on failure": Planted(8, swap(State, "fate", _done)),
    "work in hand not known": Planted(9, swap(SimHands, "perform", _forgets_hands)),
    "work begun again whose report waits": Planted(9, swap(owners, "Loop", BeginsAgain)),
    "what is owed not derived after a recovery": Planted(9, swap(State, "rebuild", _owes_nothing)),
    "what is owed never taken back": Planted(9, swap(State, "unowe", lambda self, entry: None)),
    "an interruption counted as a failure": Planted(10, swap(attempts, "interrupted", _counted_as_failure)),
    "interruptions without a limit": Planted(10, swap(attempts, "MAX_INTERRUPTIONS", 1_000_000)),
    "retries without a limit": Planted(10, swap(attempts, "retries_of", _endless)),
    "time goes back": Planted(11, swap(decide, "Turn", GoesBack)),
    "parked tasks start early": Planted(11, swap(Due, "elapsed", _too_early)),
    "deadlines not watched": Planted(11, swap(due, "times", _no_deadlines)),
    "a snapshot misses the merge queue": Planted(12, swap(State, "save", _without("merge_queue", []))),
    "a snapshot misses the keys": Planted(12, swap(State, "save", _without("keys", {}))),
    "a spoiled snapshot is believed": Planted(12, swap(EphemeralLog, "_whole", _believed)),
    "the archive is not written": Planted(12, swap(owners, "Loop", LosesArchive)),
    "a task leaves while it is needed": Planted(12, swap(State, "_may_leave", _leaves_early)),
    "a fork keeps attempts": Planted(13, swap(applying._APPLY, ev.SessionForked, _keeps_attempts)),
    "a fork keeps approvals": Planted(13, swap(applying._APPLY, ev.SessionForked, _keeps_approvals)),
    "a result counts without the yes it asks for": Planted(15, swap(attempts, "after_success", _no_question)),
    "a paused session assigns": Planted(15, swap(settle, "assign", _ignores_pause)),
    "a blocked class is never looked at again": Planted(17, swap(Queue, "freed", lambda self, agent: None)),
    "more attempts than the session may have": Planted(17, swap(State, "limit", property(lambda self: 100))),
}
