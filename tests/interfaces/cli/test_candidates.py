"""`candidates`, `approve --choose`, `tell`, `messages`: a vote that decides nothing, and a word to an agent."""

from __future__ import annotations

from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User

STORY = """
version: 1
name: best
topology: {kind: mesh, depth: 2, escalation: manual}
agents:
  coder: {runtime: shell, count: 2, with: {run: 'echo "$SKEP_TASK" > who.txt; cat "$SKEP_PROMPT"'}}
  judge:
    {runtime: shell, count: 2, with: {run: "echo '{\\"vote\\": null, \\"reason\\": \\"both are bad\\"}' > $SKEP_OUT/vote.json"}}
tasks:
  word: {prompt: Write it, agent: coder, candidates: 2, vote: {by: judge}}
"""


def test_a_person_decides_what_the_vote_did_not(user: User, skep: Skep) -> None:
    user.write("wf.yaml", STORY)
    ran = skep("run", "wf.yaml", "--ci")
    assert ran.code == 4
    assert "skep approve word --choose N" in ran.out + ran.err
    view = skep("candidates", "word", "--json").json
    assert [one["id"] for one in view["candidates"]] == ["word[1]", "word[2]"]
    assert view["question"] == "vote"
    assert view["ballot"]["result"] == "no decision: A 0, B 0, 1 abstained, 1 silent of 2, 2/3 needed"
    said = skep("candidates", "word").out
    assert "abstained  both are bad" in said
    assert "choose: skep approve word --choose N" in said
    assert skep("approve", "word", "--choose", "7").code == 2
    assert skep("approve", "word", "--choose", "2").code == 0
    assert skep("resume", "--ci").code == 0
    assert skep("candidates", "word", "--json").json["chosen"] == "word[2]"
    assert skep("candidates", "nothing").code == 2


def test_a_dry_run_names_who_would_try_and_who_would_vote(user: User, skep: Skep) -> None:
    named = STORY.replace("Write it, agent: coder, candidates: 2", "Do it, candidates: [coder, coder]")
    user.write(
        "wf.yaml", named.replace("    {runtime", "    {type: reviewer, runtime").replace("coder: {", "coder: {type: coder, ")
    )  # a reviewer would score higher
    said = skep("run", "wf.yaml", "--dry-run").out
    assert "-> candidate 1: coder-1" in said
    assert "-> candidate 2: coder-" in said
    assert "voted on by judge-1, judge-2" in said


def test_a_word_to_an_agent_waits_for_its_next_prompt(user: User, skep: Skep) -> None:
    user.write("wf.yaml", STORY.replace(", candidates: 2, vote: {by: judge}", ""))
    assert skep("run", "wf.yaml").code == 0
    said = skep("tell", "coder-1", "use v2")
    assert said.out.endswith(" waits: coder-1 gets it with its next prompt\n")
    shown = skep("messages")
    assert "you -> coder-1" in shown.out
    assert "1 wait, 1 sent, 0 delivered, 0 dropped" in shown.out
    assert [one["payload"] for one in skep("messages", "--agent", "coder-1", "--json").json["waiting"]] == ["use v2"]
    refused = skep("tell", "coder-9", "hello")
    assert refused.code == 2
    assert "no agent is called 'coder-9'" in refused.err
