"""Runs one Python callable in a process of its own: `python -P worker.py`, the call as JSON on standard input.

The result goes to the file named by $SKEP_RESULT, as {"ok": true, "result": ...} or {"ok": false, "error": "Type: message"}; what
the callable prints, and a traceback, go to the terminal. It imports nothing of Skep, so that it starts quickly. Modules are found
in the folder it works in, in the workspace, and where Python finds them otherwise.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import math
import os
import sys
import traceback
from typing import Any

#: What the end of an attempt says of a result that breaks the rule of `plain`.
UNKEPT = "it returned what cannot be kept: "


def call(path: str, args: dict[str, Any]) -> Any:
    """Imports `module:function` and calls it; what can be awaited is."""
    module, sign, name = path.partition(":")
    if not (module and sign and name):
        raise ValueError(f"'{path}' is not module:function")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    result = found(**args)
    if inspect.isawaitable(result):

        async def wait() -> Any:
            return await result

        result = asyncio.run(wait())
    return result


class NotPlain(ValueError):
    """A value that is not made of what JSON knows. Its text says where it lies and what it is."""


def plain(value: Any, place: str) -> Any:
    """The value as JSON has it, copied: text, numbers of up to 64 bits, true, false, nothing, lists of these, and by text.

    The one rule for what goes into a callable and for what comes out, in whatever process it runs.

    Args:
        place: what the value is called in messages.

    Raises:
        NotPlain: names the first place that holds anything else, such as NaN, bytes or a key that is not text.
    """
    try:
        return _copied(value)
    except (_Odd, RecursionError):
        return _looked_through(value, place)


class _Odd(Exception):
    """Not of the everyday kinds: to be looked through."""


def _copied(value: Any) -> Any:
    """What nearly every value is, without keeping track of places: ten thousand calls have ten thousand results."""
    kind = type(value)
    if value is None or kind is bool or (kind is int and -(2**63) <= value < 2**63) or (kind is str and value.isascii()):
        return value
    if kind is list:
        return [_copied(item) for item in value]
    if kind is dict and all(type(key) is str and key.isascii() for key in value):
        return {key: _copied(item) for key, item in value.items()}
    raise _Odd


def _looked_through(value: Any, place: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, place)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise NotPlain(f"{place} is a number of more than 64 bits")
        return int.__int__(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotPlain(f"{place} is {float.__repr__(value)}, which JSON does not have")
        return float.__float__(value)
    try:
        if isinstance(value, list | tuple):
            return [_looked_through(item, f"{place}[{number}]") for number, item in enumerate(value)]
        if isinstance(value, dict):
            return {_key(key, place): _looked_through(item, f"{place}[{key!r:.40}]") for key, item in value.items()}
    except RecursionError:
        raise NotPlain(f"{place:.60}... is nested too deeply, or contains itself") from None
    raise NotPlain(f"{place} is of type {type(value).__name__}, which JSON does not have")


def _key(key: Any, place: str) -> str:
    if not isinstance(key, str):
        raise NotPlain(f"{place} has the key {key!r:.40} of type {type(key).__name__}, and JSON's keys are text")
    return _text(key, f"a key of {place}")


def _text(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotPlain(f"{place} is no valid Unicode text") from None
    return str.__str__(text)


def said(error: BaseException) -> str:
    """What a callable raised, in a line."""
    if isinstance(error, asyncio.CancelledError):
        return "it was cancelled, not by Skep"
    try:
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:  # an error of somebody's whose text cannot be had
        return f"{type(error).__name__}: it cannot be shown as text"


def main() -> int:
    """Returns 0 if the callable returned what can be kept, 1 if not."""
    asked = json.load(sys.stdin)
    sys.path[:0] = [os.getcwd(), *filter(None, [os.environ.get("SKEP_WORKSPACE")])]
    try:
        result = call(asked["call"], asked["args"])
        try:
            answer = {"ok": True, "result": plain(result, "result")}
        except NotPlain as error:
            answer = {"ok": False, "error": f"{UNKEPT}{error}"}
        data = json.dumps(answer, ensure_ascii=False).encode()
    except BaseException as error:
        traceback.print_exc()
        answer = {"ok": False, "error": said(error)}
        data = json.dumps(answer, ensure_ascii=False).encode(errors="replace")
    with open(os.environ["SKEP_RESULT"], "wb") as file:
        file.write(data)
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
