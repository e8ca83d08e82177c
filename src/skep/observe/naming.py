"""What stands for the `{id}` of keys and channels: names without colons, blanks and braces."""

from __future__ import annotations

from urllib.parse import quote


def escaped(name: str) -> str:
    """A name; what must not be in a key is percent-encoded."""
    return quote(name, safe="/[].,@+", errors="surrogatepass")


def within(session: str, name: str) -> str:
    """A name within a session: that of a task or an agent."""
    return f"{escaped(session)}/{escaped(name)}"
