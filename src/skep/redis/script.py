"""Programs that run in the server, whole or not at all: known to the server by the SHA-1 of their text."""

from __future__ import annotations

import hashlib


class Script:
    """A program for the server. `text`: in Lua. It must check all before it writes anything: Redis takes nothing back."""

    def __init__(self, text: str) -> None:
        self.text = text
        # What the server calls it; nothing is secured by it.
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
