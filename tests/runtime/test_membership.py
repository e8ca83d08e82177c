"""How a process among several finds the sessions that it is to go on with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from skep.runtime.live import Live
from skep.runtime.shared import Shared
from skep.runtime.takeover import Takeover
from skep.store import Head, SessionRow


async def test_a_session_that_is_known_here_only_in_part_is_looked_at_again() -> None:
    row = SessionRow("s", 1, Head(1, 5, b""), "{}")
    found, led = [(False, 3), (True, 5)], list[SessionRow]()

    async def look(session: str, query: object) -> tuple[bool, int]:
        return found.pop(0)

    async def lead(row: SessionRow) -> None:
        led.append(row)

    live: Any = SimpleNamespace(writes=lambda _: False, knows=lambda _: False, look=look, lead=lead, own={})
    nobody: Any = None
    takeover = Takeover(nobody, Shared(inbox=nobody, leases=nobody, owner="me", leads=True), cast(Live, live))
    for _ in range(2):
        await takeover.patrol([row], {})
    assert led == [row]
