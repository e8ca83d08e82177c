"""Memory in Markdown files: the contract, and what people do to files."""

from __future__ import annotations

from tests.contracts.memory import MemoryContract
from tests.memory.homes import MarkdownHome


class TestMarkdownStore(MemoryContract):
    home = MarkdownHome
    may_lack = frozenset({"private"})
