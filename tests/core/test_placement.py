"""Which agent a task goes to: both profiles to the digit, who may at all, and an explanation that says what really happens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skep.core import inputs as inp
from skep.core.decide import decide
from skep.core.model import Agent, AgentSpec, Limits, Plan, Resources, Task
from skep.core.placement import PROFILES, Alternative, Requirement, explain, factors, impossible, requirement, success_rate, total
from skep.core.state import State
from skep.core.terms import Placement
from tests.core.desk import SHELL, Desk

CODER = AgentSpec(name="coder", runtime="x", capabilities=("coding", "testing"), reliability=0.85, cost=1.0)
TESTER = AgentSpec(name="tester", runtime="x", capabilities=("testing",), reliability=0.95)
REVIEWER = AgentSpec(name="reviewer", runtime="x", capabilities=("code-review",), reliability=0.92)


def need(**more: Any) -> Requirement:
    return requirement(Task(prompt="x", **more))


def ask(*capabilities: str, **more: Any) -> Task:
    return Task(prompt="x", capabilities=capabilities, **more)


# Scores


def test_the_profiles_are_those_of_the_feature_list() -> None:
    assert PROFILES == {
        "balanced": {"availability": 0.30, "expertise": 0.25, "workload": 0.20, "performance": 0.15, "affinity": 0.10},
        "routing": {"expertise": 0.30, "performance": 0.25, "availability": 0.20, "cost": 0.15, "history": 0.10},
    }
    assert all(sum(profile.values()) == pytest.approx(1.0) for profile in PROFILES.values())


def test_an_idle_agent_is_available_and_a_busy_one_by_half() -> None:
    idle, busy = (Agent(id="c-1", spec="coder", node="n", number=1, max_load=4, load=load) for load in (0, 3))
    assert factors(idle, CODER, need())["availability"] == 1.0
    assert factors(busy, CODER, need())["availability"] == 0.5
    assert factors(idle, CODER, need())["workload"] == 1.0
    assert factors(busy, CODER, need())["workload"] == 0.25


def test_expertise_is_the_share_of_the_wanted_capabilities() -> None:
    agent = Agent(id="c-1", spec="coder", node="n", number=1)
    wishes = need(capabilities=("coding", "flying"), inferred={"capabilities": "the prompt"})
    assert factors(agent, CODER, need())["expertise"] == 1.0
    assert factors(agent, CODER, need(capabilities=("coding", "testing")))["expertise"] == 1.0
    assert factors(agent, CODER, wishes)["expertise"] == 0.5
    assert factors(agent, SHELL, wishes)["expertise"] == 0.5, "an agent that can do anything is half an expert"


def test_performance_is_the_observed_rate_with_the_reliability_as_prior() -> None:
    assert success_rate(0, 0, 0.85) == pytest.approx(0.85)
    assert success_rate(5, 0, 0.8) == pytest.approx(0.9)
    assert success_rate(1_000_000, 0, 0.0) == pytest.approx(1.0, abs=1e-5)
    agent = Agent(id="c-1", spec="coder", node="n", number=1, done=3, failed=2, types={"docs": [0, 5]})
    values = factors(agent, CODER, need(type="docs"))
    assert values["performance"] == pytest.approx((3 + 0.85 * 5) / 10)
    assert values["history"] == pytest.approx(0.85 * 5 / 10)
    assert factors(agent, CODER, need(type="other"))["history"] == values["performance"]


def test_cost_makes_an_agent_less_wanted() -> None:
    agent = Agent(id="c-1", spec="coder", node="n", number=1)
    assert factors(agent, CODER, need())["cost"] == 0.5
    assert factors(agent, TESTER, need())["cost"] == 1.0


def test_a_balanced_score_by_hand() -> None:
    agent = Agent(id="c-1", spec="coder", node="n", number=1, max_load=2, load=1, done=5)
    # availability .3 * .5 + expertise .25 * .5 + workload .2 * .5 + performance .15 * (5 + 4.25) / 10
    wishes = need(capabilities=("coding", "flying"), inferred={"capabilities": "?"})
    assert total(PROFILES["balanced"], factors(agent, CODER, wishes)) == pytest.approx(0.15 + 0.125 + 0.1 + 0.15 * 0.925)


def test_a_routing_score_by_hand() -> None:
    agent = Agent(id="c-1", spec="coder", node="n", number=1, failed=5, types={"docs": [5, 0]})
    # expertise .3 * 1 + performance .25 * .425 + availability .2 * 1 + cost .15 * .5 + history .1 * (5 + 4.25) / 10
    score = total(PROFILES["routing"], factors(agent, CODER, need(type="docs")))
    assert score == pytest.approx(0.3 + 0.25 * 0.425 + 0.2 + 0.075 + 0.0925)


def test_the_assignment_carries_the_score_by_hand() -> None:
    desk = Desk(CODER)
    desk.submit(ask("coding", id="a"))
    # idle, all of one capability, no load, prior .85, no affinity
    assert desk.attempt("a").score == round(0.3 + 0.25 + 0.2 + 0.15 * 0.85, 4)


def test_who_did_what_a_task_needs_is_closer_to_it() -> None:
    desk = Desk(AgentSpec(name="x", runtime="x", count=3))
    desk.submit(Task(id="a", prompt="x"), Task(id="b", prompt="x"))
    desk.ok("a", "b")
    desk.submit(Task(id="c", prompt="x", needs=("b",)), Task(id="d", prompt="x", needs=("a", "b")))
    assert [desk.entry(name).agent for name in "abcd"] == ["x-1", "x-2", "x-2", "x-1"]


def test_a_plan_may_weigh_otherwise() -> None:
    cheap, good = AgentSpec(name="cheap", runtime="x", reliability=0.1), AgentSpec(name="good", runtime="x", cost=9.0)
    for placement, target in (
        (Placement(), "good-1"),
        (Placement(profile="routing"), "good-1"),
        (Placement(profile="routing", weights={"cost": 5.0}), "cheap-1"),
        (Placement(weights={"cost": 5.0}), "cheap-1"),
    ):
        desk = Desk(cheap, good, placement=placement)
        desk.submit(Task(id="a", prompt="x"))
        assert desk.entry("a").agent == target, placement


# Who may


def test_stated_capabilities_are_a_condition_and_inferred_ones_a_wish() -> None:
    desk = Desk(TESTER, REVIEWER)
    desk.submit(ask("testing", id="a"), ask("testing", id="b"))
    assert (desk.entry("a").agent, desk.entry("b").state) == ("tester-1", "ready")
    desk.submit(ask("testing", id="c", inferred={"capabilities": "the prompt"}))
    assert desk.entry("c").agent == "reviewer-1"


def test_a_wish_decides_between_those_who_may() -> None:
    desk = Desk(REVIEWER, TESTER)
    desk.submit(ask("testing", id="a", inferred={"capabilities": "the prompt"}))
    assert desk.entry("a").agent == "tester-1"


def test_an_agent_without_capabilities_can_do_anything() -> None:
    desk = Desk(AgentSpec(name="any", runtime="x"))
    desk.submit(ask("whatever", id="a"))
    assert desk.entry("a").agent == "any-1"


def test_commands_go_to_the_shell_and_callables_to_python_and_prompts_to_neither() -> None:
    desk = Desk(CODER)
    desk.submit(Task(id="a", run="true"), Task(id="b", call="m:f"), Task(id="c", prompt="x"))
    assert [desk.entry(name).agent for name in "abc"] == ["shell-1", "python-1", "coder-1"]


def test_a_named_agent_is_the_only_one() -> None:
    desk = Desk(CODER, TESTER)
    desk.submit(*(Task(id=name, prompt="x", agent="tester") for name in "ab"))
    assert (desk.entry("a").agent, desk.entry("b").state) == ("tester-1", "ready")


def test_labels_of_a_node_are_conditions() -> None:
    desk = Desk(room=None)
    desk.join(os="linux")
    desk.submit(Task(id="a", run="true", constraints={"os": "linux"}))
    assert desk.entry("a").state == "running"
    error = desk.refused(inp.Submit(at=0, tasks=(Task(run="true", constraints={"gpu": "yes", "os": "linux"}),)))
    assert "gpu=yes" in error.message


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (Task(prompt="x", agent="nobody"), "no agent is called 'nobody' (declared: shell, python, coder)"),
        (Task(prompt="x", capabilities=("flying",)), "every declared agent for prompt tasks lacks one of flying"),
        (Task(prompt="x", agent="coder", capabilities=("flying",)), "agent 'coder' lacks one of flying"),
        (Task(run="x", resources=Resources(cpu=5.0)), "it asks for more than any node has (the largest: 4 cpu"),
        (Task(run="x", resources=Resources(memory=9_000)), "it asks for more than any node has"),
        (Task(run="x", resources=Resources(storage=9_000)), "it asks for more than any node has"),
        (Task(run="x", resources=Resources(cpu=4.0, memory=8_000, storage=8_000)), ""),
        (Task(run="x", constraints={"os": "linux"}), "no node carries the labels os=linux"),
    ],
)
def test_what_could_never_run_says_why(task: Task, why: str) -> None:
    state = Desk(CODER).state
    found = impossible(state, task, state.specs)
    assert found.startswith(why)
    assert bool(found) == bool(why)


def test_without_prompt_agents_a_prompt_is_refused() -> None:
    assert "no declared agent takes prompt tasks" in Desk().refused(inp.Submit(at=0, tasks=(Task(prompt="x"),))).message


def test_before_a_node_joins_nobody_knows_what_is_too_much() -> None:
    desk = Desk(room=None)
    desk.submit(Task(id="a", run="true", resources=Resources(cpu=1_000.0), constraints={"a": "b"}))
    assert desk.entry("a").state == "ready"


# Strict agents


def test_a_strict_agent_reserves_its_figures_scaled_down_to_the_node() -> None:
    huge = AgentSpec(name="huge", runtime="x", count=2, strict=True, resources=Resources(64.0, 1_000, 10**12))
    desk = Desk(huge)
    desk.submit(*(Task(id=name, prompt="x") for name in "ab"))
    assert desk.attempt("a").reserved == Resources(4.0, 1_000, 8_000)
    assert desk.entry("b").state == "ready", "the node is full"
    desk.ok("a")
    assert desk.entry("b").state == "running"


def test_figures_of_an_agent_that_is_not_strict_reserve_nothing() -> None:
    desk = Desk(AgentSpec(name="soft", runtime="x", count=2, resources=Resources(4.0, 1, 1)))
    desk.submit(*(Task(id=name, prompt="x") for name in "ab"))
    assert desk.states() == {"a": "running", "b": "running"}


def test_what_the_task_says_counts_more_than_the_strict_agent() -> None:
    desk = Desk(AgentSpec(name="huge", runtime="x", count=4, strict=True, resources=Resources(4.0, 1, 1)))
    desk.submit(*(Task(id=name, prompt="x", resources=Resources(cpu=1.0)) for name in "abcd"))
    assert set(desk.states().values()) == {"running"}


def test_a_small_agent_is_not_kept_waiting_by_a_better_one_that_does_not_fit() -> None:
    big = AgentSpec(name="big", runtime="x", strict=True, resources=Resources(cpu=3.0), reliability=1.0)
    small = AgentSpec(name="small", runtime="x", reliability=0.5)
    desk = Desk(big, small)
    desk.submit(Task(id="a", run="true", resources=Resources(cpu=2.0)), Task(id="b", prompt="x"), Task(id="c", prompt="x"))
    assert desk.entry("b").agent == "small-1"
    desk.ok("a")
    assert desk.entry("c").agent == "big-1"


# Explanation


_SPECS = st.builds(
    AgentSpec,
    name=st.sampled_from(["p", "q", "r"]),
    runtime=st.just("x"),
    count=st.integers(1, 3),
    max_load=st.integers(1, 3),
    capabilities=st.sampled_from([(), ("a",), ("a", "b"), ("b", "c")]),
    reliability=st.sampled_from([0.3, 0.5, 0.9, 1.0]),
    cost=st.sampled_from([0.0, 0.1, 1.0, 3.0]),
    strict=st.booleans(),
    resources=st.sampled_from([None, Resources(1.0, 10, 10), Resources(3.0, 10, 10), Resources(9.0, 1, 1)]),
)
_WEIGHTS = st.dictionaries(st.sampled_from(["cost", "affinity", "history", "expertise"]), st.sampled_from([0.0, 0.1, 0.7]))
_TASKS = st.builds(
    Task,
    prompt=st.just("x"),
    type=st.sampled_from(["", "docs", "code"]),
    capabilities=st.sampled_from([(), ("a",), ("a", "b"), ("c",)]),
    inferred=st.sampled_from([{}, {"capabilities": "?"}]),
    resources=st.sampled_from([None, None, Resources(cpu=1.0), Resources(cpu=2.5)]),
    agent=st.sampled_from(["", "", "", "p", "q"]),
)


def open_desk(specs: list[AgentSpec], profile: Any, weights: dict[str, float]) -> Desk:
    named = {spec.name: spec for spec in specs}
    return Desk(*named.values(), at_once=8, placement=Placement(profile=profile, weights=weights), thorough=False)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    st.lists(_SPECS, min_size=1, max_size=3),
    st.sampled_from(["balanced", "routing"]),
    _WEIGHTS,
    st.lists(st.tuples(_TASKS, st.integers(0, 6), st.integers(0, 3)), max_size=14),
)
def test_the_explanation_is_what_happens_next(
    specs: list[AgentSpec], profile: Any, weights: dict[str, float], steps: list[tuple[Task, int, int]]
) -> None:
    desk = open_desk(specs, profile, weights)
    for n, (task, ends, needs) in enumerate(steps):
        running = desk.running()
        if running and ends < 4:
            done = running[ends % len(running)]
            desk.ok(done) if ends % 2 else desk.fail(done)
        done_before = [name for name, entry in desk.state.entries.items() if entry.state == "done"]
        ends_at = {name: desk.entry(name).state for name in done_before}
        one = Task(
            **{field: getattr(task, field) for field in ("prompt", "type", "capabilities", "inferred", "resources", "agent")},
            id=f"n{n}",
            needs=tuple(done_before[:needs]),
        )
        if impossible(desk.state, one, desk.state.specs):
            continue
        found = explain(desk.state, one)
        desk.submit(one)
        attempt = desk.entry(one.id).attempt
        if found is None:
            assert attempt is None, f"{one.id} went to {attempt and attempt.agent} although nobody could have it: {ends_at}"
        else:
            assert attempt is not None
            assert (attempt.agent, attempt.score) == (found.target, found.score)
            by_hand = sum(found.weights[name] * value for name, value in found.factors.items())
            assert found.score == pytest.approx(by_hand, abs=2e-4)
            check_explanation(found.target, found.score, found.alternatives, desk.state)
    desk.check()


def check_explanation(target: str, score: float, alternatives: tuple[Alternative, ...], state: State) -> None:
    assert len(alternatives) <= 3
    names = [target, *(other.agent for other in alternatives)]
    assert len(set(names)) == len(names)
    assert set(names) <= set(state.agents)
    scores = [score, *(other.score for other in alternatives)]
    assert scores == sorted(scores, reverse=True)


def test_an_explanation_says_target_score_factors_reasons_and_three_alternatives() -> None:
    desk = Desk(AgentSpec(name="coder", runtime="x", count=6, capabilities=("coding",), max_load=2, cost=1.0))
    desk.submit(ask("coding", id="a"))
    desk.ok("a")
    desk.submit(ask("coding", id="b"), ask("coding", id="c"))
    desk.fail("c")
    found = explain(desk.state, ask("coding", needs=("a",), id="z"))
    assert found is not None
    assert found.target == "coder-3"
    assert found.method == "scoring"
    assert found.score == round(0.3 + 0.25 + 0.2 + 0.15 * 0.9, 4)
    assert found.factors == {"availability": 1.0, "expertise": 1.0, "workload": 1.0, "performance": 0.9, "affinity": 0.0}
    assert found.weights == PROFILES["balanced"]
    assert found.reasons == ("idle", "has 100% of coding", "no attempts yet, prior 0.9", "relative cost 1")
    assert found.alternatives == (
        Alternative("coder-4", found.score),
        Alternative("coder-5", found.score),
        Alternative("coder-6", found.score),
    )


def test_the_reasons_tell_of_load_record_and_kinship() -> None:
    desk = Desk(AgentSpec(name="one", runtime="x", max_load=3))
    desk.submit(Task(id="a", prompt="x"), Task(id="b", prompt="x"))
    desk.ok("a")
    found = explain(desk.state, Task(prompt="x", agent="one", needs=("a",)))
    assert found is not None
    assert found.reasons == (
        "carries 1 of 3 tasks",
        "the task names agent 'one'",
        "succeeded in 1 of 1 attempts",
        "did 100% of what the task needs",
    )


def test_an_explanation_of_a_waiting_task_knows_its_needs() -> None:
    desk = Desk(AgentSpec(name="x", runtime="x", count=2))
    desk.submit(Task(id="a", prompt="x"), Task(id="b", prompt="x"))
    desk.ok("a", "b")
    desk.tell(inp.Pause(at=0, stop=True))
    desk.submit(Task(id="c", prompt="x", needs=("b",)))
    found = explain(desk.state, desk.entry("c").task)
    assert found is not None
    assert found.target == "x-2"
    assert "did 100% of what the task needs" in found.reasons


def test_ties_go_to_the_lower_number_however_the_agents_were_declared() -> None:
    for names in (("q", "p"), ("p", "q")):
        desk = Desk(*(AgentSpec(name=name, runtime="x", count=2) for name in names))
        desk.submit(*(Task(id=f"n{n}", prompt="x") for n in range(4)))
        assert [desk.entry(f"n{n}").agent for n in range(4)] == ["p-1", "q-1", "p-2", "q-2"]


# Agents over time


def test_an_agent_carries_as_many_tasks_as_it_may() -> None:
    desk = Desk(AgentSpec(name="x", runtime="x", count=2, max_load=2), at_once=10)
    desk.submit(*(Task(id=f"n{n}", prompt="x") for n in range(5)))
    assert [desk.entry(f"n{n}").agent for n in range(5)] == ["x-1", "x-2", "x-1", "x-2", ""]
    desk.ok("n1")
    assert desk.entry("n4").agent == "x-2"


def test_a_session_has_no_more_at_work_than_its_limit() -> None:
    desk = Desk(at_once=2)
    desk.submit(*(Task(id=f"n{n}", run="true") for n in range(4)))
    assert desk.running() == ["n0", "n1"]
    desk.tell(desk.report(inp.Ended, "n0", outcome="ok", gone=False))
    assert desk.running() == ["n1"], "its processes are not gone yet"
    desk.gone("n0")
    assert desk.running() == ["n1", "n2"]


def test_slots_of_a_node_are_a_limit_too() -> None:
    desk = Desk(at_once=5, slots=1)
    desk.submit(*(Task(id=name, run="true") for name in "ab"))
    assert desk.running() == ["a"]
    desk.ok("a")
    assert desk.running() == ["b"]


def test_slot_numbers_are_the_smallest_that_are_free() -> None:
    desk = Desk()
    desk.submit(*(Task(id=name, run="true") for name in "abcd"))
    assert [desk.attempt(name).slot for name in "abcd"] == [0, 1, 2, 3]
    desk.ok("b")
    desk.reload()
    desk.submit(Task(id="e", run="true"))
    assert desk.attempt("e").slot == 1


def test_declaring_an_agent_anew_changes_how_many_there_are_and_keeps_their_records() -> None:
    spec = AgentSpec(name="x", runtime="x", count=2)
    desk = Desk(spec)
    desk.submit(*(Task(id=name, prompt="x") for name in "abc"))
    assert desk.running() == ["a", "b"]
    desk.tell(inp.DeclareAgents(at=0, specs=(AgentSpec(name="x", runtime="x", count=1, max_load=2),)))
    assert desk.entry("c").agent == "x-1", "two at a time now"
    desk.submit(Task(id="d", prompt="x"))
    desk.ok("b")
    assert desk.entry("d").state == "ready", "x-2 is no more"
    assert desk.state.agents["x-2"].done == 1
    desk.tell(inp.DeclareAgents(at=0, specs=(spec,)))
    assert desk.entry("d").agent == "x-2"


@pytest.mark.parametrize(
    "spec",
    [
        AgentSpec(name="", runtime="x"),
        AgentSpec(name="x", runtime="x", count=-1),
        AgentSpec(name="x", runtime="x", count=10**9),
        AgentSpec(name="x", runtime="x", max_load=0),
        AgentSpec(name="x", runtime="x", reliability=1.1),
        AgentSpec(name="x", runtime="x", reliability=float("nan")),
        AgentSpec(name="x", runtime="x", cost=-1.0),
        AgentSpec(name="x", runtime="x", resources=Resources(cpu=-1.0)),
    ],
)
def test_agents_that_make_no_sense_are_refused(spec: AgentSpec) -> None:
    error = Desk().refused(inp.DeclareAgents(at=0, specs=(spec,)))
    assert error.fix


def test_an_agent_that_an_open_task_wants_cannot_lose_what_it_takes() -> None:
    desk = Desk(TESTER, at_once=1)
    desk.submit(ask("testing", id="a"), ask("testing", id="b"))
    changed = AgentSpec(name="tester", runtime="x", capabilities=("sleeping",))
    assert "'a' could never run any more" in desk.refused(inp.DeclareAgents(at=0, specs=(changed,))).message
    desk.ok("a", "b")
    desk.tell(inp.DeclareAgents(at=0, specs=(changed,)))


@pytest.mark.parametrize(
    "plan",
    [
        Plan(name="p", limits=Limits(agents=0)),
        Plan(name="p", limits=Limits(agents=10**9)),
        Plan(name="p", limits=Limits(agents=1, time=-1.0)),
        Plan(name="p", limits=Limits(agents=1, time=float("inf"))),
        Plan(name="p", limits=Limits(agents=1), placement=Placement(weights={"luck": 1.0})),
        Plan(name="p", limits=Limits(agents=1), placement=Placement(weights={"cost": float("nan")})),
        Plan(name="p", limits=Limits(agents=1), agents=(SHELL, SHELL)),
    ],
)
def test_plans_that_make_no_sense_open_nothing(plan: Plan) -> None:

    state = State().rebuild()
    decision = decide(state, [inp.OpenSession(at=0, session="s", plan=plan)], 1, bytes(16))
    assert not decision.events
    assert decision.answers[0].fix
    assert state.seq == 0
