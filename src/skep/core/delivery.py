"""What the events of messages do to a state: the part of `core.apply` that concerns them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skep.core import events as ev
from skep.core.envelope import QUESTION, Mail, Message, Question
from skep.core.state import State
from skep.core.topology import PERSON

#: Ids of messages that are remembered; the oldest is forgotten first.
KEEP_IDS = 20_000
#: Stands in the id of a question that went up, between the first id and how often.
UP = "^"


def answers(mail: Mail, message: Message) -> str:
    """The first id of the question that a message answers: the one who was asked last may, and a person always. Else empty."""
    root = message.metadata.correlation.partition(UP)[0]
    found = mail.questions.get(root)
    if found is None or found.source != message.target or message.type == QUESTION:
        return ""
    return root if message.source in (found.target, PERSON) else ""


def _sent(s: State, e: ev.MessageSent) -> None:
    mail, message = s.mail, e.message
    mail.inboxes.setdefault(message.target, {})[message.id] = message
    mail.known[message.id] = None
    mail.sent += 1
    mail.waiting += 1
    if len(mail.known) > KEEP_IDS:
        del mail.known[next(iter(mail.known))]
    if message.type == QUESTION:
        asked = Question(message.id, message.source, message.target, message.payload, message.metadata.retry, message.expires)
        mail.questions[message.id.partition(UP)[0]] = asked
    elif message.metadata.correlation:
        mail.questions.pop(answers(mail, message), None)
    if s.live:
        s.due.post(message)


def _delivered(s: State, e: ev.MessageDelivered) -> None:
    _take_out(s, e.target, e.id)
    s.mail.delivered += 1


def _expired(s: State, e: ev.MessageExpired) -> None:
    _take_out(s, e.target, e.id)
    s.mail.expired += 1


def _take_out(s: State, target: str, name: str) -> None:
    inbox = s.mail.inboxes[target]
    del inbox[name]
    s.mail.waiting -= 1
    if not inbox:
        del s.mail.inboxes[target]


APPLY: dict[type, Callable[[State, Any], None]] = {
    ev.MessageSent: _sent,
    ev.MessageDelivered: _delivered,
    ev.MessageExpired: _expired,
}
