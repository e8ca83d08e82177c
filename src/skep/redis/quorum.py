"""Replicas that must have what was written before it counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skep.errors import Unavailable
from skep.redis.connect import Command, Link
from skep.redis.script import Script

#: How long replicas are waited for, ms.
PATIENCE = 2000


class Quorum:
    """Runs scripts whose outcome must be on replicas, on their disks where the server can tell (WAITAOF), else in their memory.

    Args:
        link: the way to the server.
        replicas: how many must confirm; 0 = none is asked.
        patience: how long they are waited for, ms.
    """

    def __init__(self, link: Link, replicas: int = 0, patience: int = PATIENCE) -> None:
        self._link = link
        self.replicas = replicas
        # A replica tells what it has on disk when it is asked, and then once a second. So it is asked when it has all in memory:
        # then it is on disk too. A server before 7.2 refuses the second command, and then the first one counts.
        memory, disks = ("WAIT", replicas, patience), ("WAITAOF", 1, replicas, patience)
        self._then: Sequence[Command] = (memory, disks) if replicas else ()

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Runs a script; returns its reply when enough replicas have what it wrote.

        Raises:
            Unavailable: they do not have it (yet): outcome unknown.
        """
        outcome, *confirmed = await self._link.run(script, keys, args, self._then)
        if confirmed:
            self._check(*confirmed)
        return outcome

    def _check(self, memory: Any, disks: Any) -> None:
        there, said, where = 0, disks, "have it"  # refused: no append-only file, or the user may not wait
        if isinstance(disks, list):
            there, where = disks[1] if disks[0] else 0, "have it on disk"
        elif "unknown command" in str(disks) and isinstance(memory, int):
            there, said = memory, memory
        if there < self.replicas:
            raise Unavailable(
                f"the store at {self._link.address} wrote it, but {self.replicas} replicas must {where} "
                f"(the server says: {said}): the outcome is unknown",
                fix="Bring the replicas back, then repeat it: nothing is done twice.",
            )
