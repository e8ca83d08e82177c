"""The table of states: every move in it happens, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import get_args
from unittest.mock import patch

import pytest

from skep.core import inputs as inp
from skep.core import transitions
from skep.core.model import TERMINAL, AgentSpec, Entry, Foreach, Proposal, Retries, Task, TaskState, Vote
from skep.core.state import State
from skep.errors import Bug
from tests.core.desk import Desk, run
from tests.core.test_walks import HAPPENINGS, Walk, vote

ALL = frozenset(get_args(TaskState))


@contextmanager
def noted() -> Iterator[set[tuple[str, str]]]:
    """Every move that is made."""
    moves: set[tuple[str, str]] = set()
    check = transitions.check

    def note(entry: Entry, to: str) -> None:
        check(entry, to)
        moves.add((entry.state, to))

    with patch.object(transitions, "check", note):
        yield moves


def test_the_table_knows_every_state() -> None:
    assert set(transitions.TRANSITIONS) == ALL
    assert all(following <= ALL for following in transitions.TRANSITIONS.values())
    assert TERMINAL < ALL


def test_every_move_of_the_table_happens_and_no_other() -> None:
    table = {(before, to) for before, following in transitions.TRANSITIONS.items() for to in following}
    with noted() as moves:
        rare()
        for seed in range(400):
            walk, random = Walk(), Random(seed)
            walk.desk.thorough = False
            pick = random.randrange
            walk.go([(random.choice(HAPPENINGS), pick(8), pick(8), pick(1_001)) for _ in range(60)])
            if moves >= table:
                break
    assert moves <= table
    assert table - moves == set()


def rare() -> None:
    """Moves that take a story."""
    desk = Desk(base="c0")  # merging -> waiting, running -> waiting, needs-you -> waiting
    desk.submit(run("n"), run("a", "n"), run("b", "n"), run("p", "n", approve="before"))
    desk.ok("n")
    desk.ok("a", commit="c1")
    desk.retry("n")
    desk.gone("b")
    desk.unmerged()
    desk.answer("p", "approve")
    desk = Desk()  # parked -> ready, parked -> failed, gave-up -> ready
    desk.submit(
        run("a", retries=Retries(max=1, backoff=1.0)), run("b", retries=Retries(max=1, backoff=99.0), deadline=desk.at + 9_000)
    )
    desk.fail("a")
    desk.fail("b")
    desk.tick(60.0)
    for _ in range(5):
        desk.gone("a")
    desk.retry("a")
    desk = Desk()  # expanded -> done, done -> expanded, failed -> expanded, skipped -> ready
    desk.submit(run("a"), run("each", "a", foreach=Foreach(source="needs.a.result")), run("b"), run("late", "b"))
    desk.ok("a", result=["x"])
    desk.ok("each[x]")
    desk.retry("each")
    desk.retry("each[x]")
    desk.fail("each[x]")
    desk.retry("each")
    desk.submit(run("c", "b", "each"))
    desk.cancel("each")
    desk.gone("each[x]")
    desk.retry("each")
    desk.ok("each[x]")
    desk.submit(run("d", merge="ask"))
    desk.ok("d", commit="c1")
    desk.answer("d", "skip")
    desk.retry("d")
    desk = Desk(base="c0")  # merging -> parked
    desk.submit(run("a", retries=Retries(max=1, backoff=1.0)))
    desk.ok("a", commit="c1")
    desk.unmerged("verify-failed")
    desk = Desk(base="c0")  # needs-you -> failed
    desk.submit(run("a", approve="before", deadline=desk.at + 9_000))
    desk.tick(60.0)
    desk = Desk()  # gave-up -> skipped, skipped -> expanded
    desk.submit(run("b", candidates=("", ""), merge="ask"))
    desk.submit(run("a", candidates=("", "")))
    desk.ok("b[1]", commit="c1")
    desk.ok("b[2]", commit="c2")
    desk.answer("b", "skip")
    desk.retry("b")
    desk.ok("a[1]")
    for _ in range(5):
        desk.gone("a[2]")
    more_that_is_rare()


def more_that_is_rare() -> None:
    desk = Desk(base="c0")  # merging -> replaced
    desk.submit(run("a"), run("b"))
    desk.ok("a", commit="c1")
    desk.ok("b", commit="c2")
    desk.tell(inp.ChangePlan(at=0, plan=desk.plan, keep=("a",)))
    desk = Desk(base="c0")  # merging -> expanded
    desk.submit(run("a", candidates=("", "")))
    desk.ok("a[1]", commit="c1")
    desk.ok("a[2]", commit="c2")
    desk.unmerged("verify-failed")
    desk = Desk()  # needs-you -> needs-you
    desk.submit(run("a", approve="after"))
    desk.ok("a", proposal=Proposal(tasks=(run("more", "a", env={"A": "b"}),)))
    desk.answer("a", "approve")
    desk = Desk(AgentSpec(name="judge", runtime="x"))  # expanded -> waiting
    desk.submit(run("a", phase="one"), Task(id="gate:one", phase="one", gate=True, merge="never", vote=Vote(by="judge")))
    desk.ok("a")
    desk.retry("a")
    desk = Desk()  # gave-up -> waiting, gave-up -> replaced
    desk.submit(run("a", condition="always()"))
    for _ in range(5):
        desk.gone("a")
    desk.retry("a")
    for _ in range(5):
        desk.gone("a")
    desk.tell(inp.ChangePlan(at=0, plan=desk.plan))
    of_candidates()
    of_providers_and_plans()


def of_candidates() -> None:
    desk = Desk(base="c0")  # needs-you -> expanded
    desk.submit(run("a", candidates=("", ""), merge="ask"))
    desk.ok("a[1]", "a[2]", commit="c1")
    desk.answer("a", "reject")
    desk = Desk()  # failed -> skipped, cancelled -> skipped
    desk.submit(run("a", candidates=("", "", "")))
    desk.fail("a[1]")
    desk.cancel("a[2]")
    desk.ok("a[3]")
    desk.gone("a[2]")
    desk = Desk(AgentSpec(name="judge", runtime="x", count=6), at_once=6)  # ready -> skipped, parked -> skipped
    desk.submit(run("a", candidates=("", ""), vote=Vote(by="judge")))
    desk.ok("a[1]", "a[2]")
    one, other, *most = desk.running()
    desk.interrupt(one, cause="limit", until=desk.at + 99_000)
    desk.tell(inp.Pause(at=0))
    desk.interrupt(other)
    desk.ok(*most, outputs=vote("A"))


def of_providers_and_plans() -> None:
    desk = Desk(AgentSpec(name="one", runtime="x"), AgentSpec(name="other", runtime="y"))  # ready -> ready
    desk.submit(Task(id="a", prompt="do it"), Task(id="b", prompt="do it"))
    desk.interrupt("a", cause="limit", until=desk.at + 9_000)
    desk.tick(60.0)
    desk = Desk(base="c0")  # parked -> waiting, parked -> replaced
    desk.submit(run("a"), run("b", "a"), run("c"))
    desk.ok("a")
    desk.interrupt("b", cause="limit", until=desk.at + 99_000)
    desk.interrupt("c", cause="limit", until=desk.at + 99_000)
    desk.retry("a")
    desk.tell(inp.ChangePlan(at=0, plan=desk.plan, keep=("a", "b")))
    desk = Desk(base="c0")  # merging -> cancelled, expanded -> replaced
    desk.submit(run("a"), run("b"), run("c", candidates=("", "")))
    desk.ok("a", "b", commit="c1")
    desk.cancel("b")
    desk.tell(inp.ChangePlan(at=0, plan=desk.plan, keep=("a",)))


def test_a_bug_is_no_answer() -> None:
    """The state may be half changed: whoever called must drop it."""
    desk = Desk()
    desk.submit(run("a"))
    with patch.dict(transitions.TRANSITIONS, {"running": frozenset()}), pytest.raises(Bug, match="illegal move running -> done"):
        desk.ok("a")


@pytest.mark.parametrize("before", sorted(ALL))
def test_any_other_move_is_a_bug_that_tells_the_tasks_story(before: TaskState) -> None:
    entry = Entry(task=run("build"), seq=1, submitted=0, state=before, attempts=3, failures=2, cause="exit", detail="exit 7")
    for to in sorted(ALL - transitions.TRANSITIONS[before]):
        with pytest.raises(Bug) as caught:
            State().move(entry, to, at=1)
        story = f"illegal move {before} -> {to}: task build is {before}, 3 attempts, 2 failures, last cause exit: exit 7"
        assert caught.value.message == story
        assert entry.state == before


def test_the_story_tells_of_the_attempt_under_way() -> None:
    desk = Desk()
    desk.submit(run("a"))
    desk.spawn("a")
    started = desk.attempt("a").started
    assert transitions.story(desk.entry("a")) == (
        f"task a is running, 1 attempts, 0 failures, attempt 1 working on shell-1 since {started}"
    )
