"""The example of candidates and a vote, run as a user would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2] / "examples" / "best-of-three" / "project"
SKEP = str(Path(sys.executable).parent / "skep")


def run(*command: str, cwd: Path) -> str:
    """What a command prints; it must succeed. Without a home, without a git identity of the user's."""
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd), "TERM": "dumb", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    env |= {f"GIT_{who}_{what}": "x@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's repository, after `skep run`."""
    folder = tmp_path_factory.mktemp("best") / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for step in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "titles")):
        run("git", *step, cwd=folder)
    said = run(SKEP, "run", "workflow.yaml", cwd=folder)
    assert "2 of 3 for" in said
    return folder


def test_the_tests_sort_out_the_vote_chooses_and_the_rest_stays(project: Path) -> None:
    view = json.loads(run(SKEP, "candidates", "slug", "--json", cwd=project))
    assert [(one["id"], one["state"], one["cause"]) for one in view["candidates"]] == [
        ("slug[1]", "skipped", "verify-failed"),
        ("slug[2]", "done", ""),
        ("slug[3]", "done", ""),
    ]
    assert [one["agent"] for one in view["candidates"]] == ["hasty-1", "wordy-1", "careful-1"]
    assert view["chosen"] == "slug[3]"
    assert {one["id"]: one["votes"] for one in view["candidates"]} == {"slug[1]": 0, "slug[2]": 1, "slug[3]": 2} or (
        # The third vote is not waited for once two have decided.
        [vote["cast"] for vote in view["ballot"]["votes"]].count(True) == 2
    )
    assert "result.append" in run(SKEP, "diff", "slug[2]", cwd=project)


def test_what_was_chosen_is_what_is_merged(project: Path) -> None:
    run(SKEP, "merge", cwd=project)
    assert "re.findall" in (project / "slug.py").read_text()
    run(sys.executable, "-m", "unittest", "discover", "-s", "tests", "-t", ".", cwd=project)


def test_the_table_shows_who_did_what(project: Path) -> None:
    said = run(SKEP, "candidates", "slug", cwd=project)
    assert "slug[3]" in said
    assert "careful-1" in said
    assert "chosen" in said
    assert "verify-failed" in said
    assert "look: skep diff 'slug[" in said
