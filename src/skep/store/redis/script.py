"""The programs of this store that run in the server: their texts lie beside this file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from skep.redis.script import Script


@cache
def load(*names: str) -> Script:
    """The script made of `scripts/<name>.lua`, one behind the other: what several share comes first."""
    return Script("".join((files(__package__) / "scripts" / f"{name}.lua").read_text(encoding="utf-8") for name in names))
