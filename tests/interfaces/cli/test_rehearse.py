"""`run --rehearse`: the graph, worktrees, checks and merges of a file, with stand-ins in place of its agents."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.interfaces.cli.conftest import Skep
from tests.workspace.repository import Repository

#: Would fail at once if one of these clients were started: there is none of them.
FILE = """version: 1
name: feature
limits: {cost_usd: 1}
agents:
  claude: {runtime: claude, with: {program: /nowhere/claude}}
  codex: {runtime: codex, with: {program: /nowhere/codex}}
  judge: {type: reviewer, runtime: claude, count: 3, with: {program: /nowhere/claude}}
notify: [{on: [done, failed], run: "touch \\"$SKEP_WORKSPACE/told\\""}]
tasks:
  plan: {agent: judge, prompt: Plan it, outputs: {plan: plan.md, list: list.json}, merge: never}
  build:
    needs: [plan]
    prompt: Implement ${{ needs.plan.outputs.plan }}
    candidates: [claude, claude, codex]
    verify: test -f feature.py
    vote: {by: judge}
  each:
    needs: [plan, build]
    foreach: {in: needs.plan.outputs.list, key: name}
    agent: codex
    prompt: Document ${{ item.name }} in ${{ item.file }}
  report: {needs: [each], run: "ls REHEARSAL-*; cp \\"$SKEP_NEEDS\\" report.json"}
"""


@pytest.fixture
def file(repo: Repository) -> Path:
    path = repo.top / "feature.yaml"
    path.write_text(FILE, encoding="utf-8")
    repo.commit()
    return path


@pytest.mark.usefixtures("file")
def test_the_whole_graph_is_carried_out_by_stand_ins_and_says_so_everywhere(skep: Skep, repo: Repository) -> None:
    before = repo.fingerprint()
    ran = skep("run", "feature.yaml", "--rehearse")
    assert ran.code == 0, ran.out + ran.err
    assert "feature-rehearsal-1  REHEARSAL: stand-ins in place of the agents, no model is called" in ran.out
    assert "rehearsal: no model was called; nothing of this is for your branch; 3 checks failed on the work of" in ran.out
    assert "needs a real agent: verify `test -f feature.py`: exit code 1" in ran.out
    assert "skep merge" not in ran.out

    view = json.loads(skep("status", "--json").out)
    assert view["rehearsal"] is True
    assert not view["cost"].get("usd")
    done = {task["id"]: task for task in view["tasks"] if task["state"] == "done"}
    assert {"plan", "build", "each", "each[one]", "each[two]", "report"} <= done.keys()
    assert done["build"]["merged"]
    kept = repo.files(view["tip"])
    assert "REHEARSAL-each_one_.txt" in kept
    assert "report.json" in kept
    assert "REHEARSAL" in skep("status").out
    assert repo.fingerprint() == before
    assert not (repo.top / "told").exists()


@pytest.mark.usefixtures("file")
def test_nothing_of_a_rehearsal_can_become_the_users(skep: Skep, repo: Repository) -> None:
    skep("run", "feature.yaml", "--rehearse")
    head = repo("rev-parse", "HEAD")
    for words in (["merge"], ["merge", "feature-rehearsal-1", "--squash"], ["receipt", "feature-rehearsal-1"]):
        ran = skep(*words)
        assert ran.code == 1
        assert "is a rehearsal" in ran.err
    ran = skep("resume", "feature-rehearsal-1", "--file", "feature.yaml")
    assert ran.code == 1
    assert "is a rehearsal, the file is not" in ran.err
    assert skep("session", "fork", "feature-rehearsal-1").code == 0
    ran = skep("merge", "feature-rehearsal-2")
    assert "is a rehearsal" in ran.err
    assert repo("rev-parse", "HEAD") == head


def test_a_rehearsal_does_not_stand_in_the_way_of_the_run_nor_the_run_of_a_rehearsal(skep: Skep, repo: Repository) -> None:
    file = "version: 1\nname: f\ntasks:\n  a: {run: 'false'}\n  b: {needs: [a], run: 'true'}\n"
    (repo.top / "f.yaml").write_text(file, "utf-8")
    assert skep("run", "f.yaml", "--rehearse").code == 1
    assert skep("run", "f.yaml").code == 1
    assert skep("run", "f.yaml", "--rehearse").code == 1
    assert [one["name"] for one in json.loads(skep("session", "list", "--json").out)["sessions"]] == [
        "f-rehearsal-1",
        "f-1",
        "f-rehearsal-2",
    ]


def test_a_check_that_cannot_run_fails_the_rehearsal(skep: Skep, repo: Repository) -> None:
    file = "version: 1\nagents: {c: {runtime: claude}}\ntasks:\n  a: {agent: c, prompt: x, verify: no-such-tool test}\n"
    (repo.top / "f.yaml").write_text(file, "utf-8")
    ran = skep("run", "f.yaml", "--rehearse")
    assert ran.code == 1
    assert "exit code 127" in ran.out


def test_the_check_of_the_merged_work_is_run_and_what_it_says_is_told(skep: Skep, repo: Repository) -> None:
    file = "version: 1\nverify: test -f made.txt\nagents: {c: {runtime: codex}}\ntasks:\n  a: {agent: c, prompt: x}\n"
    (repo.top / "f.yaml").write_text(file, "utf-8")
    ran = skep("run", "f.yaml", "--rehearse")
    assert ran.code == 0
    assert "needs a real agent: verify `test -f made.txt`: exit code 1" in ran.out
    (repo.top / "script.yaml").write_text("a: echo made > made.txt\n", "utf-8")
    ran = skep("run", "f.yaml", "--rehearse", "--script", "script.yaml")
    assert ran.code == 0
    assert "needs a real agent" not in ran.out


CLASH = """version: 1
agents: {c: {runtime: claude, count: 2}}
tasks:
  a: {agent: c, prompt: x, on_conflict: task}
  b: {agent: c, prompt: y, on_conflict: task, outputs: {word: deep/word.txt}}
