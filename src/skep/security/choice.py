"""Which sandbox there is here."""

from __future__ import annotations

from pathlib import Path

from skep.security import Sandbox, landlock, sandbox
from skep.security.limits import missing


def choose(folder: Path) -> Sandbox | str:
    """What confines programs here, the best that there is; or why nothing does. It was tried.

    Args:
        folder: takes what a sandbox keeps; nothing that is confined sees it.

    Raises:
        Unavailable: the folder cannot be written.
    """
    lost = missing()
    best = sandbox.choose(folder, lost)
    if not isinstance(best, str):
        return best
    found = landlock.choose(folder, lost)
    return f"{best}; {found}" if isinstance(found, str) else found
