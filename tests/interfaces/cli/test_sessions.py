"""`session`: create, list, show, checkpoint, restore, fork, pause, close, export, import."""

from __future__ import annotations

import shutil

import pytest

from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User

TWO = """
version: 1
name: two
tasks:
  a: {run: echo a > a.out}
  b: {needs: [a], run: cat a.out > b.out}
"""


@pytest.fixture
def done(user: User, skep: Skep) -> Skep:
    """A session that is over."""
    user.write("wf.yaml", TWO)
    assert skep("run", "wf.yaml").code == 0
    return skep


def names(skep: Skep) -> dict[str, str]:
    return {one["name"]: one["state"] for one in skep("session", "list", "--json").json["sessions"]}


def test_a_session_is_made_without_starting_anything(user: User, skep: Skep) -> None:
    user.write("wf.yaml", TWO)
    assert skep("session", "create", "quiet", "--file", "wf.yaml", "--agents", "1").out == "made quiet; next: skep resume quiet\n"
    view = skep("session", "show", "quiet", "--json").json
    assert (view["agents"], view["live"], [task["attempts"] for task in view["tasks"]]) == (1, False, [0, 0])
    assert skep("resume", "quiet").code == 0
    assert skep("session", "create", "quiet").code == 1
    assert skep("session", "create", "empty").code == 0
    assert names(skep) == {"quiet": "completed", "empty": "active"}


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "a\nb", "\x1b[2J", "x" * 101, "日" * 70, "e\u0301"])
def test_a_name_that_cannot_be_typed_is_refused(name: str, skep: Skep) -> None:
    ran = skep("session", "create", "--", name)
    assert ran.code == 2
    assert "is no name for a session" in ran.err
    assert "\x1b" not in ran.err


@pytest.mark.parametrize(
    ("file", "name"),
    [("größe.yaml", "größe-1"), ("日本 語.yaml", "日本-語-1"), ("हिन्दी.yaml", "हिन्दी-1"), ("🚀.yaml", "workflow-1")],
)
def test_a_session_is_called_after_its_file_in_whatever_script(user: User, skep: Skep, file: str, name: str) -> None:
    user.write(file, TWO.replace("name: two\n", ""))
    assert skep("run", file).code == 0
    assert names(skep) == {name: "completed"}
    assert "b.out" in skep("diff", "-s", name).out
    assert skep("logs", "a", "-s", name).code == 0
    assert skep("merge", name).code == 0
    assert skep("session", "create", name.removesuffix("-1")).code == 0


def test_list_and_show(done: Skep) -> None:
    assert done("session", "list").out.split()[:4] == ["two-1", "completed", "2/2", "done"]
    shown = done("session", "show").out
    assert "branch: trunk" in shown
    assert "events: " in shown


def test_a_fork_goes_on_from_a_checkpoint_and_leaves_its_origin_alone(done: Skep, user: User) -> None:
    number = done("session", "checkpoint", "end", "--json").json["seq"]
    assert done("session", "show", "--json").json["checkpoints"] == {"end": number}
    assert done("session", "checkpoint", "end").code == 1
    assert done("session", "fork", "--at", "end").out == "made two-2; next: skep resume two-2\n"
    ran = done("add", "-s", "two-2", "--run", "echo c > c.out", "--needs", "b", "--json")
    assert ran.code == 0
    assert user.repo.show(ran.lines[-1]["session"]["tip"], "c.out") == "c"
    assert len(done("session", "show", "two-1", "--json").json["tasks"]) == 2


def test_restoring_goes_on_from_an_earlier_event_under_the_same_name(done: Skep) -> None:
    events = done("replay", "--json").of("event")
    first = next(event["seq"] for event in events if event["name"] == "task.merged")
    assert done("session", "restore", "--at", str(first)).out == f"two-1 goes on from '{first}'; next: skep resume two-1\n"
    view = done("session", "show", "two-1", "--json").json
    assert {task["id"]: task["state"] for task in view["tasks"]}["a"] == "done"
    assert view["state"] != "completed"
    assert done("resume", "two-1").code == 0
    assert len(names(done)) == 2


def test_a_session_is_exported_and_imported_paused(done: Skep, user: User) -> None:
    size = done("session", "export", "two-1", "two.skep", "--json").json["bytes"]
    assert (user.repo.top / "two.skep").stat().st_size == size
    name = done("session", "import", "two.skep", "--json").json["session"]
    assert name == "two-2"
    assert len(done("session", "show", name, "--json").json["tasks"]) == 2
    refused = done("session", "import", "wf.yaml")
    assert refused.code == 2
    assert "wf.yaml is neither an export nor a backup, or is damaged\n  Fix: " in refused.err
    assert "zip" not in refused.err


def test_what_is_finished_cannot_be_paused_and_says_so(done: Skep) -> None:
    ran = done("session", "pause")
    assert (ran.code, ran.out) == (1, "")
    assert "every task of session two-1 is finished already" in ran.err
    assert "Fix:" in ran.err
    assert names(done) == {"two-1": "completed"}


def test_what_a_deleted_state_folder_left_is_found_and_dropped_but_never_unmerged_work(done: Skep, user: User) -> None:
    shutil.rmtree(user.repo.top / ".skep")
    refs = user.repo("for-each-ref", "refs/skep")
    (found,) = [one for one in done("doctor", "--json").json["findings"] if one["name"] == "left refs"]
    assert found["state"] == "warning"
    assert "two-1" in found["text"]
    assert "skep session drop two-1" in found["fix"]
    refused = done("session", "drop", "two-1")
    assert refused.code == 1
    assert "nothing else holds the work of session two-1: main" in refused.err
    assert "skep session drop --unmerged two-1" in refused.err
    assert user.repo("for-each-ref", "refs/skep") == refs
    user.repo("branch", "kept", "refs/skep/two-1/main")
    assert done("session", "drop", "two-1").out == "dropped two-1; all its work is held elsewhere\n"
    assert user.repo("for-each-ref", "refs/skep") == ""
    assert done("session", "drop", "two-1").code == 2
    (found,) = [one for one in done("doctor", "--json").json["findings"] if one["name"] == "left refs"]
    assert found["state"] == "ok"


def test_unmerged_work_is_dropped_only_when_it_is_asked_for(done: Skep, user: User) -> None:
    assert "is recorded here" in done("session", "drop", "two-1").err
    shutil.rmtree(user.repo.top / ".skep")
    assert done("session", "drop", "two-1", "--unmerged").out == "dropped two-1; lost: main\n"
    assert user.repo("for-each-ref", "refs/skep") == ""


def test_a_paused_session_starts_nothing_and_a_closed_one_never_again(user: User, skep: Skep) -> None:
    user.write("wf.yaml", TWO)
    skep("session", "create", "p", "--file", "wf.yaml")
    assert skep("session", "pause", "p").out == "paused p\n"
    assert names(skep) == {"p": "paused"}
    assert skep("session", "close", "p", "--json").json["state"] == "closed"
    refused = skep("resume", "p")
    assert refused.code == 1
    assert "is closed" in refused.err
