"""Messages as agents and people know them: who sent what to whom, who has read it, and which ways there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.envelope import Message
from skep.core.state import State
from tests.simulation.witness import Witness

if TYPE_CHECKING:
    from tests.simulation.world import World

PERSON = "you"


class Mail(Witness):
    """Every message that was accepted is in the log once, goes along an edge, and is read in the order of its pair."""

    def __init__(self, world: World, former: Mail | None = None) -> None:
        super().__init__(world)
        #: Id -> what was sent by somebody; and what each agent has read.
        self.sent: dict[str, inp.Send] = former.sent if former is not None else {}
        self.read: dict[str, set[str]] = {name: set(ids) for name, ids in former.read.items()} if former is not None else {}
        self._lies: dict[str, Message] = {}
        self._pairs: dict[tuple[str, str], list[str]] = {}
        self._over: set[str] = set()

    def write(self, given: inp.Send) -> inp.Send:
        """Somebody is about to send it; the same id again is the same message."""
        return self.sent.setdefault(given.id, given)

    def accepted(self, given: inp.Send, answer: object) -> None:
        """The sender was told that it is taken."""
        self.check(answer == given.id and given.id in self._lies, f"message {given.id} was taken as {answer}; the log lacks it")

    def refused(self, given: inp.Send) -> None:
        """The sender was told that there is no way."""
        self.note("message over a missing edge")
        way = self.edge(given.source, given.target)
        self.check(way is not True, f"{given.source} may write to {given.target}, and was refused")

    def reads(self, agent: str, message: Message) -> None:
        """An agent has got to see a message. It knows by the id which it has seen already."""
        self.check(agent == message.target, f"{agent} was given message {message.id}, which is for {message.target}")
        seen = self.read.setdefault(agent, set())
        if message.id in seen:
            self.note("message read again")
            return
        self.check(self._lies.get(message.id) == message, f"{agent} reads message {message.id}, and the log has another one")
        for earlier in self._before(message):
            self.check(
                earlier in seen or earlier in self._over, f"{agent} reads {message.id} before {earlier} of the same sender"
            )
        seen.add(message.id)

    def _before(self, message: Message) -> list[str]:
        pair = self._pairs.get((message.source, message.target), [])
        return pair[: pair.index(message.id)] if message.id in pair else pair

    def members(self) -> list[str]:
        """Who stands in the topology, in order."""
        kinds = [spec for spec in self.chronicle.specs.values() if spec.name not in ("shell", "python", "inprocess")]
        limit = self.chronicle.plan.limits.agents
        return [f"{spec.name}-{n}" for spec in kinds for n in range(1, (spec.count or limit) + 1)]

    def edge(self, source: str, target: str) -> bool | None:
        """Whether there is a way, by the plainest reading of the topology; None of shapes that are not drawn again here."""
        if PERSON in (source, target):
            return True
        names, kind = self.members(), self.chronicle.plan.topology.kind
        if source == target or source not in names or target not in names:
            return False
        if kind == "mesh" or (not kind and len(names) <= 7):
            return True
        if kind == "ring":
            place = names.index(source)
            return target in (names[place - 1], names[(place + 1) % len(names)])
        return names[0] in (source, target) if kind == "star" else None

    def _on_MessageSent(self, event: ev.MessageSent) -> None:
        message = event.message
        given = self.sent.get(message.id)
        self.check(message.id not in self._lies, f"message {message.id} lies in the log twice")
        self.check(given is not None and _same(given, message), f"message {message.id} is in the log, and nobody sent it so")
        way = self.edge(message.source, message.target)
        self.check(way is not False, f"message {message.id} goes from {message.source} to {message.target}: there is no such way")
        self._lies[message.id] = message
        self._pairs.setdefault((message.source, message.target), []).append(message.id)

    def _on_MessageDelivered(self, event: ev.MessageDelivered) -> None:
        message = self._lies[event.id]
        self.check(event.id not in self._over, f"message {event.id} is delivered again, or after its end")
        self.check(
            event.id in self.read.get(event.target, ()), f"message {event.id} is delivered, and {event.target} knows of none"
        )
        left = [name for name in self._before(message) if name not in self._over]
        self.check(not left, f"message {event.id} is delivered before {left} of the same sender")
        self._over.add(event.id)

    def _on_MessageExpired(self, event: ev.MessageExpired) -> None:
        message = self._lies[event.id]
        self.check(0 < message.expires <= event.at, f"message {event.id} expires at {event.at}, its time is {message.expires}")
        self.check(event.id not in self._over, f"message {event.id} expires after its end")
        self._over.add(event.id)

    def _waiting(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, message in self._lies.items():
            if name not in self._over:
                found.setdefault(message.target, []).append(name)
        return found

    def waiting(self) -> list[str]:
        """Agents for whom something waits."""
        return [agent for agent in self._waiting() if agent in self.members()]

    def appended(self) -> None:
        """Nothing waits whose time is over."""
        if self.chronicle.copied:
            return
        for name, message in self._lies.items():
            late = 0 < message.expires <= self.chronicle.last_at and name not in self._over
            self.check(not late, f"message {name} waits after its time, {message.expires}")

    def rest(self, state: State) -> None:
        """What was sent was delivered, has expired, or waits."""
        there = {agent: list(inbox) for agent, inbox in state.mail.inboxes.items()}
        self.check(there == self._waiting(), f"{there} wait in the state, {self._waiting()} by the log")


def _same(given: inp.Send, message: Message) -> bool:
    mine: tuple[Any, ...] = (given.source, given.target, given.payload, given.kind, given.ttl)
    return mine == (message.source, message.target, message.payload, message.type, message.metadata.ttl)
