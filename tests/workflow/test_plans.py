"""From a file to a plan: the examples, defaults, inputs, prompt files, and files that cannot be read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from skep.core.model import AgentSpec, Foreach, Limits, Plan, Resources, Retries, Task, Vote
from skep.core.terms import MemoryGrant, Notify
from skep.core.topology import Shape
from skep.errors import Invalid, NotFound
from skep.workflow import Known, load, parse

FILES = Path(__file__).parent / "files"
NOW = 1_700_000_000_000


def tasks(plan: Plan) -> dict[str, Task]:
    return {task.id: task for task in plan.tasks}


def small(text: str, **inputs: str) -> Plan:
    return parse(text, "f.yaml", inputs, now=NOW)


def one(task: str, rest: str = "") -> Task:
    return small(f"version: 1\n{rest}\ntasks:\n  it: {task}\n").tasks[0]


def test_shell_tasks_with_verify_retries_and_outputs() -> None:
    path = FILES / "fix-the-bug.yaml"
    plan = load(path, {}, now=NOW)
    assert (plan.name, plan.objective) == ("fix-the-bug", "Make the test suite pass again")
    assert plan.limits == Limits(agents=4, time=600.0)
    assert plan.verify == ".venv/bin/python -m pytest -q"
    assert plan.setup == ("python3 -m venv .venv", (".venv/bin/pip", "install", "--quiet", "-e", "."))
    assert plan.source == str(path)
    assert plan.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    found = tasks(plan)
    assert list(found) == ["reproduce", "parser", "totals", "lint", "report"]
    assert found["reproduce"].outputs == {"before": "before.txt", "failed": "failed.txt"}
    assert found["parser"].retries == Retries(max=2, backoff=5.0, start="last")
    assert found["parser"].needs == ("reproduce",)
    assert found["parser"].protect == ("tests/**",)
    assert (found["totals"].timeout, found["totals"].retries) == (120.0, 1)
    assert found["lint"].run == (".venv/bin/python", "-m", "compileall", "-q", "src")
    assert (found["lint"].mode, found["totals"].mode) == ("none", "isolated")
    assert found["report"].condition == "always()"


def test_prompts_foreach_anchors_and_agents() -> None:
    plan = load(FILES / "document-modules.yaml", {"audience": "users"}, now=NOW)
    assert plan.name == "document-modules"
    assert plan.inputs == {"audience": "users", "tone": "plain"}
    assert plan.notify == (Notify(on=("failed", "needs-you"), run="./ping.sh", after=900.0),)
    assert plan.agents == (
        AgentSpec(name="planner", runtime="shell", options={"run": "./planner.sh"}),
        AgentSpec(
            name="writer",
            runtime="shell",
            capabilities=("documentation", "analysis"),
            count=0,
            resources=Resources(cpu=0.5, memory=512 * 2**20),
            options={"run": ["./writer.sh", "--careful"]},
        ),
    )
    found = tasks(plan)
    assert found["plan"].prompt == (FILES / "prompts" / "plan.md").read_text()
    assert (found["plan"].agent, found["page"].agent, found["check"].agent) == ("planner", "writer", "")
    assert found["page"].foreach == Foreach(
        source="needs.plan.outputs.modules", key="name", max_items=20, max_parallel=4, fail_fast=False
    )
    assert found["page"].timeout == 5400.0
    assert found["page"].env == {"LC_ALL": "C.UTF-8", "PAGES": "docs/modules"}


def test_calls_secrets_deadlines_and_approvals() -> None:
    plan = load(FILES / "nightly-release.yaml", {}, now=NOW)
    assert plan.workspace == str(FILES.parent)
    found = tasks(plan)
    assert found["collect"].args == {"since": "v1.2.0", "labels": ["bug", "feature"], "draft": True}
    assert found["collect"].mode == "none"
    assert found["migrate"].deadline == NOW + 7_200_000
    assert found["migrate"].resources == Resources(cpu=2.0, memory=4 * 10**9, storage=10 * 2**30)
    assert found["migrate"].constraints == {"region": "eu", "gpu": "false"}
    assert found["publish"].deadline == 1_896_109_200_000
    assert found["publish"].exit_codes == (0, 3)
    assert found["publish"].metadata == {"team": "tools", "ticket": "OPS-7", "note": "${{ left alone }}"}
    assert {task.priority for task in plan.tasks} == {"low", "critical"}


def test_candidates_votes_and_topologies() -> None:
    judge = "agents: {judge: {runtime: shell, count: 3, with: {run: ./judge.sh}}}"
    found = one("{run: make, candidates: 3, vote: {by: judge, threshold: 0.75, timeout: 10m, otherwise: fail}}", judge)
    assert found.candidates == ("", "", "")
    assert found.vote == Vote(by="judge", threshold="0.75", timeout=600.0, otherwise="fail")
    named = one("{prompt: do, candidates: [judge, judge], vote: {by: judge, rule: weighted, weights: {judge-2: 3}}}", judge)
    assert named.candidates == ("judge", "judge")
    assert named.vote == Vote(by="judge", rule="weighted", weights={"judge-2": 3})
    whole = "version: 1\n{}\ntasks: {{it: {{run: make}}}}\n"
    assert small(whole.format("")).topology == Shape()
    assert small(whole.format("topology: ring")).topology == Shape("ring")
    assert small(whole.format("topology: {depth: 2, escalation: manual}")).topology == Shape("", 2, "manual")


def test_a_plan_survives_the_log() -> None:
    for path in FILES.glob("*.yaml"):
        plan = load(path, {"audience": "users"} if path.stem == "document-modules" else {}, now=NOW)
        assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def test_defaults_hold_where_they_apply_and_nothing_else_is_said() -> None:
    defaults = "agents: {a: {runtime: shell, with: {run: ./a}}}\n"
    defaults += "defaults: {agent: a, exit_codes: [0, 1], verify: make test, env: {A: 1, B: 2}, resources: {cpu: 2}}\n"
    run = one("{run: make, env: {B: 3}, resources: {memory: 1GB}}", defaults)
    assert (run.agent, run.exit_codes, run.verify) == ("", (0, 1), "make test")
    assert run.env == {"A": "1", "B": "3"}
    assert run.resources == Resources(cpu=2.0, memory=10**9)
    call = one("{call: 'a:b'}", defaults)
    assert (call.agent, call.exit_codes, call.verify, call.mode) == ("", (0,), None, "none")
    prompt = one("{prompt: Do it, verify: make check}", defaults)
    assert (prompt.agent, prompt.exit_codes, prompt.verify) == ("a", (0,), "make check")


def test_a_command_keeps_the_words_that_were_written() -> None:
    assert one("{run: true}").run == "true"
    assert one("{run: [sleep, 1.50, on, '']}").run == ("sleep", "1.50", "on", "")
    assert one("{run: make, setup: make deps}").setup == ("make deps",)


def test_agents_are_as_many_as_there_is_work_for_and_voters_as_many_as_they_say() -> None:
    text = """
