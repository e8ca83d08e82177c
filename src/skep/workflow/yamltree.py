"""YAML as a tree that knows where each value stands. Built from the parser's events, bounded while it is built.

What differs from PyYAML's own loading, on purpose:
- Only `true`, `false`, `null` (and `~`, and nothing) and numbers as JSON writes them are more than text: `on`, `yes`, `no`,
  `0755`, `1_000`, `12:30`, dates and numbers beyond 18 digits stay the text that they are.
- Duplicate keys, tags, several documents and aliases that contain themselves are refused; `<<` merges, the nearer value wins.
- A text of 1 MiB, 50 levels and 100,000 values (each alias counted with all that it stands for) are the most.
"""

from __future__ import annotations

import math
import re
from typing import Any, NoReturn

import yaml
from msgspec import Struct

from skep.workflow.problems import Problems

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 50
MAX_NODES = 100_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?P<part>\.[0-9]{1,40})?(?P<power>[eE][+-]?[0-9]{1,3})?")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: What the parser says -> what it means to the one who wrote the file.
_MEANINGS = (
    (
        "mapping values are not allowed",
        "a ':' cannot stand here; is the indentation right, or does a text with ': ' in it need quotes?",
    ),
    ("could not find expected ':'", "a ':' is missing after a key"),
    ("found unexpected end of stream", "a quote is opened here and never closed"),
    ("tab character", "a tab cannot indent; use spaces"),
    ("expected '-' indicator", "this does not belong to the list above; is the indentation right?"),
    ("expected <block end>", "this does not belong to the block above; is the indentation right?"),
    ("did not find expected key", "this is no key of the block above; is the indentation right?"),
    ("',' or ']'", "a ',' or the closing ']' is missing before this"),
    ("cannot start any token", "this character cannot begin a text; put the text in quotes"),
    ("',' or '}'", "a ',' or the closing '}' is missing before this"),
)


class Mark(Struct, frozen=True, gc=False):
    """A place in a file, counted from 1."""

    line: int
    column: int


class Scalar(Struct, frozen=True, gc=False):
    """One value: what it means, and the text as it was written."""

    line: int
    column: int
    text: str
    value: str | int | float | bool | None
    size: int = 1
    height: int = 0


class Seq(Struct, frozen=True):
    """A list."""

    line: int
    column: int
    items: tuple[Node, ...]
    size: int
    height: int


class Map(Struct, frozen=True):
    """A mapping; `keys` has the place of each key."""

    line: int
    column: int
    entries: dict[str, Node]
    keys: dict[str, Scalar]
    size: int
    height: int


Node = Scalar | Seq | Map


class _TooMuch(Exception):
    """A bound was reached: what has been read so far is not worth going on with."""


def compose(text: str, problems: Problems) -> Node | None:
    """Reads one YAML document.

    Returns:
        its tree, or None when it could not be read; what is wrong is noted in `problems`.
    """
    text = text.removeprefix("\ufeff")
    if bad := _UNPRINTABLE.search(text):
        problems.add(_mark_at(text, bad.start()), f"the character {bad[0]!r} cannot stand in YAML")
        return None
    if len(text.encode()) > MAX_BYTES:
        problems.add(Mark(1, 1), f"the file is larger than {MAX_BYTES} bytes")
        return None
    builder = _Builder(problems)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except _TooMuch:
        return None
    except yaml.YAMLError as error:
        problems.add(*_explained(error, text))
        return None
    if builder.root is None:
        problems.add(Mark(1, 1), "the file is empty")
    return builder.root


