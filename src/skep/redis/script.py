"""Programs that run in the server, whole or not at all: known to the server by the SHA-1 of their text."""

from __future__ import annotations

import hashlib
from importlib.resources import files


class Script:
    """A program for the server. `text`: in Lua. It must check all before it writes anything: Redis takes nothing back."""

    def __init__(self, text: str) -> None:
        self.text = text
        # What the server calls it; nothing is secured by it.
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def read(package: str, *names: str) -> Script:
    """The script made of a package's `scripts/<name>.lua`, one behind the other: what several share comes first."""
    return Script("".join((files(package) / "scripts" / f"{name}.lua").read_text(encoding="utf-8") for name in names))
