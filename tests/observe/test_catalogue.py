"""What is told of every event there is, and that it is what the reference says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from skep.core import events as ev
from skep.core.apply import apply
from skep.core.state import State
from skep.observe import keys, reference
from skep.observe.catalogue import MISSING, ROWS, UNTOLD, Known
from skep.observe.messages import Notice, told
from skep.store import codec

GOLDEN = Path(__file__).parents[1] / "stories" / "golden"
CHANNELS = """
swarm:coordination swarm:status swarm:consensus tasks:queue tasks:status tasks:results agents:registry agents:status
agents:messages performance:metrics performance:alerts fleet:coordination fleet:status fleet:resources recovery:state
persistence:backup phase:{id}:coordination phase:{id}:status phase:{id}:docs memory:updates
"""
KEYS = """
swarm:{id}:state swarm:{id}:config swarm:{id}:agents swarm:{id}:tasks agent:{id}:state agent:{id}:config
agent:{id}:memory agent:{id}:tasks task:{id}:state task:{id}:config task:{id}:results task:{id}:history
performance:state performance:metrics:{timestamp} performance:alerts metrics:{type}:{timestamp} fleet:state
fleet:resources fleet:allocations alert-rules:{id} alerts:{id} encryption:{id}
"""


def test_of_every_event_something_is_told_or_it_says_why_not() -> None:
    events = set(get_args(ev.Event))
    assert {row.event for row in ROWS} | set(UNTOLD) == events
    assert not {row.event for row in ROWS} & set(UNTOLD)


def test_every_channel_and_every_key_is_there_or_said_to_be_missing() -> None:
    assert {row.channel for row in ROWS} | set(MISSING) == set(CHANNELS.split())
    assert {key.name for key in keys.KEYS} | set(keys.MISSING) == {*KEYS.split(), "swarm:{id}:published"}
    page = reference.page()
    assert all(f"`{name}`" in page for name in (CHANNELS + KEYS).split())


#: Fields with what people, agents and programs wrote.
TEXTS = {
    "run",
    "prompt",
    "objective",
    "detail",
    "feedback",
    "comment",
    "question",
    "why",
    "reason",
    "reasons",
    "arguments",
    "about",
}
TEXTS |= {"result", "text", "env", "payload", "args", "item", "conversation", "nonce", "verify", "setup"}
MARK = "written:"


@pytest.fixture(scope="module")
def log() -> list[ev.Event]:
    """A session in which everything happened that can happen."""
    blobs = msgspec.msgpack.decode((GOLDEN / f"log-{codec.FORMAT}.msgpack").read_bytes(), type=list[bytes])
    return [event for blob in blobs for event in codec.decode(blob)]


def marked(value: Any, inside: bool = False) -> Any:
    """A record in which everything that people, agents and programs wrote begins with a mark."""
    if isinstance(value, msgspec.Struct):
        fields = {
            name: marked(getattr(value, name), inside or (name in TEXTS and not isinstance(value, ev.BallotClosed)))
            for name in value.__struct_fields__
        }
        return type(value)(**fields)
    if isinstance(value, dict):
        return {key: marked(one, inside) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(marked(one, inside) for one in value)
    return MARK + value if inside and isinstance(value, str) and value else value


def test_what_is_told_is_the_same_every_time_and_fits_its_schema(log: list[ev.Event]) -> None:
    payloads = {row.kind: row.payload for row in ROWS}
    heard: set[tuple[str, str]] = set()
    for number, event in enumerate(log, 1):
        messages = told("s-1", number, event, {})
        assert told("s-1", number, event, {}) == messages
        for at, (channel, data) in enumerate(messages):
            notice = msgspec.json.decode(data, type=Notice, strict=True)
            assert (notice.id, notice.timestamp) == (f"s-1:{number}:{at}", event.at)
            msgspec.convert(notice.payload, payloads[notice.type], strict=True)
            heard.add((channel if not channel.startswith("phase:") else f"phase:{{id}}:{channel.split(':')[2]}", notice.type))
    assert heard == {(row.channel, row.kind) for row in ROWS}


def test_nothing_that_anybody_wrote_is_told_or_can_be_read(log: list[ev.Event]) -> None:
    shown = list[str]()
    state = State().rebuild()
    for number, event in enumerate(map(marked, log), 1):
        apply(state, event)
        about = {name: Known(entry.task, entry.agent, entry.attempts) for name, entry in state.entries.items()}
        shown += (data.decode() for _, data in told("s-1", number, event, about))
        commands = [command for name in keys.tasks_of(event) for command in keys.history("s-1", name, [(number, event)])]
        commands += keys.swarm(state, (), 1)
        for entry in state.entries.values():
            commands += keys.task("s-1", number, entry, 1, 0)
        for agent in state.agents.values():
            commands += keys.agent(state, agent, (), 1)
        shown += (part.decode() for command in commands for part in command if isinstance(part, bytes))
    assert str([marked(event) for event in log]).count(MARK) > 300
    assert not [text for text in shown if MARK in text]


def test_the_history_of_a_task_is_bounded_and_each_event_is_in_it_once() -> None:
    events = [(number, ev.TaskReady(number, "t")) for number in range(1, 3 * keys.HISTORY)]
    added, trimmed = keys.history("s", "t", events)  # type: ignore[arg-type]  # a list of one kind
    assert len(added) == 2 + 2 * keys.HISTORY
    assert added[-2] == events[-1][0]
    assert trimmed == ("ZREMRANGEBYRANK", "task:s/t:history", 0, -keys.HISTORY - 1)


def test_schemas_name_every_type_and_every_value() -> None:
    schemas = json.loads(reference.schemas())
    assert schemas["payloads"].keys() == {row.kind for row in ROWS}
    assert schemas["keys"].keys() == {key.name for key in keys.KEYS if key.record is not None}
    assert all(ref["$ref"].split("/")[-1] in schemas["$defs"] for part in ("payloads", "keys") for ref in schemas[part].values())


def test_names_in_keys_cannot_be_taken_for_other_keys() -> None:
    assert keys.of_task("a:b", "gate:one {x}", "state") == "task:a%3Ab/gate%3Aone%20%7Bx%7D:state"
