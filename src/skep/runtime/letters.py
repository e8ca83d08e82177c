"""What travels between a session's writer and everybody else over the store: inputs in letters, and what they were answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from skep.core import inputs as inp
from skep.core.approvals import Answered
from skep.core.questions import Escalated
from skep.core.senders import Since
from skep.errors import FAMILY, Invalid, SkepError, kind_of
from skep.store import Letter
from skep.store.letters import LARGEST_LETTER

#: Inputs in one letter, and bytes of several: what is larger goes alone. What came together is decided in one turn, so there are
#: few enough that some are decided while others are on their way.
MAX_INPUTS, FULL = 64, 256 * 1024
#: Bytes of an input: a letter has a little more.
LARGEST = LARGEST_LETTER - 1024
#: The index of an answer to a letter as a whole: nothing in it was decided.
WHOLE = -1
#: What an input is answered with, where that is more than plain values.
ANSWERS: dict[type, Any] = {
    inp.Submit: tuple[str, ...],
    inp.Cancel: tuple[str, ...],
    inp.Ask: Answered,
    inp.Escalate: Escalated,
}


class Enclosed(Struct, gc=False):
    """Where an input came from that came in a letter: its place there, whether its answer is waited for, whether it is the last.

    It stands in the place of whoever waits here. Nobody does: the answer goes into the store together with the decision.
    """

    letter: Letter
    index: int
    wanted: bool
    last: bool

    def done(self) -> bool:
        """Nobody here is to be told."""
        return True

    def set_result(self, _: object) -> None:
        """Nobody here is told."""

    def set_exception(self, _: object) -> None:
        """Nobody here is told."""


class _Said(Struct, array_like=True):
    wanted: bool
    given: inp.Input


class _Body(Struct, array_like=True):
    since: Since
    said: list[_Said]


class _Heard(Struct, array_like=True):
    index: int
    kind: str
    value: msgspec.Raw


class _Heards(Struct, array_like=True):
    seq: int
    heard: list[_Heard]


_encode = msgspec.msgpack.Encoder().encode
_body = msgspec.msgpack.Decoder(_Body)
_heards = msgspec.msgpack.Decoder(_Heards)
_fault = msgspec.msgpack.Decoder(tuple[str, str])


def enclose(given: inp.Input, wanted: bool) -> bytes:
    """An input as it goes into a letter.

    Raises:
        Invalid: it has values that cannot be written.
    """
    try:
        return _encode(_Said(wanted, given))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Invalid(f"it cannot be sent: {error}", "Values are made of what JSON knows, numbers have up to 64 bits.") from None


def instead(given: inp.Input, wanted: bool, why: SkepError) -> inp.Input | None:
    """What is told in place of what the log cannot hold. An attempt that reports too much has failed, and hears why.

    Args:
        wanted: whether somebody waits for the answer.
        why: the log cannot hold it.

    Returns:
        None if somebody is to hear why instead.
    """
    if isinstance(given, inp.Worked) or (isinstance(given, inp.Ended) and given.outcome == "ok"):
        detail = f"what it reports is too large: {why.message}"
        return inp.Ended(
            at=given.at,
            task=given.task,
            n=given.n,
            nonce=given.nonce,
            outcome="failed",
            cause="error",
            detail=detail,
            feedback=detail,
            commit=given.commit,
        )
    return None if wanted else given


def has_room(count: int, size: int, more: int) -> bool:
    """Whether one more input goes into a letter. What is as large as can be has one of its own: with others it never fitted.

    Args:
        count: inputs that it has.
        size: their bytes.
        more: those of one more.
    """
    return not count or (count < MAX_INPUTS and size + more <= FULL)


def write(enclosed: Sequence[bytes], since: Since) -> bytes:
    """The body of a letter of what `enclose` gave, and of what its sender knows of the session."""
    return _encode((since, [msgspec.Raw(one) for one in enclosed]))


def read(letter: Letter) -> tuple[Since, list[tuple[inp.Input, Enclosed]]]:
    """What the sender of a letter knew of the session, and its inputs. Raises Invalid for what is none."""
    try:
        body = _body.decode(letter.body)
        said = body.said
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, TypeError) as error:  # who was invited may write anything
        raise Invalid(
            f"a letter of {letter.sender} cannot be read: {error}", "Use the same version of Skep everywhere."
        ) from None
    if not said:
        raise Invalid(f"a letter of {letter.sender} is empty")
    return body.since, [(one.given, Enclosed(letter, n, one.wanted, n == len(said) - 1)) for n, one in enumerate(said)]


def answer(seq: int, answers: Sequence[tuple[int, Any]]) -> bytes:
    """What a letter is answered: the values or errors of its inputs by their index (`WHOLE`: of all), as of event `seq`."""
    heard = []
    for index, value in answers:
        if isinstance(value, SkepError):
            heard.append(_Heard(index, kind_of(value), msgspec.Raw(_encode((value.message, value.fix)))))
        else:
            heard.append(_Heard(index, "", msgspec.Raw(_encode(value))))
    return _encode(_Heards(seq, heard))


def heard(body: bytes, asked: Mapping[int, type]) -> tuple[int, dict[int, Any]]:
    """The event up to which the log must be known, and the answers by index. Raises Invalid for what is none.

    Args:
        asked: the inputs by index.
    """
    try:
        found = _heards.decode(body)
        answers: dict[int, Any] = {}
        for one in found.heard:
            if one.kind:
                message, fix = _fault.decode(one.value)
                answers[one.index] = FAMILY.get(one.kind, SkepError)(message, fix)
            else:
                answers[one.index] = msgspec.msgpack.decode(one.value, type=ANSWERS.get(asked.get(one.index, object), Any))
    except msgspec.MsgspecError as error:
        raise Invalid(f"an answer cannot be read: {error}", "Use the same version of Skep everywhere.") from None
    return found.seq, dict.fromkeys(asked, answers[WHOLE]) if WHOLE in answers else answers
