"""Logs that were kept: what an earlier Skep wrote must be understood for ever, and replay to the state that it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from skep.core.events import Event
from skep.store import codec
from tests.stories.keep_log import GOLDEN, digest_of, kinds_in

LOGS = sorted(GOLDEN.glob("log-*.msgpack"))


def read(path: Path) -> list[bytes]:
    return msgspec.msgpack.decode(path.read_bytes(), type=list[bytes])


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_a_kept_log_replays_to_the_state_that_was_kept(path: Path) -> None:
    kept = path.with_suffix(".digest")
    digest = digest_of(read(path))
    if os.environ.get("SKEP_REWRITE") == "1":
        kept.write_text(digest + "\n", encoding="utf-8")
    else:
        assert digest == kept.read_text(encoding="utf-8").strip(), (
            "An old log gives another state. If a field was added to the state on purpose: SKEP_REWRITE=1 pytest tests/stories. "
            "If an event now means something else, it must become a new event."
        )


def test_a_log_of_the_present_format_is_kept_and_holds_every_kind_of_event() -> None:
    path = GOLDEN / f"log-{codec.FORMAT}.msgpack"
    missing = {kind.__name__ for kind in set(get_args(Event)) - kinds_in(read(path))}
    assert not missing, "Before its release a format's log can be made anew: remove it, then python -m tests.stories.keep_log"
