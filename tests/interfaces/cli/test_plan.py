"""`run "objective"`: planned by an agent, shown, and carried out only when a person said so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.interfaces.cli.conftest import Skep
from tests.workspace.repository import Repository

CLAUDE_LIKE = Path(__file__).parents[2] / "runtime" / "drivers" / "claude_like.py"
PLAN = """version: 1
verify: test -s a.txt
tasks:
  one: {prompt: write one, verify: test -s one.txt}
  two: {needs: [one], run: "cat one.txt > two.txt"}
"""
CONFIG = """
[planner]
runtime = "shell"
with = {{run = 'cp "{plan}" "$SKEP_OUT/plan.yaml"; grep -c "add paging" "$SKEP_PROMPT"'}}
{more}
[planner.agents.worker]
runtime = "shell"
with = {{run = 'cp "$SKEP_PROMPT" "$SKEP_TASK.txt"'}}
"""


@pytest.fixture
def plan(repo: Repository, tmp_path: Path) -> Path:
    """The plan that the planner of the repository will write."""
    path = tmp_path / "the-plan.yaml"
    path.write_text(PLAN, encoding="utf-8")
    (repo.top / "skep.toml").write_text(CONFIG.format(plan=path, more="attempts = 2"), encoding="utf-8")
    return path


def states(skep: Skep) -> dict[str, str]:
    view = json.loads(skep("status", "--json").out)
    return {task["id"]: task["state"] for task in view["tasks"]}


@pytest.mark.usefixtures("plan")
def test_without_a_yes_the_plan_is_shown_and_nothing_of_it_starts(skep: Skep) -> None:
    ran = skep("run", "add paging to the list")
    assert ran.code == 4
    for said in ("level 2", "cat one.txt > two.txt", "prompt for worker: write one", "verify: test -s one.txt", "every merge"):
        assert said in ran.out
    assert "skep approve plan" in ran.out
    assert states(skep) == {"plan": "needs-you"}

    assert skep("plan").out in ran.out
    assert skep("approve", "plan").code == 0
    assert states(skep) == {"plan": "done", "one": "ready", "two": "waiting"}
    assert skep("resume").code == 0
    assert states(skep) == {"plan": "done", "one": "done", "two": "done"}


@pytest.mark.usefixtures("plan")
def test_with_yes_it_is_carried_out_after_it_was_shown(skep: Skep) -> None:
    ran = skep("run", "--yes", "--ci", "add paging to the list")
    assert ran.code == 0
    assert ran.out.index("cat one.txt > two.txt") < ran.out.index("▶ one")
    assert states(skep) == {"plan": "done", "one": "done", "two": "done"}


@pytest.mark.usefixtures("plan")
def test_a_plan_in_a_file_can_be_edited_and_run(skep: Skep, repo: Repository) -> None:
    ran = skep("run", "add paging to the list", "--plan-only", "p.yaml")
    assert (ran.code, states(skep)) == (0, {"plan": "cancelled"})
    text = (repo.top / "p.yaml").read_text(encoding="utf-8")
    (repo.top / "p.yaml").write_text(text.replace("two.txt", "edited.txt"), encoding="utf-8")
    assert skep("run", "p.yaml").code == 0
    assert states(skep) == {"one": "done", "two": "done"}


def test_a_plan_that_is_wrong_goes_back_to_the_planner_and_its_tries_end(skep: Skep, plan: Path) -> None:
    plan.write_text("version: 1\nagents: {x: {runtime: claude, model: dear}}\ntasks: {a: {run: 'true'}}\n", encoding="utf-8")
    ran = skep("run", "add paging to the list")
    assert ran.code == 1
    assert "'agents' is for people alone" in ran.out
    assert states(skep) == {"plan": "failed"}


def test_a_planner_that_was_refused_what_it_asked_leaves_a_report_and_no_further_error(skep: Skep, repo: Repository) -> None:
    asks = f'#!/bin/sh\nexec {sys.executable} -P {CLAUDE_LIKE} "$@"\n'
    program = repo.top / "claude"
    program.write_text(asks, encoding="utf-8")
    program.chmod(0o755)
    config = f'[planner]\nruntime = "claude"\nattempts = 1\nwith = {{program = "{program}"}}\n[sandbox]\nmode = "off"\n'
    (repo.top / "skep.toml").write_text(config, encoding="utf-8")
    ran = skep("run", "$ touch made", "--ci")
    assert ran.code == 4
    assert "refused, as nobody is asked with --ci" in ran.out
    assert "error:" not in ran.err
    assert states(skep) == {"plan": "failed"}


@pytest.mark.usefixtures("plan")
def test_a_plan_that_a_person_sends_back_is_made_anew(skep: Skep) -> None:
    skep("run", "add paging to the list")
    assert skep("reject", "plan", "-m", "fewer tasks").code == 0
    assert states(skep) == {"plan": "ready"}
    assert skep("resume", "--ci").code == 4
    assert skep("deny", "plan").code == 0
    assert states(skep) == {"plan": "cancelled"}


def test_without_a_planner_it_says_what_to_configure(skep: Skep, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = skep("run", "add paging to the list")
    assert ran.code == 1
    assert "no planner is configured" in ran.err
    assert "[planner] runtime" in ran.err
    assert "skep init --list" in ran.err
    assert "`skep init --template feature`, or bugfix, review, research, migration: they run with any runtime" in ran.err


@pytest.mark.usefixtures("plan")
def test_what_is_for_files_is_refused_for_objectives_and_the_other_way_round(skep: Skep, repo: Repository) -> None:
    assert skep("run", "add paging to it", "--dry-run").code == 2
    (repo.top / "f.yaml").write_text(PLAN, encoding="utf-8")
    assert skep("run", "f.yaml", "--yes").code == 2


def test_a_task_may_propose_more(skep: Skep, repo: Repository) -> None:
    more = "version: 1\ntasks: {docs: {run: 'echo d > d.txt'}}\n"
    (repo.top / "more.yaml").write_text(more, encoding="utf-8")
    run = f"cp {repo.top}/more.yaml $SKEP_OUT/propose.yaml; echo x > x.txt"
    (repo.top / "f.yaml").write_text(f"version: 1\ntasks: {{api: {{run: '{run}'}}}}\n", encoding="utf-8")
    ran = skep("run", "f.yaml")
    assert ran.code == 4
    assert "may the tasks that it proposes be added?" in ran.out
    assert "echo d > d.txt" in skep("plan", "api").out
    skep("approve", "api")
    assert skep("resume").code == 0
    assert states(skep) == {"api": "done", "api-docs": "done"}
