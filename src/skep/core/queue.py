"""The ready tasks in order, and the agents that may have them: a task waits here until something it waits for changes.

Tasks that want the same (a `Requirement`) are a class, kept in a Bucket: they are ranked once. A class keeps its agents in
heaps by score; an agent's score changes only when its load or record changes, so every change writes its name into a journal,
and a class catches up with the journal when it is next asked. A class that cannot be placed is blocked, and looked at again only
when what it waits for changes: an agent of its own, or room on a node of its own.

Tasks of a class that take the same locks are a Lane; only its first task stands in the class's heap, and while a lock is held
the lane stands aside as a whole. Locks are taken all at once or not at all, in order of priority and age: what waits for several
locks keeps younger tasks from all of them, so nobody waits for ever, and whoever is first in that order waits for holders alone.

What finds no room is passed by what does, for a while. When the first in that order has waited so for `PATIENCE`, room is kept
for it on one node (a Claim): nothing that goes after it may take from that room until it has its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from skep.core import placement, resources
from skep.core.model import PRIORITY_RANK, Agent, AgentSpec, Entry, Node, Resources
from skep.core.placement import Requirement

if TYPE_CHECKING:
    from skep.core.state import State

#: Classes without tasks are forgotten when there are more than this, and twice as many as when they were last counted.
MAX_IDLE_BUCKETS = 256

#: How long a task that finds no room lets others pass, ms.
PATIENCE = 60_000

#: Score (negative, so that the best is the smallest), number, id of an agent, and the stamp of the agent when it was scored.
Candidate = tuple[float, int, str, int]


class Placed(NamedTuple):
    """A task that can start, on which agent, how good that is, on which node, and what it reserves there."""

    entry: Entry
    agent: Agent
    score: float
    node: Node
    reserved: Resources | None


class Claim(NamedTuple):
    """Room on a node that is kept for a task, with its rank and age."""

    rank: int
    seq: int
    task: str
    node: Node
    need: Resources | None


class Lane:
    """The tasks of one class that take the same locks: name -> how many may hold it."""

    __slots__ = ("bucket", "locks", "tasks", "waits")

    def __init__(self, bucket: Bucket, locks: dict[str, int]) -> None:
        self.bucket = bucket
        self.locks = locks
        self.tasks: list[tuple[int, int, str]] = []
        #: The lock it stands aside for.
        self.waits = ""

    def __lt__(self, other: Lane) -> bool:
        """A task that comes back may meet an item of its own in a lane that is no more; either may be looked at first."""
        return False


#: Rank, age and id of a task; its lane if it takes locks.
Item = tuple[int, int, str, Lane | None]


class Room(NamedTuple):
    """A node, and what an attempt reserves there."""

    node: Node
    need: Resources | None


class Rank:
    """Agents of one class that would reserve the same, best first, and the nodes that could take them."""

    __slots__ = ("agents", "rooms")

    def __init__(self, rooms: list[Room]) -> None:
        self.rooms = rooms
        self.agents: list[Candidate] = []


class Bucket:
    """The ready tasks of one class, and the agents that may take them."""

    __slots__ = ("blocked", "lanes", "need", "ranks", "seats", "seen", "shown", "specs", "tasks")

    def __init__(self, need: Requirement, specs: dict[str, AgentSpec]) -> None:
        self.need = need
        self.specs = specs
        self.tasks: list[Item] = []
        self.lanes: dict[tuple[str, ...], Lane] = {}
        self.ranks: list[Rank] = []
        #: Kind of agents -> their rank.
        self.seats: dict[str, Rank] = {}
        #: How much of the journal it knows; -1 = its agents were never ranked.
        self.seen = -1
        self.blocked = ""
        #: The item under which it stands among the heads.
        self.shown: Item | None = None


class Queue:
    """Derived from a state, kept up to date by its `apply`, rebuilt from it after a replay. Never saved."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.weights = placement.weights_of(state.plan)
        self.bonus = self.weights.get("affinity", 0.0)
        self.buckets: dict[Requirement, Bucket] = {}
        self.most_buckets = MAX_IDLE_BUCKETS
        self.heads: list[tuple[int, int, int, Bucket]] = []
        self.exposures = 0
        #: What a blocked class waits for, ("spec", name) or ("node", id) -> the classes.
        self.blocked: dict[tuple[str, str], dict[Requirement, Bucket]] = {}
        #: Lanes that stand aside, by the lock they wait for; those that want more than one lock also by each of theirs.
        self.aside: dict[str, list[Lane]] = {}
        self.claims: dict[str, list[Lane]] = {}
        self.claim: Claim | None = None
        self.journal: list[str] = []
        self.stamps: dict[str, int] = dict.fromkeys(state.agents, 0)
        taken = {entry.attempt.slot for entry in state.entries.values() if entry.attempt is not None}
        self.next_slot = max(taken, default=-1) + 1
        self.free_slots = [slot for slot in range(self.next_slot) if slot not in taken]
        for entry in state.entries.values():
            if entry.state == "ready" and entry.attempt is None:
                self.push(entry)

    # Tasks come and go

    def push(self, entry: Entry) -> None:
        """A task became ready."""
        need = placement.need_of(self.state, entry)
        bucket = self.buckets.get(need) or self._bucket(need)
        rank, name = -PRIORITY_RANK[entry.task.priority], entry.task.id
        locks = resources.locks_of(self.state, entry)
        if not locks:
            self._put(bucket, (rank, entry.seq, name, None))
            return
        key = tuple(sorted(locks))
        lane = bucket.lanes.get(key)
        if lane is None:
            lane = bucket.lanes[key] = Lane(bucket, locks)
        first = (rank, entry.seq, name)
        heappush(lane.tasks, first)
        if lane.tasks[0] is first:
            if lane.waits:
                self.aside[lane.waits].remove(lane)
                self._recall(lane)
            self._lead(lane)

    def put_off(self, entry: Entry) -> None:
        """A task that was taken out cannot start: its class waits until an agent of its own comes back, and others go on."""
        self.push(entry)
        bucket = self.buckets[placement.need_of(self.state, entry)]
        if not bucket.blocked:
            self._block(bucket, "agents")

    def withdraw(self, entry: Entry) -> None:
        """A ready task is ready no more without having been assigned: nobody needs to stand aside for it."""
        self._unclaim(entry)
        for lock, most in resources.locks_of(self.state, entry).items():
            if len(self.state.locks.get(lock, ())) < most:
                self.unlocked(lock)

    def unlocked(self, lock: str) -> None:
        """A lock has a free place: whoever stood aside for it is looked at again, in order of priority and age."""
        locks = [lock]
        while locks:
            for lane in self.aside.pop(locks.pop(), ()):
                self._recall(lane)
                self._lead(lane)
                if len(lane.locks) > 1:
                    locks += (name for name, most in lane.locks.items() if len(self.state.locks.get(name, ())) < most)

    def _recall(self, lane: Lane) -> None:
        lane.waits = ""
        if len(lane.locks) > 1:
            for name in lane.locks:
                self.claims[name].remove(lane)

    def _bucket(self, need: Requirement) -> Bucket:
        if len(self.buckets) >= self.most_buckets:
            for old in [key for key, bucket in self.buckets.items() if not bucket.tasks and not bucket.lanes]:
                self._unblock(self.buckets.pop(old))
            self.most_buckets = max(MAX_IDLE_BUCKETS, 2 * len(self.buckets))
        specs = {name: spec for name, spec in self.state.specs.items() if placement.may_do(spec, need)}
        bucket = self.buckets[need] = Bucket(need, specs)
        return bucket

    def _put(self, bucket: Bucket, item: Item) -> None:
        heappush(bucket.tasks, item)
        if bucket.tasks[0] is not item:
            return
        if not bucket.blocked:
            self._expose(bucket)
        elif self.claim is not None and item[:2] < self.claim[:2]:
            # The room that is kept from others of its class is not kept from it.
            self._unblock(bucket)

    def _lead(self, lane: Lane) -> None:
        """The first task of a lane stands for it in the class."""
        if lane.tasks:
            self._put(lane.bucket, (*lane.tasks[0], lane))
        else:
            lane.bucket.lanes.pop(tuple(sorted(lane.locks)), None)

    def _expose(self, bucket: Bucket) -> None:
        item = bucket.shown = bucket.tasks[0]
        if len(self.heads) > 2 * len(self.buckets) + 1024:
            self.heads[:] = [(b.shown[0], b.shown[1], n, b) for n, b in enumerate(self.buckets.values()) if b.shown is not None]
            heapify(self.heads)
            return
        self.exposures += 1
        heappush(self.heads, (item[0], item[1], self.exposures, bucket))

    def _current(self, seq: int, name: str) -> Entry | None:
        """The task of an item, if it is still what it was when it was pushed."""
        entry = self.state.entries.get(name)
        if entry is not None and entry.state == "ready" and entry.attempt is None and entry.seq == seq:
            return entry
        return None

    def _first(self, bucket: Bucket) -> Entry | None:
        """The first task of a class; what is stale before it is dropped."""
        tasks = bucket.tasks
        while tasks:
            rank, seq, name, lane = tasks[0]
            leads = lane is None or (not lane.waits and bool(lane.tasks) and lane.tasks[0] == (rank, seq, name))
            entry = self._current(seq, name)
            if leads and entry is not None:
                return entry
            heappop(tasks)
            if leads and lane is not None:
                heappop(lane.tasks)
                self._lead(lane)
        return None

    # What is next

    def place(self) -> Placed | None:
        """Takes out the next task that can start now: highest priority, then oldest. None if there is no such task."""
        while (found := self._head()) is not None:
            bucket, entry = found
            lane = bucket.tasks[0][3]
            if lane is not None and (lock := self._wanting(lane)):
                self._pop(bucket)
                self._set_aside(lane, lock)
            elif (choice := self._choose(bucket, entry)) is not None:
                self._pop(bucket)
                if lane is not None:
                    heappop(lane.tasks)
                    self._lead(lane)
                self._unclaim(entry)
                return choice
        return None

    def _head(self) -> tuple[Bucket, Entry] | None:
        heads = self.heads
        while heads:
            rank, seq, _, bucket = heads[0]
            shown = bucket.shown
            if shown is None or shown[0] != rank or shown[1] != seq:
                heappop(heads)
                continue
            entry = self._first(bucket)
            if bucket.shown is shown and entry is not None and bucket.tasks[0] is shown:
                return bucket, entry
            if bucket.tasks and bucket.shown is not bucket.tasks[0]:
                self._expose(bucket)
            elif not bucket.tasks:
                bucket.shown = None
        return None

    def _pop(self, bucket: Bucket) -> None:
        """The head of this class was dealt with; the next one comes up."""
        heappop(bucket.tasks)
        heappop(self.heads)
        bucket.shown = None
        if bucket.tasks:
            self._expose(bucket)

    def _wanting(self, lane: Lane) -> str:
        """The first lock that the lane cannot have now: held, or claimed by somebody before it. Empty if it can have all."""
        for name, most in lane.locks.items():
            free = most - len(self.state.locks.get(name, ()))
            if free > 0:
                free -= sum(self._before(other, lane) for other in self.claims.get(name, ()))
            if free <= 0:
                return name
        return ""

    def _before(self, other: Lane, lane: Lane) -> bool:
        while other.tasks and self._current(*other.tasks[0][1:]) is None:
            heappop(other.tasks)
        return bool(other.tasks) and other.tasks[0] < lane.tasks[0]

    def _set_aside(self, lane: Lane, lock: str) -> None:
        lane.waits = lock
        self.aside.setdefault(lock, []).append(lane)
        if len(lane.locks) > 1:
            for name in lane.locks:
                self.claims.setdefault(name, []).append(lane)

    def _choose(self, bucket: Bucket, entry: Entry) -> Placed | None:
        """The best agent that can have the task now; None blocks the class."""
        self._catch_up(bucket)
        shares = placement.affinity(self.state, entry) if entry.task.needs and self.bonus else {}
        best: Candidate | None = None
        place: Room | None = None
        tight: list[Rank] = []
        for rank in bucket.ranks:
            agents = rank.agents
            while agents and agents[0][3] != self.stamps[agents[0][2]]:
                heappop(agents)
            if not agents:
                continue
            room = self._room(entry, rank)
            if room is None:
                tight.append(rank)
                continue
            found = self._rated(agents[0], shares) if shares else agents[0]
            for name in shares:
                agent = self.state.agents.get(name)
                if agent is not None and agent.load < agent.max_load and bucket.seats.get(agent.spec) is rank:
                    found = min(found, self._rated(self._candidate(bucket, agent), shares))
            if best is None or found < best:
                best, place = found, room
        if best is None or place is None:
            self._keep_room(entry, tight)
            self._block(bucket, "room" if tight else "agents")
            return None
        return Placed(entry, self.state.agents[best[2]], -best[0], *place)

    def _room(self, entry: Entry, rank: Rank) -> Room | None:
        """Where an attempt of the rank can go: to the node where the task's conversation is, otherwise to the least used."""
        if len(rank.rooms) == 1:
            room = rank.rooms[0]
            return room if resources.fits(*room) and not self.kept_for(entry, *room) else None
        free = [room for room in rank.rooms if resources.fits(*room) and not self.kept_for(entry, *room)]
        before = self.state.agents.get(entry.agent) if entry.talking else None
        home = before.node if before is not None else ""
        return min(free, key=lambda room: (room.node.id != home, resources.used(room.node)), default=None)

    def _rated(self, candidate: Candidate, shares: dict[str, float]) -> Candidate:
        return (candidate[0] - self.bonus * shares.get(candidate[2], 0.0), *candidate[1:])

    def _candidate(self, bucket: Bucket, agent: Agent) -> Candidate:
        values = placement.factors(agent, bucket.specs[agent.spec], bucket.need)
        return (-placement.total(self.weights, values), agent.number, agent.id, self.stamps[agent.id])

    def _catch_up(self, bucket: Bucket) -> None:
        state = self.state
        if bucket.seen == len(self.journal):
            return
        names: Iterable[str] = dict.fromkeys(self.journal[bucket.seen :])
        if bucket.seen < 0:
            self._seat(bucket)
            names = state.agents
        bucket.seen = len(self.journal)
        for name in names:
            agent = state.agents[name]
            rank = bucket.seats.get(agent.spec)
            if rank is None or agent.load >= agent.max_load or bucket.need.seat not in (0, agent.number):
                continue
            heappush(rank.agents, self._candidate(bucket, agent))
            if len(rank.agents) > 4 * len(self.stamps) + 64:
                rank.agents[:] = [item for item in rank.agents if item[3] == self.stamps[item[2]]]
                heapify(rank.agents)

    def _seat(self, bucket: Bucket) -> None:
        """Makes the class's ranks: agents whose reservations differ fit or do not fit apart from each other."""
        bucket.ranks, bucket.seats = [], {}
        nodes = [node for node in self.state.nodes.values() if placement.on_node(node, bucket.need)]
        if not nodes:
            return
        for spec in bucket.specs.values():
            rooms = [Room(node, resources.reservation(bucket.need.resources, spec, node)) for node in nodes]
            if not bucket.ranks or bucket.ranks[-1].rooms != rooms:
                bucket.ranks.append(Rank(rooms))
            bucket.seats[spec.name] = bucket.ranks[-1]

    # Room that is kept

    def kept_for(self, entry: Entry, node: Node, need: Resources | None) -> str:
        """The task for which room is kept that this one would take from; empty if it may have it."""
        claim = self.claim
        if claim is None or claim.node is not node or (-PRIORITY_RANK[entry.task.priority], entry.seq) <= claim[:2]:
            return ""
        return "" if resources.leaves(node, need, claim.need) else claim.task

    def _keep_room(self, entry: Entry, tight: list[Rank]) -> None:
        """Begins to keep room for a task that finds none on these ranks, if it has waited long and none before it has."""
        order, claim = (-PRIORITY_RANK[entry.task.priority], entry.seq), self.claim
        if claim is not None and (claim[:2] < order or (claim[:2] == order and not claim.node.lost)):
            return
        if self.state.at - max(entry.since, entry.submitted) < PATIENCE:
            return
        for room in (room for rank in tight for room in rank.rooms):
            if not room.node.lost and resources.could_fit(*room):
                self.claim = Claim(*order, entry.task.id, *room)
                if claim is not None:
                    self.look_again("node", claim.node.id)
                return

    def _unclaim(self, entry: Entry) -> None:
        claim = self.claim
        if claim is not None and claim.task == entry.task.id:
            self.claim = None
            self.look_again("node", claim.node.id)

    # What a class waits for

    def _block(self, bucket: Bucket, why: str) -> None:
        """Nothing of this class can be placed until an agent of its own comes back, or (`why` is "room") room on a node."""
        bucket.blocked, bucket.shown = why, None
        for key in self._awaited(bucket):
            self.blocked.setdefault(key, {})[bucket.need] = bucket

    def _awaited(self, bucket: Bucket) -> Iterator[tuple[str, str]]:
        yield from (("spec", name) for name in bucket.specs)
        if bucket.blocked == "room":
            yield from dict.fromkeys(("node", room.node.id) for rank in bucket.ranks for room in rank.rooms)

    def _unblock(self, bucket: Bucket) -> None:
        for key in self._awaited(bucket):
            self.blocked.get(key, {}).pop(bucket.need, None)
        bucket.blocked = ""
        if bucket.tasks:
            self._expose(bucket)

    def freed(self, agent: Agent, node: str) -> None:
        """An attempt's place on an agent and a node came back."""
        if self.blocked:
            self.look_again("spec", agent.spec)
            self.look_again("node", node)

    def first_without_room(self, node: str) -> tuple[Entry, Resources | None] | None:
        """The first task, by priority and age, that waits for room on a node, and what it would reserve there; None if none."""
        found: tuple[Item, Bucket, Entry] | None = None
        for bucket in self.blocked.get(("node", node), {}).values():
            entry = self._first(bucket)
            if entry is not None and (found is None or bucket.tasks[0][:2] < found[0][:2]):
                found = bucket.tasks[0], bucket, entry
        if found is None:
            return None
        rooms = (room for rank in found[1].ranks for room in rank.rooms)
        needs = [room.need for room in rooms if room.node.id == node and resources.could_fit(*room)]
        return (found[2], needs[0]) if needs else None

    def look_again(self, kind: str, name: str) -> None:
        """Something changed at a "spec" or a "node": the classes that wait for it may be placed now."""
        for bucket in list(self.blocked.get((kind, name), {}).values()):
            self._unblock(bucket)

    def changed(self, agent: Agent) -> None:
        """An agent's load or record changed."""
        self.stamps[agent.id] += 1
        self.journal.append(agent.id)
        if len(self.journal) > 4 * len(self.stamps) + 1024:
            # Whoever is behind ranks all agents anew, which is less than four changes of each.
            for bucket in self.buckets.values():
                bucket.seen = 0 if bucket.seen == len(self.journal) else -1
            self.journal.clear()

    # Slots: small numbers, unique among the running

    @property
    def slot(self) -> int:
        """The smallest number that no running attempt has."""
        return self.free_slots[0] if self.free_slots else self.next_slot

    def take_slot(self, slot: int) -> None:
        """An attempt runs under this number, which was `slot`."""
        if self.free_slots:
            heappop(self.free_slots)
        else:
            self.next_slot = slot + 1

    def give_slot(self, slot: int) -> None:
        """A slot number is free again."""
        heappush(self.free_slots, slot)
