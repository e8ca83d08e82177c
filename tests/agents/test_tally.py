"""What Claude Code tells of its cost is counted once, call by call, whatever its totals call the model."""

from __future__ import annotations

from typing import Any

import pytest

from skep.agents import Spent
from skep.agents.tally import Tally
from tests.contracts.runtime import Record


def reply(tally: Tally, read: int, written: int, model: str = "big", whose: str | None = None, whole: bool = True) -> None:
    """A reply comes in, as the provider streams it; without `whole` it breaks off."""
    begun = {"model": model, "usage": {"input_tokens": read, "cache_read_input_tokens": 7, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    if whole:
        events += [{"type": "message_delta", "usage": {"output_tokens": count}} for count in (written // 2, written)]
        events.append({"type": "message_stop"})
    for event in events:
        tally.stream({"type": "stream_event", "event": event, "parent_tool_use_id": whose})


def total(read: int, cached: int, written: int, usd: float) -> dict[str, Any]:
    return {"inputTokens": read, "cacheReadInputTokens": cached, "outputTokens": written, "costUSD": usd}


def spent(host: Record) -> list[tuple[str, int, int, int, float | None, bool]]:
    return [(one.model, one.input, one.cached, one.output, one.usd, one.owing) for one in host.told(Spent)]


def test_a_call_is_told_when_it_ends_and_its_price_with_the_total() -> None:
    tally = Tally(host := Record(), "big", None)
    reply(tally, 100, 20)
    assert spent(host) == [("big", 100, 7, 20, 0.0, True)]
    reply(tally, 200, 30)
    tally.result({"modelUsage": {"big": total(300, 14, 50, 0.5)}})
    assert spent(host)[1:] == [("big", 200, 7, 30, 0.0, True), ("big", 0, 0, 0, 0.5, False)]
    tally.result({"modelUsage": {"big": total(300, 14, 50, 0.5)}})
    assert len(spent(host)) == 3, "nothing is new"


def test_what_no_call_told_is_in_the_total() -> None:
    tally = Tally(host := Record(), "big", None)
    reply(tally, 100, 20, whole=False)
    reply(tally, 100, 20)
    tally.result({"modelUsage": {"small": total(9, 0, 3, 0.1), "big": total(150, 7, 20, 0.5)}})
    assert spent(host)[1:] == [("big", 50, 0, 0, 0.5, False), ("small", 9, 0, 3, 0.1, False)]


@pytest.mark.parametrize("name", ["big[1m]", "other"])
def test_no_token_is_counted_twice_when_the_total_has_another_name_for_the_model(name: str) -> None:
    tally = Tally(host := Record(), "big", None)
    reply(tally, 100, 20)
    tally.result({"modelUsage": {name: total(100, 7, 20, 0.5)}})
    assert spent(host)[1:] == [(name, 0, 0, 0, 0.5, False)]


def test_replies_of_several_agents_at_once_are_kept_apart() -> None:
    tally = Tally(host := Record(), "big", None)
    reply(tally, 100, 20, whole=False)
    reply(tally, 5, 2, "small", whose="toolu_1")
    assert spent(host) == [("small", 5, 7, 2, 0.0, True)]
    tally.stream({"event": {"type": "message_stop"}})
    assert spent(host)[1:] == [("big", 100, 7, 1, 0.0, True)]
