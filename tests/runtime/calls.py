"""Callables for tasks, in this process and in processes of their own."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

#: Callables in this process wait here for the test.
gate = threading.Event()
#: One for each that went through.
passed: list[None] = []


def echo(**given: Any) -> Any:
    """Returns what it gets."""
    return given


def pid() -> int:
    """The process it runs in."""
    return os.getpid()


async def later(n: int) -> int:
    """A coroutine."""
    await asyncio.sleep(0)
    return n + 1


def fail() -> None:
    """Raises."""
    raise ValueError("no good")


def wait_at_gate() -> str:
    """Blocks until the test opens the gate."""
    assert gate.wait(30)
    passed.append(None)
    return "through"


async def wait_forever() -> None:
    """A coroutine that ends when it is cancelled."""
    await asyncio.get_running_loop().create_future()


def unkeepable() -> object:
    """Returns what no log can keep."""
    return object()
