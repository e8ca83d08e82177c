"""A session goes on with another version of its file: what is unchanged and done stays, the rest is done as the file says now."""

from __future__ import annotations

from pathlib import Path

import pytest

import skep
from skep.app import read_plan
from tests.workspace.repository import Repository

FIRST = """
version: 1
name: site
tasks:
  a: {run: "echo a >> \\"$SKEP_WORKSPACE/../ran\\"; echo a > a-made.txt"}
  b: {needs: [a], run: "echo b >> \\"$SKEP_WORKSPACE/../ran\\"; exit 1"}
  c: {needs: [b], run: "cat b-made.txt"}
  old: {run: "echo old >> \\"$SKEP_WORKSPACE/../ran\\"", mode: none}
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "site.yaml"
    file.write_text(text, encoding="utf-8")
    return file


async def test_only_what_changed_or_failed_runs_again(hive: skep.Skep, repo: Repository, tmp_path: Path) -> None:
    file = write(tmp_path, FIRST)
    session = await hive.start(read_plan(file))
    first = await session.settled()
    assert {task.id: task.state for task in first.tasks} == {"a": "done", "b": "failed", "c": "skipped", "old": "done"}

    lines = [line for line in FIRST.splitlines() if "old" not in line]
    write(tmp_path, "\n".join(lines).replace("exit 1", "echo b > b-made.txt") + "\n  d: {needs: [c], run: 'true', mode: none}\n")
    again = await hive.revise(read_plan(file))
    view = await again.settled()

    assert again.name == session.name
    assert {task.id: task.state for task in view.tasks} == {"a": "done", "b": "done", "c": "done", "d": "done"}
    assert view.state == "completed"
    assert sorted((tmp_path / "ran").read_text().split()) == ["a", "b", "b", "old"]


async def test_a_change_of_what_a_task_needs_reaches_it(hive: skep.Skep, repo: Repository, tmp_path: Path) -> None:
    text = "version: 1\nname: s\ntasks:\n  a: {run: echo 1 > n.txt}\n  b: {needs: [a], run: 'cat n.txt', mode: isolated}\n"
    file = write(tmp_path, text)
    session = await hive.start(read_plan(file))
    await session.settled()
    write(tmp_path, text.replace("echo 1", "echo 2"))
    view = await (await hive.revise(read_plan(file))).settled()
    assert {task.id: task.result for task in view.tasks} == {"a": "", "b": "2"}
    assert (await session.results(["b"]))[0].attempts == 2


async def test_a_file_that_no_session_began_with_is_refused(hive: skep.Skep, tmp_path: Path) -> None:
    with pytest.raises(skep.NotFound, match="no session here began with"):
        await hive.revise(read_plan(write(tmp_path, FIRST)))
