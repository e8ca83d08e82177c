"""The examples that need agents, as a user would run them: with the real clients, and a script in the models' place.

What the scripted model does stands in what it is told (`RUN: ...`, see `tests.clients.script`): the tests add such lines to the
examples' own prompts, and change nothing else of them but the address of the model.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clients import shell
from tests.clients.agents import set_up
from tests.clients.drive import need
from tests.clients.model_server import ModelServer
from tests.runtime.traces import left_behind

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModelServer]:
    """A scripted model, and a user whose clients speak to it."""
    need("claude")
    async with ModelServer() as server:
        set_up(server.url, tmp_path / "user", monkeypatch)
        monkeypatch.setenv("OPENAI_API_KEY", "dummy")
        # What confinement does to clients is in tests/clients; here tests look at what agents leave.
        monkeypatch.setenv("SKEP_SANDBOX", "off")
        yield server


async def project(name: str, tmp_path: Path, does: dict[str, str], more: str = "") -> Path:
    """A copy of an example's project, committed.

    Args:
        does: prompt file -> what the scripted model does when it is told that.
        more: settings that the scripted model needs.
    """
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name / "project", folder)
    for file, lines in does.items():
        with (folder / "prompts" / file).open("a", encoding="utf-8") as prompt:
            prompt.write(lines)
    with (folder / "skep.toml").open("a", encoding="utf-8") as settings:
        settings.write(more)
    await shell.committed(folder)
    return folder


WORDS = """def words(text):
    return len(text.split())


def letters(text):
    return sum(character.isalpha() for character in text)
"""
TEST_WORDS = """import unittest

from words import letters, words


class Words(unittest.TestCase):
    def test_words_are_counted(self):
        self.assertEqual(words("one two  three"), 3)

    def test_letters_are_counted(self):
        self.assertEqual(letters("a 1!"), 1)
"""
TEST_UNITS = """import unittest

from units import feet, metres


class Units(unittest.TestCase):
    def test_there_and_back_again(self):
        self.assertAlmostEqual(metres(feet(2)), 2)
"""
PLAN = """version: 1
phases: {build: {gate: {verify: python3 -m unittest}}, tell: {}}
tasks:
  code:
    phase: build
    agent: coder
    prompt: |
      Add metres(feet) to units.py, the other way round of feet(metres).
      RUN: printf '\\n\\ndef metres(feet):\\n    return feet * 0.3048\\n' >> units.py
  tests:
    phase: build
    agent: coder
    prompt: |
      Test units.py in test_units.py: there and back again.
      RUN: cp FOLDER/test_units.py .
  readme:
    phase: tell
    agent: coder
    prompt: |
      Say in README.md how to use both functions of units.py.
      RUN: printf '\\n`metres(feet)` is the other way round.\\n' >> README.md
