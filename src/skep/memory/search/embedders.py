"""Embedders by the name that a configuration gives them."""

from __future__ import annotations

from skep.errors import Invalid
from skep.memory import Embedder
from skep.memory.search.hashed import Hashed

NAMES = ("hashed",)


def embedder_named(name: str = "hashed") -> Embedder:
    """The embedder of that name. Raises Invalid if there is none."""
    if name == "hashed":
        return Hashed()
    raise Invalid(f"there is no embedder '{name[:80]}'", f"There are {', '.join(NAMES)}.")
