"""What `wiring` puts together for one owner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct

from skep.config import Config
from skep.memory.bank import Bank
from skep.runtime import node
from skep.runtime.perform import Performer
from skep.runtime.publishers import Publishers
from skep.runtime.shared import Shared
from skep.store import Blobs, Listing, Log, Recordings
from skep.terminals.pool import Stats
from skep.workspace import Commits, Workspace


class Parts(Struct, frozen=True, kw_only=True):
    """What `wiring` puts together for one owner."""

    config: Config
    folder: Path
    state: Path
    log: Log
    blobs: Blobs
    bank: Bank
    workspace: Workspace
    performer: Performer
    clock: node.SystemClock
    here: node.Here = node.Here()
    shared: Shared | None = None
    terminals: Callable[[], Stats]
    close: Callable[[], Awaitable[None]]
    #: Where the commits of sessions can be had, if the store is shared.
    listing: Listing | None = None
    commits: Commits | None = None
    #: And which of their blobs hold what attempts printed.
    recordings: Recordings | None = None
    #: Publishes the sessions that are written here, if others are to see them.
    publishers: Publishers | None = None