version: 1
agents:
  claude: {runtime: claude}
  judge: {runtime: claude}
  few: {runtime: claude, count: 2}
tasks:
  a: {prompt: x, candidates: [claude, claude], vote: {by: judge}}
"""
    assert {spec.name: spec.count for spec in small(text).agents} == {"claude": 0, "judge": 1, "few": 2}


def test_what_was_given_counts_before_defaults_and_an_input_without_either_is_empty() -> None:
    text = "version: 1\ninputs: {a: {default: x}, b: {default: y}, c: {}, d: {default: 7}}\ntasks: {it: {run: make}}"
    assert small(text, b="z").inputs == {"a": "x", "b": "z", "c": "", "d": "7"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"a": "x\0"}, "input 'a' is not text"),
        ({"a": "x\udcff"}, "input 'a' is not text"),
        ({"a": "x" * 70_000}, "input 'a' is longer than 65536 characters"),
        ({"b": "x"}, "an input 'b' was given, which is not declared; declared are a"),
    ],
)
def test_inputs_that_cannot_be_taken(given: dict[str, str], says: str) -> None:
    with pytest.raises(Invalid, match=says):
        small("version: 1\ninputs: {a: {}}\ntasks: {it: {run: make}}", **given)


def test_runtimes_and_types_that_exist_elsewhere_are_taken() -> None:
    text = "version: 1\nagents: {c: {runtime: claude, type: coder}}\ntasks: {it: {prompt: Do it}}"
    known = Known(runtimes=("shell", "python", "claude"), types=("coder",))
    assert parse(text, "f", {}, now=NOW, known=known).agents[0].runtime == "claude"


def test_the_name_comes_from_the_file() -> None:
    text = b"version: 1\ntasks: {it: {run: make}}"
    assert parse(text, "x", {}, now=NOW, file=Path("/a/My workflow.v2.yaml")).name == "My-workflow-v2"
    assert parse(text, "<stdin>", {}, now=NOW).name == "stdin"
    assert parse(text, "...", {}, now=NOW).name == "workflow"


def test_a_file_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        load(tmp_path / "gone.yaml", {}, now=NOW)
    with pytest.raises(Invalid, match="is not a file"):
        load(tmp_path, {}, now=NOW)
    with pytest.raises(Invalid, match="cannot be read"):
        load(tmp_path / "x" / ("y" * 5000), {}, now=NOW)


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(Invalid, match=r"large\.yaml:1:1: the file is larger than 1048576 bytes"):
        load(path, {}, now=NOW)


def test_prompt_files_have_a_bound_each_and_together() -> None:
    agents = "version: 1\nagents: {a: {runtime: shell, with: {run: ./a}}}\ntasks:\n"
    big = b"x" * (1024 * 1024)
    with pytest.raises(Invalid, match=r"p\.md is larger than 1048576 bytes"):
        parse(agents + "  it: {prompt: {file: p.md}}", "f", {}, now=NOW, read=lambda path: big + b"x")
    many = agents + "".join(f"  a{n}: {{prompt: {{file: p{n}.md}}}}\n" for n in range(17))
    with pytest.raises(Invalid, match="the prompt files together are larger than 16777216 bytes"):
        parse(many, "f", {}, now=NOW, read=lambda path: big)


def test_a_large_graph_is_checked_in_one_pass() -> None:
    lines = ["version: 1", "agents: {a: {runtime: shell, with: {run: ./a}}}", "tasks:", "  n0: {run: make}"]
    lines += [f"  n{n}: {{needs: [n{n - 1}], prompt: 'go on from ${{{{ needs.n0.state }}}}'}}" for n in range(1, 8000)]
    plan = small("\n".join(lines))
    assert len(plan.tasks) == 8000
    with pytest.raises(Invalid, match="only 50 are told at once"):
        small("\n".join(lines).replace("n0.state", "m0.state"))


def test_a_long_circle_is_cut_short() -> None:
    lines = ["version: 1", "tasks:", *(f"  n{n}: {{needs: [n{(n + 1) % 500}], run: make}}" for n in range(500))]
    with pytest.raises(Invalid, match=r"f.yaml:3:15: tasks need each other in a circle: n0 -> n1 -> .* -> n19 -> \.\.\. -> n0"):
        small("\n".join(lines))


def test_what_follows_from_another_mistake_is_not_told() -> None:
    text = "version: 1\ninputs: {x: 3}\nagents: {a: 3}\ntasks:\n  b: 3\n"
    text += "  c: {needs: b, agent: a, prompt: '${{ inputs.x }}', if: needs.b.state}"
    with pytest.raises(Invalid) as caught:
        small(text)
    assert [line.split(": ")[1] for line in caught.value.message.splitlines()] == ["inputs.x", "agents.a", "tasks.b"]


def test_what_agents_may_remember() -> None:
    whole = "version: 1\n{}\nagents: {{bee: {{runtime: shell{}}}}}\ntasks: {{a: {{run: x}}}}\n"
    assert small(whole.format("", "")).memory is None
    plan = small(whole.format("memory: {read: [session/*], write: [lessons], prompt: 0}", ", memory: off"))
    assert plan.memory == MemoryGrant(read=("session/*",), write=("lessons",), prompt=0)
    assert plan.agents[0].memory == MemoryGrant(mode="off")


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("memory: {write: ['a@1']}", r"f.yaml:2:18: memory.write: expected a namespace"),
        ("memory: {write: ['*a']}", r"f.yaml:2:18: memory.write: expected a namespace"),
        ("memory: {wrote: [a]}", r"f.yaml:2:10: .*wrote"),
        ("memory: {prompt: -1}", r"f.yaml:2:18: memory.prompt: expected a whole number"),
        ("memory: yes please", r"f.yaml:2:9: memory: expected `on` or `off`"),
    ],
)
def test_what_is_no_grant_is_named_with_its_place(given: str, place: str) -> None:
    with pytest.raises(Invalid, match=place):
        small(f"version: 1\n{given}\ntasks: {{a: {{run: x}}}}\n")
