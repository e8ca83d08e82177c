"""For all tests: what could not run is named in the last lines."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest


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
