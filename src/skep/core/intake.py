"""What is said, as the log can keep it: taken in the way it would come back from there, or refused before anything happens."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from skep.core import inputs as inp
from skep.errors import Exhausted, Invalid

#: Bytes of one input, and of one report of an attempt.
MAX_INPUT = 64 * 1024 * 1024
MAX_REPORT = 4 * 1024 * 1024
#: Characters of a text that a person says; in a report the end of a longer one is kept.
MAX_TEXT = 32_000
#: Lists and mappings in one another. What is read back may be read from deep within calls, where less fits than here.
MAX_NESTING = 100
#: Inputs that bring definitions into the state. They pass through bytes, so that numbers and names are of the kind the model
#: says, and what is live equals what is replayed.
_DEFINING = (inp.OpenSession, inp.Submit, inp.DeclareAgents, inp.ChangePlan, inp.JoinNode, inp.GrantCredit)
_REPORTS = (inp.Spawned, inp.Worked, inp.Ended, inp.Gone, inp.MergeEnded)
_PLAIN = (str, int, float, bool, type(None))
_UNFIT = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[inp.Input] = msgspec.msgpack.Decoder(inp.Input)


def taken_in(given: inp.Input) -> inp.Input:
    """The input as it would be after it was written and read.

    A report is never refused: its attempt cannot say it again. Its text is made legible, and a result that the log cannot keep
    makes the attempt a failed one.

    Raises:
        Invalid: it holds a value that cannot be kept (an object of one's own, an integer over 64 bits, half a surrogate pair,
            more than MAX_NESTING lists in one another) or of another kind than the model says, or a text that is too long.
        Exhausted: it is too large.
    """
    if isinstance(given, _REPORTS):
        return _report(given)
    try:
        blob = _encoder.encode(given)
        if len(blob) > MAX_INPUT:
            raise Exhausted(f"it is {len(blob)} bytes large, more than {MAX_INPUT}", "Say it in parts, or by the names of files.")
        if isinstance(given, _DEFINING):
            return _decoder.decode(blob)
        _check_value(getattr(given, "payload", None))
    except _UNFIT as error:
        raise Invalid(
            f"it cannot be kept in the log: {error}",
            "Values are made of Unicode text, bytes, numbers up to 64 bits, lists and mappings, each where such a one belongs.",
        ) from None
    if len(blob) > MAX_TEXT:
        for name, text in _texts(given).items():
            if len(text) > MAX_TEXT:
                raise Invalid(f"{name} is {len(text)} characters long, more than {MAX_TEXT}", "Put it into a file and name that.")
    return given


def _report(given: inp.Input) -> inp.Input:
    try:
        return _kept(given)
    except _UNFIT as error:
        why = _legible(f"what it returned cannot be kept: {error}")
    given = replace(given, **{name: _legible(text) for name, text in _texts(given).items()})
    try:
        return _kept(given)
    except _UNFIT:
        assert isinstance(given, inp.Worked | inp.Ended)
        task, n, nonce = given.task, given.n, given.nonce
        return inp.Ended(at=given.at, task=task, n=n, nonce=nonce, outcome="failed", cause="error", detail=why, feedback=why)


def _kept(given: inp.Input) -> inp.Input:
    blob = _encoder.encode(given)
    if len(blob) > MAX_REPORT:
        raise ValueError(f"it is {len(blob)} bytes large, more than {MAX_REPORT}")
    plain = isinstance(getattr(given, "result", None), _PLAIN) and getattr(given, "proposal", None) is None
    if plain:
        return given
    _check_value(given)
    return _decoder.decode(blob)


def _check_value(value: Any) -> None:
    """Raises one of `_UNFIT` for what can be written and then not be shown, or not be read again everywhere."""
    if isinstance(value, _PLAIN):
        return
    layer = [msgspec.to_builtins(value, str_keys=True)]
    for _ in range(MAX_NESTING):
        layer = [part for each in layer for part in (each.values() if isinstance(each, dict) else each)]
        layer = [part for part in layer if isinstance(part, dict | list | tuple)]
        if not layer:
            return
    raise ValueError(f"more than {MAX_NESTING} lists and mappings in one another")


def _texts(given: inp.Input) -> dict[str, str]:
    """What is said in words; a result is not: it is kept as it is, or not at all."""
    words = (name for name in given.__struct_fields__ if name != "result")
    return {name: value for name in words if isinstance(value := getattr(given, name), str)}


def _legible(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()[-MAX_TEXT:]
