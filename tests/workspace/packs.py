"""Bundles as nobody's git would write them."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

COMMIT, TREE, BLOB, BY_PLACE, BY_ID = 1, 2, 3, 6, 7
_NAMES = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob"}


def entry(kind: int, body: bytes, base: bytes = b"", size: int = -1) -> bytes:
    """An object as it stands in a pack; `base`: what a delta says of its base; `size`: what it claims to be."""
    size = len(body) if size < 0 else size
    head, size = [kind << 4 | size & 15], size >> 4
    while size:
        head[-1] |= 128
        head.append(size & 127)
        size >>= 7
    return bytes(head) + base + zlib.compress(body)


def packed(entries: Iterable[bytes], count: int = -1) -> bytes:
    """A pack of such objects; `count`: how many it claims to have."""
    found = list(entries)
    data = b"PACK\0\0\0\2" + (len(found) if count < 0 else count).to_bytes(4) + b"".join(found)
    return data + hashlib.sha1(data).digest()


def delta(base: int, result: int, body: bytes = b"") -> bytes:
    """A delta from an object of one size to one of another."""
    return varint(base) + varint(result) + body


def varint(number: int) -> bytes:
    """A number as git writes it in front of a delta."""
    data = []
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def far(distance: int) -> bytes:
    """How far before a delta its base lies."""
    data = [distance & 127]
    while distance := distance >> 7:
        distance -= 1
        data.insert(0, distance & 127 | 128)
    return bytes(data)


def bundle(file: Path, commit: str, pack: bytes, needs: Sequence[str] = ()) -> Path:
    """Writes a bundle of a commit."""
    lines = "".join(f"-{need} \n" for need in needs)
    file.write_bytes(f"# v2 git bundle\n{lines}{commit} refs/skep/in/{commit}\n\n".encode() + pack)
    return file


class Forged:
    """Objects past git's own checks; `commit` is of a tree with the given entries (mode and name -> content or entries)."""

    def __init__(self, tree: dict[bytes, object]) -> None:
        self.entries: list[bytes] = []
        who = b"Eve <eve@example.org> 1700000000 +0000"
        top = self._tree(tree).encode()
        self.commit = self._put(COMMIT, b"tree " + top + b"\nauthor " + who + b"\ncommitter " + who + b"\n\ntrap\n")

    def _tree(self, tree: dict[bytes, object]) -> str:
        body = b""
        for name, content in tree.items():
            made = self._tree(content) if isinstance(content, dict) else self._put(BLOB, bytes(content))  # type: ignore[call-overload]  # bytes it is
            body += name + b"\0" + bytes.fromhex(made)
        return self._put(TREE, body)

    def _put(self, kind: int, body: bytes) -> str:
        self.entries.append(entry(kind, body))
        return hashlib.sha1(_NAMES[kind] + b" %d\0" % len(body) + body).hexdigest()
