"""Callables by name, and what of their results can be kept. A result holds JSON values: the same live and replayed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import msgspec

from skep.agents import Ending
from skep.agents.worker import UNKEPT, NotPlain, plain, said

#: Bytes of a result: it lies in the log and in memory. More belongs into a file under $SKEP_OUT.
MAX_RESULT = 1 << 20


def resolve(path: str) -> Callable[..., Any]:
    """The callable that `module:function` names. Raises what importing the module raises, AttributeError or ValueError."""
    module, sign, name = path.partition(":")
    if not (module and sign and name):
        raise ValueError(f"'{path}' is not module:function")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"'{path}' is not callable")
    function: Callable[..., Any] = found
    return function


def failure(error: BaseException) -> Ending:
    """What a callable raised, as the end of an attempt."""
    return Ending(ok=False, cause="error", detail=said(error))


def kept(value: Any) -> Ending:
    """A success with this result, or why it cannot be kept."""
    kind = value.__class__
    if value is None or kind is bool or (kind is int and -(2**63) <= value < 2**63):
        return Ending(ok=True, result=value)
    if kind is str and len(value) <= MAX_RESULT // 4 and value.isascii():
        return Ending(ok=True, result=value)
    try:
        value = plain(value, "result")
        size = len(msgspec.json.encode(value))
    except (NotPlain, RecursionError) as error:
        return _unkept(str(error))
    if size > MAX_RESULT:
        return _unkept(f"{size} bytes, more than {MAX_RESULT}: leave it as a file in $SKEP_OUT and name it in `outputs`")
    return Ending(ok=True, result=value)


def _unkept(why: str) -> Ending:
    return Ending(ok=False, cause="error", detail=f"{UNKEPT}{why}")
