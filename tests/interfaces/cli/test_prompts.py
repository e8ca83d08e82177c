"""What agents would be told, shown before anything starts."""

from __future__ import annotations

import json

from tests.interfaces.cli.conftest import Skep
from tests.workspace.repository import Repository

FILE = """
version: 1
name: f
objective: A better cart
agents: {claude: {runtime: claude, type: reviewer}}
tasks:
  fix: {agent: claude, prompt: Mend the wheel., verify: make test}
  say: {run: echo hi}
"""


def test_prompts_are_shown_and_nothing_starts(skep: Skep, repo: Repository) -> None:
    (repo.top / "f.yaml").write_text(FILE)
    shown = skep("run", "f.yaml", "--show-prompts")
    assert (shown.code, shown.err) == (0, "")
    assert "==== fix\nYou review work of others" in shown.out
    assert "Mend the wheel." in shown.out
    assert "say" not in json.loads(skep("run", "f.yaml", "--show-prompts", "--json").out)["prompts"]
    assert not (repo.top / ".skep").exists()


def test_a_text_of_the_user_s_is_used(skep: Skep, repo: Repository) -> None:
    (repo.top / "f.yaml").write_text(FILE)
    (repo.top / "skep.toml").write_text('[prompts]\nfolder = "own"\n')
    (repo.top / "own").mkdir()
    (repo.top / "own" / "reviewer.md").write_text("Only: ${task}\n")
    assert skep("run", "f.yaml", "--show-prompts").out == "==== fix\nOnly: Mend the wheel.\n"


def test_a_wrong_key_of_with_is_told_with_its_place(skep: Skep, repo: Repository) -> None:
    (repo.top / "f.yaml").write_text(FILE.replace("type: reviewer", "with: {max_turn: 3}"))
    refused = skep("run", "f.yaml", "--show-prompts")
    assert refused.code == 2
    assert "did you mean 'max_turns'?" in refused.err
    assert "f.yaml:5:" in refused.err
