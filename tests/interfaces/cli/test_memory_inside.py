"""`skep memory` inside an attempt: through its door, as far as its agent may; never as a person."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.interfaces.cli.conftest import Skep
from tests.workspace.repository import Repository

#: A command of a task: what it prints is its result.
FILE = """
version: 1
name: inside
memory: {{write: [lessons]}}
tasks:
  it: {{run: '{}', mode: none}}
"""


@pytest.fixture
def folder(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace; its commands find `skep`."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return repo.top


def result(skep: Skep, folder: Path, command: str) -> str:
    """What a task's command printed at last."""
    (folder / "inside.yaml").write_text(FILE.format(command.replace("'", "''")))
    assert skep("run", "inside.yaml", "--new").code == 0
    (task,) = json.loads(skep("status", "--json").out)["tasks"]
    return str(task["result"])


def test_what_an_attempt_keeps_is_its_agents_and_people_read_it(skep: Skep, folder: Path) -> None:
    program = "skep memory store flags O2 && skep memory store tip text -n lessons && skep memory get tip && echo && "
    said = result(skep, folder, program + "skep memory search tip --wait --json")
    lines = said.splitlines()
    assert lines[0] == "session/inside-1 flags: stored, version 1"
    assert lines[1] == "lessons tip: stored, version 1"
    assert lines[2] == "text"
    (hit,) = json.loads("\n".join(lines[3:]))["hits"]
    assert (hit["entry"]["trust"], hit["entry"]["session"], hit["entry"]["task"]) == ("agent", "inside-1", "it")
    kept = json.loads(skep("memory", "get", "tip", "-n", "lessons", "--json").out)["entry"]
    assert (kept["trust"], kept["agent"], kept["value"]) == ("agent", "shell-1", "text")


def test_an_attempt_is_no_person(skep: Skep, folder: Path) -> None:
    assert skep("memory", "store", "rule", "ask first").code == 0
    refused = (
        "skep memory store rule never; skep memory store k v -n project; skep memory get k -n others; skep memory list; "
        "skep memory delete rule; skep memory store k v --kind episodic; skep memory store k v --expect 1; "
        "skep memory search x --prefix a; skep memory export x"
    )
    said = result(skep, folder, f"({refused}) 2>&1 || true; skep memory get rule -n project")
    assert "stored, version 1" in said.splitlines()[0]  # of its own namespace: another key
    assert said.count("is not yours to") == 2
    assert said.count("is for people, not for attempts") >= 2
    assert "noted by Skep itself" in said
    assert said.count("is not available inside an attempt") == 2
    assert said.endswith("ask first")
    assert skep("memory", "get", "rule").out == "ask first"


def test_without_a_door_it_is_denied_not_taken_for_a_person(skep: Skep, monkeypatch: pytest.MonkeyPatch) -> None:
    skep("memory", "store", "k", "v")
    monkeypatch.setenv("SKEP_NONCE", "0" * 32)
    for words in (("get", "k"), ("store", "k", "w"), ("search", "k")):
        said = skep("memory", *words)
        assert said.code != 0
        assert "has no part in the memory bank" in said.err
    monkeypatch.delenv("SKEP_NONCE")
    assert skep("memory", "get", "k").out == "v"
