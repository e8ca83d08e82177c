"""What becomes of an attempt whose client's provider does not answer."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.agents.outage import LONGEST, clock, judged, span

MINUTE, HOUR = 60_000, 3_600_000


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("API Error: Request rejected (429) · slow down", 429),
        ("exceeded retry limit, last status: 429 Too Many Requests", 0),
        ("You've hit your usage limit. Upgrade to Pro or try again in 3 hours 2 minutes.", 0),
        ('{"error": {"code": 429, "message": "Resource exhausted", "status": "RESOURCE_EXHAUSTED"}}', 0),
        ("Overloaded", 529),
        (
            "Your daily quota is exhausted. To increase your limits, request an increase, or switch to another /auth method",
            0,
        ),
        ("Internal error: API Error: Request rejected (429) · slow down", 0),
        ("Internal error: You've hit your 5-hour limit · resets 3:41pm (UTC)", 0),
        ("You’ve hit your usage limit. Upgrade to Pro, or try again at 3:34 PM.", 0),
    ],
)
def test_a_limit_parks(said: str, status: int) -> None:
    now = int(time.time() * 1000)
    ending = judged(said, status)
    assert (ending.ok, ending.interrupted, ending.cause) == (False, True, "limit")
    # A time of day that is told may be less than the usual pause away.
    assert ending.until > now or (not ending.until and "pm" not in said.lower())


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("API Error: 500 sorry", 500),
        ("API Error: Connection to the API was lost (ECONNRESET).", 0),
        ("stream disconnected before completion: error sending request", 0),
        ("[API Error: terminated]", 0),
        ("unexpected status 502 Bad Gateway", 0),
        ("TypeError: fetch failed", 0),
        ("We’re currently experiencing high demand, which may cause temporary errors.", 0),
        ('{"error": {"message": "Sorry", "code": "server_error"}}', 0),
    ],
)
def test_an_outage_interrupts(said: str, status: int) -> None:
    ending = judged(said, status)
    assert (ending.ok, ending.interrupted, ending.cause, ending.until) == (False, True, "infrastructure", 0)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("API Error: 400 no such model", 400),
        ("API Error: 400 the login page is no valid image", 400),
        ("insufficient_quota: You exceeded your current quota, please check your plan and billing details.", 429),
        ("No prompt provided", 0),
    ],
)
def test_what_waiting_does_not_mend_fails(said: str, status: int) -> None:
    ending = judged(said, status)
    assert (ending.ok, ending.interrupted, ending.cause) == (False, False, "error")
    assert ending.detail == said


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("Not logged in · Please run /login", 0),
        ("Failed to authenticate. API Error: 401 The script says 401.", 401),
        ("OAuth token has expired. Please obtain a new token or refresh your existing token.", 0),
        ("Failed to authenticate. API Error: 403 The script says 403.", 0),
        ("unexpected status 401 Unauthorized: The script says 401., url: http://127.0.0.1:1/v1/responses", 0),
        ('[API Error: {"error":{"code":401,"message":"The script says 401.","status":"UNAUTHENTICATED","details":[]}}]', 0),
        ("API key not valid. Please pass a valid API key.", 400),
        ("Please set an Auth method in your ~/.gemini/settings.json or specify one of the following", 0),
        ("Gemini API key is missing or not configured.", 0),
        ("Incorrect API key provided: sk-1. You can find your API key at ...", 0),
        ("invalid x-api-key", 0),
        ("Authentication required", 0),
        ("Set the `OPENAI_API_KEY` environment variable or pass it via `OpenAIProvider(api_key=...)` to use it.", 0),
        ("Your access token could not be refreshed. Please log out and log in again.", 0),
        ("Error: no credentials found. Run `opencode auth login` to log in.", 0),
    ],
)
def test_a_login_that_is_missing_or_refused_waits_for_a_person(said: str, status: int) -> None:
    ending = judged(said, status)
    assert (ending.ok, ending.interrupted, ending.cause, ending.until) == (False, True, "login", 0)
    assert ending.detail == said


@pytest.mark.parametrize("said", ["the authentication service is overloaded", "authentication required"])
def test_a_login_service_that_is_down_is_no_login_that_is_refused(said: str) -> None:
    assert judged(said, 503).cause == "limit"
    assert judged(said.replace("overloaded", "down"), 500).cause == "infrastructure"


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        ("try again in 5 days 3 hours 2 minutes.", 5 * 24 * HOUR + 3 * HOUR + 2 * MINUTE),
        ("Please retry in 34.5s.", 34_500),
        ("Your quota will reset after 1h2m3s.", HOUR + 2 * MINUTE + 3_000),
        ("try again in 250ms", 250),
        ("try again in a moment", 0),
        ("try again in 99999999 days", LONGEST),
    ],
)
def test_a_time_to_wait_is_understood(said: str, wait: int) -> None:
    assert span(said) == wait


@pytest.mark.parametrize(
    ("said", "when"),
    [
        ("try again at 3:34 PM.", (11, 21, 15, 35)),
        ("resets 2:05pm (UTC)", (11, 22, 14, 6)),
        ("resets 4pm (Europe/Berlin)", (11, 21, 15, 1)),
        ("try again at Nov 23rd, 2026 10:07 PM.", (11, 23, 22, 8)),
        ("resets Nov 23, 10pm", (11, 23, 22, 1)),
        ("resets Jan 3, 12am", (1, 3, 0, 1)),
        ("resets 1am (Nowhere/Else)", None),
        ("try again at 13:99 PM", None),
        ("resets Feb 30, 1am", None),
        ("try again later", None),
    ],
)
def test_a_time_of_day_is_understood(said: str, when: tuple[int, int, int, int] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        now = datetime(2026, 11, 21, 14, 30, 20, tzinfo=UTC)
        found = clock(said, int(now.timestamp() * 1000))
        at = datetime.fromtimestamp(found / 1000, UTC)
        assert (found and (at.month, at.day, at.hour, at.minute)) == (when or 0)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_provider_s_own_word_counts_if_it_lies_ahead() -> None:
    now = int(time.time() * 1000)
    assert judged("limit", 429, now + HOUR).until == now + HOUR
    assert judged("limit", 429, now - HOUR).until == 0, "a time that is over says nothing"
    assert judged("limit", 429, now + 1000 * LONGEST).until <= int(time.time() * 1000) + LONGEST


@given(st.text(), st.integers(0, 999))
def test_nothing_raises(said: str, status: int) -> None:
    ending = judged(said, status)
    assert not ending.ok
    assert ending.detail
