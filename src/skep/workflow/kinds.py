"""Kinds of values. Each reads a node of a file, says in words what it expects, and says the same as JSON Schema.

`schema.py` puts the table of the workflow file together from these and from the records of `record.py`, so what is checked, what
is published and what is documented cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Protocol

from msgspec import UNSET, Struct

from skep.core.references import nearest
from skep.workflow.problems import Problems
from skep.workflow.yamltree import Map, Node, Scalar, Seq, plain

_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{1,6})?)"
_DURATION = rf"(?=.)(?:{_NUMBER}d ?)?(?:{_NUMBER}h ?)?(?:{_NUMBER}m ?)?(?:{_NUMBER}s)?"
_SIZE = rf"{_NUMBER} ?(?:([kKmMgGtT])(i?))?[bB]"
_SECONDS = (86_400, 3_600, 60, 1)
#: Longest duration in seconds, a year; largest size in bytes, a pebibyte.
MAX_DURATION = 366 * 86_400
MAX_SIZE = 2**50


class Kind(Protocol):
    """What a value may be."""

    @property
    def words(self) -> str:
        """What is expected, as the end of "expected ...": `a duration such as 20m`."""

    def read(self, node: Node, name: str, problems: Problems) -> Any:
        """The value, or UNSET when it is none of this kind and the problem was noted.

        Args:
            node: where it is written.
            name: what it is called, for messages.
        """

    def schema(self) -> dict[str, Any]:
        """The same in JSON Schema (2020-12)."""


def found(node: Node) -> str:
    """What is there, as the end of "found ..."."""
    if isinstance(node, Map):
        return "a mapping"
    if isinstance(node, Seq):
        return "a list"
    if node.value is None or not node.text.strip():
        return "nothing"
    return repr(node.text[:60])


def wrong(kind: Kind, node: Node, name: str, problems: Problems) -> Any:
    """Notes that a value is not of its kind, and what it is instead; returns UNSET, for whoever has no value now."""
    problems.add(node, f"{name}: expected {kind.words}, found {found(node)}")
    return UNSET


class Text(Struct, frozen=True):
    """Text; numbers, true and false count as the text that was written.

    Args:
        pattern: a regular expression that the whole text must match (the part that Python and JavaScript share).
        most: characters.
        empty: whether it may be blank.
        looked_up: whether something else looks at `${{ }}` in it.
    """

    words: str = "text"
    pattern: str = ""
    most: int = 1_000_000
    empty: bool = False
    looked_up: bool = False

    def read(self, node: Node, name: str, problems: Problems) -> Any:
        if not isinstance(node, Scalar) or node.value is None or not (self.empty or node.text.strip()):
            return wrong(self, node, name, problems)
        text = node.text
        if len(text) > self.most:
            problems.add(node, f"{name}: {len(text)} characters, more than {self.most}")
            return UNSET
        if "${{" in text and not self.looked_up:
            _refuse_lookup(node, name, problems)
            return UNSET
        if self.pattern and not re.fullmatch(self.pattern, text):
            return wrong(self, node, name, problems)
        return text

    def schema(self) -> dict[str, Any]:
        pattern = f"^(?:{self.pattern})$" if self.pattern else "" if self.empty else r"\S"
        rest = {"pattern": pattern} if pattern else {}
        return {"type": ["string", "number", "boolean"], "maxLength": self.most, **rest}


def _refuse_lookup(node: Node, name: str, problems: Problems) -> None:
    instead = "a command reads $SKEP_NEEDS, $SKEP_INPUTS and $SKEP_ITEM instead"
    problems.add(node, f"{name}: ${{{{ }}}} is looked up in prompts alone; {instead}")


class Choice(Struct, frozen=True):
    """One of a few words."""

    options: tuple[str, ...]

    @property
    def words(self) -> str:
        return ", ".join(f"`{option}`" for option in self.options[:-1]) + f" or `{self.options[-1]}`"

    def read(self, node: Node, name: str, problems: Problems) -> Any:
        if not isinstance(node, Scalar) or node.value is None:
            return wrong(self, node, name, problems)
        if node.text not in self.options:
            problems.add(node, f"{name}: expected {self.words}, found {found(node)}{nearest(node.text, self.options)}")
            return UNSET
        return node.text

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.options)}


class Flag(Struct, frozen=True):
    """True or false; `yes` and `no` are neither."""

    words: str = "true or false"

    def read(self, node: Node, name: str, problems: Problems) -> Any:
        if isinstance(node, Scalar) and isinstance(node.value, bool):
            return node.value
        return wrong(self, node, name, problems)

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class Number(Struct, frozen=True):
    """A number between two bounds, both included."""

    least: float
    most: float
    whole: bool = True

    @property
    def words(self) -> str:
        if self.least == self.most:
            return f"{self.least}"
        return f"a {'whole ' if self.whole else ''}number from {self.least:,} to {self.most:,}"

    def read(self, node: Node, name: str, problems: Problems) -> Any:
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return wrong(self, node, name, problems)
        return value if self.least <= value <= self.most else wrong(self, node, name, problems)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer" if self.whole else "number", "minimum": self.least, "maximum": self.most}


def duration(text: str) -> float:
    """Text such as `1h30m` in seconds; -1 if it is none."""
    match = re.fullmatch(_DURATION, text)
    return -1.0 if match is None else sum(float(p) * unit for p, unit in zip(match.groups(), _SECONDS, strict=True) if p)


class Duration(Struct, frozen=True):
    """Seconds, or text such as `1h30m`; read as seconds."""

    words: str = "a duration such as 20m, 1h30m or 90 (seconds), at most 366d"

    def read(self, node: Node, name: str, problems: Problems) -> Any:
        value = node.value if isinstance(node, Scalar) else None
        seconds = -1.0
        if isinstance(value, str):
            seconds = duration(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            seconds = float(value)
        return seconds if 0 <= seconds <= MAX_DURATION else wrong(self, node, name, problems)

    def schema(self) -> dict[str, Any]:
        return {
            "anyOf": [{"type": "number", "minimum": 0, "maximum": MAX_DURATION}, {"type": "string", "pattern": f"^{_DURATION}$"}]
        }


class Moment(Struct, frozen=True):
    """A duration from now, read as seconds, or a point in time, read as a datetime that knows its zone."""

    words: str = "a duration such as 2h, or a time with its zone such as 2030-01-31T18:00+01:00"

    def read(self, node: Node, name: str, problems: Problems) -> Any:
        if not isinstance(node, Scalar):
            return wrong(self, node, name, problems)
        if not isinstance(node.value, str) or re.fullmatch(_DURATION, node.text):
            return Duration(self.words).read(node, name, problems)
        try:
            moment = datetime.fromisoformat(node.text)
            if moment.tzinfo is None or not 2000 <= moment.year < 3000:
                return wrong(self, node, name, problems)
        except ValueError:
            return wrong(self, node, name, problems)
        return moment

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [*Duration().schema()["anyOf"], {"type": "string", "pattern": "^[0-9]{4}-?[0-9W]"}]}


def size_of(text: str) -> int:
    """The bytes that a text such as `512MiB` means; -1 if it is none."""
    if (match := re.fullmatch(_SIZE, text)) is None:
        return -1
    number, prefix, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** (" kmgt".index((prefix or " ").lower())))


class Size(Struct, frozen=True):
    """Bytes, or text such as `512MiB`; read as bytes."""

    words: str = "a size such as 4GB, 512MiB or a number of bytes"

    def read(self, node: Node, name: str, problems: Problems) -> Any:
        value = node.value if isinstance(node, Scalar) else None
        size = -1
        if isinstance(value, str):
            size = size_of(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            size = value
        return size if 0 <= size <= MAX_SIZE else wrong(self, node, name, problems)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_SIZE}, {"type": "string", "pattern": f"^{_SIZE}$"}]}


class Anything(Struct, frozen=True):
    """Any value, handed on as it is. `free` = not even looked at for `${{ }}`."""

    free: bool = False
    words: str = "anything"

    def read(self, node: Node, name: str, problems: Problems) -> Any:
        for scalar in () if self.free else _scalars(node):
            if "${{" in scalar.text:
                _refuse_lookup(scalar, name, problems)
                return UNSET
        return plain(node)

    def schema(self) -> dict[str, Any]:
        return {}


def _scalars(node: Node) -> Iterator[Scalar]:
    if isinstance(node, Scalar):
        yield node
    else:
        for inner in node.entries.values() if isinstance(node, Map) else node.items:
            yield from _scalars(inner)


class ListOf(Struct, frozen=True):
    """A list without duplicates; with `single` one item may stand for a list of it. Read as a tuple."""

    kind: Kind
    least: int = 0
    most: int = 1000
    single: bool = False
    distinct: bool = True

    @property
    def words(self) -> str:
        return f"{self.kind.words}, or a list of such" if self.single else f"a list, each {self.kind.words}"

    def read(self, node: Node, name: str, problems: Problems) -> Any:
        if self.single and isinstance(node, Scalar) and node.value is not None:
            value = self.kind.read(node, name, problems)
            return UNSET if value is UNSET else (value,)
        if not isinstance(node, Seq):
            return wrong(self, node, name, problems)
        if not self.least <= len(node.items) <= self.most:
            problems.add(node, f"{name}: {len(node.items)} items; it takes {self.least} to {self.most}")
            return UNSET
        values: list[Any] = []
        for item in node.items:
            value = self.kind.read(item, name, problems)
            if self.distinct and value in values:
                problems.add(item, f"{name}: {value!r} is here twice")
            elif value is not UNSET:
                values.append(value)
        return tuple(values)

    def schema(self) -> dict[str, Any]:
        many = {"type": "array", "items": self.kind.schema(), "minItems": self.least, "maxItems": self.most}
        if self.distinct:
            many["uniqueItems"] = True
        return {"anyOf": [self.kind.schema(), many]} if self.single else many


class MapOf(Struct, frozen=True):
    """A mapping from names to values of one kind."""

    key: Text
    kind: Kind
    least: int = 0
    most: int = 1000

    @property
    def words(self) -> str:
        return f"a mapping, each key {self.key.words}, each value {self.kind.words}"

    def read(self, node: Node, name: str, problems: Problems) -> Any:
        if not isinstance(node, Map):
            return wrong(self, node, name, problems)
        if not self.least <= len(node.entries) <= self.most:
            problems.add(node, f"{name}: {len(node.entries)} entries; it takes {self.least} to {self.most}")
            return UNSET
        values: dict[str, Any] = {}
        for key, inner in node.entries.items():
            value = self.kind.read(inner, f"{name}.{key[:100]}", problems)
            if self.key.read(node.keys[key], f"a key of {name}", problems) is not UNSET and value is not UNSET:
                values[key] = value
        return values

    def schema(self) -> dict[str, Any]:
        names = {"pattern": f"^(?:{self.key.pattern})$"} if self.key.pattern else {}
        return {
            "type": "object",
            "propertyNames": names,
            "additionalProperties": self.kind.schema(),
            "minProperties": self.least,
            "maxProperties": self.most,
        }


class Either(Struct, frozen=True):
    """One kind where a scalar is written, another where a list or a mapping is. `words` says it all."""

    words: str
    scalar: Kind
    listing: Kind | None = None
    mapping: Kind | None = None

    @property
    def kinds(self) -> list[Kind]:
        """What it may be."""
        return [kind for kind in (self.scalar, self.listing, self.mapping) if kind is not None]

    def read(self, node: Node, name: str, problems: Problems) -> Any:
        kind = self.scalar if isinstance(node, Scalar) else self.listing if isinstance(node, Seq) else self.mapping
        if kind is None or (isinstance(node, Scalar) and node.value is None):
            return wrong(self, node, name, problems)
        return kind.read(node, name, problems)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [kind.schema() for kind in self.kinds]}


class Later(Struct, frozen=True):
    """Something that is known and not there yet: refused by name, never ignored."""

    missing: str
    words: str = "nothing yet"

    def read(self, node: Node, name: str, problems: Problems) -> Any:
        problems.add(node, f"{name} is not available yet: {self.missing}")
        return UNSET

    def schema(self) -> dict[str, Any]:
        return {"not": {}}
