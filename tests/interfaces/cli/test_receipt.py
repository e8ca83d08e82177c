"""`receipt` and `verify-receipt`: a record that shows every change, and says no more than it knows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skep.core import events as ev
from skep.core.apply import replay
from skep.core.model import Cost, Plan
from skep.core.state import State
from skep.runtime.receipt import check, make
from skep.security.signing import Signer
from skep.store import Head
from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User

STORY = """
version: 1
name: two
verify: test -e a.out
tasks:
  a: {run: 'echo "$SKEP_ATTEMPT" > a.out', verify: grep -q 2 a.out, retries: 1}
  b: {needs: [a], run: cat a.out > b.out, approve: before}
"""


@pytest.fixture
def made(user: User, skep: Skep) -> Path:
    """The receipt of a session that is over."""
    user.write("wf.yaml", STORY)
    assert skep("run", "wf.yaml", "--ci").code == 4
    assert skep("approve", "b").code == 0
    assert skep("resume", "--ci").code == 0
    ran = skep("receipt", "-o", "r.json", "--json")
    assert ran.code == 0, ran
    return user.repo.top / "r.json"


def test_it_says_what_was_asked_done_checked_decided_and_merged(made: Path, skep: Skep) -> None:
    record = json.loads(made.read_text())["record"]
    view = skep("status", "--json").json
    assert (record["session"], record["state"], record["tip"], record["costs"]) == (
        "two-1",
        "completed",
        view["tip"],
        "none reported",
    )
    assert [task["merged"] for task in record["tasks"]] == [task["merged"] for task in view["tasks"]]
    assert [(check["what"], check["task"], check["attempt"], check["passed"]) for check in record["checks"]] == [
        ("task", "a", 1, False),
        ("task", "a", 2, True),
        ("merge", "a", 2, True),
        ("merge", "b", 1, True),
    ]
    assert [(said["task"], said["answer"]) for said in record["answers"]] == [("b", "approve")]
    assert record["log"]["events"] <= view["seq"]
    assert len(record["log"]["hash"]) == 64
    assert len(record["plan"]["fingerprint"]) == 64


def test_a_whole_one_is_whole_wherever_it_is_and_names_its_signer(made: Path, skep: Skep, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_bytes(made.read_bytes())
    ran = skep("verify-receipt", str(elsewhere))
    assert ran.code == 0
    assert "compare the fingerprint" in ran.out
    told = skep("verify-receipt", str(elsewhere), "--json").json
    assert (told["ok"], told["whole"], told["wrong"], told["commits"]) == (True, True, [], None)
    assert skep("verify-receipt", str(elsewhere), "--signer", told["signer"]).code == 0
    other = skep("verify-receipt", str(elsewhere), "--signer", "SHA256:" + "0" * 64)
    assert other.code == 1
    assert "not by SHA256:000" in other.out
    reformatted = json.dumps(json.loads(made.read_text()))
    elsewhere.write_text(reformatted)
    assert skep("verify-receipt", str(elsewhere)).code == 0


def changed(value: Any) -> Iterator[Any]:
    """The value with each of its parts changed, one at a time; and with one taken away or added."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ({**value, key: other} for other in changed(inner))
        yield {**value, "extra": 1}
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from ([*value[:place], other, *value[place + 1 :]] for other in changed(inner))
            yield [*value[:place], *value[place + 1 :]]
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
    else:
        yield value[:-1] + ("x" if value[-1:] != "x" else "y")


def test_whatever_is_changed_is_found(made: Path, skep: Skep) -> None:
    whole = json.loads(made.read_text())
    versions = list(changed(whole))
    assert len(versions) > 60
    for version in versions:
        made.write_text(json.dumps(version))
        ran = skep("verify-receipt", str(made), "--json")
        assert ran.code in (1, 2), version
        assert ran.code == 2 or ran.json["ok"] is False
    made.write_text(json.dumps(whole).replace('"state": "completed"', '"state": "failed", "state": "completed"', 1))
    ran = skep("verify-receipt", str(made))
    assert (ran.code, "a key is there twice" in ran.err) == (2, True)


def test_its_commits_are_looked_for_where_they_should_be(made: Path, user: User, skep: Skep, tmp_path: Path) -> None:
    assert skep("verify-receipt", str(made), "--commits", "--json").json["commits"] == 2
    for ref in user.repo("for-each-ref", "--format=%(refname)", "refs/skep").splitlines():
        user.repo("update-ref", "-d", ref)
    user.repo("gc", "-q", "--prune=now")
    ran = skep("verify-receipt", str(made), "--commits")
    assert ran.code == 1
    assert ran.out.count("is not in the session's work") == 2
    bare = tmp_path / "bare"
    bare.mkdir()
    ran = skep("-C", str(bare), "verify-receipt", str(made), "--commits")
    assert (ran.code, "no git repository" in ran.err) == (1, True)


def test_the_key_is_for_its_owner_only_and_stays_the_same(made: Path, user: User, skep: Skep) -> None:
    key = user.repo.top / ".skep" / "receipt.key"
    assert key.stat().st_mode & 0o777 == 0o600
    first = skep("verify-receipt", str(made), "--json").json["signer"]
    assert skep("receipt", "--json").json["signer"] == first
    assert skep("receipt").code == 1  # it is there already
    key.chmod(0o644)
    ran = skep("receipt", "-o", "second.json")
    assert (ran.code, "chmod 600" in ran.err) == (1, True)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"record": {"format": 2}}', "{" * 100_000, "\xff"])
def test_what_is_no_receipt_is_said_to_be_none(text: str, user: User, skep: Skep) -> None:
    user.write("r.json", text)
    ran = skep("verify-receipt", "r.json")
    assert ran.code == 2
    assert "r.json" in ran.err
    assert skep("verify-receipt", "not-there.json").code == 2


def test_costs_are_those_that_agents_reported(tmp_path: Path) -> None:
    state, head = State(), Head(1, 3, b"\1" * 32)
    opened = ev.SessionOpened(1, "s", Plan(name="s"))
    spent = [ev.AttemptSpent(2, "a", 1, Cost(input=n, cached=1, output=2, usd=0.25)) for n in (10, 20)]
    replay(state, [opened])
    path = tmp_path / "r.json"
    path.write_bytes(make("s", state, [], [opened, *spent], head, 5, Signer(tmp_path / "key")))
    costs = json.loads(path.read_text())["record"]["costs"]
    assert costs == {"input": 30, "cached": 2, "output": 4, "micro_usd": 500_000, "unpriced": 0}
    verdict = asyncio.run(check(path, "", None))
    assert (verdict.whole, verdict.wrong) == (True, [])
