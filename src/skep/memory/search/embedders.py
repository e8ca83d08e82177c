"""Embedders by the name that a configuration gives them."""

from __future__ import annotations

from skep.config import EmbeddingsConfig
from skep.errors import Invalid
from skep.memory import Embedder

NAMES = ("hashed", "minilm", "provider")


def embedder_named(name: str = "hashed", service: EmbeddingsConfig | None = None) -> Embedder:
    """The embedder of that name.

    Args:
        service: what `provider` asks.

    Raises:
        Invalid: there is none, or its settings are wrong.
        Unavailable: it needs what is not installed, or a key that is not set.
    """
    if name == "hashed":
        from skep.memory.search.hashed import Hashed

        return Hashed()
    if name == "minilm":
        from skep.memory.search.minilm import MiniLm

        return MiniLm()
    if name == "provider":
        from skep.memory.search.provider import Provider

        return Provider(service or EmbeddingsConfig())
    raise Invalid(f"there is no embedder '{name[:80]}'", f"There are {', '.join(NAMES)}.")
