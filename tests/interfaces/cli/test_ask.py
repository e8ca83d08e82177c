"""`ask` at a shell: what cannot be asked says so; real answers are in tests/clients."""

from __future__ import annotations

import pytest

from tests.interfaces.cli.conftest import Skep
from tests.workspace.repository import Repository

FILE = """version: 1
agents: {me: {runtime: shell, with: {run: echo done > done.txt}}}
tasks:
  a: {agent: me, prompt: do it}
  b: {run: "true"}
"""


@pytest.fixture
def over(skep: Skep, repo: Repository) -> Skep:
    """A session that is over."""
    (repo.top / "f.yaml").write_text(FILE, encoding="utf-8")
    assert skep("run", "f.yaml").code == 0
    return skep


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "why?"], "task 'a' has no conversation that could be asked: its agent's runtime is shell"),
        (["b", "why?"], "task 'b' has no conversation"),
        (["c", "why?"], "no task 'c'"),
        (["a", " "], "the question is empty"),
        (["a", "x" * 100_001], "the question is empty or too long"),
        (["a"], "Missing argument 'QUESTION'"),
    ],
)
def test_what_cannot_be_asked_says_so(over: Skep, words: list[str], said: str) -> None:
    ran = over("ask", *words)
    assert ran.code in (1, 2)
    assert said in ran.err
    assert ran.out == ""


def test_nothing_to_ask_in_a_folder_without_sessions(skep: Skep) -> None:
    ran = skep("ask", "a", "why?")
    assert ran.code == 2
    assert "there is no session" in ran.err
