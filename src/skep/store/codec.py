"""Events to bytes and back: one blob per append, MessagePack of [format, [event, ...]].

A blob written by any earlier format is upcast, one format at a time, before its events are made; one written by a later format is
refused. Every format ever released keeps a golden file in `tests/store/golden`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from skep.core.events import Event
from skep.errors import Invalid

#: The format that `encode` writes. It changes only when a new field with a default, or a new event, is not enough.
FORMAT = 1

#: Format -> how its events, as plain lists `[tag, field, ...]`, become events of the next format.
UPCASTS: Mapping[int, Callable[[list[Any]], list[Any]]] = {}

_HEAD = bytes([0x92, FORMAT])  # an array of two, the first of them this small integer
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[int, list[Event]])
_PLAIN = msgspec.msgpack.Decoder(tuple[int, list[Any]])


def encode(events: Sequence[Event]) -> bytes:
    """The blob of these events.

    Raises:
        Invalid: an event carries a value that has no place in a log (an integer over 64 bits, an object of one's own, half a
            surrogate pair, nesting without end).
    """
    try:
        return _ENCODER.encode((FORMAT, events))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Invalid(
            f"an event holds a value that cannot be kept in the log: {error}",
            fix="Results and arguments are made of text, bytes, numbers up to 64 bits, lists, and mappings.",
        ) from None


def decode(blob: bytes, upcasts: Mapping[int, Callable[[list[Any]], list[Any]]] = UPCASTS) -> list[Event]:
    """The events of a blob that `encode` made, in this format or an earlier one.

    Args:
        upcasts: as `UPCASTS`.

    Raises:
        Invalid: a later format, an unknown event, or no such blob at all.
    """
    try:
        if blob.startswith(_HEAD):
            return _DECODER.decode(blob)[1]
        version, plain = _PLAIN.decode(blob)
        if version > FORMAT:
            raise Invalid(
                f"the log was written in format {version}; this Skep reads formats up to {FORMAT}",
                fix="Install the Skep that wrote it, or a later one.",
            )
        for step in range(version, FORMAT):
            if step not in upcasts:
                raise Invalid(f"the log says format {step}, which never was", fix="Take the log from a backup.")
            plain = upcasts[step](plain)
        return msgspec.convert(plain, list[Event])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Invalid(
            f"a part of the log cannot be understood: {error}",
            fix="Install the Skep that wrote it, or a later one; if that is this one, take the log from a backup.",
        ) from None


def public(event: Event) -> dict[str, Any]:
    """An event as the outside sees it: its name under `event`, then all its fields by name, ready for JSON."""
    fields = {
        field.encode_name: msgspec.to_builtins(getattr(event, field.name), str_keys=True)
        for field in msgspec.structs.fields(type(event))
    }
    return {"event": type(event).__struct_config__.tag, **fields}
