"""The file with which a node joins without the hive's key: its name, its own secret, and how to check what others write."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
from msgspec import Struct

from skep.errors import Conflict, Denied, Invalid
from skep.store.ring import NodeRing, Ring

#: Version of the file, and bytes that none has.
VERSION, LARGEST = 1, 4096
#: Characters of an invited node's name.
LONGEST = 64


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    """`secret`, `public`, `place`: see `NodeRing`, in hex digits."""

    version: int
    node: str
    secret: str
    public: str
    place: str


def invitation(ring: Ring, node: str) -> bytes:
    """What the file says that invites a node. The same name is always invited with the same words.

    Raises:
        Invalid: no invited node can be called so.
        Denied: these are not the keys of who has the hive's.
    """
    if not re.fullmatch(rf"[A-Za-z0-9_.-]{{1,{LONGEST}}}", node):
        raise Invalid(f"{node[:40]!r} cannot name an invited node", f"Use 1 to {LONGEST} letters, digits, and . _ -")
    _ = ring.key
    said = _File(VERSION, node, ring.secret(node).hex(), ring.public.hex(), ring.place)
    return msgspec.json.format(msgspec.json.encode(said)) + b"\n"


def save(path: Path, said: bytes) -> None:
    """Writes an invitation, for its owner only.

    Raises:
        Conflict: the file is there.
        Invalid: it cannot be written.
    """
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise Conflict(f"{path} is there already", "Name another file with --out, or remove it.") from None
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}", "Name another file with --out.") from None
    with os.fdopen(number, "wb") as file:
        file.write(said)
        file.flush()
        os.fsync(number)


def invited(path: Path) -> NodeRing:
    """The keys of who has an invitation.

    Raises:
        Denied: others than its owner may read or change the file.
        Invalid: it cannot be read, or is no invitation.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        fix = "`skep node invite NAME` on a machine with the store's key makes one."
        raise Invalid(f"the invitation {path} cannot be read: {error.strerror}", fix) from None
    with os.fdopen(number, "rb") as file:
        if os.fstat(number).st_mode & 0o077:
            raise Denied(f"the invitation {path} can be read or changed by others", f"Run: chmod 600 {path}")
        text = file.read(LARGEST + 1)
    try:
        said = msgspec.json.decode(text[:LARGEST], type=_File)
        if said.version != VERSION:
            raise Invalid(f"{path} is an invitation of a later Skep", "Use the same version of Skep everywhere.")
        return NodeRing(said.node, bytes.fromhex(said.secret), bytes.fromhex(said.public), said.place)
    except ValueError as error:  # msgspec's own are, too
        raise Invalid(f"{path} is no invitation: {error}", "Have it made anew with `skep node invite`.") from None
