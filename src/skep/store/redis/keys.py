"""What keys and channels are called. All of a session share a hash tag, so that a Cluster keeps them on one node."""

from __future__ import annotations

from urllib.parse import quote, unquote


def of_session(session: str, *parts: str) -> str:
    """A key or a channel of a session: `skep:{session}:part:...`, each percent-encoded."""
    return ":".join((f"skep:{{{encoded(session)}}}", *map(encoded, parts)))


def encoded(name: str) -> str:
    """A name without blanks, colons and braces."""
    return quote(name, safe="", errors="surrogatepass")


def decoded(name: bytes | str) -> str:
    """What was encoded."""
    return unquote(name.decode() if isinstance(name, bytes) else name, errors="surrogatepass")
