"""Runs the tests of the project in the current folder, for the other scripts here."""

import io
import unittest
from pathlib import Path

#: One file for each test that is known to fail; `reproduce` makes them, each repair takes its own away.
KNOWN = Path("known-failures")


def run() -> tuple[int, dict[str, str]]:
    """Returns the number of tests, and for each that failed why, by its name."""
    result = unittest.TextTestRunner(stream=io.StringIO()).run(unittest.defaultTestLoader.discover("tests", top_level_dir="."))
    return result.testsRun, {test.id(): why for test, why in result.failures + result.errors}


def known() -> set[str]:
    """The tests that are known to fail."""
    return {path.name for path in KNOWN.iterdir()} if KNOWN.is_dir() else set()
