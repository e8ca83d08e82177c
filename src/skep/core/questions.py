"""What an agent cannot decide: asked of whoever is above it and, where nobody answers in time, of the next, up to a person.

A question is a message of the type `question` that the session keeps until somebody answers it. Where the topology's escalation
is manual, or nobody is above, a person is asked at once. A person has no limit of time.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.approvals import ANSWER_WITHIN
from skep.core.delivery import UP
from skep.core.envelope import QUESTION, Message, Metadata
from skep.core.topology import PERSON, Topology, asks
from skep.core.turn import Turn
from skep.errors import Exhausted, Invalid

#: Questions of a session without an answer, bytes of one, and characters of its id.
MAX_QUESTIONS = 200
MAX_SIZE = 16 * 1024
MAX_NAME = 100


class Escalated(Struct, frozen=True, gc=False):
    """What became of a question: its id, and who is asked."""

    id: str
    target: str


def ask(turn: Turn, topology: Topology, source: str, given: inp.Escalate) -> Escalated:
    """Asks; see `messages.escalate`."""
    mail = turn.state.mail
    name = given.id or f"q{mail.sent + 1}"
    target = asks(topology, source)
    if name in mail.known:
        found = mail.questions.get(name)
        return Escalated(name, target if found is None else found.target)
    if len(name) > MAX_NAME or UP in name:
        raise Invalid(f"a question cannot be called {name[:MAX_NAME]!r}", f"Use at most {MAX_NAME} characters, without {UP}.")
    size = len(msgspec.msgpack.encode(given.payload))
    if size > MAX_SIZE:
        raise Exhausted(f"the question is {size} bytes large, more than {MAX_SIZE}", "Ask it shorter; name files.")
    if len(mail.questions) >= MAX_QUESTIONS:
        raise Exhausted(f"{MAX_QUESTIONS} questions of this session have no answer yet", "Go on as well as you can.")
    _put(turn, name, name, source, target, given.payload, 0)
    return Escalated(name, target)


def pass_up(turn: Turn, topology: Topology, name: str) -> None:
    """The time of a message is over: if it is a question without an answer, the next above is asked."""
    root = name.partition(UP)[0]
    found = turn.state.mail.questions.get(root)
    if found is None or found.id != name:
        return
    level = found.level + 1
    _put(turn, f"{root}{UP}{level}", root, found.source, topology.above.get(found.target, PERSON), found.payload, level)


def _put(turn: Turn, name: str, root: str, source: str, target: str, payload: object, level: int) -> None:
    within = 0 if target == PERSON else int((turn.state.plan.limits.answer_within or ANSWER_WITHIN) * 1000)
    message = Message(
        id=name,
        type=QUESTION,
        source=source,
        target=target,
        payload=payload,
        timestamp=turn.at,
        priority="high",
        metadata=Metadata(session=turn.state.session, correlation=root if level else "", retry=level, ttl=within),
    )
    turn.emit(ev.MessageSent(turn.at, message))
