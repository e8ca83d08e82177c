"""An agent of the runtime `llm`, as a user runs one: against a scripted model on loopback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User

ROOT = Path(__file__).parents[3]
FILE = """
version: 1
name: loop
agents:
  coder: {runtime: llm, model: "openai:scripted", with: {base_url: "URL/v1", permissions: all}}
tasks:
  write:
    agent: coder
    prompt: |
      RUN: echo one > made.txt
      SAY: Written.
    verify: "grep -q two made.txt || { echo 'RUN: echo two > made.txt'; exit 1; }"
    retries: 2
"""


@pytest.fixture
def model() -> Iterator[str]:
    """The address of a scripted model."""
    argv = (sys.executable, "-m", "tests.clients.model_server")
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        yield serving.stdout.readline().strip()
        serving.terminate()


def test_an_agent_mends_what_verify_found(user: User, skep: Skep, model: str) -> None:
    user.write("wf.yaml", FILE.replace("URL", model))
    ran = skep("run", "wf.yaml")
    assert ran.code == 0, ran
    assert user.repo.show(skep("status", "--json").json["tip"], "made.txt").strip() == "two", ran.out
    told = skep("logs", "write").out
    assert "> shell  echo two > made.txt" in told
    assert "Written." in told
