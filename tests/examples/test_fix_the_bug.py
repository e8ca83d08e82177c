"""The demonstration, as `make demo` runs it: from an environment with nothing in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "fix-the-bug"


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command without a home, without a git identity, without a terminal."""
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd), "TERM": "dumb", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)


def unittests(folder: Path) -> str:
    """What the project's own tests say in a folder."""
    return run(sys.executable, "-m", "unittest", cwd=folder).stderr


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the demonstration, after it, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    done = run(sys.executable, str(EXAMPLE / "demo.py"), "scratch", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "scratch", done.stdout


def test_its_tests_really_fail_first(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "project", tmp_path / "project")
    said = unittests(tmp_path / "project")
    assert "FAILED (failures=1, errors=1)" in said
    assert "test_reads_thousands" in said
    assert "test_tax_of_half_a_cent_is_rounded_up" in said


def test_every_task_is_done_and_one_needed_its_feedback(shown: tuple[Path, str]) -> None:
    _, said = shown
    assert re.search(r"5/5 done", said)
    assert re.search(r"fix-totals +shell-\d+ +2 tries", said)
    assert re.search(r"fix-parser +shell-\d+ +1 try", said)
    assert "Tests before: 11 run, 2 failed" in said
    assert "Tests after:  11 run, 0 failed" in said


def test_the_second_try_read_what_the_test_expects(shown: tuple[Path, str]) -> None:
    folder, _ = shown
    logs = run(str(Path(sys.executable).parent / "skep"), "logs", "fix-totals", cwd=folder).stdout
    assert "The last try was refused: the test expects 0.13." in logs
    assert "taxes are rounded by ROUND_HALF_UP" in logs


def test_main_is_as_it_was_until_merged_and_then_its_tests_pass(shown: tuple[Path, str]) -> None:
    folder, _ = shown
    assert "FAILED (failures=1, errors=1)" in unittests(folder)
    merged = run(str(Path(sys.executable).parent / "skep"), "merge", cwd=folder)
    assert merged.returncode == 0, merged.stderr
    assert unittests(folder).rstrip().endswith("OK")
    assert run("git", "status", "--porcelain", cwd=folder).stdout == ""
