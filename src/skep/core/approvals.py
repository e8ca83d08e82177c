"""What attempts ask leave for: judged by the rules, answered by a person once, used once, void with the attempt.

An answer belongs to one question of one attempt, and so to its nonce and to the digest of the whole arguments. Whoever carries
the attempt out lets the action go only after `use` was accepted, which the log then holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.model import Entry
from skep.core.rules import Asking, judge, waiting
from skep.core.turn import Turn
from skep.errors import Conflict, Exhausted, Invalid, NotFound

#: Seconds after which nobody's answer is a no, where the session does not say.
ANSWER_WITHIN = 600.0
#: Questions of one attempt that wait at once, and in all; what comes on top is refused.
MAX_OPEN, MAX_ASKS = 32, 1_000
#: Characters of the line about an action, of its arguments in the log, and of a comment.
MAX_ABOUT, MAX_ARGUMENTS, MAX_COMMENT = 2_000, 16_000, 2_000
#: The tool of what is a question and no action: its yes is the answer, in words.
QUESTION = "question"
#: Things allowed for the rest of a session.
MAX_STANDING = 1_000


class Answered(Struct, frozen=True, gc=False):
    """What comes of a question: the answer if a rule gives one, otherwise the number by which a person's is to be waited for."""

    number: int
    said: Literal["", "yes", "no"]
    why: str = ""


def ask(turn: Turn, given: inp.Ask) -> Answered:
    """An attempt asks leave. Judged by the rules of its agent, then of the session; a standing yes answers what they ask.

    Raises:
        Conflict: the attempt is over, or asks something else under the same key.
        Exhausted: it asks too much.
    """
    state = turn.state
    entry, attempt = turn.at_work(given.task, given.n, given.nonce)
    for known in (attempt.asks or {}).values():
        if known.key == given.key:
            if known.digest != given.digest:
                raise Conflict(f"task '{given.task}' asks for something else under the same name")
            return Answered(known.number, "")
    spec = state.specs.get(state.agents[attempt.agent].spec)
    rules = (*(spec.rules if spec is not None else ()), *state.plan.rules)
    do, rule = judge(rules, given.action, given.otherwise)
    why = f"the rule `{rule.words()}`" if rule is not None else "no rule"
    if do == "ask" and given.shape in state.standing:
        do, why = "always", f"a person allowed {state.standing[given.shape]} for this session"
    if do == "always" and given.action.tool == QUESTION:
        do, why = "ask", "a question, which no rule can answer"
    if do == "ask" and not given.can_ask:
        do, why = "never", f"{why}: its runtime cannot wait for an answer, so what asks is refused"
    verdict: Literal["", "yes", "no"] = "yes" if do == "always" else "no" if do == "never" else ""
    if not verdict:
        if len(waiting(attempt.asks)) >= MAX_OPEN:
            raise Exhausted(f"task '{given.task}' has {MAX_OPEN} questions that nobody answered yet")
        if len(attempt.asks or {}) >= MAX_ASKS:
            raise Exhausted(f"attempt {given.n} of task '{given.task}' asked {MAX_ASKS} times; no more is asked")
    number = entry.asked + 1
    turn.emit(
        ev.ApprovalAsked(
            turn.at,
            given.task,
            given.n,
            number,
            given.action.tool,
            given.about[:MAX_ABOUT],
            given.digest,
            0 if verdict else turn.at + int((state.plan.limits.answer_within or ANSWER_WITHIN) * 1000),
            given.arguments[:MAX_ARGUMENTS],
            verdict,
            why,
            given.key,
            given.shape,
        )
    )
    return Answered(number, verdict, why)


def permit(turn: Turn, given: inp.Permit) -> None:
    """A person's answer. The first one counts.

    Raises:
        NotFound: no such question, or its attempt is over.
        Conflict: it was answered, or nobody answered in time.
        Invalid: a comment that is too long, or none where it is the answer to a question.
        Exhausted: too much is allowed for the session already.
    """
    task, _, number = given.ask.rpartition("/")
    entry = turn.state.entries.get(task)
    attempt = entry.attempt if entry is not None else None
    asks = attempt.asks if attempt is not None else None
    asking = (asks or {}).get(int(number)) if number.isascii() and number.isdecimal() and len(number) < 10 else None
    if attempt is None or asking is None:
        raise NotFound(
            f"nobody asks '{given.ask}' (any more)", "`skep inbox` lists what is asked; an answer is void with its attempt."
        )
    if asking.said:
        raise Conflict(f"'{given.ask}' was answered already: {_why(asking) or asking.said}", "The first answer counts.")
    if asking.until <= turn.at:
        raise Conflict(
            f"nobody answered '{given.ask}' in time", "The answer is no. Raise limits.answer_within for the next time."
        )
    if len(given.comment) > MAX_COMMENT:
        raise Invalid(f"a comment of {len(given.comment)} characters, more than {MAX_COMMENT}", "Say it shorter.")
    if asking.tool == QUESTION and given.allowed and (given.always or not given.comment.strip()):
        raise Invalid(f"'{given.ask}' asks for words, each time", f'Answer it with `skep approve {given.ask} -m "..."`.')
    told = [(task, attempt.n, asking)]
    if given.allowed and given.always:
        if len(turn.state.standing) >= MAX_STANDING:
            raise Exhausted(f"{MAX_STANDING} things are allowed in this session already", "Write a rule into the workflow file.")
        told += [one for one in _open(turn) if one[2].shape == asking.shape and one[2] is not asking]
    for name, n, one in told:
        turn.emit(
            ev.ApprovalAnswered(
                turn.at, name, n, one.number, given.allowed, given.comment, given.by or "a person", given.allowed and given.always
            )
        )


def use(turn: Turn, given: inp.Use) -> None:
    """The attempt is about to do it. Raises Conflict unless this very action was allowed, and not used yet."""
    _, attempt = turn.at_work(given.task, given.n, given.nonce)
    asking = (attempt.asks or {}).get(given.number)
    if asking is None or asking.said != "yes" or asking.digest != given.digest:
        raise Conflict(f"'{given.task}/{given.number}' was not allowed, or is used up")
    turn.emit(ev.ApprovalUsed(turn.at, given.task, given.n, given.number, given.digest))


def expire(turn: Turn, entry: Entry) -> None:
    """What nobody answered in time is answered with no."""
    attempt = entry.attempt
    for asking in waiting(attempt.asks) if attempt is not None else ():
        if attempt is not None and asking.until <= turn.at:
            turn.emit(ev.ApprovalAnswered(turn.at, entry.task.id, attempt.n, asking.number, False, "nobody answered in time"))


def _open(turn: Turn) -> Iterator[tuple[str, int, Asking]]:
    for name, entry in turn.state.entries.items():
        if entry.attempt is not None and entry.attempt.asks:
            for asking in waiting(entry.attempt.asks):
                yield name, entry.attempt.n, asking


def _why(asking: Asking) -> str:
    if not asking.said:
        return ""
    return (
        (f"{asking.by} said " if asking.by else "")
        + ("no" if asking.said == "no" else "yes")
        + (f": {asking.comment}" if asking.comment else "")
    )
