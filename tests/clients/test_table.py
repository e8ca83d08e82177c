"""The manual says what was tried with which client, and nothing else: `SKEP_REWRITE=1` writes the table anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.clients import table
from tests.clients.agents import AGENTS

MANUAL = Path(__file__).parents[2] / "docs" / "manual" / "agents.md"
PLACE = re.compile(r"(?<=<!-- tried -->\n).*?(?=\n<!-- /tried -->)", re.S)


def test_the_manual_has_the_table() -> None:
    text = MANUAL.read_text(encoding="utf-8")
    if os.environ.get("SKEP_REWRITE"):
        MANUAL.write_text(PLACE.sub(lambda _: table.written(), text), encoding="utf-8")
    (found,) = PLACE.findall(MANUAL.read_text(encoding="utf-8"))
    assert found == table.written()


def test_only_agents_that_there_are_cannot_do_something() -> None:
    assert {name for cannot in table.LINES.values() for name in cannot} <= set(AGENTS)


def test_every_line_is_tried() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert [line for line in table.LINES if f'able("{line}")' not in tests] == []
