"""Mappings with known keys, each with what it takes and what it is for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import UNSET, Struct

from skep.core.references import nearest
from skep.workflow.kinds import Either, Kind, Later, ListOf, MapOf, wrong
from skep.workflow.problems import Problems
from skep.workflow.yamltree import Map, Node


class Field(Struct, frozen=True):
    """One key of a record.

    Args:
        about: what it is for, one or two sentences.
        default: what holds when it is not given, for people.
        required: whether it must be given.
        shared: for a task's key: whether `defaults` may hold it.
        merged: a default and a task's own value are put together by key, instead of the one replacing the other.
    """

    kind: Kind
    about: str
    default: str = ""
    required: bool = False
    shared: bool = False
    merged: bool = False


class Record(Struct, frozen=True):
    """A mapping with known keys. Read as a dict of what was given and could be read.

    Args:
        title: of its section in the reference.
        exactly_one: keys of which one must be given, and no second.
        ignored: keys that begin so are not looked at.
    """

    title: str
    about: str
    fields: Mapping[str, Field]
    exactly_one: tuple[str, ...] = ()
    ignored: str = ""

    @property
    def words(self) -> str:
        return f"a mapping ({self.title.lower()})"

    def read(self, node: Node, name: str, problems: Problems) -> Any:
        if not isinstance(node, Map):
            return wrong(self, node, name or "the file", problems)
        values: dict[str, Any] = {}
        before = f"{name}." if name else ""
        for key, inner in node.entries.items():
            if self.ignored and key.startswith(self.ignored):
                continue
            field = self.fields.get(key)
            if field is None:
                problems.add(node.keys[key], f"{name + ': ' if name else ''}unknown key {key[:60]!r}{self._hint(key)}")
            elif (value := field.kind.read(inner, before + key, problems)) is not UNSET:
                values[key] = value
        for key, field in self.fields.items():
            if field.required and key not in node.entries:
                problems.add(node, f"{before}{key} is missing; it is {field.kind.words}")
        given = [key for key in self.exactly_one if key in node.entries]
        if self.exactly_one and len(given) != 1:
            problems.add(
                node, f"{name}: expected exactly one of {', '.join(self.exactly_one)}, found {' and '.join(given) or 'none'}"
            )
        return values

    def _hint(self, key: str) -> str:
        return nearest(key, self.fields) or (f"; known are {', '.join(self.fields)}" if len(self.fields) <= 10 else "")

    def schema(self) -> dict[str, Any]:
        properties = {key: {"description": _described(field), **field.kind.schema()} for key, field in self.fields.items()}
        result: dict[str, Any] = {"title": self.title, "type": "object", "properties": properties, "additionalProperties": False}
        required = [key for key, field in self.fields.items() if field.required]
        if required:
            result["required"] = required
        if self.exactly_one:
            result["oneOf"] = [{"required": [key]} for key in self.exactly_one]
        if self.ignored:
            result["patternProperties"] = {f"^{re.escape(self.ignored)}": {}}
        return result


def _described(field: Field) -> str:
    default = f" Default: {field.default}." if field.default else ""
    later = f" Not available yet: {field.kind.missing}." if isinstance(field.kind, Later) else ""
    return f"{field.about}{default}{later}"


def records(kind: Kind) -> Iterator[Record]:
    """Every record in a kind, itself included, outermost first."""
    if isinstance(kind, Record):
        yield kind
        for field in kind.fields.values():
            yield from records(field.kind)
    elif isinstance(kind, ListOf | MapOf):
        yield from records(kind.kind)
    elif isinstance(kind, Either):
        for inner in kind.kinds:
            yield from records(inner)
