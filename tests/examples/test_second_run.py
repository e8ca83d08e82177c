"""The example of memory: the second run goes around the dead end that the first one found."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "second-run"
SKEP = str(Path(sys.executable).parent / "skep")


def run(*command: str, cwd: Path) -> str:
    """What a command prints; it must succeed. Without a home, without a git identity of the user's."""
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd), "TERM": "dumb", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the demonstration, after both runs, and what it printed."""
    folder = tmp_path_factory.mktemp("second")
    return folder / "scratch", run(sys.executable, str(EXAMPLE / "demo.py"), "scratch", cwd=folder)


def test_the_second_run_needs_fewer_attempts(shown: tuple[Path, str]) -> None:
    _, said = shown
    assert re.search(r"^first run: 2 attempts, [0-9.]+ s at work, done$", said, re.MULTILINE)
    assert re.search(r"^second run: 1 attempt, [0-9.]+ s at work, done$", said, re.MULTILINE)


def test_it_was_told_by_its_prompt(shown: tuple[Path, str]) -> None:
    folder, said = shown
    assert "trying split" not in said.split("--new", 1)[1]
    assert "not split: the prompt says that it is a dead end" in said
    assert "entries of memory in the prompt, about" in run(SKEP, "logs", "rows", cwd=folder)


def test_what_the_agent_said_and_what_skep_saw_lie_apart(shown: tuple[Path, str]) -> None:
    folder, _ = shown
    entries = json.loads(run(SKEP, "memory", "query", "-n", "lessons", "--json", cwd=folder))["entries"]
    found = {entry["key"]: entry for entry in entries}
    assert found["dead-end/split"]["trust"] == "agent"
    first = found["episode/second-run/rows/second-run-1/1"]
    assert (first["trust"], first["kind"]) == ("observed", "episodic")
    assert first["value"]["observed"]["outcome"] == "failed"
    assert "dead end" in str(first["value"]["said"])
    assert "dead end" not in str(first["value"]["observed"])
    assert len([key for key in found if key.startswith("episode/")]) == 3
