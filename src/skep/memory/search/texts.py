"""What of a record can be found: its key, its tags, the text of its values; and the marks that filters look for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from msgspec import Struct

from skep.memory import TRUSTS, Entry, Filter, Record
from skep.memory.limits import COPY
from skep.memory.search.terms import terms

#: Characters of a value's text that can be found, and of those that an embedder gets.
MOST_TEXT, MOST_MEANT = 64 * 1024, 4_000
#: Begins every mark. No word has it, and FTS5 takes it for a letter.
_MARK = "§"
#: The mark of what Skep keeps of an earlier state: found only where its namespace is named.
COPIES = _MARK + "c"


class Document(Struct, frozen=True):
    """What an index keeps of a record.

    `marks`: what filters look for. `head`: words of the key and the tags. `body`: words of the text. `meant`: the text for an
    embedder, empty where there is to be no vector of it. `vector`: the caller's. `updated`: wall-clock ms.
    """

    marks: str
    head: str
    body: str
    meant: str
    vector: bytes
    updated: int


def document(record: Record) -> Document | None:
    """What there is to be found of a record; None for one that was deleted or only leads elsewhere.

    Of values that were written at the same time each can be found.
    """
    entries = [entry for entry in record.entries if not entry.alias]
    if not entries:
        return None
    newest = max(entries, key=lambda entry: (entry.stamp, entry.writer))
    text = " ".join(text_of(entry.value) for entry in entries)[:MOST_TEXT]
    tags = list(dict.fromkeys(tag for entry in entries for tag in entry.tags))
    embedded = newest.kind != "working" and not newest.vector
    return Document(
        marks=" ".join(sorted({mark for entry in entries for mark in _marks(entry)})),
        head=_found_by(" ".join([record.key, *tags])),
        body=_found_by(text),
        meant=f"{record.key}: {text}"[:MOST_MEANT] if embedded else "",
        vector=newest.vector,
        updated=max(entry.updated for entry in entries),
    )


def text_of(value: Any) -> str:
    """The text of a value: names and values of what is nested, in their order, at most `MOST_TEXT` characters and one piece."""
    found, size = [], 0
    for piece in _pieces(value):
        found.append(piece)
        size += len(piece) + 1
        if size > MOST_TEXT:
            break
    return " ".join(found)


def wanted(filter: Filter) -> list[list[str]]:
    """The marks that a filter asks for: one of each list. Times and the prefix are not among them."""
    least = TRUSTS.index(filter.trust)
    return [
        choices
        for choices in (
            [_mark("n", name) for name in filter.namespaces],
            [_mark("k", kind) for kind in filter.kinds],
            *([_mark("t", tag)] for tag in filter.tags),
            [_mark("a", filter.agent)] if filter.agent else [],
            [_mark("j", filter.task)] if filter.task else [],
            [_mark("r", trust) for trust in TRUSTS[least:]] if least else [],
        )
        if choices
    ]


def _marks(entry: Entry) -> Iterator[str]:
    yield _mark("n", entry.namespace)
    if COPY in entry.namespace:
        yield COPIES
    yield _mark("k", entry.kind)
    yield _mark("r", entry.trust)
    for tag in entry.tags:
        yield _mark("t", tag)
    if entry.agent:
        yield _mark("a", entry.agent)
    if entry.task:
        yield _mark("j", entry.task)


@lru_cache(maxsize=4_096)
def _mark(what: str, name: str) -> str:
    return _MARK + what + hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def _found_by(text: str) -> str:
    return " ".join(term for term, _ in terms(text))


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value[:MOST_TEXT]
    elif isinstance(value, dict):
        for name, item in value.items():
            yield str(name)
            yield from _pieces(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _pieces(item)
    elif value is not None:
        yield str(value)
