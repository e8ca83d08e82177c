"""A record as a Markdown text that people can read and edit, and back. Pure.

    # style

    - namespace: `"project"`
    - key: `"style"`
    - clock: `{"5f0c": 111411200000}`

    ## Value

    - trust: `"agent"`
    - tags: `["code"]`
    - updated: `"2026-11-22T07:00:00.000Z"`

    ```json
    {"tabs": false}
    ```

Whatever comes from outside stands in code, between more backticks than it has itself, and what cannot be seen is escaped: nothing
of it is a heading, a link, HTML, or a line of its own. What was written at the same time has a heading for each value; a key that
was deleted has none, but the word for it. The same record always gives the same text, one change a small difference.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from skep.errors import Invalid
from skep.memory import Entry, Record
from skep.memory.records import identity

#: What a text says of a key that was deleted.
DELETED = "Deleted."
#: Fields of an entry that are times: wall-clock ms, shown as people write them.
_TIMES = ("created", "updated", "expires")
#: Fields that are shown also where they say nothing.
_ALWAYS = ("kind", "trust", "agent", "tags", "version")
_ONCE = ("id", "namespace", "key", "value")
_LAST_MS = 253_402_300_799_999
_VALUE = "## Value"
_ITEM = re.compile(r"- ([a-z]{1,20}): (`+) ?(.*?) ?\2")
_FENCE = re.compile(r"(`{3,})json")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class _Head(Struct, forbid_unknown_fields=True):
    namespace: str
    key: str
    clock: dict[str, int]
    id: str = ""


def render(record: Record) -> str:
    """The text of a record."""
    head = {"id": identity(record.namespace, record.key), "namespace": record.namespace, "key": record.key}
    lines = [f"# {_heading(record.key)}", "", *_items({**head, "clock": dict(sorted(record.clock.items()))})]
    if not record.entries:
        lines += ["", DELETED]
    for entry in record.entries:
        fields = {**{name: getattr(entry, name) for name in _ALWAYS}, **msgspec.to_builtins(entry)}
        shown = {name: _time(fields[name]) if name in _TIMES else fields[name] for name in fields if name not in _ONCE}
        value = _json(entry.value, indent=2)
        fence = _longer(value, 3)
        lines += ["", _VALUE, "", *_items(shown), "", f"{fence}json", value, fence]
    return "\n".join(lines) + "\n"


def parse(text: str) -> Record:
    """The record of a text, as it claims to be.

    Raises:
        Invalid: it is no such text; the message says in which line.
    """
    return _Reader(text).record()


class _Reader:
    """Goes through a text once, line by line."""

    def __init__(self, text: str) -> None:
        self._lines = text.removeprefix("\ufeff").split("\n")
        self._at = 0

    def record(self) -> Record:
        title = self._next()
        if not title.startswith("# "):
            raise self._no("there is no heading")
        head = self._made(self._fields(), _Head)
        if title != f"# {_heading(head.key)}":
            raise self._no("the heading is not its key")
        entries: list[Entry] = []
        deleted = False
        while line := self._next():
            if line == DELETED and not entries and not deleted:
                deleted = True
            elif line == _VALUE and not deleted:
                entries.append(self._entry(head))
            else:
                raise self._no("this line means nothing")
        if not entries and not deleted:
            raise self._no(f"there is no value; '{DELETED}' says that there is to be none")
        return Record(namespace=head.namespace, key=head.key, clock=head.clock, entries=tuple(entries))

    def _entry(self, head: _Head) -> Entry:
        fields = self._fields()
        for name in _TIMES:
            fields[name] = self._ms(fields.get(name, 0))
        for name in _ONCE:
            if name in fields:
                raise self._no(f"'{name}' does not belong here")
        whose = {"id": identity(head.namespace, head.key), "namespace": head.namespace, "key": head.key, "value": None}
        made: Entry = self._made({**fields, **whose}, Entry)
        return msgspec.structs.replace(made, value=self._value())

    def _value(self) -> Any:
        opening = _FENCE.fullmatch(self._next())
        if opening is None:
            raise self._no("a value begins with ```json")
        start = self._at
        while self._at < len(self._lines):
            self._at += 1
            if self._lines[self._at - 1].rstrip() == opening[1]:
                return self._decoded("\n".join(self._lines[start : self._at - 1]))
        raise self._no(f"the value has no end: {opening[1]}")

    def _fields(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while (line := self._next()).startswith("- "):
            item = _ITEM.fullmatch(line)
            if item is None or item[1] in found:
                raise self._no("this line means nothing")
            found[item[1]] = self._decoded(item[3])
        self._at -= bool(line)
        return found

    def _next(self) -> str:
        """The next line that is not empty; empty at the end."""
        while self._at < len(self._lines):
            self._at += 1
            if line := self._lines[self._at - 1].rstrip():
                return line
        return ""

    def _made(self, fields: dict[str, Any], kind: type[Any]) -> Any:
        unknown = fields.keys() - set(kind.__struct_fields__)
        if unknown:
            raise self._no(f"there is no '{min(unknown)}'")
        try:
            return msgspec.convert(fields, kind)
        except (msgspec.MsgspecError, ValueError, OverflowError) as error:
            raise self._no(str(error)) from None

    def _decoded(self, text: str) -> Any:
        try:
            return msgspec.json.decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._no(f"this is no JSON ({error})") from None

    def _ms(self, time: Any) -> Any:
        if not isinstance(time, str):
            return time
        try:
            if not _TIME.fullmatch(time):
                raise ValueError
            moment = datetime.fromisoformat(time)
        except ValueError:
            raise self._no(f"'{time[:40]}' is no time") from None
        return int(moment.timestamp()) * 1000 + moment.microsecond // 1000

    def _no(self, why: str) -> Invalid:
        return Invalid(f"line {self._at}: {why}", "Write it as it was, or remove the file.")


def _items(fields: dict[str, Any]) -> list[str]:
    items = []
    for name, value in fields.items():
        text = _json(value)
        ticks = _longer(text, 1)
        items.append(f"- {name}: {ticks}{text}{ticks}")
    return items


def _json(value: Any, indent: int | None = None) -> str:
    """JSON in which everything can be seen: what does not print is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(sign if sign == "\n" or sign.isprintable() else json.dumps(sign)[1:-1] for sign in text)


def _longer(text: str, least: int) -> str:
    """More backticks than the text has in a row."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def _heading(key: str) -> str:
    """A key for people: no sign of it means anything in Markdown."""
    shown = "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in key)
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", shown).strip() or '""'


def _time(ms: int) -> str | int:
    if not 0 < ms <= _LAST_MS:
        return ms
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}Z"
