"""A small world for phases: the owner of `small` that crashes around its appends, people who retry, add and approve, agents
that fail, vote and propose, and a checker that reads the log alone: nothing of a phase may start before the gates before it are
passed.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.model import TERMINAL, Entry, Output, Proposal, Task, Vote
from tests.simulation.small import Small

#: How a gate judges.
KINDS = ("nothing", "command", "person", "command and person", "vote")
OVER = frozenset({"done", "skipped", "failed", "gave-up", "cancelled"})
BAD = frozenset({"failed", "gave-up", "cancelled"})


class Phased(Small):
    """One session of one seed, in a few phases."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.kinds = [self.random.choice(KINDS) for _ in range(self.random.choice((2, 3, 4)))]
        #: How likely work fails, a person says no, a voter says stop.
        self.trouble = self.random.choice((0.0, 0.2, 0.5))
        self.added = 0
        #: What the attempts of gates reported, and what each vote said: the same again, however often it is asked for.
        self.reports: dict[tuple[str, int], inp.Ended] = {}

    def go(self) -> None:
        """Trouble for a while, then none until every phase is passed; then the checker."""
        self.insist(inp.Submit(at=0, tasks=self._tasks(), key="k"))
        for _ in range(self.random.choice((30, 80))):
            self.random.choice((self._work, self._work, self._work, self._work, self._retry, self._add, self._fuss))()
        self.trouble = 0.0
        for _ in range(2_000):
            if all(self.state.entries[f"gate:p{n}"].state == "done" for n in range(len(self.kinds))):
                break
            self.random.choice((self._work, self._retry))()
        left = {name: entry.state for name, entry in self.state.entries.items() if entry.state != "done"}
        self.check(all(self.state.entries[f"gate:p{n}"].state == "done" for n in range(len(self.kinds))), f"stuck: {left}")
        Judge(self).read()

    def _tasks(self) -> tuple[Task, ...]:
        found: list[Task] = []
        for n, kind in enumerate(self.kinds):
            names = [f"t{n}x{m}" for m in range(self.random.choice((1, 2, 3)))]
            for name in names:
                before = [task.id for task in found if not task.gate]
                needs = tuple(self.random.sample(before, 1)) if before and self.random.random() < 0.3 else ()
                condition = "always()" if self.random.random() < 0.3 else ""
                found.append(Task(id=name, prompt="do", agent="coder", phase=f"p{n}", needs=needs, condition=condition))
            found.append(
                Task(
                    id=f"gate:p{n}",
                    phase=f"p{n}",
                    gate=True,
                    merge="never",
                    run="check" if "command" in kind else None,
                    agent="coder" if "command" in kind else "",
                    approve="after" if "person" in kind else "",
                    vote=Vote(by="judge", otherwise=self.random.choice(("ask", "fail"))) if kind == "vote" else None,
                )
            )
        return tuple(found)

    def _work(self) -> None:
        """Something that goes on goes on a step."""
        entries = list(self.state.entries.values())
        able = [e for e in entries if e.attempt is not None or e.state == "needs-you"]
        if self.state.intent is not None and (not able or self.random.random() < 0.5):
            intent = self.state.intent
            commits = tuple(f"m{self.turns}-{n}" for n in range(len(intent.stack)))
            self.say(inp.MergeEnded(at=0, intent=intent, commits=commits))
        elif not able:
            self.say(inp.Tick(at=0))
        else:
            self._step(self.random.choice(able))

    def _step(self, entry: Entry) -> None:
        name, attempt = entry.task.id, entry.attempt
        if entry.state == "needs-you":
            no = self.random.random() < self.trouble
            self.say(inp.Say(at=0, task=name, answer="reject" if no else "approve", by="somebody"))
        elif attempt is not None and attempt.stage == "ending":
            self.say(inp.Gone(at=0, task=name, n=attempt.n, nonce=attempt.nonce))
        elif attempt is not None:
            key = (name, attempt.n)
            if key not in self.reports:
                self.reports[key] = self._report(entry)
            self.say(msgspec.structs.replace(self.reports[key], nonce=attempt.nonce))

    def _report(self, entry: Entry) -> inp.Ended:
        """How an attempt ends: well, badly, with a vote, with a proposal."""
        name, attempt, bad = entry.task.id, entry.attempt, self.random.random() < self.trouble
        assert attempt is not None
        told: dict[str, Any] = {"at": 0, "task": name, "n": attempt.n, "nonce": attempt.nonce}
        if entry.task.ballot:
            choice = self.random.choice(("stop", "stop", None)) if bad else "pass"
            said = msgspec.json.encode({"vote": choice}).decode()
            return inp.Ended(**told, outcome="ok", outputs={"vote": Output(digest="d", size=len(said), text=said)})
        if bad:
            return inp.Ended(**told, outcome="failed", cause="exit", detail="it does not work")
        proposal = None
        if not entry.task.gate and not entry.task.generation and self.random.random() < self.trouble / 2:
            self.added += 1
            proposal = Proposal(tasks=(Task(id=f"new{self.added}", prompt=f"more {self.added}", agent="coder", needs=(name,)),))
        commit = "" if entry.task.gate else f"c-{name}-{attempt.n}"
        return inp.Ended(**told, outcome="ok", commit=commit, proposal=proposal)

    def _retry(self) -> None:
        bad = [e.task.id for e in self.state.entries.values() if e.state in BAD and not e.task.ballot]
        well = [e.task.id for e in self.state.entries.values() if e.state == "done" and not e.task.ballot]
        if bad or (well and self.random.random() < self.trouble / 4):
            self.say(inp.Retry(at=0, task=self.random.choice(bad or well)))

    def _add(self) -> None:
        """Somebody adds a task to a phase, with or without a need; it may be refused."""
        if self.random.random() < self.trouble:
            self.added += 1
            names = list(self.state.entries)
            needs = (self.random.choice(names),) if self.random.random() < 0.3 else ()
            phase = f"p{self.random.randrange(len(self.kinds))}"
            task = Task(id=f"new{self.added}", prompt=f"more {self.added}", agent="coder", phase=phase, needs=needs)
            self.say(inp.Submit(at=0, tasks=(task,), key=task.id))

    def _fuss(self) -> None:
        """Cancellations, forks."""
        luck = self.random.random()
        opened = [e.task.id for e in self.state.entries.values() if e.state not in TERMINAL]
        if luck < self.trouble / 8 and opened:
            self.say(inp.Cancel(at=0, tasks=(self.random.choice(opened),)))


