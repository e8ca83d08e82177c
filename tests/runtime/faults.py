"""A store whose appends go wrong when a test says so. What lies under it is the real one."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import pytest

import skep.app
from skep.config import Config
from skep.errors import SkepError, Unavailable
from skep.runtime.node import Role
from skep.runtime.parts import Parts
from skep.store import Head, Log
from skep.wiring import assemble


class FaultyLog:
    """A log that delegates, but for the faults that are asked for.

    Args:
        inner: the real one.
    """

    def __init__(self, inner: Log) -> None:
        self._inner = inner
        #: What the next appends come to: "before" (nothing is written), "after" (written, the answer is lost), "" (well).
        self.appends: deque[str] = deque()
        #: Calls of `acquire` that are refused.
        self.refused = 0
        #: Why no snapshot is kept.
        self.no_snapshots: SkepError | None = None
        self.struck = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def append(self, session: str, *args: Any, **more: Any) -> Head:
        """See `Log.append`."""
        fault = self.appends.popleft() if self.appends else ""
        if fault:
            self.struck += 1
        if fault == "before":
            raise Unavailable("the disk went away")
        head = await self._inner.append(session, *args, **more)
        if fault == "after":
            raise Unavailable("the answer went away")
        return head

    async def acquire(self, session: str, owner: str = "", after: int = -1) -> Head:
        """See `Log.acquire`."""
        if self.refused:
            self.refused -= 1
            self.struck += 1
            raise Unavailable("the disk is still away", "Bring it back.")
        return await self._inner.acquire(session, owner, after)

    async def snapshot(self, session: str, seq: int, blob: bytes) -> None:
        """See `Log.snapshot`."""
        if self.no_snapshots is not None:
            self.struck += 1
            raise self.no_snapshots
        await self._inner.snapshot(session, seq, blob)


def with_faults(monkeypatch: pytest.MonkeyPatch) -> list[FaultyLog]:
    """From now on workspaces that this process opens have a faulty log; each of them is put into the list."""
    logs: list[FaultyLog] = []

    async def assemble_faulty(folder: Path, config: Config, role: Role | None) -> Parts:
        parts = await assemble(folder, config, role)
        log = FaultyLog(parts.log)
        logs.append(log)
        return msgspec.structs.replace(parts, log=log)

    monkeypatch.setattr(skep.app, "assemble", assemble_faulty)
    return logs
