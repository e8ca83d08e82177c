"""Every coding client, the real one, carries a task of Skep out against the scripted model, and tells it in the same words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

import skep
from skep.agents import Talks
from skep.config import SandboxConfig
from skep.core.model import Task
from skep.runtime.bounds import bounds, of_agent
from skep.runtime.confined import Wards
from skep.security import Sandbox
from skep.security.choice import choose
from skep.security.egress import Egress
from skep.terminals.native import Native
from skep.terminals.transcript import Recording, place
from skep.workspace import Around
from tests.clients.agents import MADE, Agent, each, set_up
from tests.clients.drive import need
from tests.clients.model_server import ModelServer
from tests.clients.table import able
from tests.contracts.runtime import Record, Workshop
from tests.runtime.traces import left_behind
from tests.workspace.repository import Repository

MAKES = "RUN: echo hi > made.txt\nSAY: All well."


@pytest.fixture(autouse=True)
def user(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A user whose clients are set up for the scripted model."""
    return set_up(server.url, tmp_path / "user", monkeypatch)


def confinable(folder: Path) -> Sandbox:
    """What confines programs here; skips the test if nothing does."""
    found = choose(folder / "sandbox")
    if isinstance(found, str):
        pytest.skip(found)
    if "hosts" in found.lost:
        pytest.skip(found.lost["hosts"])
    return found


@pytest.mark.parametrize("agent", able("a task, to its merge"))
async def test_confined_its_change_is_committed_verified_and_merged(agent: Agent, tmp_path: Path) -> None:
    confinable(tmp_path)
    await merges(agent, tmp_path, "confined (")


@pytest.mark.parametrize("agent", each())
async def test_unconfined_its_change_is_committed_verified_and_merged(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKEP_SANDBOX", "off")
    await merges(agent, tmp_path, "unconfined")


async def merges(agent: Agent, tmp_path: Path, confinement: str) -> None:
    """A client's work from a task to the session's branch, and a transcript that reads like everybody's."""
    need(agent.program)
    repo = Repository(tmp_path / "work")
    repo.commit({"a.txt": "one\n"})
    (repo.top / "skep.toml").write_text('[environment]\nallow = ["SCRIPTED_*"]\n')
    task = skep.Task(id="a", prompt=MAKES, verify="grep hi made.txt")
    async with skep.open(repo.top) as hive:
        session = await hive.start(skep.Plan(name="bench", agents=(agent.spec(),), tasks=(task,)))
        (result,) = await session.results(["a"])
        assert (result.state, result.detail, result.value, result.attempts) == ("done", "", "All well.", 1)
        view = await session.settled()
        assert repo.show("refs/skep/bench-1/main", "made.txt") == "hi"
        assert view.tasks[0].cost is not None
        assert view.tasks[0].cost.output > 0
        assert view.tasks[0].confinement.startswith(confinement)
        told = Recording(place(repo.top / ".skep" / "transcripts", session.name, "a", 1)).text()
        used, said, spent = re.search(r"^> \S+  .*echo hi > made.txt", told, re.M), told.find("\nAll well."), told.rfind("\n$ ")
        assert used is not None
        assert used.start() < said < spent
        assert re.search(r"^\$ \d+ tokens in, \d+ out, (\$\d|price unknown|its price is told later)", told, re.M)
    assert left_behind(repo.top) == []


@pytest.mark.parametrize("agent", each())
async def test_confined_it_goes_on_in_its_thread(agent: Agent, server: ModelServer, tmp_path: Path, user: dict[str, str]) -> None:
    need(agent.program)
    found, folder, home = confinable(tmp_path), tmp_path / "work", tmp_path / "home"
    wards, workshop = Wards(Native(), found, Egress(tmp_path / "sandbox")), Workshop(folder)
    carried = MADE[agent.runtime](wards)
    folder.mkdir()
    job = replace(
        workshop.job(Task(prompt="x"), **agent.all), prompt=MAKES, again="SAY: Again.", model=agent.model, home=str(home)
    )
    job = replace(job, env={**job.env, **user}, confined=True)
    said = of_agent(SandboxConfig(), skep.Plan(name="bench"), agent.spec())
    home.mkdir()
    within = bounds(said, folder, tmp_path / "state", job.env, Around(write=(str(folder),)), (str(home),), str(tmp_path / "own"))
    first = Record()
    with wards.of(job.nonce, within, hosts=said.network):
        assert (await carried.run(job, first)).ok
        agent.between(home)
        (thread,) = first.told(Talks)
        ending = await carried.run(replace(job, conversation=thread.conversation), Record())
    assert (ending.ok, ending.result) == (True, "Again.")
    # The first prompt is still in mind.
    assert "echo hi > made.txt" in json.dumps(next(each.body for each in reversed(server.requests) if "Again." in str(each.body)))
    await wards.close()
