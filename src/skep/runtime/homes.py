"""Homes of tasks: where a client keeps its conversation from one attempt of a task to the next.

They outlive attempts, so that a task can be resumed, and go when its kept work is discarded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

FOLDER, GONE = "homes", ".gone"


def short(session: str, *parts: object) -> str:
    """A folder name for something of a session: names of tasks may hold anything, file names may not."""
    return hashlib.sha256("\0".join((session, *map(str, parts))).encode()).hexdigest()[:24]


def home(state: str, session: str, task: str) -> str:
    """The home of a task, by the state folder."""
    return f"{state}/{FOLDER}/{short(session)}/{short(session, task)}"


def set_aside(state: str, session: str, tasks: Iterable[str] | None, keep: Iterable[str] = ()) -> list[Path]:
    """Takes homes out of the way at once, so that no attempt that begins now finds half of one; returns what is to be erased.

    Args:
        tasks: whose; None = of all tasks that the session ever had.
        keep: tasks whose homes stay in any case.
    """
    place, kept = Path(state, FOLDER, short(session)), {short(session, task) for task in keep}
    try:
        found = sorted(os.listdir(place)) if tasks is None else [short(session, task) for task in tasks]
    except FileNotFoundError:
        return []
    gone = []
    for name in found:
        if name not in kept and (place / name).is_dir():
            # Under a name that no task has; what a crash leaves of it goes with the next discard.
            gone.append(place / name if name.endswith(GONE) else (place / name).rename(place / (name + GONE)))
    return gone
