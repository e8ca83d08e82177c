"""`backup` and `restore`, as somebody at a shell sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User

WORKFLOW = """
version: 1
name: two
tasks:
  a: {run: echo a > a.out}
"""


@pytest.fixture
def done(user: User, skep: Skep) -> Skep:
    """A session that is over."""
    user.write("wf.yaml", WORKFLOW)
    assert skep("run", "wf.yaml").code == 0
    return skep


def test_a_session_is_backed_up_listed_and_restored(done: Skep) -> None:
    (made,) = done("backup", "--json").json["backups"]
    assert Path(made["path"]).stat().st_size == made["bytes"]
    assert "good" in done("backup", "list").out
    ran = done("restore", "two-1")
    assert (ran.code, ran.out) == (0, "two-1 goes on from its backup; next: skep resume two-1\n")
    assert [one["session"] for one in done("session", "list", "--json").json["sessions"]] == ["two-1", "two-2"]
    assert done("backup", "--all").code == 0
    assert len(done("backup", "list", "--json").json["backups"]) == 3


def test_a_damaged_one_is_told(done: Skep, user: User) -> None:
    (made,) = done("backup", "two-1", "--json").json["backups"]
    Path(made["path"]).write_bytes(b"spoilt")
    listed = done("backup", "list")
    assert (listed.code, "damaged: " in listed.out) == (1, True)
    refused = done("restore", "two-1")
    assert refused.code == 2
    assert made["path"] in refused.err


def test_what_cannot_be_meant_is_refused(done: Skep, user: User) -> None:
    assert done("backup", "two-1", "--all").code == 2
    assert done("backup", "two-1", "-s", "three").code == 2
    assert "2026-11-21T18:30" in done("restore", "two-1", "--at", "noon").err
    user.write("skep.toml", '[backup]\nevery = "1 hour"\n')
    refused = done("backup")
    assert refused.code == 2
    assert "backup.every is '1 hour'" in refused.err
    user.write("in-the-way", "")
    user.write("skep.toml", "")
    failed = done("backup", "--to", "in-the-way")
    assert (failed.code, "no backup: " in failed.out) == (1, True)


def test_the_last_ones_by_schedule_are_told(done: Skep, user: User) -> None:
    user.write("skep.toml", '[backup]\nevery = "1h"\n')

    def told() -> tuple[str, str]:
        findings = done("doctor", "--json").json["findings"]
        return next((one["state"], one["text"]) for one in findings if one["name"] == "backups")

    assert told() == ("ok", "every 1h; none yet: they begin when a session is carried out")
    mark = user.repo.top / ".skep" / "backup.json"
    mark.write_text(json.dumps({"at": 1_700_000_000_000}))
    assert told()[0] == "ok"
    assert "2023-11-1" in told()[1]
    mark.write_text(json.dumps({"at": 1_700_000_000_000, "failed": {"two-1": "the disk is full"}}))
    assert told()[0] == "error"
    assert "two-1: the disk is full" in told()[1]
    assert done("status", "--json").json["backups"]["failed"] == {"two-1": "the disk is full"}
