"""`debug`: what a bug report needs, and no secret in it."""

from __future__ import annotations

import json
import zipfile

import pytest

from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User

CANARIES = {"DEPLOY": 's3cr3t-declared-1"quoted\\', "MY_API_TOKEN": "s3cr3t-environment-2", "WELL_KNOWN": "not secret at all"}
STORY = """
version: 1
name: told
tasks:
  leak:
    run: echo "out $DEPLOY and $DB_PASSWORD"; echo s3cr3t-environment-2; echo the last words; exit 3
    secrets: [DEPLOY]
    env: {DB_PASSWORD: s3cr3t-task-3, PLAIN: seen}
    mode: none
"""


def test_no_canary_is_in_the_bundle_and_what_helps_is(user: User, skep: Skep, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    user.write("wf.yaml", STORY)
    assert skep("run", "wf.yaml", "--ci").code == 1
    ran = skep("debug")
    assert ran.code == 0
    assert "nothing was sent anywhere" in ran.out
    path = user.repo.top / "told-1.debug.zip"
    assert path.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name).decode() for name in archive.namelist()}
    whole = "\n".join(members.values())
    assert "s3cr3t" not in whole
    assert "DB_PASSWORD" in whole
    assert "PLAIN" in whole
    events = [json.loads(line) for line in members["events.jsonl"].splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["event"] == "session.opened"
    (recorded,) = [text for name, text in members.items() if name.startswith("transcripts/")]
    assert "the last words" in recorded
    assert "out [secret] and [redacted]" in recorded
    assert {"session.json", "settings.json", "versions.json", "doctor.json"} < members.keys()
    assert all(json.loads(members[name]) for name in members if name.endswith(".json"))


def test_a_file_that_is_there_is_not_overwritten(user: User, skep: Skep) -> None:
    user.write("wf.yaml", "version: 1\nname: one\ntasks:\n  a: {run: echo a, mode: none}\n")
    assert skep("run", "wf.yaml", "--ci").code == 0
    told = skep("debug", "one-1", "-o", "r.zip", "--json").json
    assert "events.jsonl" in told["members"]
    ran = skep("debug", "-o", "r.zip")
    assert (ran.code, "is there already" in ran.err) == (1, True)
