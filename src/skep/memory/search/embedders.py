"""Embedders by the name that a configuration gives them."""

from __future__ import annotations

from skep.errors import Invalid
from skep.memory import Embedder
from skep.memory.search.hashed import Hashed
from skep.memory.search.minilm import MiniLm

NAMES = ("hashed", "minilm")


def embedder_named(name: str = "hashed") -> Embedder:
    """The embedder of that name.

    Raises:
        Invalid: there is none.
        Unavailable: it needs what is not installed.
    """
    if name == "hashed":
        return Hashed()
    if name == "minilm":
        return MiniLm()
    raise Invalid(f"there is no embedder '{name[:80]}'", f"There are {', '.join(NAMES)}.")
