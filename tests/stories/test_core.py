"""Golden conversations with the core, `core/*.story`: see `telling` for how they are read, and written anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.stories.telling import retold, stories

FOLDER = Path(__file__).parent / "core"


@pytest.mark.parametrize("path", stories(FOLDER), ids=lambda path: path.stem)
def test_the_story_goes_as_it_is_told(path: Path) -> None:
    told = path.read_text(encoding="utf-8")
    now = retold(told)
    if os.environ.get("SKEP_REWRITE") == "1":
        path.write_text(now, encoding="utf-8")
    else:
        assert now == told, "If this is meant: SKEP_REWRITE=1 pytest tests/stories, and read the difference."
