"""Names of refs: any name with any id in it becomes a legal ref, and back.

A name says what, of which task, and which one: `wip/<task>/<n>`. What stands between its first and its last slash is one id,
slashes included, so `a` and `a/1` can be ids side by side (git could not hold both `wip/a/1` and `wip/a/1/1`).

Git forbids much in a ref (`git help check-ref-format`): `..`, `@{`, a leading dot, a trailing `.lock`, spaces, `~^:?*[\\`.
So all but ASCII letters, digits, `-` and `_` is percent-encoded, the dot included. A file system forbids names beyond 255
bytes, so a long one is cut into pieces, each but the last with a `%` at its end, which nothing else makes.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from skep.errors import Invalid

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_PIECE = 200


def quote(name: str) -> str:
    """A session's or task's id as part of a ref. Raises Invalid if it is empty."""
    if not name:
        raise Invalid("An empty name cannot be part of a ref.", "Give it a name.")
    raw = name.encode("utf-8", "surrogatepass")
    text = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)
    return "%/".join(text[at : at + _PIECE] for at in range(0, len(text), _PIECE))


def encode(name: str) -> str:
    """A name below a session as git can hold it. Raises Invalid if a part of it is empty."""
    first, *rest = name.split("/", 1)
    middle, *last = rest[0].rsplit("/", 1) if rest else [""]
    return "/".join(quote(part) for part in (first, *([middle] if rest else []), *last))


def decode(ref: str) -> str:
    """The name that `encode` was given."""
    pieces = ref.replace("%/", "").split("/")
    return "/".join(unquote_to_bytes(piece).decode("utf-8", "surrogatepass") for piece in pieces)
