"""What is kept of sessions beside the store, as callers see it: backups and archives."""

from __future__ import annotations

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
