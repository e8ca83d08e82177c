"""What is told of events on public channels, each message in its envelope. The same event makes the same ids every time."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
from msgspec import Struct

from skep.core import events as ev
from skep.core.model import Priority
from skep.observe.catalogue import ROWS, About, Row
from skep.observe.naming import escaped

#: Version of the envelope.
VERSION = 1
#: How long a message is worth telling after its event, ms: what is told later (the Redis was away) is dropped and counted.
TTL = 300_000


class Metadata(Struct, frozen=True, kw_only=True):
    """Of a message: `session` that it is about, `correlation` = the id of a message between agents that it answers.

    `retry`: always 0: what is told again after a crash has the same `id`. `ttl`: ms after `timestamp` when it is worth nothing.
    """

    version: int = VERSION
    session: str
    correlation: str | None = None
    retry: int = 0
    ttl: int = TTL


class Notice(Struct, frozen=True, kw_only=True):
    """A message on a public channel.

    `id`: session, number of the event, number within it, with colons between; told twice, it is the same. `source`: an agent, a
    node, or the session. `timestamp`: when it happened, wall-clock ms.
    """

    id: str
    type: str
    source: str
    target: str | None = None
    payload: Any
    timestamp: int
    priority: Priority = "normal"
    metadata: Metadata


_by_event: dict[type[Any], list[Row]] = defaultdict(list)
for _row in ROWS:
    _by_event[_row.event].append(_row)
_encode = msgspec.json.Encoder().encode


def told(session: str, number: int, event: ev.Event, about: About) -> list[tuple[str, bytes]]:
    """What is told of an event: channel and message, in order.

    Args:
        session: whose event it is.
        number: of the event in its log.
        about: the tasks that it names.
    """
    messages: list[tuple[str, bytes]] = []
    for row in _by_event.get(event.__class__, ()):
        for said in row.tell(event, about):
            notice = Notice(
                id=f"{session}:{number}:{len(messages)}",
                type=row.kind,
                source=said.source or session,
                target=said.target,
                payload=said.payload,
                timestamp=event.at,
                priority=said.priority,
                metadata=Metadata(session=session, correlation=said.correlation),
            )
            messages.append((row.channel.replace("{id}", escaped(said.id)), _encode(notice)))
    return messages
