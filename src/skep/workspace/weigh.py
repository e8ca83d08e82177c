"""Weighs a pack before git sees it: how many objects, how large unpacked, how deep its deltas. A small file can hold very much.

Git allocates what an object's header says, and its own checks come after that. So the pack is read once to its end, every
object inflated and thrown away, in steps of a bounded size. What this accepts git can unpack in bounded time and memory.
"""

from __future__ import annotations

import mmap
import zlib
from pathlib import Path

from skep.errors import Exhausted, Invalid
from skep.workspace import Limits

#: Kinds of objects in a pack: commit, tree, blob and tag whole, then deltas to an object by its place or by its id.
_WHOLE, _BY_PLACE, _BY_ID = (1, 2, 3, 4), 6, 7
#: Bytes inflated at a time.
_STEP = 1 << 16
#: Bytes of a checksum, and of an object's id.
_OID = 20


def weigh(file: Path, start: int, limits: Limits) -> list[str]:
    """Reads the pack that begins at byte `start` of a file.

    Returns:
        The ids that its deltas build on beyond itself.

    Raises:
        Exhausted: it is more than the limits say.
        Invalid: it is no pack, or not a whole one.
    """
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if len(data) - start > limits.packed:
            raise Exhausted(f"The bundle has {len(data) - start} bytes; at most {limits.packed} are taken in.", TOO_MUCH)
        scale = _Scale(data, start, limits)
        try:
            return scale.weigh()
        except (IndexError, zlib.error) as error:
            raise Invalid(f"The bundle's pack is damaged: {error}.", "Have it made again.") from None


#: What helps against a bundle that is too large.
TOO_MUCH = (
    "Raise `bundle` (bytes) in [store] of skep.toml, on all machines, above what `git count-objects -vH` tells; and name a git "
    "repository that all of them reach as `remote` there, so that nothing of it goes through the Redis."
)


class _Scale:
    """One pack on its way through; `_at` is the next byte."""

    def __init__(self, data: mmap.mmap, start: int, limits: Limits) -> None:
        self._data, self._at, self._limits = data, start, limits
        self._total = 0
        #: Place of an object -> how many deltas lead to it; only of deltas.
        self._depths: dict[int, int] = {}
        self._bases: dict[str, None] = {}

    def weigh(self) -> list[str]:
        head = self._data[self._at : self._at + 12]
        if len(head) < 12 or head[:8] != b"PACK\0\0\0\2":
            raise Invalid("The bundle holds no pack of version 2.", "Have it made again.")
        count = int.from_bytes(head[8:])
        if count > self._limits.objects:
            raise self._too("objects", count, self._limits.objects)
        self._at += 12
        for _ in range(count):
            self._object()
        if len(self._data) - self._at != _OID:
            raise Invalid("The bundle's pack does not end where it says.", "Have it made again.")
        return list(self._bases)

    def _object(self) -> None:
        place, data = self._at, self._data
        byte = data[self._at]
        self._at += 1
        kind, size, shift = byte >> 4 & 7, byte & 15, 4
        while byte & 128 and shift < 64:
            byte = data[self._at]
            self._at += 1
            size |= (byte & 127) << shift
            shift += 7
        if kind == _BY_PLACE:
            depth = self._depths.get(place - self._distance(), 0) + 1
        elif kind == _BY_ID:
            self._bases[data[self._at : self._at + _OID].hex()] = None
            self._at += _OID
            depth = 1
        elif kind in _WHOLE:
            depth = 0
        else:
            raise Invalid(f"The bundle's pack holds an object of the unknown kind {kind}.", "Have it made again.")
        self._bounded(size)
        begin = self._inflate(size)
        if depth:
            if depth > self._limits.depth:
                raise self._too("deltas upon each other", depth, self._limits.depth)
            self._depths[place] = depth
            size += self._bounded(_result(begin))
        self._total += size
        if self._total > self._limits.unpacked:
            raise self._too("bytes unpacked", self._total, self._limits.unpacked)

    def _distance(self) -> int:
        """How far before a delta its base is: git's own varint, each further byte standing for what shorter ones cannot say."""
        byte = self._data[self._at]
        self._at += 1
        far = byte & 127
        while byte & 128 and far < 1 << 56:
            byte = self._data[self._at]
            self._at += 1
            far = (far + 1) << 7 | byte & 127
        return far

    def _bounded(self, size: int) -> int:
        if size > self._limits.object:
            raise self._too("bytes in one object", size, self._limits.object)
        return size

    def _inflate(self, size: int) -> bytes:
        """Goes on to the end of an object that inflates to `size` bytes; returns its first bytes."""
        stream, data, done, begin = zlib.decompressobj(), self._data, 0, b""
        step = min(_STEP, size + (size >> 9) + 64)  # hardly more than what it can take: what is left over is copied
        fresh = b""
        while not stream.eof:
            if not (fed := stream.unconsumed_tail):
                fed = data[self._at : self._at + step]
                self._at += len(fed)
            fresh = stream.decompress(fed, _STEP)
            if not fed and not fresh and not stream.eof:
                raise Invalid("The bundle's pack is cut off.", "Have it made again.")
            done += len(fresh)
            begin = begin or fresh[:32]
            if done > size:
                break
        self._at -= len(stream.unused_data)
        if done != size:
            raise Invalid("An object in the bundle's pack is not as large as it says.", "Have it made again.")
        return begin

    def _too(self, what: str, found: int, most: int) -> Exhausted:
        return Exhausted(f"The bundle has {found} {what} or more; at most {most} are taken in.", TOO_MUCH)


def _result(delta: bytes) -> int:
    """The size of what a delta makes, from its first bytes: two varints, of its base and of that."""
    at = size = 0
    for _ in range(2):
        size = shift = 0
        while True:
            byte = delta[at]
            at += 1
            size |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                break
    return size
