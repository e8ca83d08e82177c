"""The real clients, without Skep, against the scripted model: they print what `streams/` holds, and go on with a conversation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.drive import CASES, CLIENTS, SUCCESS, Case, need, run
from tests.clients.model_server import ModelServer
from tests.clients.record import STREAMS

#: What a client prints besides the events that count changes with the machine and the day, so these are for `make test-clients`.
pytestmark = pytest.mark.clients
EACH = [(name, case) for name in CASES for case in CASES[name]]


def kind(event: dict[str, Any]) -> str:
    """What an event is, without what it carries."""
    inner = event.get("item") or event.get("part") or {}
    parts = (event["type"], event.get("subtype"), event.get("role"), event.get("status"), inner.get("type"), inner.get("status"))
    return " ".join(part for part in parts if part)


@pytest.mark.parametrize(("name", "case"), EACH)
async def test_a_client_prints_what_is_recorded(name: str, case: str, server: ModelServer, tmp_path: Path) -> None:
    need(CLIENTS[name].program)
    done = await run(CLIENTS[name], server.url, tmp_path, CASES[name][case])
    assert done.exit == CASES[name][case].exit, done.stderr
    recorded = [json.loads(line) for line in (STREAMS / f"{name}-{case}.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [kind(event) for event in done.events] == [kind(event) for event in recorded]
    assert [set(event) for event in done.events] == [set(event) for event in recorded]
    assert (tmp_path / "work" / "made.txt").exists() == (case == "success")


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_goes_on_with_its_conversation(name: str, server: ModelServer, tmp_path: Path) -> None:
    need(CLIENTS[name].program)
    success = CASES[name]["success"]
    first = await run(CLIENTS[name], server.url, tmp_path, success)
    assert first.exit == 0, first.stderr
    named = (each.get("session_id") or each.get("thread_id") or each.get("sessionID") for each in first.events)
    session = next(each for each in named if each)
    second = await run(CLIENTS[name], server.url, tmp_path, Case("SAY: Again.", success.more), session)
    assert second.exit == 0, second.stderr
    assert "Again." in "".join(second.lines)
    assert SUCCESS.splitlines()[0] in json.dumps(server.requests[-1].body).replace("\\\\", "\\"), (
        "the first prompt is not in mind"
    )


def test_each_case_is_recorded() -> None:
    assert {path.stem for path in STREAMS.iterdir()} == {f"{name}-{case}" for name in CASES for case in CASES[name]}
