"""Several candidates for one task: who is an option, how one is chosen, what becomes of the others."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.commands import StartAttempt
from skep.core.consensus import Poll, Rule
from skep.core.model import AgentSpec, Entry, Foreach, Output, Task, Vote
from skep.core.topology import Kind, Shape
from skep.core.voting import told
from skep.errors import Conflict, Invalid
from tests.core.desk import Desk, run

JUDGE = AgentSpec(name="judge", runtime="x", count=3)
CODER = AgentSpec(name="coder", runtime="x", count=2)


def desk_with(candidates: int = 3, vote: Vote | None = Vote(by="judge"), agent: str = "", **more: Any) -> Desk:  # noqa: B008 - frozen
    """A desk with one task `a` that has so many candidates, and one that needs it."""
    desk = Desk(JUDGE, CODER, at_once=9, base="c0")
    desk.submit(run("a", candidates=(agent,) * candidates, vote=vote, **more), run("z", "a"))
    return desk


def polled(*done: int, **more: Any) -> Desk:
    """A desk where these candidates of three are done and the others failed."""
    desk = desk_with(**more)
    for n in (1, 2, 3):
        if n in done:
            desk.ok(f"a[{n}]", commit=f"c{n}", result=f"result {n}")
        else:
            desk.fail(f"a[{n}]", "verify-failed")
    return desk


def poll_of(desk: Desk) -> Poll:
    poll = desk.entry("a").poll
    assert poll is not None
    return poll


def letter(desk: Desk, candidate: int) -> str:
    """What the voters call a candidate."""
    return next(option for option, name in poll_of(desk).options.items() if name == f"a[{candidate}]")


def vote(desk: Desk, voter: int | str, text: str, reason: str = "it is right") -> None:
    """A voter leaves a vote for an option, or some other text, in vote.json."""
    said = msgspec.json.encode({"vote": text, "reason": reason}).decode() if len(text) < 2 else text
    desk.ok(f"a[judge-{voter}]", outputs={"vote": Output(digest="d", size=len(said), text=said)})


def chosen(desk: Desk) -> Entry:
    entry = desk.entry("a")
    assert entry.state == "merging"
    return entry


def test_candidates_work_apart_and_are_not_merged() -> None:
    desk = desk_with(approve="after")
    made = [desk.entry(f"a[{n}]").task for n in (1, 2, 3)]
    assert desk.running() == ["a[1]", "a[2]", "a[3]"]
    assert {(t.merge, t.approve, t.candidates, t.vote, t.parent) for t in made} == {("never", "", (), None, "a")}
    desk.ok("a[1]", commit="c1")
    assert (desk.entry("a[1]").state, desk.entry("a").state) == ("done", "expanded")


def test_candidates_can_name_agents() -> None:
    desk = Desk(JUDGE, CODER, base="c0")
    desk.submit(Task(id="a", prompt="do", candidates=("coder", "judge", "coder")))
    assert [desk.attempt(f"a[{n}]").agent for n in (1, 2, 3)] == ["coder-1", "judge-1", "coder-2"]


def test_a_vote_chooses_and_the_winner_is_merged() -> None:
    desk = polled(1, 2, 3)
    want = letter(desk, 2)
    vote(desk, 1, want)
    vote(desk, 2, want)
    assert chosen(desk).commit == "c2"
    assert desk.entry("a").result == "result 2"
    desk.merged("m1")
    assert (desk.entry("a").state, desk.entry("a").merged, desk.entry("z").state) == ("done", "m1", "running")
    assert [desk.entry(f"a[{n}]").commit for n in (1, 2, 3)] == ["c1", "c2", "c3"]
    assert told(desk.last(ev.BallotClosed).result) == f"2 of 3 for {want}"


def test_voters_that_are_not_needed_any_more_are_ended() -> None:
    desk = polled(1, 2, 3)
    for voter in (1, 2):
        vote(desk, voter, letter(desk, 3))
    assert desk.entry("a[judge-3]").state == "skipped"
    assert desk.attempt("a[judge-3]").stage == "ending"
    assert desk.entry("a[judge-3]").detail == "the ballot was decided without it"


def test_the_electorate_is_the_voting_agents_each_with_a_seat_of_its_own() -> None:
    desk = polled(1, 2, 3)
    assert poll_of(desk).ballot.electors == ("judge-1", "judge-2", "judge-3")
    assert [desk.attempt(f"a[judge-{n}]").agent for n in (1, 2, 3)] == ["judge-1", "judge-2", "judge-3"]
    desk.tell(inp.DeclareAgents(at=0, specs=(AgentSpec(name="judge", runtime="x", count=1),)))
    assert len(poll_of(desk).ballot.electors) == 3


def test_a_seat_is_waited_for() -> None:
    desk = Desk(AgentSpec(name="judge", runtime="x", count=2), base="c0")
    desk.submit(Task(id="busy", prompt="x", agent="judge"), run("a", candidates=("", ""), vote=Vote(by="judge")))
    for n in (1, 2):
        desk.ok(f"a[{n}]", commit=f"c{n}")
    assert desk.attempt("busy").agent == "judge-1"
    assert desk.attempt("a[judge-2]").agent == "judge-2"
    assert desk.entry("a[judge-1]").state == "ready"
    desk.ok("busy")
    assert desk.attempt("a[judge-1]").agent == "judge-1"


def test_only_what_passed_is_voted_on() -> None:
    desk = polled(1, 3)
    assert sorted(poll_of(desk).options.values()) == ["a[1]", "a[3]"]
    vote(desk, 1, "A")
    vote(desk, 2, "A")
    assert desk.entry("a[2]").state == "skipped"
    assert desk.entry("a[2]").cause == "verify-failed"


def test_what_alone_passed_needs_no_vote() -> None:
    desk = polled(2)
    assert chosen(desk).commit == "c2"
    assert desk.entry("a").poll is None
    assert desk.last(ev.CandidateChosen).why == "the only one that is done"


def test_when_none_passed_the_task_failed() -> None:
    desk = polled()
    assert (desk.entry("a").state, desk.entry("a").detail) == ("failed", "all 3 candidates failed")
    assert desk.entry("z").state == "skipped"


def test_without_a_vote_the_first_that_is_done_wins_in_the_order_of_candidates() -> None:
    desk = desk_with(vote=None)
    desk.ok("a[3]", commit="c3")
    desk.ok("a[2]", commit="c2")
    assert desk.entry("a").state == "expanded"
    desk.fail("a[1]")
    assert chosen(desk).commit == "c2"


def test_voters_do_not_learn_whose_work_it_is() -> None:
    desk = polled(1, 2, 3)
    start = next(owed for owed in desk.owed() if isinstance(owed, StartAttempt) and owed.task.ballot)
    assert "shell" not in (start.task.prompt or "")
    orders = set()
    for salt in range(20):
        other = desk_with()
        other.turns = salt * 1_000
        for n in (1, 2, 3):
            other.ok(f"a[{n}]", commit=f"c{n}")
        orders.add(tuple(poll_of(other).options.values()))
    assert len(orders) > 1, "the letters tell the order of the candidates"


def test_nobody_votes_for_their_own() -> None:
    desk = Desk(JUDGE, at_once=9, base="c0")
    desk.submit(Task(id="a", prompt="x", candidates=("judge", "judge"), vote=Vote(by="judge")))
    for n in (1, 2):
        desk.ok(f"a[{n}]", commit=f"c{n}")
    own = letter(desk, 1)
    assert poll_of(desk).ballot.own["judge-1"] == (own,)
    vote(desk, 1, own)
    cast = desk.last(ev.VoteCast)
    assert (cast.choice, cast.reason) == ("", f"abstained: '{own}' is the work of 'judge-1' itself")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("not json", "vote.json: JSON is malformed"),
        ('{"choice": "A"}', "missing required field"),
        ('{"vote": 1}', "Expected `str | null`"),
        ('{"vote": "Q"}', "has no option 'Q'"),
        ("[" * 5_000, "vote.json"),
    ],
)
def test_what_is_no_vote_is_an_abstention_that_says_so(text: str, why: str) -> None:
    desk = polled(1, 2, 3)
    vote(desk, 1, text)
    cast = desk.last(ev.VoteCast)
    assert cast.choice == ""
    assert cast.reason.startswith("abstained: ")
    assert why in cast.reason


def test_a_voter_that_fails_abstains_and_is_no_failure_of_the_session() -> None:
    desk = polled(1, 2, 3)
    desk.fail("a[judge-1]", detail="no such command")
    assert desk.last(ev.VoteCast).reason == "abstained: its task is failed: no such command"
    for voter in (2, 3):
        vote(desk, voter, "A")
    assert chosen(desk).attempts == 1
    assert desk.entry("a[judge-1]").state == "skipped"


def test_a_split_asks_a_person_who_chooses() -> None:
    desk = polled(1, 2, 3)
    for voter, option in enumerate("ABC", 1):
        vote(desk, voter, option)
    assert (desk.entry("a").state, desk.entry("a").question) == ("needs-you", "vote")
    assert desk.entry("a").detail == "no decision: A 1, B 1, C 1 of 3, 2/3 needed"
    error = desk.refused(inp.Say(at=0, task="a", answer="choose", choice="4"))
    assert isinstance(error, Invalid)
    assert error.fix == "Choose a[1] or a[2] or a[3]."
    desk.answer("a", "choose", choice="3", by="me")
    assert (chosen(desk).commit, desk.last(ev.CandidateChosen).by) == ("c3", "me")


def test_a_split_fails_where_the_file_says_so() -> None:
    desk = polled(1, 2, 3, vote=Vote(by="judge", otherwise="fail"))
    for voter, option in enumerate("ABC", 1):
        vote(desk, voter, option)
    assert (desk.entry("a").state, desk.entry("a").cause) == ("failed", "undecided")


def test_a_ballot_with_a_timeout_is_counted_as_it_stands() -> None:
    desk = polled(1, 2, 3, vote=Vote(by="judge", timeout=60))
    vote(desk, 1, "A")
    assert desk.wake() == poll_of(desk).until
    desk.tick(61)
    assert desk.entry("a").question == "vote"
    assert desk.last(ev.BallotClosed).result.silent == 2


def test_a_winner_that_does_not_merge_yields_to_the_next() -> None:
    desk = polled(1, 2, vote=None)
    assert chosen(desk).commit == "c1"
    desk.unmerged("verify-failed", detail="make test: 2 failed")
    assert (chosen(desk).commit, chosen(desk).refused) == ("c2", {"a[1]": "verify-failed: make test: 2 failed"})
    desk.unmerged("conflict")
    assert desk.entry("a").state == "failed"
    assert desk.entry("a").detail == "none of 3 candidates can be merged; a[2]: conflict: it does not"


def test_after_a_refused_winner_those_that_are_left_are_voted_on_again() -> None:
    desk = polled(1, 2, 3)
    first = poll_of(desk).options["A"]
    for voter in (1, 2):
        vote(desk, voter, "A")
    desk.gone("a[judge-3]")
    desk.unmerged("verify-failed")
    assert poll_of(desk).ballot.id == "a.2"
    assert first not in poll_of(desk).options.values()
    winner = poll_of(desk).options["B"]
    for again in ("1.2", "2.2"):
        vote(desk, again, "B")
    assert chosen(desk).chosen == winner


def test_a_person_can_refuse_what_was_chosen() -> None:
    desk = polled(1, 2, vote=None, approve="after")
    assert desk.entry("a").question == "approve"
    desk.answer("a", "reject", comment="too clever")
    assert (desk.entry("a").question, desk.entry("a").chosen) == ("approve", "a[2]")
    desk.answer("a", "approve")
    assert chosen(desk).commit == "c2"


def test_sent_round_again_all_candidates_work_again() -> None:
    desk = polled(1, 2, vote=None)
    desk.merged("m1")
    desk.retry("a", comment="keep the old names")
    assert [desk.entry(f"a[{n}]").state for n in (1, 2, 3)] == ["running"] * 3
    assert {desk.entry(f"a[{n}]").feedback for n in (1, 2, 3)} == {"keep the old names"}


def test_a_vote_cannot_be_cast_anew() -> None:
    desk = polled(1, 2, 3)
    vote(desk, 1, "A")
    assert isinstance(desk.refused(inp.Retry(at=0, task="a[judge-1]")), Conflict)


def test_a_fork_voids_the_ballot() -> None:
    desk = polled(1, 2, 3)
    vote(desk, 1, "A")
    desk.tell(inp.ForkSession(at=0, session="other", origin="desk-1"))
    desk.join(boot="fork")
    assert poll_of(desk).ballot.id == "a.2"
    assert poll_of(desk).votes == {}
    assert desk.entry("a[judge-2]").state == "skipped"


def test_what_was_chosen_survives_a_restart_at_every_step() -> None:
    desk = polled(1, 2, 3)
    desk.reload()
    vote(desk, 1, "A")
    desk.from_snapshot()
    vote(desk, 2, "A")
    desk.reload()
    assert chosen(desk).chosen == poll_of(desk).options["A"]


def shaped(kind: Kind, rule: Rule) -> Desk:
    """A desk whose three candidates are voted on in a topology. The first judge is its centre, or coordinates the others."""
    desk = Desk(JUDGE, CODER, at_once=9, base="c0")
    desk.tell(inp.ChangePlan(at=0, plan=replace(desk.plan, topology=Shape(kind))))
    desk.submit(run("a", candidates=("", "", ""), vote=Vote(by="judge", rule=rule)))
    for n in (1, 2, 3):
        desk.ok(f"a[{n}]", commit=f"c{n}")
    return desk


def test_in_a_star_the_centre_decides() -> None:
    desk = shaped("star", "centralized")
    vote(desk, 2, "A")
    assert desk.entry("a").state == "expanded"
    vote(desk, 1, "B")
    assert chosen(desk).chosen == poll_of(desk).options["B"]


def test_in_a_hierarchy_votes_pass_up() -> None:
    desk = shaped("hierarchical", "delegated")
    assert poll_of(desk).ballot.delegates == {"judge-2": "judge-1", "judge-3": "judge-1"}
    vote(desk, 1, "A")
    vote(desk, 2, '{"vote": "^"}')
    assert chosen(desk).chosen == poll_of(desk).options["A"]


def test_a_topology_that_is_named_decides_by_its_own_rules() -> None:
    desk = Desk(JUDGE)
    desk.tell(inp.ChangePlan(at=0, plan=replace(desk.plan, topology=Shape("star"))))
    error = desk.refused(inp.Submit(at=0, tasks=(run("a", candidates=("", ""), vote=Vote(by="judge")),)))
    assert error.message == "a star topology does not decide by rule quorum"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"candidates": ("",)}, "has 1 candidates"),
        ({"candidates": ("", "nobody")}, "candidate nobody of task 'a' could never run"),
        ({"candidates": ("", ""), "foreach": Foreach(source="inputs.x")}, "do not go with foreach"),
        ({"candidates": ("", ""), "mode": "shared"}, "do not go with mode: shared"),
        ({"vote": Vote(by="judge")}, "a vote and no candidates"),
        ({"candidates": ("", ""), "vote": Vote(by="jury")}, "no agent is called 'jury'"),
        ({"candidates": ("", ""), "vote": Vote(by="shell")}, "count 0"),
        ({"candidates": ("", ""), "vote": Vote(by="judge", threshold="1/3")}, "cannot decide"),
        ({"candidates": ("", ""), "vote": Vote(by="judge", rule="delegated")}, "voting by rule delegated needs a topology"),
        ({"candidates": ("", ""), "vote": Vote(by="judge", weights={"judge-9": 1})}, "'judge-9', who is no elector"),
        ({"candidates": ("", ""), "vote": Vote(by="judge", timeout=-1)}, "vote.timeout is -1"),
        ({"ballot": "b"}, "says that it is a vote"),
        ({"seat": 1}, "says that it is a vote"),
    ],
)
def test_what_can_come_to_nothing_is_refused(more: dict[str, Any], said: str) -> None:
    error = Desk(JUDGE).refused(inp.Submit(at=0, tasks=(run("a", **more),)))
    assert isinstance(error, Invalid)
    assert said in error.message