def decode(data: bytes, problems: Problems) -> str | None:
    """A file's bytes as text, or None with the place of what is not UTF-8 noted."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        which = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else f"the byte 0x{data[error.start]:02x} is not UTF-8"
        problems.add(_mark_at(before, len(before)), f"{which}; save the file as UTF-8")
        return None


def plain(node: Node) -> Any:
    """The tree as Python values."""
    if isinstance(node, Map):
        return {key: plain(value) for key, value in node.entries.items()}
    if isinstance(node, Seq):
        return [plain(item) for item in node.items]
    return node.value


def _mark_at(text: str, offset: int) -> Mark:
    return Mark(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def _explained(error: yaml.YAMLError, text: str) -> tuple[Mark, str]:
    mark = getattr(error, "problem_mark", None)
    said = str(getattr(error, "problem", None) or error)
    context = str(getattr(error, "context", None) or "")
    if "quoted scalar" in context:
        mark = getattr(error, "context_mark", None) or mark
    place = _mark(mark)
    lines = text.splitlines()
    if place.line <= len(lines) and lines[place.line - 1][: place.column].strip(" ").startswith("\t"):
        return place, "a tab cannot indent; use spaces"
    for part, meaning in _MEANINGS:
        if part in said:
            return place, meaning
    return place, f"this is not YAML: {said}{f' ({context})' if context else ''}"


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1) if mark is not None else Mark(1, 1)


class _Open(Struct):
    """A list or mapping that is not complete yet."""

    mark: Mark
    anchor: str | None
    is_map: bool
    nodes: list[Node]


class _Builder:
    """Takes the parser's events one by one and puts the tree together, without recursion."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.root: Node | None = None
        self.stack: list[_Open] = []
        self.anchors: dict[str, Node] = {}
        self.count = 0
        self.documents = 0

    def take(self, event: yaml.Event) -> None:
        mark = _mark(event.start_mark)
        if isinstance(event, yaml.ScalarEvent):
            self.put(self.scalar(event, mark), event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self.put(self.alias(event.anchor or "", mark), None)
        elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            self.refuse_tag(event.tag, mark)
            if len(self.stack) >= MAX_DEPTH:
                self.stop(mark, f"nested more than {MAX_DEPTH} deep")
            self.stack.append(_Open(mark, event.anchor, isinstance(event, yaml.MappingStartEvent), []))
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            done = self.stack.pop()
            self.put(self.mapping(done) if done.is_map else self.listing(done), done.anchor)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self.stop(mark, "a second document begins here; a file holds one")

    def put(self, node: Node, anchor: str | None) -> None:
        self.count += 1
        if node.size > MAX_NODES or self.count > MAX_NODES:
            self.stop(Mark(node.line, node.column), f"more than {MAX_NODES} values, aliases counted with all they stand for")
        if anchor:
            self.anchors[anchor] = node
        if self.stack:
            self.stack[-1].nodes.append(node)
        else:
            self.root = node

    def stop(self, mark: Mark, message: str) -> NoReturn:
        self.problems.add(mark, message)
        raise _TooMuch

    def scalar(self, event: yaml.ScalarEvent, mark: Mark) -> Scalar:
        self.refuse_tag(event.tag, mark)
        text = event.value
        return Scalar(mark.line, mark.column, text, _meaning(text) if event.implicit[0] else text)

    def refuse_tag(self, tag: str | None, mark: Mark) -> None:
        if tag not in (None, "!", "tag:yaml.org,2002:str"):
            written = tag.replace("tag:yaml.org,2002:", "!!") if tag else ""
            self.problems.add(mark, f"the tag {written!r} is not supported; put a text that begins with ! in quotes")

    def alias(self, name: str, mark: Mark) -> Node:
        node = self.anchors.get(name)
        if any(name == one.anchor for one in self.stack):
            self.stop(mark, f"*{name} stands inside the value that it stands for")
        if node is None:
            self.stop(mark, f"*{name} stands for nothing: there is no &{name} before it")
        if len(self.stack) + node.height > MAX_DEPTH:
            self.stop(mark, f"nested more than {MAX_DEPTH} deep")
        return node

    def listing(self, done: _Open) -> Seq:
        size = 1 + sum(node.size for node in done.nodes)
        height = 1 + max((node.height for node in done.nodes), default=0)
        return Seq(done.mark.line, done.mark.column, tuple(done.nodes), size, height)

    def mapping(self, done: _Open) -> Map:
        entries: dict[str, Node] = {}
        keys: dict[str, Scalar] = {}
        merged: list[Map] = []
        for key, value in zip(done.nodes[::2], done.nodes[1::2], strict=True):
            if not isinstance(key, Scalar) or key.value is None:
                self.problems.add(key, "a key must be text")
            elif key.text in keys:
                self.problems.add(key, f"the key {key.text!r} is here twice; the first is in line {keys[key.text].line}")
            else:
                keys[key.text] = key
                if key.text == "<<":
                    merged = self.merged(value)
                else:
                    entries[key.text] = value
        for other in merged:
            for name, value in other.entries.items():
                if name not in entries:
                    entries[name], keys[name] = value, other.keys[name]
        size = 1 + sum(node.size for node in done.nodes)
        height = 1 + max((node.height for node in done.nodes), default=0)
        return Map(done.mark.line, done.mark.column, entries, keys, size, height)

    def merged(self, value: Node) -> list[Map]:
        """The mappings that `<<` brings in, nearest first."""
        found = list(value.items) if isinstance(value, Seq) else [value]
        for one in found:
            if not isinstance(one, Map):
                self.problems.add(one, "<< takes a mapping or a list of mappings, such as *name")
        return [one for one in found if isinstance(one, Map)]


def _meaning(text: str) -> str | int | float | bool | None:
    """What a plain scalar means: a word of JSON, a number as JSON writes it, or itself."""
    if text in _WORDS:
        return _WORDS[text]
    number = _NUMBER.fullmatch(text)
    if number is None:
        return text
    if number["part"] is None and number["power"] is None:
        return int(text)
    value = float(text)
    return value if math.isfinite(value) else text
