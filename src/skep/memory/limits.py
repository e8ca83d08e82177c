"""What may be kept, and under which names. All are checked before anything is written."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from skep.errors import Invalid

#: Characters of a key, of a namespace, of a tag; tags of an entry; bytes of its metadata.
MAX_KEY, MAX_NAMESPACE, MAX_TAG, MAX_TAGS, MAX_METADATA = 512, 300, 64, 32, 16 * 1024
#: Bytes of a value that stands in its record, and of one that does not: it lies in a blob.
INLINE, MAX_VALUE = 64 * 1024, 64 * 1024 * 1024
#: Numbers of a vector, and how deep lists and objects lie in each other.
MAX_VECTOR, MAX_DEPTH = 4_096, 100
#: Behind it in a namespace's name stands what Skep keeps of an earlier state; no user names such.
COPY = "@"

#: In the metadata of what a consolidation wrote: which one it was. It is left out of what anybody else writes.
RUN = "consolidated"

encode_value = msgspec.msgpack.Encoder(order="deterministic").encode
_decode_value = msgspec.msgpack.Decoder().decode


def check_key(key: str) -> None:
    """Raises Invalid for what is no key."""
    _check_name("key", key, MAX_KEY)


def check_namespace(namespace: str) -> None:
    """Raises Invalid for what is no namespace of a user's."""
    _check_name("namespace", namespace, MAX_NAMESPACE)
    if COPY in namespace:
        raise Invalid(f"'{namespace[:80]}' is no namespace: there is '{COPY}' in it", "Leave that sign out.")


def check_tags(tags: tuple[str, ...]) -> None:
    """Raises Invalid for too many tags, or for what is none."""
    if len(tags) > MAX_TAGS:
        raise Invalid(f"{len(tags)} tags, more than {MAX_TAGS}", "Leave some out, or put them into the value.")
    for tag in tags:
        _check_name("tag", tag, MAX_TAG)


def check_metadata(metadata: dict[str, Any]) -> None:
    """Raises Invalid for metadata that is too large, or cannot be written."""
    if metadata and len(measured(metadata, "metadata")) > MAX_METADATA:
        raise Invalid(f"the metadata has more than {MAX_METADATA} bytes", "Put it into the value.")


def measured(value: Any, what: str) -> bytes:
    """A value as it is kept. Raises Invalid for what JSON does not know, is too deep, or too large."""
    check_shape(value, what)
    try:
        data = encode_value(value)
    except (TypeError, ValueError, OverflowError) as error:
        fix = "It is made of what JSON knows; texts are Unicode, numbers have up to 64 bits."
        raise Invalid(f"{what} cannot be kept: {error}", fix) from None
    if len(data) > MAX_VALUE:
        raise Invalid(f"{what} has {len(data)} bytes, more than {MAX_VALUE}", "Put it into a file, and keep where that is.")
    return data


def decode_value(data: bytes) -> Any:
    """The value of `encode_value`. Raises Invalid for anything else."""
    try:
        return _decode_value(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"a large value is damaged: {error}", "Put the memory back from a backup.") from None


def check_shape(value: Any, what: str, depth: int = 0) -> None:
    """Raises Invalid for what JSON does not know, or is too deep; `depth`: how deep it lies already."""
    if isinstance(value, str | bool | int | None):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Invalid(f"{what} holds {value}, which JSON does not know", "Write it as text, or leave it out.")
    elif depth >= MAX_DEPTH:
        raise Invalid(f"{what} is nested deeper than {MAX_DEPTH}", "Flatten it, or keep it as text.")
    elif isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise Invalid(f"{what} has a name that is no text: {name!r}"[:200], "Names in objects are texts.")
            check_shape(item, what, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            check_shape(item, what, depth + 1)
    else:
        raise Invalid(f"{what} holds a {type(value).__name__}", "It is made of what JSON knows.")


def _check_name(what: str, name: str, most: int) -> None:
    if not isinstance(name, str) or not name or len(name) > most or name.strip() != name or not name.isprintable():
        shown = ascii(name)[1:-1][:80] if isinstance(name, str) else type(name).__name__
        raise Invalid(f"'{shown}' is no {what}", f"Use 1 to {most} printable characters, without spaces at the ends.")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Invalid(f"'{ascii(name)[1:-1][:80]}' is no {what}: it is not Unicode", "Use Unicode.") from None
