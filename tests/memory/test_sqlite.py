"""Memory in SQLite: the contract, and what only a file can do wrong."""

from __future__ import annotations

from tests.contracts.memory import MemoryContract
from tests.memory.homes import SqliteHome


class TestSqliteStore(MemoryContract):
    home = SqliteHome