class Judge:
    """Reads the log of a session as an outsider: what is a gate, who is of which phase, and what stands of each."""

    def __init__(self, small: Phased) -> None:
        self.small = small
        self.tasks: dict[str, Task] = {}
        self.states: dict[str, str] = {}
        self.gates: list[str] = []
        #: Since a gate was last sent round: whether its command went well, whether a person said yes, what its voters said.
        self.ran: set[str] = set()
        self.yes: set[str] = set()
        self.votes: dict[str, Counter[str]] = {}
        self.proposed: dict[str, Proposal] = {}

    def read(self) -> None:
        for event in self.small.log:
            getattr(self, f"_on_{type(event).__name__}", self._other)(event)

    def _add(self, tasks: tuple[Task, ...]) -> None:
        for task in tasks:
            self.tasks[task.id], self.states[task.id] = task, "waiting"
            self.gates += [task.id] if task.gate else []

    def _other(self, event: ev.Event) -> None:
        """Whatever else says what follows for its task."""
        task, then = getattr(event, "task", ""), getattr(event, "then", "")
        if task and then:
            self._move(task, then)

    def _move(self, name: str, to: str) -> None:
        self.states[name] = to
        task = self.tasks[name]
        if to == "done" and task.gate:
            self._passed(task)

    def _passed(self, gate: Task) -> None:
        """A gate was passed: its phase is over and nothing of it failed, and whoever had to say yes did."""
        left = [
            name
            for name, task in self.tasks.items()
            if task.phase == gate.phase and not task.gate and not task.parent and self.states[name] not in ("done", "skipped")
        ]
        self.small.check(not left, f"{gate.id} was passed while of its phase {left} are not done")
        self._behind(gate)
        self.small.check(gate.run is None or gate.id in self.ran, f"{gate.id} was passed and its command was not")
        self.small.check(gate.approve != "after" or gate.id in self.yes, f"{gate.id} was passed without a yes")
        if gate.vote is not None and gate.id not in self.yes:
            enough = 3 * self.votes.get(gate.id, Counter())["pass"] >= 2 * self.small.judges
            self.small.check(enough, f"{gate.id} was passed with {dict(self.votes.get(gate.id, {}))} of {self.small.judges}")

    def _behind(self, task: Task) -> None:
        """Whatever begins has every gate before its phase behind it."""
        place = next((n for n, gate in enumerate(self.gates) if self.tasks[gate].phase == task.phase), 0)
        shut = [gate for gate in self.gates[:place] if self.states[gate] != "done"]
        self.small.check(not shut, f"{task.id} of phase {task.phase} begins before {shut} are passed")

    def _on_TasksSubmitted(self, event: ev.TasksSubmitted) -> None:
        self._add(event.tasks)

    def _on_TaskProposed(self, event: ev.TaskProposed) -> None:
        self.proposed[event.task] = event.proposal

    def _on_ProposalAccepted(self, event: ev.ProposalAccepted) -> None:
        own = self.tasks[event.task].phase
        self._add(self.proposed[event.task].tasks)
        strange = [task.id for task in self.proposed[event.task].tasks if task.phase != own]
        self.small.check(not strange, f"{strange} were proposed in phase {own} and are of another")

    def _on_TaskExpanded(self, event: ev.TaskExpanded) -> None:
        self._behind(self.tasks[event.task])
        self._add(event.children)
        self._move(event.task, "expanded")

    def _on_BallotOpened(self, event: ev.BallotOpened) -> None:
        self._add(event.voters)
        self.votes[event.task] = Counter()

    def _on_VoteCast(self, event: ev.VoteCast) -> None:
        voters = [f"{event.task}[{event.elector}]", f"{event.task}[{event.elector}.{event.ballot.rpartition('.')[2]}]"]
        said = {
            report.outputs["vote"].text for (name, _), report in self.small.reports.items() if name in voters and report.outputs
        }
        honest = not event.choice or f'{{"vote":"{event.choice}"}}' in said
        self.small.check(honest, f"{event.elector} said {said}, counted is {event.choice}")
        self.votes[event.task][event.choice] += 1

    def _on_TaskAssigned(self, event: ev.TaskAssigned) -> None:
        self._behind(self.tasks[event.task])
        self._move(event.task, "running")

    def _on_AttemptEnded(self, event: ev.AttemptEnded) -> None:
        report = self.small.reports.get((event.task, event.n))
        if event.outcome == "ok" and report is not None and report.outcome == "ok":
            self.ran.add(event.task)
        self._move(event.task, event.then)

    def _on_TaskAnswered(self, event: ev.TaskAnswered) -> None:
        if event.answer == "approve" and event.by:
            self.yes.add(event.task)
        self._move(event.task, event.then)

    def _on_TaskRetried(self, event: ev.TaskRetried) -> None:
        self.ran.discard(event.task)
        self.yes.discard(event.task)
        self.states[event.task] = "again"

    def _on_TaskClosed(self, event: ev.TaskClosed) -> None:
        self._move(event.task, event.state)

    def _on_TaskAsked(self, event: ev.TaskAsked) -> None:
        self._move(event.task, "needs-you")

    def _on_Merged(self, event: ev.Merged) -> None:
        self._move(event.task, "done")
