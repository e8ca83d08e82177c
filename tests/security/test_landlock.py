"""Landlock keeps what it does not declare lost; with a network namespace and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep.security import Sandbox, confine
from skep.security.landlock import LEAST, Landlock, choose
from skep.security.limits import missing
from tests.contracts.sandbox import SandboxContract


def landlock(folder: Path) -> Landlock:
    """The sandbox; skips the test where it cannot be had."""
    found = choose(folder, missing())
    if isinstance(found, str):
        pytest.skip(found)
    return found


class TestLandlock(SandboxContract):
    def open(self, folder: Path) -> Sandbox:
        return landlock(folder)

    async def test_what_is_lost_is_named(self, tmp_path: Path) -> None:
        sandbox = landlock(tmp_path)
        assert {"pids", "modes", "settings", "ipc"} <= set(sandbox.lost)
        assert all(sandbox.lost.values())


class TestLandlockWithoutNamespaces(SandboxContract):
    def open(self, folder: Path) -> Sandbox:
        if confine.abi() < LEAST:
            pytest.skip("the kernel has no Landlock, or an old one")
        return Landlock(folder, namespaces=False, lost=missing())
