"""Random sessions: whatever is said in whatever order, the core keeps its promises (`desk.Desk.check` after every turn)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from skep.core import inputs as inp
from skep.core import state as state_module
from skep.core.model import TERMINAL, AgentSpec, Credit, Foreach, Output, Proposal, Resources, Retries, Task, TaskState, Vote
from skep.core.topology import PERSON, Shape
from skep.errors import Bug
from tests.core.desk import ROOM, Desk

AGENTS = (
    AgentSpec(name="coder", runtime="x", count=2, capabilities=("code",), max_load=2),
    AgentSpec(name="judge", runtime="x", count=3, capabilities=("judge",)),
    AgentSpec(name="big", runtime="x", count=2, strict=True, resources=Resources(3.0, 100, 100), capabilities=("code", "test")),
)
NAMES = "abcdefghij"
HEARERS = ("coder-1", "coder-2", "judge-1", "big-1", PERSON)
_small = st.integers(0, 7)
HAPPENINGS = (
    *("submit", "submit", "submit", "ok", "ok", "ok", "fail", "interrupt", "spawn", "work", "gone", "gone", "late"),
    *("merge", "merge", "refuse", "cancel", "cancel", "retry", "retry", "answer", "answer", "pause", "resume", "propose"),
    *("finish", "finish", "rejoin", "grant", "grant", "lose", "tick", "declare", "replan", "restart", "snapshot", "fork"),
    *("send", "send", "deliver", "escalate", "escalate", "reply", "phases"),
)
#: What happens, and three numbers from which it takes its details.
_happening = st.tuples(
    st.sampled_from(HAPPENINGS),
    _small,
    _small,
    st.integers(0, 1_000),
)


def vote(choice: str) -> dict[str, Output]:
    """What a voter leaves behind."""
    text = f'{{"vote": "{choice}", "reason": "why not"}}'
    return {"vote": Output(digest="d", size=len(text), text=text)}


class Walk:
    """A desk, and the hands that push it about."""

    def __init__(self) -> None:
        self.desk = Desk(*AGENTS, at_once=3, base="c0")
        limits = replace(self.desk.plan.limits, answer_within=5.0)
        self.desk.plan = replace(self.desk.plan, topology=Shape("star"), limits=limits)
        self.desk.tell(inp.ChangePlan(at=0, plan=self.desk.plan))
        self.commits = 0
        self.boots = 1
        self.forks = 1
        self.names = 0
        self.stale: list[Any] = []

    def go(self, happenings: Sequence[tuple[str, int, int, int]]) -> None:
        for what, a, b, c in happenings:
            act: Callable[[int, int, int], None] = getattr(self, "_" + what)
            act(a, b, c)

    def say(self, given: inp.Input, after: int = 500) -> Any:
        (answer, *_) = self.desk.say(given, after=after)
        assert not isinstance(answer, Bug)
        return answer

    def pick(self, n: int, *states: str) -> str:
        names = [name for name, entry in self.desk.state.entries.items() if not states or entry.state in states]
        return names[n % len(names)] if names else ""

    def attempt(self, n: int) -> str:
        names = [name for name, entry in self.desk.state.entries.items() if entry.attempt is not None]
        return names[n % len(names)] if names else ""

    def commit(self, n: int) -> str:
        self.commits += 1
        return f"c{self.commits}" if n % 2 else ""

    def report(self, kind: type[Any], n: int, **more: Any) -> None:
        name = self.attempt(n)
        if name:
            report = self.desk.report(kind, name, **more)
            self.stale.append(report)
            self.say(report)

    def task(self, a: int, b: int, c: int, name: str) -> Task:
        others = [name_ for name_ in (*self.desk.state.entries, *self.desk.archive) if name_ != name][-8:]
        needs = tuple(dict.fromkeys(others[(c + i * 3) % len(others)] for i in range(b % 3))) if others else ()
        task = Task(id=name, run="true", needs=needs, priority=("low", "normal", "high", "critical")[c % 4])
        match (a + c) % 12:
            case 0:
                task = replace(task, retries=Retries(max=2, backoff=float(b % 2)), locks=("db",))
            case 1:
                task = replace(task, condition=("always()", "failure()", "inputs.x == 'y'")[b % 3])
            case 2:
                task = replace(task, approve=("before", "after")[b % 2])
            case 3:
                foreach = Foreach(source=f"needs.{needs[0]}.result", max_parallel=b % 3, fail_fast=bool(c % 2)) if needs else None
                task = replace(task, foreach=foreach, condition="always()" if b % 2 else "", merge="never", locks=("db",))
            case 4:
                task = replace(task, merge=("ask", "never")[b % 2], on_conflict="ask")
            case 5:
                task = replace(task, deadline=self.desk.at + 4_000 * (1 + b), locks=("db", "net"))
            case 6:
                task = replace(task, resources=Resources(cpu=float(1 + b % 4)), mode="shared")
            case 7:
                task = replace(task, run=None, prompt="do it", capabilities=("code",), locks=("net",))
            case 8:
                task = replace(task, run=None, prompt="do it", agent=("coder", "big")[b % 2], recovery="ask")
            case 9:
                task = replace(task, retries=1, type="docs", recovery="ask", locks=("net", "db"))
            case 10:
                vote = Vote(by="judge", otherwise=("ask", "fail")[b % 2], timeout=float(c % 3)) if c % 4 else None
                task = replace(task, candidates=("", "shell", "")[: 2 + b % 2], vote=vote, merge=("auto", "ask")[c % 2])
            case _:
                pass
        return task

    def _submit(self, a: int, b: int, c: int) -> None:
        tasks = (self.task(a, b, c, self.name(c)), self.task(b, a, c + 1, self.name(c + 1)))
        self.say(inp.Submit(at=0, tasks=tasks, known=self.known()))
        if c % 5 == 0:
            self.say(inp.Submit(at=0, tasks=(self.task(b, c, a, ""),), key=f"k{c % 3}", known=self.known()))

    def name(self, n: int) -> str:
        """Mostly a new one."""
        self.names += 1
        return NAMES[n % 10] if n % 6 == 0 else f"{NAMES[n % 10]}{self.names}"

    def known(self) -> dict[str, TaskState]:
        return {name: entry.state for name, entry in self.desk.archive.items()}

    def _ok(self, a: int, b: int, c: int) -> None:
        left = {"commit": self.commit(b), "gone": bool(c % 4), "result": ["x", "y", str(c % 3)], "outputs": vote("AABBC?"[c % 6])}
        self.report(inp.Ended, a, outcome="ok", **left)

    def _propose(self, a: int, b: int, c: int) -> None:
        proposer = self.attempt(a)
        names = [f"p{self.desk.turns}-{n}" for n in range(1 + b % 3)] if c % 9 else ["a"]
        needs = (proposer,) if b % 2 else ()
        tasks = tuple(Task(id=name, run=f"true {name if c % 7 else ''}", needs=needs) for name in names)
        proposal = Proposal(tasks=tasks, fingerprint=f"f{c}", verify="true" if c % 2 else None)
        if c % 3:
            self.report(inp.Ended, a, outcome="ok", commit=self.commit(b), proposal=proposal)
        else:
            self.report(inp.Worked, a, commit=self.commit(1), proposal=proposal)

    def _finish(self, a: int, b: int, c: int) -> None:
        for name in self.desk.running():
            self.say(self.desk.report(inp.Ended, name, outcome="ok", result=["x", "y"], outputs=vote("AAB"[c % 3])))

    def _fail(self, a: int, b: int, c: int) -> None:
        self.report(inp.Ended, a, outcome="failed", cause="exit", gone=bool(c % 4), commit=self.commit(b))

    def _interrupt(self, a: int, b: int, c: int) -> None:
        until = self.desk.at + 3_000 if b % 2 else 0
        cause = ("infrastructure", "", "limit")[c % 3]
        self.report(inp.Ended, a, outcome="interrupted", cause=cause, until=until)

    def _spawn(self, a: int, b: int, c: int) -> None:
        self.report(inp.Spawned, a, pid=b + 1, born=c)

    def _work(self, a: int, b: int, c: int) -> None:
        self.report(inp.Worked, a, commit=self.commit(1), result=["p", "q"])

    def _gone(self, a: int, b: int, c: int) -> None:
        self.report(inp.Gone, a, wip=self.commit(b))

    def _late(self, a: int, b: int, c: int) -> None:
        if self.stale:
            self.say(self.stale[c % len(self.stale)])

    def _merge(self, a: int, b: int, c: int) -> None:
        intent = self.desk.state.intent
        if intent is not None:
            commits = tuple(f"m{self.desk.turns}-{n}" for n in range(1 + b % len(intent.stack)))
            self.say(inp.MergeEnded(at=0, intent=intent, commits=commits))

    def _refuse(self, a: int, b: int, c: int) -> None:
        intent = self.desk.state.intent
        if intent is not None:
            causes: tuple[Any, ...] = ("conflict", "verify-failed", "infrastructure")
            commits = tuple(f"m{self.desk.turns}-{n}" for n in range(b % len(intent.stack)))
            self.say(inp.MergeEnded(at=0, intent=intent, commits=commits, cause=causes[a % 3], detail="no"))

    def _cancel(self, a: int, b: int, c: int) -> None:
        name = self.pick(a)
        if name:
            self.say(inp.Cancel(at=0, tasks=(name,), subtree=bool(b % 2)))

    def _retry(self, a: int, b: int, c: int) -> None:
        name = self.pick(a, *TERMINAL, "needs-you", "parked") if c % 4 else self.pick(a)
        if name:
            self.say(inp.Retry(at=0, task=name, agent=("", "", "shell", "coder")[b % 4], comment="again"))

    def _answer(self, a: int, b: int, c: int) -> None:
        name = self.pick(a, "needs-you")
        if name:
            answers: tuple[Any, ...] = ("approve", "reject", "rerun", "skip", "merge", "choose")
            self.say(inp.Say(at=0, task=name, answer=answers[b % 6], choice=str(1 + c % 3)))

    def _pause(self, a: int, b: int, c: int) -> None:
        self.say(inp.Pause(at=0, stop=bool(a % 2)))

    def _resume(self, a: int, b: int, c: int) -> None:
        self.say(inp.Resume(at=0))

    def _rejoin(self, a: int, b: int, c: int) -> None:
        self.boots += a % 2
        self.say(inp.JoinNode(at=0, node="here", boot=f"b{self.boots}", capacity=ROOM, slots=1_000))

    def _grant(self, a: int, b: int, c: int) -> None:
        credit = Credit(a / 2, 1_000 * b, 1_000 * b, c % 5) if c % 3 else None
        self.say(inp.GrantCredit(at=0, node="here", credit=credit))

    def _lose(self, a: int, b: int, c: int) -> None:
        self.say(inp.LoseNode(at=0, node="here"))

    def _tick(self, a: int, b: int, c: int) -> None:
        self.say(inp.Tick(at=0), after=c * 30)

    def _declare(self, a: int, b: int, c: int) -> None:
        self.say(inp.DeclareAgents(at=0, specs=(replace(AGENTS[a % 3], count=1 + b % 3, max_load=1 + c % 2),)))

    def _replan(self, a: int, b: int, c: int) -> None:
        entries = self.desk.state.entries
        keep = tuple(name for n, name in enumerate(entries) if (c >> (n % 10)) & 1 and not entries[name].task.parent)
        others = [name for name in entries if name not in keep] or ["new"]
        one, other = others[a % len(others)], others[b % len(others)]
        tasks = [self.task(a, 0, c, one), *([Task(id=other, run="true", needs=(one,))] if other != one else [])]
        plan = replace(self.desk.plan, tasks=tuple(task for task in tasks if not task.id.startswith("t") and "[" not in task.id))
        self.say(inp.ChangePlan(at=0, plan=plan, keep=keep, known=self.known()))

    def _send(self, a: int, b: int, c: int) -> None:
        source, target = (HEARERS[n % len(HEARERS)] for n in (a, b))
        name = f"n{c % 20}" if c % 2 else ""
        self.say(inp.Send(at=0, kind="note", source=source, target=target, payload=c, id=name, ttl=c % 3 * 2_000))

    def _deliver(self, a: int, b: int, c: int) -> None:
        inboxes = self.desk.state.mail.inboxes
        target = HEARERS[a % len(HEARERS)]
        waiting = list(inboxes.get(target, {}))
        ids = tuple(waiting[: 1 + b] if c % 5 else waiting[::-1][:1])
        if ids:
            self.say(inp.Delivered(at=0, ids=ids, target=target))

    def _escalate(self, a: int, b: int, c: int) -> None:
        self.report(inp.Escalate, a, payload="which?", id=f"q{c % 20}" if c % 2 else "")

    def _reply(self, a: int, b: int, c: int) -> None:
        questions = list(self.desk.state.mail.questions.values())
        if questions:
            one = questions[a % len(questions)]
            source = one.target if c % 4 else PERSON
            self.say(inp.Send(at=0, kind="note", source=source, target=one.source, payload="this", correlation=one.id))

    def _phases(self, a: int, b: int, c: int) -> None:
        self.names += 1
        tasks: list[Task] = []
        for phase in (f"{n}{self.names}" for n in ("one", "two")[: 1 + b % 2]):
            tasks.append(replace(self.task(a, b, c, f"{phase}-work"), phase=phase))
            judged = (Vote(by="judge", otherwise="ask"), None, None)[c % 3]
            gate = Task(id=f"gate:{phase}", phase=phase, gate=True, merge="never", vote=judged)
            tasks.append(replace(gate, approve="before") if c % 3 == 1 else gate)
        self.say(inp.Submit(at=0, tasks=tuple(tasks), known=self.known()))

    def _restart(self, a: int, b: int, c: int) -> None:
        self.desk.reload()

    def _snapshot(self, a: int, b: int, c: int) -> None:
        self.desk.from_snapshot()

    def _fork(self, a: int, b: int, c: int) -> None:
        if c % 3 == 0:
            self.forks += 1
            self.say(inp.ForkSession(at=0, session=f"desk-{self.forks}", origin=self.desk.state.session))
            self.say(inp.JoinNode(at=0, node="here", boot="fork", capacity=ROOM, slots=1_000))


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.lists(_happening, min_size=5, max_size=60))
def test_whatever_is_said_the_core_keeps_its_promises(happenings: list[tuple[str, int, int, int]]) -> None:
    Walk().go(happenings)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(_happening, min_size=20, max_size=60))
def test_the_same_holds_when_finished_tasks_leave_early(happenings: list[tuple[str, int, int, int]]) -> None:
    with patch.object(state_module, "KEEP_FINISHED", 2), patch.object(state_module, "LEAVE_TOGETHER", 1):
        Walk().go(happenings)


@pytest.mark.parametrize("block", range(8))
def test_the_same_holds_of_long_walks(block: int) -> None:
    """Longer than a shrinking search would make them; the seed is in the name of the test."""
    for seed in range(block * 25, block * 25 + 25):
        random = Random(seed)
        pick = random.randrange
        with patch.object(state_module, "KEEP_FINISHED", 2 + 100 * (seed % 2)), patch.object(state_module, "LEAVE_TOGETHER", 1):
            Walk().go([(random.choice(HAPPENINGS), pick(8), pick(8), pick(1_001)) for _ in range(pick(20, 80))])
