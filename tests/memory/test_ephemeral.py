"""The memory store of this process passes what every store passes."""

from __future__ import annotations

from tests.contracts.memory import MemoryContract
from tests.memory.homes import EphemeralHome


class TestEphemeralStore(MemoryContract):
    home = EphemeralHome
    may_lack = frozenset({"durable"})
