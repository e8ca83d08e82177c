"""Files of tasks that agents wrote: what they may not say, which names they get, and that a written plan is the same plan."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from skep.config import PlannerConfig
from skep.core.model import AgentSpec, Entry, Plan, Proposal, Task
from skep.core.proposals import beyond
from skep.core.state import State
from skep.core.terms import Proposals
from skep.workflow import definitions, parse, planning, proposal, written
from skep.workflow.planning import PLANNER

AGENTS = {
    "shell": AgentSpec(name="shell", runtime="shell", count=0),
    PLANNER: AgentSpec(name=PLANNER, runtime="claude", model="dear"),
    "coder": AgentSpec(name="coder", runtime="claude", model="cheap"),
    "tester": AgentSpec(name="tester", runtime="claude", model="cheap"),
}


def read(text: str, proposer: str = "", **bounds: Any) -> Proposal:
    given = Proposals(**{"agents": ("coder",), **bounds})
    return proposal.read(text.encode(), "plan.yaml", given, AGENTS, proposer, now=0)


def tasks(text: str) -> str:
    return f"version: 1\ntasks:\n{text}"


def test_a_prompt_goes_to_the_agent_that_plans_may_use_never_to_the_planner() -> None:
    found = read(tasks("  a: {prompt: do it}\n  b: {run: make}\n"))
    assert [(task.id, task.agent) for task in found.tasks] == [("a", "coder"), ("b", "")]


DEAR = "version: 1\nagents: {x: {runtime: claude, model: dear}}\ntasks: {a: {run: make}}"
REFUSED = {
    "agents": (
        "version: 1\nagents: {x: {runtime: claude, model: dear}}\ntasks: {a: {run: make}}",
        "'agents' is for people alone",
    ),
    "memory": ("version: 1\nmemory: {write: ['*']}\ntasks: {a: {run: make}}", "'memory' is for people alone"),
    "limits": ("version: 1\nlimits: {cost_usd: 1000}\ntasks: {a: {run: make}}", "'limits' is for people alone"),
    "secrets": (tasks("  a: {run: make, secrets: [KEY]}"), "'secrets' is for people alone"),
    "with": (tasks("  a: {prompt: x, with: {model: dear}}"), "'with' is for people alone"),
    "env": (tasks("  a: {run: make, env: {PATH: /x}}"), "'env' is for people alone"),
    "call": (tasks("  a: {call: 'os:system'}"), "'call' is for people alone"),
    "env by default": ("version: 1\ndefaults: {env: {A: b}}\ntasks: {a: {run: make}}", "'env' is for people alone"),
    "a file": (tasks("  a: {prompt: {file: /etc/passwd}}"), "spells its prompts out"),
    "the planner": (tasks("  a: {prompt: x, agent: planner}"), "no agent is called 'planner'"),
    "the shell": (tasks("  a: {prompt: x, agent: shell}"), "no agent is called 'shell'|takes no prompts"),
    "retries": (tasks("  a: {run: make, retries: 6}"), "6 retries, more than 5"),
    "a circle": (tasks("  a: {run: x, needs: [b]}\n  b: {run: y, needs: [a]}"), "in a circle"),
    "no YAML": ("- ][", "plan.yaml:1:"),
    "nothing": ("", "the file is empty"),
    "bytes": ("\0", "cannot stand in YAML"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_for_people_alone_is_refused_with_the_reason(case: str) -> None:
    text, why = REFUSED[case]
    found = read(text)
    assert any(part in found.refused for part in why.split("|")), found.refused
    assert found.tasks == ()


def test_whoever_hears_of_it_can_tell_that_it_says_nothing_that_is_for_people_alone() -> None:
    """Of each key that such a file may hold."""
    text = tasks(
        "  a: {run: make, objective: o, type: t, complexity: low, priority: high, capabilities: [], locks: [l], budget: {usd: 1},"
        " timeout: 3s, retries: 5, exit_codes: [0, 3], mode: shared, setup: x, verify: y, protect: [p], outputs: {list: l.txt},"
        " merge: ask, on_conflict: ask, approve: after, recovery: ask}\n"
        "  b: {prompt: x, needs: [a], if: always(), foreach: {in: needs.a.outputs.list}}\n"
    )
    state, entry = State(), Entry(task=Task(id="each", run="x"), seq=0, submitted=0)
    state.plan = Plan(name="p", proposals=Proposals(agents=("coder",)))
    found = read(text, "each")
    assert found.refused == ""
    assert beyond(state, entry, found) == ""
    planned = read(f"{text}verify: make\n")
    assert beyond(state, entry, planned) == "verify"
    assert beyond(state, Entry(task=Task(id="plan", prompt="x", plans=True), seq=0, submitted=0), planned) == ""


def test_of_several_agents_one_must_be_named() -> None:
    assert "one of coder, tester" in read(tasks("  a: {prompt: x}"), agents=("coder", "tester")).refused


def test_what_a_task_proposes_goes_under_its_name_and_needs_it() -> None:
    text = tasks(
        "  a: {run: make, outputs: {list: l.txt}}\n"
        "  b:\n    needs: [a]\n    prompt: 'See ${{ needs.a.result }}; needs.a. is text'\n    if: needs.a.state == 'done'\n"
        "  c: {needs: [a], run: x, foreach: {in: needs.a.outputs.list}}\n"
    )
    a, b, c = read(text, "each[one]").tasks
    assert (a.id, a.needs) == ("each-one-a", ("each[one]",))
    assert (b.id, b.needs) == ("each-one-b", ("each[one]", "each-one-a"))
    assert b.prompt == "See ${{ needs.each-one-a.result }}; needs.a. is text"
    assert b.condition == "needs.each-one-a.state == 'done'"
    assert c.foreach is not None
    assert c.foreach.source == "needs.each-one-a.outputs.list"


def test_only_a_plan_says_how_merges_are_judged() -> None:
    text = "version: 1\nverify: make test\ntasks: {a: {run: x}}"
    assert read(text).verify == "make test"
    assert "is not a task's to propose" in read(text, "other").refused


def test_a_plan_written_for_editing_is_the_same_plan() -> None:
    config = PlannerConfig(runtime="claude", agents={"coder": {"runtime": "claude", "model": "cheap", "count": 3}}, cost_usd=5)
    session = planning("add paging to the list of users", config)
    found = read(
        "version: 1\nverify: [make, test]\ntasks:\n  a: {prompt: 'do: it', outputs: {o: o.txt}, protect: ['tests/**']}\n"
        "  b:\n    needs: [a]\n    prompt: 'see ${{ needs.a.outputs.o }}'\n    timeout: 20m\n    retries: {max: 2, from: last}\n"
        "  c:\n    needs: [b]\n    run: |\n      echo one\n      echo 'on: two'\n    if: always()\n    exit_codes: [0, 3]\n"
    )
    assert found.refused == ""
    proposed = replace(session, tasks=found.tasks, verify=found.verify)
    again = parse(written(proposed), "plan.yaml", {}, now=0)
    assert definitions(again) == definitions(proposed)
    assert (again.verify, again.limits, again.objective) == (found.verify, session.limits, session.objective)
    assert again.agents == tuple(spec for spec in session.agents if spec.name == "coder")


def test_the_prompt_of_the_planner_tells_the_bounds() -> None:
    config = PlannerConfig(runtime="claude", model="m", max_tasks=7, length=3)
    (task,) = planning("mend ${{ the }} things", config).tasks
    assert task.prompt is not None
    assert "mend $${{ the }} things" in task.prompt
    assert "At most 7 tasks" in task.prompt
    assert "at most 3 one after the other" in task.prompt
    assert "Prompts go to: worker (claude, m)" in task.prompt