"""


async def test_an_objective_becomes_a_plan_that_is_carried_out_after_a_yes(server: ModelServer, tmp_path: Path) -> None:
    folder = await project("objective-to-plan", tmp_path, {})
    (tmp_path / "plan.yaml").write_text(PLAN.replace("FOLDER", str(tmp_path)), encoding="utf-8")
    (tmp_path / "test_units.py").write_text(TEST_UNITS, encoding="utf-8")
    objective = "Add feet to metres, with tests, and say in the README how to use both"
    objective += f'\nRUN: cp {tmp_path}/plan.yaml "$SKEP_OUT/plan.yaml"'
    said = await shell.skep(folder, "run", objective, code=4)
    for shown in ("gate:build", "run: python3 -m unittest", "prompt for coder: Add metres(feet)", "skep approve plan"):
        assert shown in said
    assert {task["state"] for task in (await shell.told(folder, "status"))["tasks"]} == {"needs-you"}
    await shell.skep(folder, "approve", "plan")
    await shell.skep(folder, "resume")
    view = await shell.told(folder, "status")
    assert {phase["id"]: (phase["state"], phase["done"]) for phase in view["phases"]} == {
        "build": ("passed", 2),
        "tell": ("passed", 1),
    }
    await shell.skep(folder, "merge")
    assert "the other way round" in (folder / "README.md").read_text()
    await shell.run(folder, "python3", "-m", "unittest")
    assert left_behind(folder) == []


async def test_each_step_has_an_agent_of_another_maker(server: ModelServer, tmp_path: Path) -> None:
    need("codex")
    made = {"words.py": WORDS, "test_words.py": TEST_WORDS}
    for name, text in made.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    does = {
        "build.md": f"RUN: cp {tmp_path}/words.py . && cp {tmp_path}/test_words.py tests\n",
        "review.md": "RUN: mkdir -p notes; echo Nothing. > notes/review.md\n",
        "tell.md": "RUN: mkdir -p notes; echo Letters are counted, too. > notes/news.md\n",
    }
    folder = await project("mixed-runtimes", tmp_path, does, '[environment]\nallow = ["SCRIPTED_*"]\n')
    workflow = folder / "workflow.yaml"
    here = f'model: "openai:gpt-5.2", with: {{base_url: "{server.url}/v1", '
    workflow.write_text(workflow.read_text().replace('model: "openai:gpt-5.2", with: {', here))
    await shell.skep(folder, "run", "workflow.yaml")
    view = await shell.told(folder, "status")
    assert {task["id"]: (task["state"], task["agent"]) for task in view["tasks"]} == {
        "count": ("done", "shell-1"),
        "build": ("done", "builder-1"),
        "review": ("done", "reviewer-1"),
        "tell": ("done", "writer-1"),
    }
    assert {request.path.partition("?")[0] for request in server.requests} >= {
        "/v1/messages",
        "/v1/responses",
        "/v1/chat/completions",
    }
    assert any("2 words.py" in str(request.body) for request in server.requests), "what the shell counted reaches the builder"
    await shell.skep(folder, "merge")
    assert (folder / "notes" / "news.md").read_text() == "Letters are counted, too.\n"
    assert left_behind(folder) == []


async def test_nothing_is_done_that_a_person_did_not_allow(server: ModelServer, tmp_path: Path) -> None:
    does = {"bump.md": "RUN: echo 1.1 > VERSION\n", "notes.md": "RUN: echo 1.1 is the next version. > NOTES\n"}
    folder = await project("approval", tmp_path, does)
    assert "may it start?" in await shell.skep(folder, "run", "workflow.yaml", code=4)
    assert server.requests == [], "nothing starts without a yes"
    await shell.skep(folder, "approve", "bump")

    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    env = {**os.environ, "TERM": "dumb"}
    going = await asyncio.create_subprocess_exec(shell.SKEP, "resume", cwd=folder, env=env, stdin=null, stdout=pipe)
    assert going.stdout is not None
    for ask in ("bump/1", "notes/1"):
        while f"approve {ask}" not in (line := (await going.stdout.readline()).decode()):
            assert line, f"it ended before {ask} was asked"
        assert (folder / "VERSION").read_text() == "1.0\n"
        (need_,) = (await shell.told(folder, "inbox"))["needs"]
        assert (need_["id"], need_["tool"]) == (ask, "Bash")
        await shell.skep(folder, "approve", ask)
    await going.stdout.read()
    assert await going.wait() == 4
    view = {task["id"]: task for task in (await shell.told(folder, "status"))["tasks"]}
    assert (view["bump"]["state"], view["notes"]["state"], view["notes"]["question"]) == ("done", "needs-you", "approve")
    await shell.skep(folder, "approve", "notes")
    await shell.skep(folder, "resume")
    await shell.skep(folder, "merge")
    assert ((folder / "VERSION").read_text(), (folder / "NOTES").read_text()) == ("1.1\n", "1.1 is the next version.\n")
    assert left_behind(folder) == []
