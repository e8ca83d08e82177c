"""Ed25519 signatures (RFC 8032) with a key of the state folder's own, and the one form in which a document is signed.

A signature shows that a document is as the key's holder wrote it. Whose key it is, it does not show: compare the fingerprint.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from skep.errors import Denied, Invalid

SIZE = 32


class Signer:
    """The signing key in a file, for its owner only; made if there is none.

    Args:
        path: the file: 32 bytes, mode 0600, in a folder that is there.

    Raises:
        Denied: others may read or write it.
        Invalid: it holds no key.
    """

    def __init__(self, path: Path) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(_secret(path))

    @property
    def public(self) -> str:
        """The public key, base64."""
        return base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    def sign(self, document: Any) -> str:
        """The signature of a document, base64."""
        return base64.b64encode(self._key.sign(canonical(document))).decode()


def _secret(path: Path) -> bytes:
    if not path.exists():
        fresh = path.with_name(f"{path.name}.new")
        fresh.unlink(missing_ok=True)
        number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(number, "wb") as file:
            file.write(Ed25519PrivateKey.generate().private_bytes_raw())
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(number, "rb") as file:
        if os.fstat(number).st_mode & 0o077:
            raise Denied(f"the signing key {path} can be read or changed by others", f"Run: chmod 600 {path}")
        secret = file.read(SIZE + 1)
    if len(secret) != SIZE:
        raise Invalid(f"{path} holds no signing key: it must have {SIZE} bytes", "Remove it; a new one is made, with a new name.")
    return secret


def canonical(document: Any) -> bytes:
    """The bytes that are signed: JSON in ASCII, keys sorted, no spaces. Made of texts, whole numbers, lists and objects."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def fingerprint(public: str) -> str:
    """The name of a public key: SHA-256 of its bytes. Raises Invalid if it is no key."""
    try:
        raw = base64.b64decode(public, validate=True)
        Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as error:
        raise Invalid(f"this is no public key: {error}", "Take the document as it was written.") from None
    return f"SHA256:{hashlib.sha256(raw).hexdigest()}"


def is_signed(document: Any, public: str, signature: str) -> bool:
    """Whether the signature of a document is by this key. Raises Invalid if the key is none."""
    fingerprint(public)
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public))
    try:
        key.verify(base64.b64decode(signature, validate=True), canonical(document))
    except (InvalidSignature, ValueError):
        return False
    return True
