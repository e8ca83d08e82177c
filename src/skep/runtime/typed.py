"""What Python code hands over is of the types it is declared with, or is refused before anything is recorded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct

from skep.agents.worker import NotPlain, plain
from skep.core.model import Task
from skep.errors import Invalid

S = TypeVar("S", bound=Struct)

_encode = msgspec.msgpack.Encoder().encode
#: msgspec's names of types -> what a Python programmer calls them.
_PYTHON = {"array": "list", "object": "record", "null": "None"}


def typed(given: S, tasks: Sequence[Any] = ()) -> S:
    """The record, with every field of its type; lists become tuples.

    Args:
        tasks: the tasks in it, whose free values (`args`, `metadata`, ...) must be JSON values.

    Raises:
        Invalid: names the field, what it must be and what it is.
    """
    for number, task in enumerate(tasks):
        if not isinstance(task, Task):
            raise wrong(f"tasks[{number}]", "Task", task)
    try:
        # Writing and reading it is the quickest check: a microsecond a task. Only what fails is looked at field by field.
        found = msgspec.msgpack.decode(_encode(given), type=type(given))
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        _explain(given, "")
        raise Invalid(f"{type(given).__name__} cannot be handed over: {error}", "Use the types that the manual names.") from None
    for number, task in enumerate(tasks):
        for name in ("args", "item", "metadata", "options"):
            if value := getattr(task, name):
                check_plain(value, f"tasks[{number}].{name}")
    return found


def path(given: Any, name: str) -> Path:
    """A path that a caller names. Raises Invalid for anything else."""
    if not isinstance(given, str | PathLike):
        raise wrong(name, "str | Path", given)
    return Path(given)


def check_plain(value: Any, place: str) -> None:
    """Raises Invalid, naming the place, for what JSON does not know."""
    try:
        plain(value, place)
    except NotPlain as error:
        raise Invalid(str(error), "Hand over text, numbers, true, false, None, lists and dicts by text alone.") from None


def _explain(value: Any, place: str) -> None:
    """Raises Invalid for the first field that is not of its type."""
    if isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _explain(item, f"{place}[{number}]")
    if not isinstance(value, Struct):
        return
    for field in msgspec.structs.fields(value):
        inner, where = getattr(value, field.name), f"{place}.{field.name}".lstrip(".")
        _explain(inner, where)
        try:
            msgspec.convert(inner, field.type)
            _encode(inner)
        except msgspec.ValidationError as error:
            what, _, at = str(error).partition(" - at ")
            deeper = at.strip("`").removeprefix("$") if at.startswith("`$") else ""
            if match := re.fullmatch("Expected `(.*)`, got `.*`", what):
                wanted = " | ".join(_PYTHON.get(name, name) for name in match[1].split(" | "))
                kind = what.rpartition("got `")[2].rstrip("`")
                raise wrong(where + deeper, wanted, inner, _PYTHON.get(kind, kind) if deeper else "") from None
            known = ", ".join(repr(choice) for choice in _choices(field.type) if choice)
            raise Invalid(f"{where}{deeper} is {inner!r:.60}", f"Give it as one of {known or 'what the manual names'}.") from None
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Invalid(f"{where} cannot be handed over: {error}", "Use text, numbers, lists and dicts by text.") from None


def _choices(kind: Any) -> list[Any]:
    """The values that a type, or a part of it, allows one by one."""
    inner = get_args(kind)
    return list(inner) if get_origin(kind) is Literal else [choice for part in inner for choice in _choices(part)]


def wrong(place: str, wanted: str, value: Any, kind: str = "") -> Invalid:
    """The refusal of a value that is not of the type wanted.

    Args:
        kind: what it is, if it is not the value itself that is wrong but something in it.
    """
    fix = f"Give it as {wanted}; nothing was started."
    if place.endswith(".call") and callable(value):
        fix = f'Give its name: call="{value.__module__}:{getattr(value, "__qualname__", "...")}"; nothing was started.'
    return Invalid(f"{place} is of type {kind or type(value).__name__}, and must be {wanted}", fix)
