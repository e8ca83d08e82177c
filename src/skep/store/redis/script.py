"""The programs of this store that run in the server: their texts lie beside this file."""

from __future__ import annotations

from functools import cache

from skep.redis.script import Script, read


@cache
def load(*names: str) -> Script:
    """The script made of `scripts/<name>.lua`, one behind the other: what several share comes first."""
    return read("skep.store.redis", *names)
