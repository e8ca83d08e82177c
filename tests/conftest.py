"""For all tests: what could not run is named in the last lines."""

from __future__ import annotations

import gc
import os
import signal
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# No judgement hangs on how fast a machine is. The examples are the same each time, so that what fails here fails there; the long
# form looks for others.
settings.register_profile(
    "skep", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=os.environ.get("SKEP_LONG") != "1"
)
settings.load_profile("skep")


def pytest_sessionstart() -> None:
    """No garbage collection while tests are collected: Python 3.11 may give up on a syntax tree ("AST constructor recursion depth
    mismatch") when a collection comes in the middle of it. What is collected stays anyway.

    A script's shell lets what it starts with `&` ignore Ctrl-C, and all of its children too: tests send it to programs.
    """
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """From here on as always."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Names the tests that were skipped, by their reason, and keeps their number for `make test`."""
    skipped = terminalreporter.stats.get("skipped", [])
    if getattr(config, "cache", None) is not None:
        config.cache.set("skep/not-run", len(skipped))
    by_reason = defaultdict(list)
    for report in skipped:
        by_reason[str(report.longrepr[2]).removeprefix("Skipped: ")].append(report.nodeid)
    if skipped:
        terminalreporter.section(f"not run here: {len(skipped)}")
    for reason, tests in sorted(by_reason.items()):
        terminalreporter.line(f"{reason}: {', '.join(tests)}")
