"""`approve`, `reject`, `deny`, `cancel`, `retry`, `merge`, `discard`: what people say."""

from __future__ import annotations

import pytest

from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User

ASKING = """
version: 1
name: asking
tasks:
  draft: {run: 'echo "draft, told: $SKEP_FEEDBACK" > draft.txt', approve: after}
  deploy: {run: echo out > deployed.txt, approve: before}
  after: {needs: [deploy], run: "true"}
"""


@pytest.fixture
def asking(user: User, skep: Skep) -> Skep:
    """A session in which two tasks wait for a person."""
    user.write("wf.yaml", ASKING)
    assert skep("run", "wf.yaml").code == 4
    return skep


def states(skep: Skep) -> dict[str, str]:
    return {task["id"]: task["state"] for task in skep("status", "--json").json["tasks"]}


def test_a_rejected_result_goes_round_again_with_the_comment(asking: Skep, user: User) -> None:
    assert states(asking) == {"draft": "needs-you", "deploy": "needs-you", "after": "waiting"}
    assert asking("reject", "draft", "-m", "shorter please").code == 0
    assert asking("approve", "deploy").code == 0
    assert asking("resume").code == 4
    assert asking("approve", "draft", "--json").json["answer"] == "approve"
    assert asking("resume").code == 0
    assert user.repo.show(asking("status", "--json").json["tip"], "draft.txt") == "draft, told: shorter please"


def test_a_task_that_is_denied_never_starts_and_what_needs_it_is_skipped(asking: Skep) -> None:
    assert asking("deny", "deploy", "-m", "not today").code == 0
    assert asking("approve", "draft").code == 0
    ran = asking("resume")
    assert ran.code == 1
    assert states(asking) == {"draft": "done", "deploy": "cancelled", "after": "skipped"}
    assert "not today" in ran.out


def test_an_answer_nobody_asked_for_is_refused(asking: Skep) -> None:
    ran = asking("approve", "after")
    assert (ran.code, ran.err.splitlines()[0]) == (1, "error: task 'after' is waiting and asks nothing")


def test_cancelling_takes_along_what_cannot_go_on(asking: Skep) -> None:
    assert asking("cancel", "deploy", "--json").json["cancelled"] == ["deploy", "after"]
    assert states(asking) == {"draft": "needs-you", "deploy": "cancelled", "after": "cancelled"}
    assert asking("cancel", "deploy").err.splitlines()[0] == "error: task 'deploy' is cancelled already"


def test_a_failed_task_is_sent_round_again(user: User, skep: Skep) -> None:
    flag = user.folder / "flag"
    user.write("wf.yaml", f"version: 1\nname: r\ntasks:\n  a: {{run: 'test -e {flag}'}}\n  b: {{needs: [a], run: 'true'}}\n")
    assert skep("run", "wf.yaml").code == 1
    flag.touch()
    assert skep("retry", "a").out == "a goes round again\nnext: skep resume r-1\n"
    assert skep("resume").code == 0
    assert skep("retry", "a", "--with", "nobody").code == 2


def test_merge_brings_the_work_to_the_users_branch_or_another_one(user: User, skep: Skep) -> None:
    user.write("wf.yaml", "version: 1\nname: m\ntasks:\n  a: {run: echo new > new.txt}\n")
    assert skep("run", "wf.yaml").code == 0
    tip = skep("status", "--json").json["tip"]
    assert skep("merge", "--branch", "next", "--json").json == {
        "version": 1,
        "session": "m-1",
        "live": False,
        "commit": tip,
        "branch": "next",
        "head": "trunk",
    }
    assert user.repo("rev-parse", "next") == tip
    assert skep("merge").out == f"merged m-1: {tip[:10]} on trunk\n"
    assert (user.repo.top / "new.txt").read_text() == "new\n"


def test_merging_says_which_branch_moved_and_whether_the_files_followed(user: User, skep: Skep) -> None:
    user.write("wf.yaml", "version: 1\nname: m\ntasks:\n  a: {run: echo new > new.txt}\n")
    assert skep("run", "wf.yaml").code == 0
    user.repo("checkout", "-q", "--detach")
    ran = skep("merge")
    assert ran.code == 0
    assert ran.out.splitlines()[0].endswith(" on trunk")
    assert ran.out.splitlines()[1] == "HEAD is detached, so your files did not change; next: git switch trunk"
    assert not (user.repo.top / "new.txt").exists()
    user.repo("switch", "-q", "-c", "mine")
    assert "mine is checked out, so your files did not change" in skep("merge", "--branch", "trunk").out


def test_merging_over_uncommitted_work_is_refused_and_changes_nothing(user: User, skep: Skep) -> None:
    user.write("wf.yaml", "version: 1\nname: m\ntasks:\n  a: {run: echo theirs > a.txt}\n")
    assert skep("run", "wf.yaml").code == 0
    user.write("a.txt", "mine\n")
    before = user.repo.fingerprint()
    ran = skep("merge")
    assert ran.code == 1
    assert "Fix:" in ran.err
    assert user.repo.fingerprint() == before


def test_kept_work_is_dropped_when_it_is_discarded(user: User, skep: Skep) -> None:
    user.write("wf.yaml", "version: 1\nname: d\ntasks:\n  a: {run: echo half > half.txt; exit 1}\n")
    assert skep("run", "wf.yaml").code == 1
    assert "refs/skep/d-1/wip" in user.repo("for-each-ref", "refs/skep")
    assert len(skep("discard", "a", "--json").json["discarded"]) == 1
    assert "refs/skep/d-1/wip" not in user.repo("for-each-ref", "refs/skep")
    assert skep("discard").out == "there was nothing to discard\n"


def test_stopping_what_does_not_run_says_how_to_go_on(asking: Skep) -> None:
    ran = asking("stop")
    assert (ran.code, ran.out) == (
        0,
        "stopped: 0 attempts interrupted, work kept; no try counted\nnext: skep resume asking-1\n",
    )
    assert asking("status", "--json").json["state"] == "paused"
