"""Messages between agents, and between a person and an agent: the envelope, and what a session keeps of them."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from skep.core.model import Priority

#: Version of the envelope.
VERSION = 1
#: Type of a message that wants an answer, and goes up if it gets none (`core.questions`).
QUESTION = "question"


class Metadata(Struct, frozen=True, omit_defaults=True, gc=False):
    """What a message carries about itself: `correlation` names what it answers, `retry` how often its sender sent it before.

    `ttl` is how long it is worth delivering, in milliseconds; 0 = for ever.
    """

    session: str
    version: int = VERSION
    correlation: str = ""
    retry: int = 0
    ttl: int = 0


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One message. `source` and `target` are agents (`coder-1`) or `you`, a person; `timestamp` is wall-clock ms."""

    id: str
    type: str
    source: str
    target: str
    payload: Any = None
    timestamp: int
    priority: Priority = "normal"
    metadata: Metadata

    @property
    def expires(self) -> int:
        """Wall-clock ms after which it is dropped, or 0."""
        return self.timestamp + self.metadata.ttl if self.metadata.ttl else 0


class Question(Struct, frozen=True, omit_defaults=True, gc=False):
    """A question that nobody answered yet: `source` asks `target`, by the message `id`, which may be delivered already.

    `level`: how often it went up; `until`: wall-clock ms at which it goes up again, 0 = never.
    """

    id: str
    source: str
    target: str
    payload: Any = None
    level: int = 0
    until: int = 0


class Mail(Struct, omit_defaults=True):
    """The messages of a session.

    Args:
        inboxes: target -> what waits for it, by id, in the order in which it was sent.
        known: ids that were sent, oldest first: the same id again is the same message.
        questions: those without an answer, by the id with which they were asked at first.
        sent, delivered, expired: how many there were.
    """

    inboxes: dict[str, dict[str, Message]] = {}
    known: dict[str, None] = {}
    questions: dict[str, Question] = {}
    waiting: int = 0
    sent: int = 0
    delivered: int = 0
    expired: int = 0


class MessageSent(Struct, frozen=True, array_like=True, gc=False, tag="message.sent"):
    """A message waits for its target."""

    at: int
    message: Message


class MessageDelivered(Struct, frozen=True, array_like=True, gc=False, tag="message.delivered"):
    """The target has got a message."""

    at: int
    id: str
    target: str


class MessageExpired(Struct, frozen=True, array_like=True, gc=False, tag="message.expired"):
    """A message was dropped undelivered: its time to live is over."""

    at: int
    id: str
    target: str
