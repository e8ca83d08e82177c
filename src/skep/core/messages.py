"""Sending, delivering and dropping messages: durable, in order for each pair, at least once, and counted once.

A message waits in its target's inbox until somebody who gave it to the target says so; whoever crashes in between finds it there
again. The topology says who may write to whom; a person may write to everybody, and everybody to a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core import questions, topology
from skep.core.delivery import answers
from skep.core.envelope import QUESTION, Message, Metadata
from skep.core.model import AgentSpec, Plan
from skep.core.placement import BUILT_IN, INPROCESS
from skep.core.state import State
from skep.core.turn import Turn
from skep.errors import Conflict, Exhausted, Invalid, NotFound

#: Messages that wait for one agent, and in one session; bytes of a payload; characters of an id, a type, a correlation.
MAX_INBOX = 1_000
MAX_WAITING = 10_000
MAX_PAYLOAD = 64 * 1024
MAX_NAME = 200
#: Longest life of a message, milliseconds: a year.
MAX_TTL = 366 * 86_400_000


def members(specs: Mapping[str, AgentSpec], limit: int) -> dict[str, AgentSpec]:
    """The agents that stand in the topology, in order: all that are declared, without the built-in shell and python."""
    built_in = (*BUILT_IN.values(), INPROCESS)
    kinds = [spec for spec in specs.values() if spec.name not in built_in]
    return {f"{spec.name}-{n}": spec for spec in kinds for n in range(1, (spec.count or limit) + 1)}


def talks(plan: Plan, specs: Iterable[AgentSpec]) -> bool:
    """Whether a session is made for talk: it declares agents of several kinds, or a number of one, or how they stand.

    A single kind that works as often as there is work is one agent to whoever wrote the plan.
    """
    kinds = members({spec.name: replace(spec, count=spec.count or 1) for spec in specs}, 1)
    return len(kinds) > 1 or plan.topology != topology.Shape()


def topology_of(state: State, specs: Mapping[str, AgentSpec] | None = None) -> topology.Topology:
    """The session's topology. Agents whose type is coordinator coordinate.

    Args:
        specs: the kinds of agents there will be; None for those there are.
    """
    found = members(state.specs if specs is None else specs, state.limit)
    leading = [agent for agent, spec in found.items() if spec.type == "coordinator"]
    return topology.draw(state.plan.topology, tuple(found), leading)


def send(turn: Turn, given: inp.Send) -> str:
    """Puts a message into its target's inbox and returns its id; the same id again is the same message and changes nothing.

    Raises:
        Denied: the topology has no edge for it.
        NotFound: no such agent.
        Invalid, Exhausted: what is too long or too large, or an inbox that is full.
        Conflict: the session is closed, or the attempt that sends it is over.
    """
    state, mail = turn.state, turn.state.mail
    if given.task:
        turn.at_work(given.task, given.n, given.nonce)
    name = given.id or f"m{mail.sent + 1}"
    if name in mail.known:
        return name
    if state.closed:
        raise Conflict(f"session {state.session} is closed", "Fork it to go on from where it ended.")
    for what, text in (("id", name), ("type", given.kind), ("correlation", given.correlation)):
        if len(text) > MAX_NAME or (not text and what == "type"):
            raise Invalid(f"the {what} of a message is {len(text)} characters long", f"Use 1 to {MAX_NAME}.")
    if given.kind == QUESTION:
        raise Invalid("a question is not sent: it goes to whoever is above", "Escalate it.")
    if not 0 <= given.ttl <= MAX_TTL:
        raise Invalid(f"a message cannot live {given.ttl} ms", f"Use 0 (for ever) to {MAX_TTL}.")
    size = len(msgspec.msgpack.encode(given.payload))
    if size > MAX_PAYLOAD:
        raise Exhausted(f"the message is {size} bytes large, more than {MAX_PAYLOAD}", "Put it into a file and send its name.")
    metadata = Metadata(session=state.session, correlation=given.correlation, retry=given.retry, ttl=given.ttl)
    message = Message(
        id=name,
        type=given.kind,
        source=given.source,
        target=given.target,
        payload=given.payload,
        timestamp=turn.at,
        priority=given.priority,
        metadata=metadata,
    )
    asked = answers(mail, message)
    _check_ends(state, given, bool(asked))
    if len(mail.inboxes.get(given.target, ())) >= MAX_INBOX or mail.waiting >= MAX_WAITING:
        raise Exhausted(
            f"{len(mail.inboxes.get(given.target, ()))} messages wait for '{given.target}', {mail.waiting} in all",
            "Send it again when some are delivered.",
        )
    question = mail.questions.get(asked)
    turn.emit(ev.MessageSent(turn.at, message))
    if question is not None and question.id in mail.inboxes.get(question.target, {}):
        turn.emit(ev.MessageDelivered(turn.at, question.id, question.target))
    return name


def escalate(turn: Turn, given: inp.Escalate) -> questions.Escalated:
    """Asks whoever is above the attempt's agent, or a person. The same id again is the same question.

    Raises:
        Conflict: the attempt is over.
        NotFound: its agent stands in no topology.
        Invalid, Exhausted: an id or a text that is too long, or too many questions without an answer.
    """
    _, attempt = turn.at_work(given.task, given.n, given.nonce)
    if attempt.agent not in members(turn.state.specs, turn.state.limit):
        raise NotFound(f"'{attempt.agent}' is none of the declared agents", "Give the task an agent of its own to have it ask.")
    return questions.ask(turn, topology_of(turn.state), attempt.agent, given)


def _check_ends(state: State, given: inp.Send, answer: bool) -> None:
    """Whoever was asked may answer, also where there is no edge: the question may have gone up more than one level. So may
    they when whoever asked is no more, since the plan was changed: otherwise the question would wait for ever.
    """
    known = members(state.specs, state.limit)
    for agent in (given.source, given.target):
        if agent != topology.PERSON and agent not in known and not answer:
            shown = ", ".join(list(known)[:20]) or "none"
            raise NotFound(f"no agent is called '{agent}' in session {state.session}", f"Agents that hear messages: {shown}.")
    if not answer:
        topology.send(topology_of(state), given.source, given.target)


def delivered(turn: Turn, report: inp.Delivered) -> None:
    """The target has them. Told twice they count once.

    Raises, and then none of them counts:
        NotFound: there was no such message for it.
        Conflict: an earlier one of the same sender still waits: each pair's messages are delivered in order.
    """
    mail, told = turn.state.mail, frozenset(report.ids)
    inbox = mail.inboxes.get(report.target, {})
    for name in report.ids:
        if name not in inbox and name not in mail.known:
            raise NotFound(f"no message '{name}' waits for '{report.target}'", "`skep messages` shows those that wait.")
    found, passed, left = list[str](), dict[str, str](), sum(name in inbox for name in told)
    for message in inbox.values():
        if len(found) == left:
            break
        if message.id not in told:
            passed.setdefault(message.source, message.id)
        elif message.source in passed:
            raise Conflict(
                f"message '{passed[message.source]}' of '{message.source}' comes before '{message.id}' and was not delivered",
                "Deliver them in order.",
            )
        else:
            found.append(message.id)
    for name in found:
        turn.emit(ev.MessageDelivered(turn.at, name, report.target))


def expire(turn: Turn) -> None:
    """Drops what is not worth delivering any more; a question that nobody answered in time goes up."""
    for target, name in turn.state.due.stale(turn.at):
        if name in turn.state.mail.inboxes.get(target, {}):
            turn.emit(ev.MessageExpired(turn.at, name, target))
        questions.pass_up(turn, topology_of(turn.state), name)


def inbox(state: State, agent: str) -> tuple[Message, ...]:
    """What waits for an agent, in the order in which it was sent."""
    return tuple(state.mail.inboxes.get(agent, {}).values())
