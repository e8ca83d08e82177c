"""The clients that listen ask for leave, heed the answer and stop when they are told to, as `talks/` holds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.drive import TALKERS, need
from tests.clients.model_server import ModelServer
from tests.clients.record import TALKED
from tests.clients.talk import TALKS, talk_with

#: What `make test` runs; the others are for `make test-clients`.
SMALL = ("claude-both-ways",)
EACH = [pytest.param(name, case, marks=() if name in SMALL else pytest.mark.clients) for name in TALKERS for case in TALKS]
#: How a prompt ends; Codex takes a refusal for an interruption.
ENDINGS = {
    ("claude-both-ways", "cancelled"): "error_during_execution aborted_streaming",
    ("claude-both-ways", "allowed"): "success completed",
    ("claude-both-ways", "refused"): "success completed",
    ("codex-acp", "refused"): "cancelled",
}


def kinds(messages: list[dict[str, Any]]) -> set[str]:
    """What sorts of messages a client sent. Not their order: some depend on who is quicker."""
    found = set()
    for message in messages:
        update = message.get("params", {}).get("update", {})
        found.add(str(update.get("sessionUpdate") or message.get("method") or message.get("type") or "answer"))
    return found


@pytest.mark.parametrize(("name", "case"), EACH)
async def test_a_client_talks_as_recorded(name: str, case: str, server: ModelServer, tmp_path: Path) -> None:
    need(TALKERS[name].program)
    talked = await talk_with(name, case, server, tmp_path)
    assert talked.ending == ENDINGS.get((name, case), "cancelled" if case == "cancelled" else "end_turn")
    assert len(talked.asked) == (case != "cancelled")
    assert (tmp_path / "work" / "made.txt").exists() == (case == "allowed")
    recorded = [json.loads(line) for line in (TALKED / f"{name}-{case}.jsonl").read_text(encoding="utf-8").splitlines()]
    assert kinds([message for who, message in talked.said if who == "it"]) == kinds(
        [each["it"] for each in recorded if "it" in each]
    )


def test_each_talk_is_recorded() -> None:
    assert {path.stem for path in TALKED.iterdir()} == {f"{name}-{case}" for name in TALKERS for case in TALKS}
