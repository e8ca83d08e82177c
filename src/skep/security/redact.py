"""Takes secrets out of what a program prints, wherever the output is cut into pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

#: What stands where a secret was.
MARK = b"[secret]"
#: Secrets shorter than this, in bytes, are left: what is that short is everywhere.
SHORTEST = 6


class Redactor:
    """Replaces secrets in a stream of bytes. What may be the beginning of one waits for more.

    Args:
        secrets: the values.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._values = _forms(secrets)
        self._pattern = re.compile(b"|".join(map(re.escape, self._values))) if self._values else None
        self._held = b""

    def feed(self, data: bytes, final: bool = False) -> bytes:
        """The next bytes without secrets; `final`: no more come."""
        if self._pattern is None:
            return data
        data = self._pattern.sub(MARK, self._held + data)
        keep = 0 if final else self._begun(data)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def _begun(self, data: bytes) -> int:
        """How many bytes at the end may be the beginning of a secret."""
        return max((_overlap(data, value) for value in self._values), default=0)


def _overlap(data: bytes, value: bytes) -> int:
    """How many bytes at the end of `data` are the beginning of `value`, but not all of it."""
    start, head = max(0, len(data) - len(value) + 1), value[:SHORTEST]
    # A long secret is looked for by its first bytes: to compare it at each place would take longer than the program that prints.
    while (start := data.find(head, start)) >= 0:
        if value.startswith(data[start:]):
            return len(data) - start
        start += 1
    return next((size for size in range(min(SHORTEST - 1, len(data)), 0, -1) if value.startswith(data[-size:])), 0)


def without(value: Any, redactor: Redactor) -> Any:
    """A text without secrets, or what is made of dicts and lists with all in it so; a number that shows one becomes a text."""
    if isinstance(value, str):
        return redactor.feed(value.encode(errors="surrogatepass"), final=True).decode(errors="surrogatepass")
    if isinstance(value, int | float) and not isinstance(value, bool):
        shown = without(str(value), redactor)
        return value if shown == str(value) else shown
    if isinstance(value, dict):
        return {without(name, redactor): without(inner, redactor) for name, inner in value.items()}
    return [without(inner, redactor) for inner in value] if isinstance(value, list | tuple) else value


def _forms(secrets: Iterable[str]) -> list[bytes]:
    """The secrets as they may be printed, the longest first: a terminal ends lines with two characters."""
    found = set()
    for secret in secrets:
        value = secret.encode(errors="surrogateescape").strip(b"\r\n")
        found |= {value, value.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")}
    return sorted((value for value in found if len(value) >= SHORTEST), key=lambda value: (-len(value), value))
