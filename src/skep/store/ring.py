"""What a process can prove, and check, of what lies in a shared store: all with the hive's key, its own part with an invitation.

All secrets are derived from the hive's key, so nothing is kept about an invitation:

- Who has the key signs each append (Ed25519, RFC 8032). Whoever has the public half can check a log and cannot write it.
- A node's secret is of its name alone: it seals that node's letters, the answers to them, and what it is told to do.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from skep.core.senders import node_of
from skep.errors import Denied, Invalid
from skep.store import Append, Head, chain

if TYPE_CHECKING:  # it takes its time to load, and who only looks on does without
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

#: Bytes of a signature.
SIGNATURE = 64

_WITHOUT = "Do it on a machine that has the store's key; `skep node join --key FILE` makes this one such a machine."


class Ring(Protocol):
    """The keys of one process."""

    #: The node that it was invited as; "" = it has the hive's key.
    node: str

    @property
    def key(self) -> bytes:
        """The hive's key. Raises Denied without it."""

    @property
    def public(self) -> bytes:
        """With which appends are checked: the public half of the hive's signing key."""

    @property
    def place(self) -> str:
        """What a place of large blobs of this store carries."""

    def secret(self, node: str) -> bytes:
        """The secret of a node. Raises Denied for another node's without the hive's key."""

    def of(self, sender: str) -> bytes:
        """What seals the letters of a sender, and the answers to it. Raises as `secret`."""

    def sign(self, text: bytes) -> bytes:
        """The hive's signature of a text. Raises Denied without its key."""

    def follows(self, session: str, head: Head, append: Append) -> bool:
        """Whether an append is the one that comes after `head`, written by somebody with the hive's key."""

    def check_page(self, session: str, before: Append | None, page: list[Append]) -> None:
        """See `chain.check_page`."""

    def check_end(self, session: str, head: Head, sealed: bytes, last: Append | None) -> None:
        """See `chain.check_end`, as far as it can be known."""

    def whole(self, session: str, seq: int, there: bytes, blob: bytes, sealed: bytes, signed: bytes) -> bool:
        """Whether a snapshot is what somebody with the hive's key wrote. The arguments are those of `chain.seal_snapshot`."""


class HiveRing:
    """The ring of who has the hive's key.

    Args:
        key: 32 bytes.
    """

    node = ""

    def __init__(self, key: bytes) -> None:
        self.key = key

    @cached_property
    def _signer(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(chain.seal(self.key, "signer"))

    @property
    def public(self) -> bytes:
        """See `Ring.public`."""
        return self._signer.public_key().public_bytes_raw()

    @property
    def place(self) -> str:
        """See `Ring.place`."""
        return chain.seal(self.key, "large blobs").hex()

    def secret(self, node: str) -> bytes:
        """See `Ring.secret`."""
        return chain.node_secret(self.key, node)

    def of(self, sender: str) -> bytes:
        """See `Ring.of`."""
        node = node_of(sender)
        return self.secret(node) if node else self.key

    def sign(self, text: bytes) -> bytes:
        """See `Ring.sign`."""
        return self._signer.sign(text)

    def follows(self, session: str, head: Head, append: Append) -> bool:
        """See `Ring.follows`."""
        return chain.follows(self.key, session, head, append)

    def check_page(self, session: str, before: Append | None, page: list[Append]) -> None:
        """See `Ring.check_page`."""
        chain.check_page(self.key, session, before, page)

    def check_end(self, session: str, head: Head, sealed: bytes, last: Append | None) -> None:
        """See `Ring.check_end`."""
        chain.check_end(self.key, session, head, sealed, last)

    def whole(self, session: str, seq: int, there: bytes, blob: bytes, sealed: bytes, signed: bytes) -> bool:
        """See `Ring.whole`."""
        return hmac.compare_digest(sealed, chain.seal_snapshot(self.key, session, seq, there, blob))


class NodeRing:
    """The ring of a node with an invitation.

    Args:
        node: its name.
        secret: of that name, 32 bytes.
        public: see `Ring.public`, 32 bytes.
        place: see `Ring.place`.

    Raises:
        Invalid: that is no public key.
    """

    def __init__(self, node: str, secret: bytes, public: bytes, place: str) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        self.node = node
        self.public = public
        self.place = place
        self._secret = secret
        try:
            self._verifier: Ed25519PublicKey = Ed25519PublicKey.from_public_bytes(public)
        except ValueError:
            raise Invalid(f"the invitation of node '{node}' is damaged") from None

    @property
    def key(self) -> bytes:
        """See `Ring.key`: it has none."""
        raise Denied(f"this needs the key of the store, and node '{self.node}' has an invitation only", _WITHOUT)

    def secret(self, node: str) -> bytes:
        """See `Ring.secret`."""
        if node != self.node:
            raise Denied(f"the invitation of node '{self.node}' says nothing of '{node or 'others'}'", _WITHOUT)
        return self._secret

    def of(self, sender: str) -> bytes:
        """See `Ring.of`."""
        return self.secret(node_of(sender))

    def sign(self, text: bytes) -> bytes:
        """See `Ring.sign`."""
        return self.key

    def follows(self, session: str, head: Head, append: Append) -> bool:
        """See `Ring.follows`."""
        return chain.in_place(head, append) and self._signed(append_text(session, head.hash, append), append.sign)

    def check_page(self, session: str, before: Append | None, page: list[Append]) -> None:
        """See `Ring.check_page`. Raises Invalid also for what was written before appends were signed."""

        def good(there: bytes, append: Append) -> bool:
            if not append.sign:
                why = "it was written before appends were signed, or by somebody without the key"
                fix = "Begin the work as a new session, or have this node join with the key of the store (--key)."
                raise Invalid(f"session {session}: event {append.first} is not signed: {why}", fix)
            return self._signed(append_text(session, there, append), append.sign)

        chain.check_each(session, before, page, good)

    def check_end(self, session: str, head: Head, sealed: bytes, last: Append | None) -> None:
        """See `Ring.check_end`: only the key can tell. A log without its end looks like an older state of itself."""

    def whole(self, session: str, seq: int, there: bytes, blob: bytes, sealed: bytes, signed: bytes) -> bool:
        """See `Ring.whole`."""
        return self._signed(snapshot_text(session, seq, there, blob), signed)

    def _signed(self, text: bytes, signature: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature

        try:
            self._verifier.verify(signature, text)
        except InvalidSignature:
            return False
        return True


def append_text(session: str, before: bytes, append: Append) -> bytes:
    """What is signed of an append that follows one whose hash is `before`. Its own hash ties the next one to it."""
    fields = (append.epoch, append.first, append.last, append.batch, append.blob, append.hash)
    return hashlib.sha256(chain.pack("append", session, before, *fields)).digest()


def snapshot_text(session: str, seq: int, there: bytes, blob: bytes) -> bytes:
    """What is signed of a snapshot: as `chain.seal_snapshot`."""
    return hashlib.sha256(chain.pack("snapshot", session, seq, there, blob)).digest()
