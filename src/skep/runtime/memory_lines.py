"""Memory as lines of JSON: for other programs, for looking at, for taking elsewhere.

The first line says what the file is, then there is a line for each key, and the last one has the seal of all before it. What was
sealed here comes in as it went out; a file from elsewhere, or one that was edited, brings claims. Such a file may also have
lines of nothing but `key` and `value`.
"""

from __future__ import annotations

import hashlib
import hmac
import shutil
import tempfile
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from sys import byteorder
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from skep.disk.durable import Draft as File
from skep.errors import Exhausted, Invalid, NotFound, SkepError
from skep.memory import Entry, Filter, Kind, Record
from skep.memory.draft import Draft
from skep.memory.limits import encode_value
from skep.memory.wants import matches
from skep.runtime.copies import aside, opened
from skep.runtime.memory_intake import Intake, checked, claimed
from skep.runtime.memory_views import TakenView, WrittenView
from skep.runtime.parcel import Seal, key_of
from skep.runtime.parts import Parts

FORMAT = 1
#: Bytes of a line: a value of the largest size, every character of it written as six.
MAX_LINE = 512 << 20
#: Lines that are handed over at a time.
PAGE = 200
#: Before what is sealed, so that a seal of something else is none of a file's.
SEALED = b"memory lines\0"


