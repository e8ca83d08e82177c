"""Callables that tests hand over."""

from __future__ import annotations

import asyncio
import enum
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

#: Calls of `wait_at_gate` wait for the gate; each says that it arrived there.
gate = threading.Event()
arrived = threading.Semaphore(0)
#: A call of `endless_later` is under way.
under_way = asyncio.Event()


def add(a: int, b: int = 0) -> int:
    return a + b


def echo(value: Any = None) -> Any:
    return value


async def later(value: Any = None) -> Any:
    await asyncio.sleep(0)
    return value


def fail(words: str) -> None:
    raise ValueError(words)


async def fail_later(words: str) -> None:
    await asyncio.sleep(0)
    raise ValueError(words)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def fail_mutely() -> None:
    raise Mute


def touch(path: str) -> None:
    Path(path).touch()


def endless() -> None:
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    print("on", flush=True)
    while True:
        time.sleep(600)  # tidy: sleeps because it must be ended from outside


async def endless_later() -> None:
    under_way.set()
    await asyncio.Event().wait()


def wait_at_gate(value: Any = None) -> Any:
    arrived.release()
    assert gate.wait(60)
    return value


def nap(seconds: float) -> float:
    time.sleep(seconds)  # tidy: sleeps because a call that takes its time is what the test needs
    return seconds


#: What `odd` makes and cannot be kept -> what the refusal says. The same in whatever process it runs.
UNKEPT = {
    "object": "result is of type object, which JSON does not have",
    "set": "result is of type set, which JSON does not have",
    "bytes": "result is of type bytes, which JSON does not have",
    "deep bytes": "result['rows'][1] is of type bytes, which JSON does not have",
    "nan": "result is nan, which JSON does not have",
    "keys": "result has the key 1 of type int, and JSON's keys are text",
    "big": "result is a number of more than 64 bits",
    "deep big": "result[0] is a number of more than 64 bits",
    "surrogate": "result is no valid Unicode text",
    "deep surrogate": "result[0] is no valid Unicode text",
    "endless": "is nested too deeply, or contains itself",
    "long": "more than 1048576",
    "wide": "more than 1048576",
}
KEPT = {"tuple": [1, [2]], "text": "naïve ☃", "float": 1.5, "named": {"state": "on", "n": 3}}


class Named(enum.StrEnum):
    """A text that is more than a text."""

    on = "on"


def _endless() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def odd(kind: str) -> Any:
    """Results that cannot be kept, or not as they are."""
    return {
        "object": object(),
        "set": {3},
        "tuple": (1, (2,)),
        "bytes": b"x",
        "deep bytes": {"rows": [1, b"x"]},
        "endless": _endless(),
        "named": {"state": Named.on, "n": 3},
        "big": 2**70,
        "deep big": [2**70],
        "surrogate": "\udcff",
        "deep surrogate": ["\udcff"],
        "nan": float("nan"),
        "long": "x" * 2_000_000,
        "wide": ["é" * 600_000],
        "keys": {1: 2},
        "text": "naïve ☃",
        "float": 1.5,
    }[kind]


def complain() -> None:
    raise ValueError


def give_up() -> None:
    raise asyncio.CancelledError


def leave() -> None:
    sys.exit("enough")


def vanish() -> None:
    os._exit(3)


def talk() -> str:
    print("to the screen")
    print("errors too", file=sys.stderr)
    sys.stdout.write('{"ok": true, "result": "forged"}\n')
    return "said"


def where() -> list[str]:
    return [os.getcwd(), os.environ["SKEP_OUT"]]


class Desk:
    @staticmethod
    def clerk() -> str:
        return "at your service"


not_callable = 3
