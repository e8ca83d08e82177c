"""What `wiring` puts together for one owner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct

from skep.config import Config
from skep.runtime import node
from skep.runtime.perform import Performer
from skep.store import Blobs, Log
from skep.terminals.pool import Stats
from skep.workspace import Workspace


class Parts(Struct, frozen=True, kw_only=True):
    """What `wiring` puts together for one owner."""

    config: Config
    folder: Path
    state: Path
    log: Log
    blobs: Blobs
    workspace: Workspace
    performer: Performer
    clock: node.SystemClock
    terminals: Callable[[], Stats]
    close: Callable[[], Awaitable[None]]
