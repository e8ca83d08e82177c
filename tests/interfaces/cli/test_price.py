"""What a run may cost, before it costs anything: on a dry run, at its start, for a plan that an agent made."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User

CLIENT = Path(__file__).parents[2] / "runtime" / "drivers" / "claude_like.py"
TABLE = "[prices.gpt-x]\ninput = 1.0\noutput = 10.0\n"


@pytest.fixture
def workflow(user: User) -> str:
    """One task by an agent that says that it cost a cent, one by an agent of which nothing is known, one that is free."""
    program = user.folder / "claude"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P {CLIENT} "$@"\n')
    program.chmod(0o755)
    user.write(
        "wf.yaml",
        "version: 1\nname: dear\nrules: [{do: always, tool: Bash}]\nlimits: {cost_usd: 100}\n"
        f"agents:\n  coder: {{runtime: claude, model: opus, with: {{program: {program}}}}}\n"
        "  other: {runtime: codex, model: gpt-x, with: {program: /bin/false}}\n"
        'tasks:\n  api: {agent: coder, prompt: "$ touch made"}\n  free: {run: "true"}\n',
    )
    return "wf.yaml"


def with_other(user: User) -> str:
    """The workflow with a task for the agent of which nothing is known."""
    text = (user.repo.top / "wf.yaml").read_text().replace("limits: {cost_usd: 100}\n", "")
    user.write("both.yaml", text + '  docs: {agent: other, prompt: "Write."}\n')
    return "both.yaml"


def test_without_a_past_it_is_a_guess_and_touches_nothing(user: User, skep: Skep, workflow: str) -> None:
    ran = skep("run", workflow, "--dry-run")
    assert "price unknown, 338,000 to 2,130,000 tokens; a cold guess, as nothing like it was done here yet" in ran.out
    found = skep("run", workflow, "--dry-run", "--json").json["estimate"]
    assert (found["tasks"], found["p50"], found["guessed"], found["unpriced"]) == (1, None, ["api"], ["api"])
    assert not (user.repo.top / ".skep").exists()
    user.write("free.yaml", "version: 1\ntasks: {free: {run: 'true'}}\n")
    assert "price" not in skep("run", "free.yaml", "--dry-run").out
    assert skep("run", "free.yaml", "--dry-run", "--json").json["estimate"] is None


@pytest.mark.parametrize("whose", ["session", "agent", "task"])
def test_a_limit_in_dollars_that_cannot_be_held_is_refused_before_anything_starts(user: User, skep: Skep, whose: str) -> None:
    limit = "limits: {cost_usd: 5}\n" if whose == "session" else ""
    agent = ", budget: {usd: 5}" if whose == "agent" else ""
    task = ", budget: {usd: 5}" if whose == "task" else ""

    def written(model: str) -> None:
        agents = f"agents:\n  other: {{runtime: codex{model}, with: {{program: /bin/false}}{agent}}}\n"
        user.write("wf.yaml", f"version: 1\n{limit}{agents}tasks:\n  docs: {{agent: other, prompt: Write{task}}}\n")

    for way in (("--dry-run",), ("--ci",)):
        written("")
        ran = skep("run", "wf.yaml", *way)
        assert ran.code == 2
        assert "cannot be held: agent 'other' (codex) of task 'docs' tells no dollars" in ran.err
        assert "Set `model:` of agent 'other' and its price under [prices] in skep.toml, or limit tokens or time" in ran.err
        written(", model: gpt-x")
        ran = skep("run", "wf.yaml", *way)
        assert ran.code == 2
        assert "no price for the model 'gpt-x'" in ran.err
    assert not skep("session", "list", "--json").json["sessions"]
    user.write("skep.toml", TABLE)
    assert skep("run", "wf.yaml", "--dry-run").code == 0


def test_what_was_spent_here_foretells_the_price_and_the_rest_stays_a_guess(user: User, skep: Skep, workflow: str) -> None:
    for _ in range(3):
        ran = user.run("run", workflow, "--ci", "--new")
        assert ran.code == 0
    assert "a cold guess" in ran.out, "two are too few"
    assert "price $0.01 (p50) to $0.01 (p90), 2 to 2 tokens; from 3 past tasks here\n" in skep("run", workflow, "--dry-run").out
    both = skep("run", with_other(user), "--dry-run").out
    assert "price $0.01 (p50) to $0.01 (p90)" in both
    assert "from 3 past tasks here; a cold guess for docs" in both
    assert "[prices] in skep.toml can tell the price of docs, which is not in the dollars" in both
    user.write("skep.toml", TABLE)
    priced = skep("run", "both.yaml", "--dry-run", "--json").json["estimate"]
    assert (priced["p50"], priced["p90"], priced["unpriced"]) == (pytest.approx(0.42), pytest.approx(2.41), [])


def test_at_the_start_of_a_run_it_is_said_before_anything_else_begins(user: User, workflow: str) -> None:
    ran = user.run("run", workflow, "--ci")
    assert ran.out.index("price unknown") < ran.out.index("▶ api")
    lines = [json.loads(line) for line in user.run("run", workflow, "--ci", "--new", "--json").out.splitlines()]
    begun = next(line["session"] for line in lines if line["type"] == "session")
    assert begun["estimate"]["guessed"] == ["api"]


def test_a_plan_that_an_agent_made_is_shown_with_its_price(user: User, skep: Skep) -> None:
    user.write("the-plan.yaml", "version: 1\ntasks:\n  one: {prompt: write one}\n  two: {needs: [one], prompt: write two}\n")
    config = '[planner]\nruntime = "shell"\nwith = {run = "cp the-plan.yaml $SKEP_OUT/plan.yaml"}\n'
    user.write("skep.toml", f'{config}[planner.agents.worker]\nruntime = "codex"\nmodel = "gpt-x"\n{TABLE}')
    user.repo.commit({"the-plan.yaml": (user.repo.top / "the-plan.yaml").read_text()})
    ran = skep("run", "write both of them")
    assert ran.code == 4
    assert ran.out.index("a cold guess, as nothing like it was done here yet") < ran.out.index("prompt for worker: write one")
    found = skep("plan", "--json").json["estimate"]
    assert (found["tasks"], found["guessed"]) == (2, ["one", "two"])
    assert 0 < found["p50"] < found["p90"]


def test_what_was_spent_is_shown_with_its_limits_and_what_nobody_knows_is_said(user: User, skep: Skep, workflow: str) -> None:
    text = (user.repo.top / workflow).read_text()
    text = text.replace("{cost_usd: 100}", "{tokens: 1000}").replace("model: opus,", "model: opus, budget: {usd: 5, time: 1h},")
    user.write(workflow, text.replace("agent: coder,", "agent: coder, budget: {usd: 2, tokens: 500, time: 10m},"))
    assert user.run("run", workflow, "--ci").code == 0
    lines = skep("cost").out.splitlines()
    assert re.fullmatch(r"dear-1  \$0\.01  2/1,000 tokens  [0-9.]+s", lines[0])
    assert re.fullmatch(r"  api +\$0\.01/\$2 +2/500 tokens  [0-9.]+s/10m00s", lines[2])
    assert lines[-2] == "budgets of agents"
    assert re.fullmatch(r"  coder +\$0\.01/\$5 +2 tokens  [0-9.]+s/1h00m", lines[-1])
    assert len(lines) == 9, "all of it was told, and its price is known"
    assert skep("cost", "-s", "dear-1").out.splitlines() == skep("cost", "dear-1").out.splitlines() == lines
    whole = skep("cost", "--json").json
    assert (whole["kinds"]["coder"]["usd"], whole["budgets"]["api"], whole["took"]["api"] > 0) == (
        0.01,
        {"usd": 2, "tokens": 500, "time": 600},
        True,
    )

    # Its one report, at its end, passes the limit: whether its result came first or not, that is no success.
    user.write(workflow, text.replace("tokens: 1000", "tokens: 1").replace("agent: coder,", "agent: coder, merge: never,"))
    ran = user.run("run", workflow, "--ci", "--new")
    assert ran.code == 3
    assert "token limit reached" in ran.out

    text = text.replace("limits: {tokens: 1000}\n", "")
    user.write(workflow, text.replace("{agent: coder, prompt", "{agent: other, prompt"))
    assert user.run("run", workflow, "--ci", "--new").code == 1
    assert skep("cost").out.splitlines()[-1] == "+? of 1 report nobody knows the price: [prices] in skep.toml tells it"
