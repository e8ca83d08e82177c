"""Best of three in a real repository: separate worktrees, a vote by agents, one merge, the others kept."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

import skep
from skep.core.model import AgentSpec, Limits, Plan, Task, Vote
from tests.workspace.repository import Repository

#: Copies its prompt to where the test can read it, then votes for the candidate whose change holds the word.
JUDGE = r"""
cp "$SKEP_PROMPT" {seen}/"$SKEP_TASK".txt
awk '/^# Candidate/ {{letter = $3}} /^\+.*{word}/ {{print letter; exit}}' "$SKEP_PROMPT" > letter
printf '{{"vote": "%s", "reason": "it says {word}"}}' "$(cat letter)" > "$SKEP_OUT/vote.json"
"""


def plan(seen: Path, word: str, vote: Vote | None = Vote(by="judge")) -> Plan:  # noqa: B008 - frozen
    """One task with three candidates, which write a file each in their own words."""
    seen.mkdir(exist_ok=True)
    makers = tuple(
        AgentSpec(name=name, runtime="shell", options={"run": f"echo {said} > word.txt; echo {name} worked"})
        for name, said in (("ann", "good"), ("bob", "better"), ("cat", "best"))
    )
    judge = AgentSpec(name="judge", runtime="shell", count=3, options={"run": JUDGE.format(seen=seen, word=word)})
    first = Task(id="word", prompt="Write a word.", candidates=("ann", "bob", "cat"), vote=vote)
    return Plan(name="best", agents=(*makers, judge), tasks=(first,), limits=Limits(agents=4))


async def test_what_the_voters_choose_is_merged_and_the_others_are_kept(repo: Repository, tmp_path: Path) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan(tmp_path / "seen", "better"))
        view = await session.settled()
        assert view.state == "completed"
        choice = await session.candidates("word")
        assert choice.chosen == "word[2]"
        assert [one.agent for one in choice.candidates] == ["ann-1", "bob-1", "cat-1"]
        assert choice.ballot is not None
        assert choice.ballot.result.startswith(("2 of 3 for ", "3 of 3 for "))
        assert (await session.merge()).commit
        assert (repo.top / "word.txt").read_text() == "better\n"
        assert "+best" in await session.diff("word[3]")
        assert "+good" in await session.diff("word[1]")


async def test_voters_see_the_work_and_not_who_did_it(repo: Repository, tmp_path: Path) -> None:
    async with skep.open(repo.top) as hive:
        await (await hive.start(plan(tmp_path / "seen", "best"))).settled()
    prompts = [path.read_text() for path in (tmp_path / "seen").iterdir()]
    assert len(prompts) >= 2
    for prompt in prompts:
        assert "# The task\n\nWrite a word." in prompt
        assert {f"+{said}" for said in ("good", "better", "best")} <= set(prompt.splitlines())
        assert prompt.count("# Candidate ") == 3
        assert prompt == prompts[0], "all voters see the same order"


async def test_a_winner_that_fails_on_the_merged_tip_yields_to_the_next(repo: Repository, tmp_path: Path) -> None:
    given = plan(tmp_path / "seen", "x", vote=None)
    async with skep.open(repo.top) as hive:
        session = await hive.start(replace(given, verify="! grep -x good word.txt"))
        assert (await session.settled()).state == "completed"
        choice = await session.candidates("word")
        assert choice.chosen == "word[2]"
        assert choice.candidates[0].refused.startswith("verify-failed: ")


async def test_a_vote_without_a_decision_waits_for_a_person(repo: Repository, tmp_path: Path) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan(tmp_path / "seen", "nothing-of-them"))
        view = await session.settled()
        assert view.idle == "needs you: word"
        choice = await session.candidates("word")
        assert choice.ballot is not None
        # Two of three abstained: the third could not decide it any more.
        assert [vote.reason for vote in choice.ballot.votes].count("it says nothing-of-them") >= 2
        await session.answer("word", "choose", choice="3")
        assert (await session.settled()).state == "completed"
        assert (await session.candidates("word")).chosen == "word[3]"
