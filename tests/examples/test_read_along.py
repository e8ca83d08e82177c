"""A program that knows the reference page alone follows a session, and `redis-cli` shows how it stands."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import skep
from skep.config import Config, PublishConfig
from tests import servers

EXAMPLE = Path(__file__).parents[2] / "examples" / "read-along" / "read_along.py"


@pytest.fixture(autouse=True)
def unconfined(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks here only say something."""
    monkeypatch.setenv("SKEP_SANDBOX", "off")


async def told(reading: asyncio.subprocess.Process) -> list[str]:
    """What the program printed, to its end."""
    assert reading.stdout is not None
    async with asyncio.timeout(60):
        lines = (await reading.stdout.read()).decode().splitlines()
        assert await reading.wait() == 0
    return lines


def by_hand(server: servers.Server, *command: str) -> str:
    """What `redis-cli` prints."""
    asked = ["redis-cli", "-p", str(server.port), *command]
    return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout


async def test_it_follows_a_session_and_drops_what_is_none(tmp_path: Path) -> None:
    server = servers.redis_server()
    server.tell("FLUSHALL")
    command = (sys.executable, str(EXAMPLE), server.url, "demo")
    env = {"PATH": os.environ["PATH"]}
    reading = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, cwd=tmp_path, env=env)
    assert reading.stdout is not None
    assert await reading.stdout.readline() == b"listening\n"
    config = Config(publish=PublishConfig(channels=True, state=True, url=server.url))
    async with skep.open(tmp_path, config) as hive:
        session = await hive.session("demo")
        server.tell("PUBLISH", "tasks:queue", "no JSON")
        server.tell("PUBLISH", "tasks:queue", json.dumps({"id": "demo:1:0"}))
        tasks = [skep.Task(id="one", run="true", mode="none"), skep.Task(id="two", run="true", mode="none", needs=("one",))]
        await session.gather(await session.submit_many(tasks))
    lines = await told(reading)
    results = [json.loads(line.split(" ", 2)[2]) for line in lines if line.startswith("tasks:results task_result")]
    assert [(result["task"], result["state"]) for result in results] == [("one", "done"), ("two", "done")]
    assert lines[-1].startswith("completed: {'done': 2}")
    assert "'malformed': 2" in lines[-1]
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is not installed (Debian: redis-tools)")
    shown: dict[str, Any] = {}
    for key in ("swarm:demo:state", "task:demo/two:state", "task:demo/two:results"):
        shown[key] = json.loads(by_hand(server, "GET", key))
    assert shown["swarm:demo:state"]["tasks"] == {"total": 2, "open": 0, "finished": {"done": 2}}
    assert shown["task:demo/two:state"]["state"] == shown["task:demo/two:results"]["state"] == "done"
