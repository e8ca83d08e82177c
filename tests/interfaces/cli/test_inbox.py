"""What agents ask leave for, as a user meets it: the inbox, answers, the screen and its keys, pipelines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import Live, User
from tests.interfaces.cli.window import Window

CLIENT = Path(__file__).parents[2] / "runtime" / "drivers" / "claude_like.py"


@pytest.fixture
def workflow(user: User) -> str:
    """A workflow whose one agent asks before it makes a file."""
    program = user.folder / "claude"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P {CLIENT} "$@"\n')
    program.chmod(0o755)
    tell = user.write("tell.sh", f"#!/bin/sh\ncat >> {user.folder}/told\n")
    tell.chmod(0o755)
    user.write(
        "wf.yaml",
        "version: 1\nname: asks\n"
        f"agents:\n  coder: {{runtime: claude, with: {{program: {program}}}}}\n"
        "rules: [{do: never, path: '**/.env'}]\n"
        "notify: [{on: needs-you, run: [./tell.sh]}]\n"
        'tasks:\n  api: {agent: coder, prompt: "$ touch made"}\n',
    )
    return "wf.yaml"


@pytest.fixture
def window(user: User, workflow: str) -> Iterator[Window]:
    """A window with the run in it."""
    opened = Window(user.command("run", workflow), user.repo.top, user.env, 100, 24)
    yield opened
    opened.close()


def begun(user: User, workflow: str) -> Live:
    run = user.start("run", workflow)
    run.until("NEEDS YOU: Bash: touch made (skep approve api/1 | skep deny api/1)")
    return run


def test_what_waits_is_listed_and_answered_from_a_second_terminal(user: User, workflow: str, skep: Skep) -> None:
    run = begun(user, workflow)
    listed = skep("inbox").out.splitlines()
    assert listed[0].startswith("! asks-1  api/1  coder-1  ")
    assert listed[0].endswith("s: Bash: touch made")
    assert listed[1] == "    skep approve api/1 -s asks-1  |  skep deny api/1 -s asks-1"
    (need,) = skep("inbox", "--json").json["needs"]
    assert (need["id"], need["about"], need["live"]) == ("api/1", "touch made", True)
    assert '"command":"touch made"' in skep("inbox", "--full").out
    status = skep("status").out
    assert "NEEDS YOU" in status
    assert "idle: needs you: api/1" in status
    refused = skep("approve", "api")
    assert (refused.code, "Answer by what it asks for: api/1." in refused.err) == (1, True)
    assert skep("approve", "api", "--always").code == 2
    assert skep("approve", "api/1", "--always").out == "allowed api/1 and the same from now on\n"
    assert skep("approve", "api/1").code == 1
    ended = run.end()
    assert ended.code == 0
    assert "allowed api/1, and the same from now on by" in ended.out
    assert skep("inbox").out == "nothing needs you\n"


def test_the_screen_rings_and_takes_a_key_for_the_answer(user: User, window: Window) -> None:
    window.until("NEEDS YOU")
    window.until("s: Bash: touch made  [a]llow [d]eny")
    assert b"\x07" in window.data
    window.until("NEEDS YOU 1.")
    window.type(b"a")
    assert window.end() == 0
    assert "made" in user.repo.files("refs/skep/asks-1/main")
    assert '"id": "api/1"' in (user.folder / "told").read_text() or '"id":"api/1"' in (user.folder / "told").read_text()


def test_the_other_key_says_no(user: User, window: Window) -> None:
    window.until("NEEDS YOU 1.")
    window.type(b"d")
    assert window.end() == 1
    assert "made" not in user.repo.files("refs/skep/asks-1/main")


def test_a_pipeline_asks_nobody_and_says_how_to_go_on(user: User, workflow: str, skep: Skep) -> None:
    ran = user.run("run", workflow, "--ci")
    assert ran.code == 4
    assert "denied api/1" in ran.out
    assert "1 action refused, as nobody is asked with --ci" in ran.out
    assert "skep retry TASK, then skep resume asks-1" in ran.out


def test_what_is_denied_reaches_the_agent(user: User, workflow: str, skep: Skep) -> None:
    run = begun(user, workflow)
    assert skep("deny", "api/1", "-m", "not that", "--json").json["answer"] == "refuse"
    assert run.end().code == 1