class Head(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line. `at`: when it was written, ms; `key`: of the store that sealed it."""

    skep: str
    format: int
    at: int = 0
    key: str = ""


class End(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last line: how many keys there are, and the seal of all lines before it (hex)."""

    keys: int
    seal: str


class Line(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line that was written by hand or by another program. `ttl`: seconds."""

    key: str
    value: Any
    namespace: str = "project"
    kind: Kind = "semantic"
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    ttl: float = 0.0
    rule: str = "siblings"
    vector: tuple[float, ...] = ()

    def draft(self) -> Draft:
        """What it asks to be stored."""
        numbers = array("f", self.vector)
        if byteorder == "big":
            numbers.byteswap()
        kept = {name: getattr(self, name) for name in self.__struct_fields__ if name != "vector"}
        return Draft(vector=numbers.tobytes(), **kept)


# Writing


async def export(parts: Parts, path: Path, wanted: Filter) -> WrittenView:
    """Writes the keys that have an entry which the filter lets through, with all their values, into a file: whole or absent.

    Raises:
        Exhausted, Invalid: the disk is full, or the file cannot be written; there is none then.
    """
    seal, lost, names = parts.log.seal, list[str](), set[str]()
    hashed, keys = hashlib.sha256(), 0

    def write(line: Struct) -> None:
        data = msgspec.json.encode(line) + b"\n"
        hashed.update(data)
        file.file.write(data)

    try:
        with File(path.parent) as file:
            await aside(write, Head(skep="memory", format=FORMAT, at=parts.clock.now(), key=key_of(seal)))
            for name in sorted(wanted.namespaces or await parts.bank.namespaces()):
                async for record in parts.bank.records(name):
                    if not any(matches(entry, wanted) for entry in record.entries):
                        continue
                    try:
                        whole = [await parts.bank.whole(entry) for entry in record.entries]
                    except (NotFound, Invalid):
                        lost.append(record.key)
                        continue
                    await aside(write, replace(record, entries=tuple(whole)))
                    keys += 1
                    names.add(name)
            await aside(write, End(keys=keys, seal=seal(SEALED + hashed.digest()).hex()))
            size = file.file.tell()
            await aside(file.keep, path)
    except OSError as error:
        raise Invalid(f"cannot write {path}: {error.strerror}", "Choose a folder that is there, with room.") from None
    return WrittenView(path=str(path), bytes=size, keys=keys, namespaces=len(names), lost=tuple(lost))


# Reading


async def take(parts: Parts, path: Path, dry: bool) -> TakenView:
    """Takes in a file of lines; all of it is read and checked before anything is changed.

    Raises:
        NotFound, Invalid: there is no such file, or a line of it (which is named) is none of memory.
    """
    now = parts.clock.now()
    async with opened(_Copy, path, parts.state) as copy:
        ours, note = await aside(copy.verify, parts.log.seal, now)
        intake = Intake(parts.bank, str(path), dry, ours)
        if note:
            intake.note(note)
        lines = copy.lines(now, ours)
        while page := await aside(lambda: list(islice(lines, PAGE))):
            for line in page:
                await _take(parts, intake, line)
    return intake.view


async def _take(parts: Parts, intake: Intake, line: Record | Draft) -> None:
    if isinstance(line, Record) and intake.view.ours:
        await _join(parts, intake, line)
    elif draft := line if isinstance(line, Draft) else claimed(line, parts.clock.now()):
        await intake.strange(draft)


async def _join(parts: Parts, intake: Intake, record: Record) -> None:
    """Large values go back to where they lay."""
    pinned, entries = [], list[Entry]()
    try:
        for entry in record.entries:
            if entry.blob:
                if not intake.view.dry:
                    pinned.append(await (parts.bank.large or parts.blobs).put(encode_value(entry.value)))
                entry = replace(entry, value=None)
            entries.append(entry)
        await intake.join(replace(record, entries=tuple(entries)))
    finally:
        for digest in pinned:
            await parts.blobs.unpin(digest)


class _Copy:
    """What is in a file now. It is read twice, and nobody shall change it in between: what was sealed is what comes in."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path = path
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it is closed by `close`
        try:
            with path.open("rb") as source:
                shutil.copyfileobj(source, self._file)
        except FileNotFoundError:
            self.close()
            raise NotFound(f"there is no file {path}", "`skep memory export` makes such files.") from None
        except OSError as error:
            self.close()
            raise Invalid(f"{path} cannot be read: {error.strerror}", "Name a file that you may read.") from None

    def close(self) -> None:
        """Nothing of it is left."""
        self._file.close()

    def verify(self, seal: Seal, now: int) -> tuple[bool, str]:
        """Reads all of it; returns whether it was sealed here, and what is to be said if it was but the seal does not fit."""
        hashed, keys, ours, fits = hashlib.sha256(), 0, False, False
        for number, data in self._raw():
            if fits:
                raise Invalid(f"{self._path}, line {number}: there is something behind the last line", "Take that out.")
            line = _read(self._path, number, data, now, ours)
            if isinstance(line, Head):
                ours = line.key == key_of(seal)
            elif isinstance(line, End):
                proof = seal(SEALED + hashed.digest()).hex()
                fits = line.keys == keys and hmac.compare_digest(line.seal.encode(), proof.encode())
            else:
                keys += 1
            hashed.update(data)
        if ours and not fits:
            for _ in self.lines(now, believed=False):
                pass
            return False, "it was changed since it was exported here"
        return ours and fits, ""

    def lines(self, now: int, believed: bool) -> Iterator[Record | Draft]:
        """The keys in it."""
        for number, data in self._raw():
            line = _read(self._path, number, data, now, believed)
            if isinstance(line, Record | Draft):
                yield line

    def _raw(self) -> Iterator[tuple[int, bytes]]:
        """The lines that are not empty, each with its number."""
        self._file.seek(0)
        number = 0
        while data := self._file.readline(MAX_LINE + 1):
            number += 1
            if len(data) > MAX_LINE:
                why = f"{self._path}, line {number} has more than {MAX_LINE >> 20} MiB"
                raise Exhausted(why, "No value is as large as that.")
            if data.strip():
                yield number, data


def _read(path: Path, number: int, data: bytes, now: int, believed: bool) -> Head | End | Record | Draft:
    """What a line says. Raises Invalid, naming the line."""
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        if "skep" in fields:
            head = msgspec.json.decode(data, type=Head)
            if (head.skep, head.format) != ("memory", FORMAT):
                raise Invalid(f"it is '{head.skep[:40]}' in format {head.format}; this Skep reads memory in format {FORMAT}")
            return head
        if "seal" in fields:
            return msgspec.json.decode(data, type=End)
        if "entries" in fields:
            return checked(msgspec.json.decode(data, type=Record), now, believed)
        draft = msgspec.json.decode(data, type=Line).draft()
        draft.check()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        why = f"{path}, line {number}: {str(error)[:200]}"
        raise Invalid(why, 'A line is such as {"key": "build.command", "value": "make -j2"}.') from None
    except SkepError as error:
        raise Invalid(f"{path}, line {number}: {error.message}", error.fix or "Use the Skep that wrote it.") from None
    return draft
