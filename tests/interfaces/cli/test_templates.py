"""`init --template`: each in an empty repository, checked, shown by a dry run, and carried out for real."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from skep.interfaces.cli.setup import AGENTS, TEMPLATES
from tests.clients import shell
from tests.clients.agents import set_up
from tests.clients.drive import need
from tests.clients.model_server import ModelServer
from tests.interfaces.cli.conftest import Skep
from tests.workspace.repository import Repository

#: Template -> the inputs it asks for, and the notes that its agents leave.
TEMPLATE: dict[str, tuple[dict[str, str], list[str]]] = {
    "feature": ({"feature": "paging"}, ["code", "plan", "review", "tests"]),
    "bugfix": ({"bug": "negative amounts are lost"}, ["repair", "reproduce"]),
    "review": ({"what": "the code"}, ["correctness", "security", "summary", "tests"]),
    "research": ({"question": "Why?"}, ["answer", "doubts", "facts"]),
    "migration": ({"files": "*.js", "to": "TypeScript"}, ["finish", "move_a.js_", "rule"]),
}


def given(template: str) -> list[str]:
    return [word for name, value in TEMPLATE[template][0].items() for word in ("--input", f"{name}={value}")]


@pytest.fixture
def empty(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository without a commit."""
    folder = repo.top.parent / "empty"
    folder.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("template", TEMPLATE)
def test_it_runs_in_an_empty_repository_with_the_shell(
    template: str, skep: Skep, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(empty)
    if template == "migration":
        (empty / "a.js").write_text("1\n")
    said = skep("init", "--template", template, "--runtime", "shell").out
    assert "its agent is a shell command that only writes down what it was told" in said
    assert all(f'--input {name}="..."' in said for name in TEMPLATE[template][0] if name != "what")
    text = (empty / "workflow.yaml").read_text()
    jsonschema.validate(yaml.safe_load(text), json.loads(skep("schema").out))
    assert not re.search(r"\bAI\b", text)
    assert skep("run", "workflow.yaml", *given(template), "--dry-run").code == 0
    ran = skep("run", "workflow.yaml", *given(template), "--ci")
    assert ran.code == 0, ran.out + ran.err
    assert skep("merge").code == 0
    assert sorted(path.stem for path in (empty / "notes").iterdir()) == TEMPLATE[template][1]
    view = skep("status", "--json").json
    assert {phase["state"] for phase in view["phases"]} <= {"passed"}


@pytest.mark.parametrize("template", TEMPLATE)
@pytest.mark.parametrize("runtime", AGENTS)
def test_one_line_says_who_works(template: str, runtime: str, skep: Skep, empty: Path, tmp_path: Path) -> None:
    skep("init", "a.yaml", "--template", template, "--runtime", runtime)
    ran = skep("init", "b.yaml", "--template", template, "--runtime", "shell", "--json")
    assert (ran.json["runtime"], ran.json["template"]) == ("shell", template)
    text = (empty / "a.yaml").read_text()
    assert f"  worker: {AGENTS[runtime]}\n" in text
    assert all(f"  # worker: {line}\n" in text for name, line in AGENTS.items() if name != runtime)
    # Turning one line into another is all the difference there is.
    a, b = (yaml.safe_load((empty / name).read_text()) for name in ("a.yaml", "b.yaml"))
    assert a["agents"].keys() == b["agents"].keys()
    assert {**a, "agents": None} == {**b, "agents": None}
    assert skep("run", "a.yaml", *given(template), "--dry-run").code == 0


def test_without_a_word_the_client_that_is_here_works(skep: Skep, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/codex" if name == "codex" else None)
    assert "its agent is codex" in skep("init", "--template", "feature").out
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "only writes down what it was told" in skep("init", "x.yaml", "--template", "feature").out
    assert skep("init", "y.yaml", "--template", "hello", "--runtime", "codex").code == 2


def test_all_of_them_are_listed(skep: Skep) -> None:
    said = skep("init", "--list").out
    assert all(name in said for name in (*TEMPLATE, "hello", "checks"))
    assert set(TEMPLATE) < set(TEMPLATES)


def test_the_bugfix_accepts_only_what_passes(skep: Skep, repo: Repository) -> None:
    repo.commit({"fix.sh": "echo $SKEP_TASK $SKEP_ATTEMPT; echo wrong$SKEP_ATTEMPT > a.txt; echo $SKEP_TASK > $SKEP_TASK\n"})
    skep("init", "--template", "bugfix", "--runtime", "shell")
    text = (repo.top / "workflow.yaml").read_text().replace(AGENTS["shell"], "{runtime: shell, with: {run: sh fix.sh}}")
    (repo.top / "workflow.yaml").write_text(text.replace('&test "true"', "&test grep -q wrong2 a.txt"))
    ran = skep("run", "workflow.yaml", *given("bugfix"), "--json")
    assert (ran.code, repo.show(ran.lines[-1]["session"]["tip"], "a.txt")) == (0, "wrong2")


async def test_a_client_carries_the_feature_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("claude")
    folder = tmp_path / "project"
    folder.mkdir()
    async with ModelServer() as server:
        set_up(server.url, tmp_path / "user", monkeypatch)
        monkeypatch.setenv("SKEP_SANDBOX", "off")
        (folder / "README").write_text("x")
        await shell.committed(folder)
        await shell.skep(folder, "init", "--template", "feature", "--runtime", "claude")
        path = folder / "workflow.yaml"
        text = path.read_text().replace("permissions: edits", "permissions: all")
        # What the scripted model does stands in the prompt; a model of yours would find out by itself.
        note = re.compile(r"(      Write [^\n]*?to notes/(\w+)\.md[^\n]*\n)")
        path.write_text(note.sub(r"\1      RUN: mkdir -p notes; echo \2 > notes/\2.md\n", text))
        assert path.read_text().count("RUN:") == 4
        await shell.skep(folder, "run", "workflow.yaml", *given("feature"), "--ci")
        view = await shell.told(folder, "status")
        asked = json.dumps([request.body for request in server.requests])
    assert [phase["state"] for phase in view["phases"]] == ["passed"] * 3
    assert (await shell.run(folder, "git", "show", f"{view['tip']}:notes/review.md")).strip() == "review"
    assert "Plan a feature for this repository, do not build it: paging" in asked
