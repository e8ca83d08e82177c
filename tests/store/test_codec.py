"""Events to bytes and back, in this format and every earlier one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skep.core.events import AttemptEnded, Event, SessionResumed
from skep.errors import Invalid
from skep.store import codec
from tests.store.shapes import KINDS, events, samples

GOLDEN = sorted(Path(__file__).with_name("golden").glob("*.blob"))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(events(), max_size=4))
def test_what_is_encoded_comes_back_the_same(written: list[Event]) -> None:
    read = codec.decode(codec.encode(written))
    assert read == written
    assert [type(event) for event in read] == [type(event) for event in written]


@given(events())
def test_the_public_form_has_the_name_and_every_field_and_is_json(event: Event) -> None:
    public = codec.public(event)
    assert list(public) == ["event", *event.__struct_fields__]
    assert public["event"] == type(event).__struct_config__.tag
    assert json.loads(json.dumps(public, allow_nan=False)).keys() == public.keys()


def test_the_public_form_of_an_event() -> None:
    assert codec.public(SessionResumed(at=5, by="me")) == {"event": "session.resumed", "at": 5, "by": "me"}


def test_every_event_has_a_name_of_its_own() -> None:
    names = [kind.__struct_config__.tag for kind in KINDS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_log_still_tells_what_it_told(path: Path) -> None:
    told = json.loads(path.with_suffix(".json").read_text())
    read = json.loads(json.dumps([codec.public(event) for event in codec.decode(path.read_bytes())]))
    assert len(read) == len(told)
    for now, then in zip(read, told, strict=True):
        assert says_all(now, then)


def test_every_event_is_in_a_golden_log() -> None:
    told = {event["event"] for path in GOLDEN for event in json.loads(path.with_suffix(".json").read_text())}
    assert told >= {kind.__struct_config__.tag for kind in KINDS}


def says_all(now: Any, then: Any) -> bool:
    """Whether `now` says all that `then` said; it may say more."""
    if isinstance(then, dict):
        return isinstance(now, dict) and all(name in now and says_all(now[name], value) for name, value in then.items())
    if isinstance(then, list):
        return isinstance(now, list) and len(now) == len(then) and all(map(says_all, now, then))
    return bool(now == then)


def earlier(version: int, plain: list[Any]) -> bytes:
    return msgspec.msgpack.encode((version, plain))


def test_an_earlier_format_is_brought_up_one_format_at_a_time() -> None:
    def from_0(plain: list[Any]) -> list[Any]:
        return [["session.resumed", at, f"user {number}"] for name, at, number in plain if name == "resumed"]

    def from_minus_1(plain: list[Any]) -> list[Any]:
        return [["resumed", *rest] for rest in plain]

    blob = earlier(-1, [[7, 1], [8, 2]])
    assert codec.decode(blob, {-1: from_minus_1, 0: from_0}) == [SessionResumed(7, "user 1"), SessionResumed(8, "user 2")]


def test_an_earlier_format_that_never_was_is_refused() -> None:
    with pytest.raises(Invalid, match="format 0, which never was"):
        codec.decode(earlier(0, []))


def test_a_later_format_is_refused_with_what_to_do() -> None:
    with pytest.raises(Invalid, match=f"format {codec.FORMAT + 1}; this Skep reads formats up to {codec.FORMAT}") as caught:
        codec.decode(earlier(codec.FORMAT + 1, [{"whatever": 1}]))
    assert "later" in caught.value.fix


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\x92",
        b"\x92\x01",
        b"text",
        codec.encode(samples())[:-1],
        codec.encode(samples()) + b"\0",
        earlier(1, [["task.unheard-of", 1]]),
        earlier(1, [["session.resumed", "not a time"]]),
        earlier(1, [["session.resumed"]]),
        earlier(1, [["session.resumed", 1, "text"]]).replace(b"text", b"\xff\xff\xff\xff"),
        b"\x92\x01\x91" * 50_000,
        b"\x92\x00" + b"\x91" * 50_000,
    ],
)
def test_what_is_no_log_is_refused(blob: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        codec.decode(blob)
    assert caught.value.fix


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", [object(), 2**64, -(2**63) - 1, "half \ud800", endless(), {1: 2 + 3j}])
def test_a_value_that_no_log_can_hold_is_refused(value: Any) -> None:
    with pytest.raises(Invalid, match="cannot be kept in the log") as caught:
        codec.encode([AttemptEnded(1, "t1", 1, "ok", "done", result=value)])
    assert caught.value.fix


def test_later_fields_have_defaults_so_that_shorter_events_still_decode() -> None:
    assert codec.decode(earlier(1, [["session.resumed", 4]])) == [SessionResumed(4)]
