"""A text sealed for one process: only who has the private half of a key pair, and a secret that both sides know, can open it.

X25519 (RFC 7748) between the opener's key pair and one made for this text alone, HKDF-SHA256 (RFC 5869) salted with the secret,
AES-256-GCM. What the text is about goes into the key and is authenticated with it, so that it opens as nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it takes its time to load, and most processes seal nothing
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

#: Bytes of a public key, of a key of the cipher.
PUBLIC, KEY = 32, 32
#: Each key seals one text, so its number within the key is always the same.
_NONCE = bytes(12)


class Opener:
    """A key pair that lives in this object and is stored nowhere: what was sealed for it dies with it."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        self._private = X25519PrivateKey.generate()
        #: What others seal with.
        self.public = self._private.public_key().public_bytes_raw()

    def open(self, sealed: bytes, secret: bytes, about: bytes) -> bytes | None:
        """The text; None if it was not sealed for this key pair, with this secret, about this, or was changed."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        theirs, text = sealed[:PUBLIC], sealed[PUBLIC:]
        try:
            return AESGCM(_key(self._private, theirs, theirs + self.public, secret, about)).decrypt(_NONCE, text, about)
        except (InvalidTag, ValueError):  # ValueError: that is no public key, or too short
            return None


def seal(public: bytes, secret: bytes, about: bytes, text: bytes) -> bytes:
    """Seals a text for whoever has the private half of `public`.

    Args:
        secret: that the opener knows, too: it proves who sealed it.
        about: what it is, and for whom; both sides know it.

    Raises:
        ValueError: that is no public key.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    private = X25519PrivateKey.generate()
    ours = private.public_key().public_bytes_raw()
    return ours + AESGCM(_key(private, public, ours + public, secret, about)).encrypt(_NONCE, text, about)


def _key(private: X25519PrivateKey, other: bytes, both: bytes, secret: bytes, about: bytes) -> bytes:
    """The key of one text. `both`: the public halves, the sealer's first. Raises ValueError for what is no public key."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    shared = private.exchange(X25519PublicKey.from_public_bytes(other))
    return HKDF(SHA256(), KEY, salt=secret, info=both + about).derive(shared)
