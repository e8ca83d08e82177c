"""What the events of messages do to a state: the part of `core.apply` that concerns them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skep.core import events as ev
from skep.core.state import State

#: Ids of messages that are remembered; the oldest is forgotten first.
KEEP_IDS = 20_000


def _sent(s: State, e: ev.MessageSent) -> None:
    mail, message = s.mail, e.message
    mail.inboxes.setdefault(message.target, {})[message.id] = message
    mail.known[message.id] = None
    mail.sent += 1
    mail.waiting += 1
    if len(mail.known) > KEEP_IDS:
        del mail.known[next(iter(mail.known))]
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
