"""Times that people write: a point in time, or how long ago."""

from __future__ import annotations

from datetime import datetime

import click

from skep.interfaces.cli.faces import now


def moment(option: str, text: str) -> int:
    """A point in time as wall-clock ms, local unless it says its zone; `2h` is two hours ago; 0 for an empty text.

    Args:
        option: where it was written, for the message.
    """
    from skep.config import seconds

    if not text:
        return 0
    if ago := seconds(text):
        return now() - ago * 1000
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise click.UsageError(f"{option} '{text[:40]}' is no time: write such as 2026-11-21T18:30, or 2h (ago).") from None


def period(option: str, text: str) -> int:
    """How long such as `30m` is, in seconds; 0 for an empty text."""
    from skep.config import seconds

    if text and not seconds(text):
        raise click.UsageError(f"{option} '{text[:40]}' is no time: write such as 90s, 30m, 12h or 7d.")
    return seconds(text)
