"""Runtime `hand`: nobody is started. Whoever claimed the task works in its worktree, and says when it is done."""

from __future__ import annotations

import asyncio
import contextlib
import time

from skep.agents import Ability, Ending, Host, Job, Said

#: Seconds for which a claim holds that says nothing else, and the longest one.
LEASE, LONGEST = 1_800.0, 86_400.0


class Held:
    """One claim, while it holds."""

    def __init__(self, job: Job, host: Host) -> None:
        self.job, self.host = job, host
        self.over: Ending | None = None
        self._moved = asyncio.Event()
        self.lease = LEASE
        self.renewed = time.monotonic()

    def renew(self, lease: float = 0.0) -> None:
        """It holds from now on for so many seconds; 0 = for as long as it was given before."""
        self.lease = min(lease, LONGEST) or self.lease
        self.renewed = time.monotonic()
        self._moved.set()

    @property
    def left(self) -> float:
        """Seconds for which it holds."""
        return self.lease - (time.monotonic() - self.renewed)

    def settle(self, ok: bool, words: str) -> None:
        """It is over: `ok` with the result, or failed with the reason."""
        if words:
            self.host.report(Said(words))
        failed = Ending(ok=False, cause="error", detail=words or "given up by hand")
        self.over = self.over or (Ending(ok=True, result=words) if ok else failed)
        self._moved.set()

    async def ending(self) -> Ending:
        """How it is over: settled, or run out."""
        while self.over is None and (left := self.left) > 0:
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._moved.wait()
        return self.over or Ending(ok=False, interrupted=True, cause="interrupted", detail="its claim ran out")


class HandRuntime:
    """Carries `prompt` tasks out by waiting for whoever claimed them. A claim that is not renewed runs out: an interruption."""

    name = "hand"
    can: frozenset[Ability] = frozenset({"prompts"})
    wants: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self._arrival: asyncio.Future[None] | None = None

    async def arrival(self) -> None:
        """Returns when the next claim is ready to be worked on."""
        if self._arrival is None or self._arrival.done():
            self._arrival = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._arrival)

    def check(self) -> str:
        """Nothing is needed."""
        return ""

    async def run(self, job: Job, host: Host) -> Ending:
        """See the port."""
        held = self.held[job.nonce] = Held(job, host)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        host.report(Said(f"claimed by hand: {job.cwd}"))
        try:
            return await held.ending()
        finally:
            del self.held[job.nonce]

    async def close(self) -> None:
        """Nothing is kept."""
