"""`claim` at a shell: a task taken by hand where nobody carries the session out, in one command, settled in another."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.interfaces.cli.terminal import User

FILE = """version: 1
agents: {c: {runtime: claude, with: {program: /nowhere/claude}}}
tasks:
  one: {agent: c, prompt: make one, verify: test -f one.txt}
  two: {agent: c, needs: [one], prompt: "make two after ${{ needs.one.result }}"}
"""


@pytest.fixture
def hand(user: User) -> User:
    """Somebody in a repository with a session that nobody carries out."""
    (user.repo.top / "f.yaml").write_text(FILE, encoding="utf-8")
    assert user.run("session", "create", "s", "--file", "f.yaml").code == 0
    return user


def nobody_holds(user: User) -> None:
    """Waits until no process owns the workspace: the one in the background ends with the last claim."""
    with open(user.repo.top / ".skep" / "owner.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def taken(user: User, task: str) -> dict[str, Any]:
    ran = user.run("claim", task, "--json")
    assert ran.code == 0, ran.out + ran.err
    found: dict[str, Any] = ran.json
    return found


def test_a_task_is_taken_in_one_command_and_settled_in_another(hand: User) -> None:
    one = taken(hand, "one")
    assert "make one" in one["prompt"]
    (Path(one["path"]) / "one.txt").write_text("by hand\n")
    assert "hand-1" in hand.run("status").out
    assert "is yours until" in hand.run("claim", "one", "--nonce", one["nonce"], "--lease", "2h").out
    ran = hand.run("claim", "one", "--done", "-m", "one is there", "--nonce", one["nonce"])
    assert (ran.code, ran.out) == (0, "✔ one is done\n")

    two = taken(hand, "two")
    assert "make two after one is there" in two["prompt"]
    assert (Path(two["path"]) / "one.txt").read_text() == "by hand\n"
    ran = hand.run("claim", "two", "--done", "--nonce", two["nonce"])
    assert ran.code == 1
    assert "no-changes" in ran.out
    nobody_holds(hand)
    assert hand.run("merge").code == 0
    assert (hand.repo.top / "one.txt").exists()


def test_a_claim_whose_holder_is_killed_returns_with_its_work_kept(hand: User) -> None:
    one = taken(hand, "one")
    (Path(one["path"]) / "one.txt").write_text("half\n")
    os.kill(int((hand.repo.top / ".skep" / "owner.lock").read_text()), signal.SIGKILL)
    nobody_holds(hand)
    again = taken(hand, "one")
    assert again["nonce"] != one["nonce"]
    assert not (Path(again["path"]) / "one.txt").exists()
    assert hand.repo("for-each-ref", "refs/skep/s/wip/one")
    ran = hand.run("claim", "one", "--done", "--nonce", one["nonce"])
    assert ran.code == 1
    assert "there is no such claim of task 'one'" in ran.err
    assert hand.run("claim", "one", "--release", "--nonce", again["nonce"]).out == "· one is ready: stopped\n"
    nobody_holds(hand)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["one", "--done"], "--done needs the --nonce"),
        (["one", "-m", "x"], "-m goes with --done or --fail"),
        (["one", "--lease", "soon"], "is no such time"),
        (["one", "--lease", "0"], "is no such time"),
        (["one", "--lease", "400d"], "is no such time"),
        (["one", "--nonce", "0" * 32, "--done"], "there is no such claim"),
        (["none"], "no task 'none'"),
        (["two"], "'two' is waiting, not ready"),
        ([], "Missing argument 'TASK'"),
    ],
)
def test_what_makes_no_sense_is_answered_in_a_sentence(hand: User, words: list[str], said: str) -> None:
    ran = hand.run("claim", *words)
    assert ran.code in (1, 2)
    assert said in ran.err
    assert "Traceback" not in ran.err
    nobody_holds(hand)
