"""The log as an outsider reads it: what every append may hold, judged from the events alone, with no code of the core."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct, field

from skep.core import events as ev
from skep.core.intent import MergeIntent
from skep.core.model import AgentSpec, Cost, Plan, Resources, Task

OVER = frozenset({"done", "skipped", "failed", "gave-up", "cancelled", "replaced"})
#: Why an attempt is ended by a decision about its task; the decision must stand beside it.
DECISIONS = frozenset({"cancelled", "deadline", "rejected", "replaced", "limit"})


class Told(Struct):
    """What the log has told of a task so far."""

    task: Task
    state: str = "waiting"
    n: int = 0
    nonce: str = ""
    agent: str = ""
    held: bool = False
    reserved: Resources | None = None
    builds_on: tuple[str, ...] = ()
    ended: bool = False
    ending: str = ""
    spawned: bool = False
    commit: str = ""
    merged: str = ""
    failures: int = 0
    interruptions: int = 0
    done: int = 0
    approved: bool = False
    answered: bool = False
    until: int = 0
    deadline_held: bool = True
    begun: bool = False
    closed_in: int = 0
    children: tuple[str, ...] = ()
    dependents: list[str] = []
    cost: Cost = field(default_factory=Cost)
    chosen: str = ""
    #: Milliseconds at work, kept by `Times`.
    worked: int = 0

    @property
    def made_of_others(self) -> bool:
        """Whether its items, or its candidates, do its work."""
        return self.task.foreach is not None or bool(self.task.candidates)

    @property
    def over(self) -> bool:
        """Whether it has used up its own budget."""
        budget = self.task.budget
        if budget is None:
            return False
        spent = 0 < budget.usd <= self.cost.usd + 1e-9 or 0 < budget.tokens <= self.cost.tokens
        return spent or self.late

    @property
    def late(self) -> bool:
        """Whether it has used up its own time."""
        return self.task.budget is not None and 0 < self.task.budget.time * 1000 <= self.worked


class Chronicle:
    """Fed with every append at the moment it becomes durable.

    Args:
        objects: told what is wrong, at once.
        witness: told every event, to compare it with what is so in the world.
        max_interruptions: after so many a task must have given up.
    """

    def __init__(self, objects: Callable[[str], None], witness: Callable[[ev.Event], None], max_interruptions: int = 5) -> None:
        self.tasks: dict[str, Told] = {}
        self.events: list[ev.Event] = []
        self.keys: dict[str, tuple[str, ...]] = {}
        #: What tasks propose and nobody has decided yet.
        self.proposed: dict[str, Sequence[Task]] = {}
        self.merges: list[tuple[str, str]] = []
        self.appends = 0
        self.epoch = 0
        self.tip = ""
        #: What the session goes by, and the kinds of agents there are.
        self.plan = Plan(name="")
        self.specs: dict[str, AgentSpec] = {}
        self.limit = 0
        self.paused = self.closed = False
        #: Whether what it hears is a copy of a log, which nobody has taken a turn in yet.
        self.copied = False
        #: What is being merged, and the tasks of it that nothing was said of yet.
        self.intent: MergeIntent | None = None
        self.stack: list[str] = []
        #: Whether this append has told how it came out; what it did not name is in the queue again.
        self._decided = False
        self._objects = objects
        self._witness = witness
        self._most = max_interruptions
        self._batches: set[bytes] = set()
        self._nonces: set[str] = set()
        #: Called when an append was taken in.
        self.ended: Callable[[], None] = lambda: None
        #: Called with every event, for whoever wants to tell its story.
        self.told: Callable[[ev.Event], None] = lambda event: None
        self.last_at = 0
        self._touched: list[Told] = []

    def acquired(self, epoch: int) -> None:
        """Somebody became the writer."""
        self._check(epoch > self.epoch, f"epoch {epoch} was given after {self.epoch}")
        self.epoch = epoch

    def appended(self, epoch: int, first: int, batch: bytes, events: Sequence[ev.Event]) -> None:
        """Takes an append in and judges it."""
        self._check(epoch == self.epoch, f"epoch {epoch} wrote while {self.epoch} is the writer")
        self._check(batch not in self._batches, "the same batch lies in the log twice")
        self._check(first == len(self.events) + 1, f"event {first} follows event {len(self.events)}")
        self._batches.add(batch)
        self.appends += 1
        self._touched = []
        for event in events:
            self._check(event.at >= self.last_at, f"time goes back from {self.last_at} to {event.at} in {event}")
            self.last_at = event.at
            self.events.append(event)
            self.told(event)
            self._witness(event)
            handler = getattr(self, "_on_" + type(event).__name__, None)
            if handler is not None:
                handler(event)
        self._check_whole()
        if self._decided:
            self.intent, self.stack, self._decided = None, [], False
        self.ended()

    def may_run(self, task: str, n: int, nonce: str) -> bool:
        """Whether the log says that this attempt's process exists and may be let go."""
        told = self.tasks.get(task)
        return told is not None and told.held and told.n == n and told.nonce == nonce and told.spawned

    def unfinished(self) -> list[Told]:
        """Tasks that are not over."""
        return [told for told in self.tasks.values() if told.state not in OVER]

    def _merged_needs(self, task: Task) -> Iterator[str]:
        """The merge commits of what the task needs, items of a foreach included."""
        for need in task.needs:
            for name in (need, *self.tasks[need].children):
                told = self.tasks[name]
                if told.state == "done" and told.merged:
                    yield told.merged

    def _check_needs(self, told: Told) -> None:
        """Objects if something that the task needs is not over, or ended in a way in which it must not start."""
        task = told.task
        fates = {need: self.tasks[need].state for need in task.needs}
        unmet = {need: state for need, state in fates.items() if state not in OVER}
        self._check(not unmet, f"task {task.id} starts before what it needs: {unmet}")
        if told.begun:
            # It is tried again. That a need went round again since, and failed then, does not end what was begun on its result.
            return
        if not task.condition or task.condition == "success()":
            self._check(all(state == "done" for state in fates.values()), f"task {task.id} starts although {fates}")
        elif task.condition == "failure()":
            self._check(any(state != "done" for state in fates.values()), f"task {task.id} starts although nothing failed")

    def _check(self, holds: bool, message: str) -> None:
        if not holds:
            self._objects(f"log, event {len(self.events)}: {message}")

    def _check_whole(self) -> None:
        """What belongs together must lie in one append."""
        for told in self._touched:
            if told.state == "running":
                self._check(told.ending not in DECISIONS, f"task {told.task.id} is {told.ending} by half")
            if told.state in OVER:
                for name in told.dependents:
                    self._check_released(self.tasks[name])

    def _check_released(self, told: Told) -> None:
        task = told.task
        states = [self.tasks[need].state for need in task.needs]
        if told.state == "waiting" and all(state in OVER for state in states):
            judged = bool(task.condition or told.made_of_others or (task.approve == "before" and not told.approved))
            known = judged or any(state != "done" for state in states)
            self._check(not known, f"task {task.id} was not decided in the append in which its last need was")

    def _move(self, told: Told, to: str) -> None:
        # That a candidate, a voter or a resolver has failed is no failure of the session.
        passed = to == "skipped" and told.task.parent and self.tasks[told.task.parent].task.foreach is None
        over = told.state in OVER and to != "replaced" and not passed
        self._check(not over, f"task {told.task.id} is {told.state}, and yet becomes {to}")
        told.state = to
        self._touched.append(told)
        if to == "done":
            told.done += 1
            self._check(told.done == 1, f"task {told.task.id} was done twice")
            wants = told.task.foreach is None and (told.task.approve == "after" or (told.task.merge == "ask" and told.commit))
            self._check(not wants or told.answered, f"task {told.task.id} is done without a yes")

    def _add(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            former = self.tasks.get(task.id)
            self.tasks[task.id] = told = Told(task)
            if former is not None:
                self._check(former.state == "replaced", f"there are two tasks {task.id}")
                told.n, told.nonce, told.held, told.ended = former.n, former.nonce, former.held, True
                told.ending, told.reserved, told.agent, told.spawned = (
                    former.ending,
                    former.reserved,
                    former.agent,
                    former.spawned,
                )
        for task in tasks:
            for need in task.needs:
                self.tasks[need].dependents.append(task.id)

    def _on_SessionOpened(self, event: ev.SessionOpened) -> None:
        self.tip, self.limit = event.base, event.plan.limits.agents
        self._plan(event.plan)

    def _plan(self, plan: Plan) -> None:
        self.plan, self.specs = plan, {spec.name: spec for spec in plan.agents}

    def _on_PlanChanged(self, event: ev.PlanChanged) -> None:
        self._plan(event.plan)

    def _on_AgentsDeclared(self, event: ev.AgentsDeclared) -> None:
        self.specs = self.specs | {spec.name: spec for spec in event.specs}

    def _on_SessionBased(self, event: ev.SessionBased) -> None:
        self._check(not self.tip, "the session was based twice")
        self.tip = event.base

    def _on_SessionForked(self, event: ev.SessionForked) -> None:
        self.paused = self.closed = False
        self.intent, self.stack, self.keys, self._touched = None, [], {}, []
        for told in self.tasks.values():
            told.held, told.spawned, told.approved = False, False, False
            if told.state in ("running", "merging", "ready"):
                told.state = "waiting"

    def _on_SessionPaused(self, event: ev.SessionPaused) -> None:
        self.paused = True

    def _on_SessionResumed(self, event: ev.SessionResumed) -> None:
        self.paused = False

    def _on_SessionClosed(self, event: ev.SessionClosed) -> None:
        self.closed = True
        self._check(not self.unfinished(), "the session was closed with open tasks")

    def _on_TasksSubmitted(self, event: ev.TasksSubmitted) -> None:
        self._check(not event.key or event.key not in self.keys, f"submission {event.key} was accepted twice")
        self.keys[event.key] = tuple(task.id for task in event.tasks)
        self._add(event.tasks)

    def _on_TaskExpanded(self, event: ev.TaskExpanded) -> None:
        told = self.tasks[event.task]
        self._check_needs(told)
        self._check_approved(told)
        self._move(told, "expanded")
        told.children = tuple(task.id for task in event.children)
        self._add(event.children)

    def _check_approved(self, told: Told) -> None:
        wants = told.task.approve == "before" and not told.approved
        self._check(not wants, f"task {told.task.id} starts without the approval it asks for")

    def _on_TaskReady(self, event: ev.TaskReady) -> None:
        self._move(self.tasks[event.task], "ready")

    def _on_TaskAssigned(self, event: ev.TaskAssigned) -> None:
        told = self.tasks[event.task]
        task = told.task
        self._check(not self.paused and not self.closed, f"task {task.id} was assigned in a paused session")
        self._check(told.state in ("waiting", "ready"), f"task {task.id} was assigned while {told.state}")
        self._check(not told.made_of_others, f"task {task.id} is made of others and was assigned itself")
        self._check(not told.held, f"task {task.id} was assigned while attempt {told.n} has processes")
        self._check(event.n == told.n + 1, f"attempt {event.n} of task {task.id} follows attempt {told.n}")
        self._check(event.nonce not in self._nonces, f"the nonce of task {task.id} was used before")
        self._check(event.at >= told.until, f"task {task.id} was parked until {told.until} and starts at {event.at}")
        late = 0 < task.deadline <= event.at and told.deadline_held
        self._check(not late, f"task {task.id} starts after its deadline")
        under_way = sum(other.held for other in self.tasks.values())
        self._check(under_way < self.limit, f"{under_way + 1} attempts are under way, {self.limit} may be")
        self._check_needs(told)
        self._check_approved(told)
        self._nonces.add(event.nonce)
        told.n, told.nonce, told.agent, told.held = event.n, event.nonce, event.agent, True
        told.reserved, told.builds_on = event.reserved, tuple(self._merged_needs(task))
        told.begun, told.spawned, told.ended, told.answered = True, False, False, False
        told.ending = ""
        self._move(told, "running")

    def _current(self, event: Any) -> Told:
        told = self.tasks[event.task]
        self._check(told.held and told.n == event.n, f"{type(event).__name__} of attempt {event.n} of {event.task}, not current")
        return told

    def _on_AttemptSpawned(self, event: ev.AttemptSpawned) -> None:
        told = self._current(event)
        self._check(not told.ended and not told.ending, f"attempt {event.n} of {event.task} was spawned after its end")
        told.spawned = True

    def _on_AttemptSpent(self, event: ev.AttemptSpent) -> None:
        self._current(event).cost.add(event.cost)

    def _on_AttemptWorked(self, event: ev.AttemptWorked) -> None:
        told = self._current(event)
        self._check(not told.ended, f"attempt {event.n} of {event.task} worked after its end")

    def _on_AttemptEnding(self, event: ev.AttemptEnding) -> None:
        told = self._current(event)
        self._touched.append(told)
        told.ending = event.why

    def _on_AttemptEnded(self, event: ev.AttemptEnded) -> None:
        told = self._current(event)
        name, most = told.task.id, retries(told.task)
        self._check(not told.ended, f"attempt {event.n} of {name} ended twice")
        told.ended, told.held = True, not event.gone
        # Limits of providers are judged by who heard them.
        told.until = event.until if event.then == "parked" and event.cause != "limit" else 0
        if event.outcome == "ok":
            told.commit = event.commit
            self._check(event.then in ("done", "merging", "needs-you"), f"{name} succeeded and becomes {event.then}")
        elif event.outcome == "failed":
            told.failures += 1
            allowed = ("failed",) if told.failures > most or told.over else ("ready", "waiting", "parked")
            self._check(event.then in allowed, f"{name} failed {told.failures} times of {most + 1} and becomes {event.then}")
        elif event.counted:
            told.interruptions += 1
            gives_up = told.interruptions >= self._most
            self._check(
                gives_up == (event.then == "gave-up"), f"{name}, interrupted {told.interruptions} times, becomes {event.then}"
            )
        self._move(told, event.then)

    def _on_AttemptGone(self, event: ev.AttemptGone) -> None:
        told = self._current(event)
        self._check(told.state != "running", f"attempt {event.n} of {event.task} is gone and its task was not decided")
        told.held = False

    def _on_TaskClosed(self, event: ev.TaskClosed) -> None:
        told = self.tasks[event.task]
        self._check(self._decided or event.task not in self.stack, f"task {event.task} was closed while being merged")
        if event.state == "done":
            bad = [name for name in told.children if self.tasks[name].state != "done"]
            self._check(not bad, f"foreach {event.task} is done although {bad} are not")
        if event.state == "replaced":
            for need in told.task.needs:
                if event.task in self.tasks[need].dependents:
                    self.tasks[need].dependents.remove(event.task)
        told.closed_in = self.appends
        self._move(told, event.state)

    def _on_TaskAsked(self, event: ev.TaskAsked) -> None:
        self.tasks[event.task].answered = False
        self._move(self.tasks[event.task], "needs-you")

    def _on_TaskAnswered(self, event: ev.TaskAnswered) -> None:
        told = self.tasks[event.task]
        self._check(told.state == "needs-you", f"task {event.task} was answered while {told.state}")
        told.approved = told.approved or event.answer == "approve"
        told.answered = True
        self._move(told, event.then)

    def _on_TaskRetried(self, event: ev.TaskRetried) -> None:
        told = self.tasks[event.task]
        self._check(told.state in OVER or told.state in ("needs-you", "parked"), f"{event.task} was retried while {told.state}")
        told.state = "expanded" if told.children and told.made_of_others else "waiting"
        told.failures = told.interruptions = told.done = told.until = 0
        told.deadline_held = told.begun = False
        told.chosen = ""
        for dependent in (self.tasks[name] for name in told.dependents):
            if dependent.state in ("ready", "parked"):
                dependent.state, dependent.until = "waiting", 0

    def _on_ProposalAccepted(self, event: ev.ProposalAccepted) -> None:
        self._add(self.proposed.pop(event.task))

    def _on_TaskProposed(self, event: ev.TaskProposed) -> None:
        self.proposed[event.task] = () if event.refused else event.proposal.tasks

    def _on_BallotOpened(self, event: ev.BallotOpened) -> None:
        self._add(event.voters)
        self.tasks[event.task].children += tuple(task.id for task in event.voters)

    def _on_CandidateChosen(self, event: ev.CandidateChosen) -> None:
        """Each choice, as each attempt, has a number of its own: its merge is known by it."""
        told, made = self.tasks[event.task], self.tasks[event.candidate]
        open_ones = [n for n in told.children if not self.tasks[n].task.ballot and self.tasks[n].state not in OVER]
        self._check(not open_ones, f"{event.candidate} is chosen while {open_ones} are at work")
        self._check(made.state == "done", f"{event.candidate} is chosen and is {made.state}")
        told.chosen, told.commit, told.answered = event.candidate, made.commit, False
        told.n += 1
        self._move(told, event.then)

    def _on_CandidateRefused(self, event: ev.CandidateRefused) -> None:
        self._move(self.tasks[event.task], "expanded")

    def _on_ConflictResolved(self, event: ev.ConflictResolved) -> None:
        told, made = self.tasks[event.task], self.tasks[event.resolver]
        self._check(made.state == "done", f"{event.task} takes what {event.resolver} did not resolve")
        told.commit, told.answered = made.commit, False
        told.n += 1
        self._move(told, event.then)

    def _on_MergeStarted(self, event: ev.MergeStarted) -> None:
        names = [candidate.task for candidate in event.intent.stack]
        self._check(not self.stack or self._decided, f"merges of {names} and {self.stack} at once")
        self._check(not self.paused, f"the merge of {names} began in a paused session")
        self._check(0 < len(names) <= 5 and len(set(names)) == len(names), f"{names} are stacked")
        self._check(event.intent.base == self.tip, f"the merge of {names} begins not where the branch is, at {self.tip}")
        for candidate in event.intent.stack:
            told = self.tasks[candidate.task]
            self._check(told.state == "merging", f"the merge of {candidate.task} began while {told.state}")
            self._check(candidate.commit == told.commit, f"the merge of {candidate.task} is of another commit than its last")
        self.intent, self.stack, self._decided = event.intent, names, False

    def _next_of_stack(self, task: str) -> Told:
        """A stack is decided from its lowest task upwards, in one append."""
        self._check(self.stack[:1] == [task], f"{task} was merged or refused while {self.stack} are being merged")
        del self.stack[:1]
        self._decided = True
        return self.tasks[task]

    def _on_Merged(self, event: ev.Merged) -> None:
        began = self.merges.pop()[0] if self._decided else self.tip
        self.merges.append((began, event.commit))
        told = self._next_of_stack(event.task)
        told.merged, self.tip = event.commit, event.commit
        self._move(told, "done")

    def _on_MergeFailed(self, event: ev.MergeFailed) -> None:
        told = self._next_of_stack(event.task)
        # Whoever lies above it must not be spoken of.
        self.stack, told.until = [], event.until
        if event.cause == "verify-failed":
            told.failures += 1
            others = ("expanded",) if told.task.candidates else ("ready", "waiting", "parked")
            allowed = others if told.task.candidates or told.failures <= retries(told.task) else ("failed",)
            self._check(event.then in allowed, f"{event.task} failed {told.failures} times and becomes {event.then}")
        self._move(told, event.then)
        if event.resolver is not None:
            self._add((event.resolver,))
            told.children += (event.resolver.id,)


def retries(task: Task) -> int:
    """Further attempts after the first."""
    return task.retries if isinstance(task.retries, int) else task.retries.max