"""


def test_a_script_says_what_stand_ins_do_and_a_conflict_is_resolved(skep: Skep, repo: Repository, tmp_path: Path) -> None:
    (repo.top / "f.yaml").write_text(CLASH, "utf-8")
    meet = tmp_path / "meet"  # both are under way at once, so both begin at the same commit
    os.mkfifo(meet)
    (repo.top / "s.yaml").write_text(
        f'a: |\n  read -r word < {meet}\n  echo "$word from $SKEP_TASK" > a.txt\n  (case x in x) true;; esac)\n'
        f'b: |\n  echo "it\'s" > {meet}; mkdir "$SKEP_OUT/deep"; echo word > "$SKEP_OUT/deep/word.txt"; echo b > a.txt\n',
        "utf-8",
    )
    ran = skep("run", "f.yaml", "--rehearse", "--script", "s.yaml")
    assert ran.code == 0, ran.out
    assert "resolving a conflict" in ran.out
    view = json.loads(skep("status", "--json").out)
    assert sorted(repo.show(view["tip"], "a.txt").split("\n")) == ["b", "it's from a"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("[a, b]\n", "is no script for a rehearsal"),
        ("a: {run: x}\n", "is no script for a rehearsal"),
        ("", "the file is empty"),
        ("b: [unclosed\n", "s.yaml:"),
        ("nobody: 'true'\n", "which is no task with a prompt"),
    ],
)
def test_a_script_that_is_none_is_refused_before_anything_starts(skep: Skep, repo: Repository, script: str, said: str) -> None:
    (repo.top / "f.yaml").write_text(CLASH, "utf-8")
    (repo.top / "s.yaml").write_text(script, "utf-8")
    ran = skep("run", "f.yaml", "--rehearse", "--script", "s.yaml")
    assert ran.code == 2
    assert said in ran.err
    assert not (repo.top / ".skep").exists()


def test_what_does_not_go_together_is_refused(skep: Skep, repo: Repository) -> None:
    (repo.top / "f.yaml").write_text(CLASH, "utf-8")
    assert "--script says what stand-ins do" in skep("run", "f.yaml", "--script", "s.yaml").err
    assert ": for files" in skep("run", "an objective in words", "--rehearse").err
    assert "there is no file" in skep("run", "f.yaml", "--rehearse", "--script", "none.yaml").err
