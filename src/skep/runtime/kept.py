"""What is kept of sessions beside their logs, as callers see it: backups, archives, recordings."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class BackupView(Struct, frozen=True, kw_only=True):
    """A backup of a session, or why there is none.

    `session`, `name`: of whom, and the name it went by. `path`: the file. `at`: when, ms. `events`: how much of the log it holds.
    `bytes`: its size. `ours`: whether it is sealed with the key of this store, so that nobody without the key changed it.
    `trouble`: what is wrong with it, or why there is none; empty = it is good. `lost`: outputs that were lost before.
    """

    session: str
    name: str = ""
    path: str = ""
    at: int = 0
    events: int = 0
    bytes: int = 0
    ours: bool = True
    trouble: str = ""
    lost: tuple[str, ...] = ()


class PruneView(Struct, frozen=True, kw_only=True):
    """A session that ended long enough ago, and what became of it.

    `ended`: when, ms. `path`, `bytes`: its archive, from which it can be restored. `gone`: whether it was removed. `kept`: why it
    stays, though it is old enough. `trouble`: why it could not be archived or removed, or if it is gone, why something of it is
    still there. Neither, and not gone: it would go.
    """

    session: str
    name: str
    ended: int
    path: str = ""
    bytes: int = 0
    gone: bool = False
    kept: str = ""
    trouble: str = ""


class RecordingView(Struct, frozen=True, kw_only=True):
    """What an attempt printed (an empty `part`), or what a check of its work printed (`verify`, `merge`).

    `where`: `here`, in the file `path`; in the `store`; `nothing` was printed; `away`: on `node` if anywhere, and not available
    here; `doubt`: what the store says of it is not to be believed, and why. `node`: where it was printed; empty if that is not
    known.
    """

    attempt: int
    part: str = ""
    where: Literal["here", "store", "nothing", "away", "doubt"]
    path: str = ""
    node: str = ""
    doubt: str = ""
