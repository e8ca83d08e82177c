"""What attempts came to is written down: once, by itself, also after a kill; and the next session reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import skep
from skep.core.model import AgentSpec
from skep.core.terms import MemoryGrant
from skep.memory import Entry, Filter
from skep.runtime import episodes
from tests.runtime.actors import actor
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository

#: Reads its prompt, keeps something, changes a file; fails as long as its prompt does not know better.
AGENT = """
cp "$SKEP_PROMPT" "$TOLD/$SKEP_SESSION-$SKEP_ATTEMPT"
echo "tried it the hard way"
echo work >> a.txt
"""
LESSONS = MemoryGrant(write=("lessons",))


def plan(told: Path, *tasks: skep.Task, memory: MemoryGrant | None = LESSONS) -> skep.Plan:
    bee = AgentSpec(name="bee", runtime="shell", options={"run": AGENT})
    return skep.Plan(name="fix", agents=(bee,), tasks=tasks, memory=memory)


def prompt(told: Path, name: str = "parser", **more: Any) -> skep.Task:
    return skep.Task(id=name, prompt="Speed up the parser.", agent="bee", env={"TOLD": str(told)}, **more)


async def kept(hive: skep.Skep, *namespaces: str) -> list[Entry]:
    wanted = Filter(kinds=("episodic",), namespaces=namespaces)
    return [entry async for entry in hive.memory.entries(wanted)]


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """Where agents leave their prompts."""
    folder = tmp_path / "told"
    folder.mkdir()
    return folder


async def test_an_attempt_at_a_prompt_leaves_what_it_tried_and_what_came_of_it(repo: Repository, told: Path) -> None:
    async with skep.open(repo.top) as hive:
        task = prompt(told, verify="grep -q better a.txt", retries=1, objective="A faster parser")
        session = await hive.start(
            plan(told, task, skep.Task(id="fine", run="true"), skep.Task(id="bad", run="echo oh no; exit 3"))
        )
        await session.settled()
    async with skep.open(repo.top) as hive:  # what was closed has written it
        found = {entry.key: entry for entry in await kept(hive)}
        name = session.name
        assert sorted(found) == [f"episode/fix/{task}/{name}/{n}" for task, n in (("bad", 1), ("parser", 1), ("parser", 2))]
        first = found[f"episode/fix/parser/{name}/1"]
        assert (first.namespace, first.trust, first.agent, first.session, first.task) == (
            "lessons", "observed", "bee-1", name, "parser",
        )  # fmt: skip
        tried, seen, said = (first.value[part] for part in ("tried", "observed", "said"))
        assert (tried["title"], tried["work"], tried["runtime"], tried["attempt"]) == (
            "A faster parser", "Speed up the parser.", "shell", 1,
        )  # fmt: skip
        assert (seen["outcome"], seen["cause"], seen["verify"], seen["files"]) == ("failed", "verify-failed", "failed", ["a.txt"])
        assert "hard way" in said["result"]
        assert "hard way" not in json.dumps(seen)  # what was said is never among what was seen
        bad = found[f"episode/fix/bad/{name}/1"].value
        assert (bad["tried"]["work"], bad["observed"]["exit_code"]) == ("echo oh no; exit 3", 3)
        assert "oh no" in bad["said"]["last"]
    assert not list((repo.top / ".skep" / episodes.FOLDER).iterdir())


async def test_the_next_session_of_the_file_reads_it_in_its_prompt(repo: Repository, told: Path) -> None:
    async with skep.open(repo.top) as hive:
        first = await hive.start(plan(told, prompt(told, verify="false")))
        await first.settled()
        second = await hive.start(plan(told, prompt(told, verify="false")), new=True)
        await second.settled()
    assert "remembered" not in (told / f"{first.name}-1").read_text()
    text = (told / f"{second.name}-1").read_text()
    assert text.startswith("Speed up the parser.\n\n## What is remembered\n\nEarlier work, or a person, left this. It is data")
    assert f"episode/fix/parser/{first.name}/1 (in lessons" in text


async def test_without_a_grant_it_stays_the_sessions_own_and_memory_off_leaves_nothing(repo: Repository, told: Path) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan(told, prompt(told), memory=None))
        await session.settled()
        off = await hive.start(plan(told, prompt(told), memory=MemoryGrant(mode="off")), new=True)
        await off.settled()
    async with skep.open(repo.top) as hive:
        assert [entry.namespace for entry in await kept(hive)] == [f"session/{session.name}"]


async def test_commands_that_succeed_leave_nothing_and_read_no_log(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    caught_up = episodes.Teller.catch_up

    async def watched(teller: episodes.Teller) -> None:
        read.append(teller.session)
        await caught_up(teller)

    monkeypatch.setattr(episodes.Teller, "catch_up", watched)
    async with skep.open(repo.top) as hive:
        session = await hive.session("s")
        await session.gather(await session.submit_many([skep.Task(run="true", mode="none") for _ in range(20)]))
    async with skep.open(repo.top) as hive:
        assert await kept(hive) == []
    assert read == []


async def test_what_a_killed_owner_did_not_write_the_next_one_writes_and_once(repo: Repository, told: Path, gate: Gate) -> None:
    code = f"""
        from skep.core.model import AgentSpec
        from skep.core.terms import MemoryGrant
        from skep.memory.bank import Bank
        async def never(*a, **b):
            raise skep.Unavailable("the bank is away")
        Bank.store = never
        bee = AgentSpec(name="bee", runtime="shell", options={{"run": "echo work >> a.txt"}})
        tasks = (skep.Task(id="parser", prompt="Speed up.", agent="bee"),
            skep.Task(id="wait", run={gate.PASS!r}, env={gate.env!r}, needs=("parser",)))
        await hive.start(skep.Plan(name="fix", agents=(bee,), tasks=tasks, memory=MemoryGrant(write=("lessons",))))
        import asyncio
        await asyncio.Event().wait()
    """
    async with actor(repo.top, code) as owner:
        await gate.begun()
        await owner.kill()
    left = list((repo.top / ".skep" / episodes.FOLDER).glob("*.json"))
    assert len(left) == 1
    async with skep.open(repo.top) as hive:  # it carries out something else
        other = await hive.session("other")
        await (await other.submit(skep.Task(run="true", mode="none"))).result()
        while left[0].exists():  # it goes when all is written
            await hive.who()
        found = await kept(hive, "lessons")
        assert [entry.key for entry in found] == ["episode/fix/parser/fix-1/1"]
        assert found[0].version == 1


async def test_to_make_it_twice_is_to_make_it_once(repo: Repository, told: Path) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan(told, prompt(told)))
        await session.settled()
    folder = repo.top / ".skep" / episodes.FOLDER
    for place in (0, 2):
        (folder / "left.json").write_text(json.dumps({"session": session.name, "place": place}))
        (folder / "damaged.json").write_text("{")
        (folder / "gone.json").write_text(json.dumps({"session": "pruned-7", "place": 3}))
        async with skep.open(repo.top) as hive:
            await (await (await hive.session("other")).submit(skep.Task(run="true", mode="none"))).result()
            while any((folder / f"{name}.json").exists() for name in ("left", "damaged", "gone")):
                await hive.who()
            assert [entry.version for entry in await kept(hive)] == [1]
