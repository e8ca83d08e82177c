"""The built-in agent types, the user's own, and what a small machine makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from skep.agents.types import GB, fill, load, scaled
from skep.core.model import AgentSpec, Resources
from skep.errors import Invalid

#: name: category, capabilities, cpu, GB memory, GB storage, speed, accuracy, reliability
SEVEN = {
    "researcher": ("core", "information-gathering analysis documentation", 2, 4, 10, "medium", "high", 0.90),
    "coder": ("core", "coding testing debugging refactoring", 4, 8, 20, "high", "high", 0.85),
    "tester": ("core", "testing validation quality-assurance", 2, 4, 10, "medium", "very high", 0.95),
    "reviewer": ("core", "code-review quality-assessment validation", 2, 4, 5, "medium", "very high", 0.92),
    "coordinator": ("coordination", "coordination consensus resource-management", 2, 4, 5, "high", "high", 0.98),
    "security-specialist": (
        "specialized", "security-analysis vulnerability-assessment compliance", 3, 6, 10, "medium", "very high", 0.96,
    ),
    "performance-analyst": (
        "specialized", "performance-analysis optimization benchmarking", 4, 8, 15, "high", "high", 0.90,
    ),
}  # fmt: skip


def test_there_are_seven_types_with_these_figures() -> None:
    found = {
        name: (t.category, " ".join(t.capabilities), t.cpu, t.memory, t.storage, t.speed, t.accuracy, t.reliability)
        for name, t in load().items()
    }
    assert found == SEVEN
    assert load()["coder"].resources == Resources(cpu=4.0, memory=8 * GB, storage=20 * GB)


def test_users_change_built_in_types_field_by_field_and_add_their_own() -> None:
    types = load({"coder": {"reliability": 0.5}, "poet": {"capabilities": ["rhyme"], "cpu": 1}})
    assert (types["coder"].reliability, types["coder"].cpu) == (0.5, 4)
    assert (types["poet"].category, types["poet"].capabilities, types["poet"].memory) == ("custom", ("rhyme",), 0)
    assert list(types) == [*SEVEN, "poet"]
    assert load()["coder"].reliability == 0.85


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"poet": {"rhymes": 3}}, "'poet'.*rhymes"),
        ({"poet": {"cpu": "many"}}, "'poet'.*cpu"),
        ({"poet": {"reliability": 1.5}}, "'poet'.*reliability"),
        ({"coder": {"memory": -1}}, "'coder'.*memory"),
        ({"coder": {"speed": "warp"}}, "'coder'.*speed"),
        ({"coder": "fast"}, "'coder'"),
        ({"coder": 3}, "'coder'"),
    ],
)
def test_a_type_that_is_not_right_is_named(own: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        load(own)


def test_figures_are_scaled_down_to_the_machine_and_said_once_each() -> None:
    types, said = scaled(load(), Resources(cpu=2.0, memory=5 * GB, storage=1000 * GB))
    assert types["coder"].resources == Resources(cpu=2.0, memory=5 * GB, storage=20 * GB)
    assert types["tester"] == load()["tester"]
    assert len(said) == 3
    assert said[0] == "agent type coder is scaled down to this machine: 4 cpu to 2, 8 GB memory to 5"
    again, nothing = scaled(types, Resources(cpu=2.0, memory=5 * GB, storage=1000 * GB))
    assert (again, nothing) == (types, [])


def test_an_agent_takes_from_its_type_what_it_leaves_empty() -> None:
    types = load()
    plain = fill(AgentSpec(name="a", runtime="shell", type="coder"), types)
    assert (plain.capabilities, plain.resources, plain.reliability) == (
        types["coder"].capabilities, types["coder"].resources, 0.85,
    )  # fmt: skip
    own = AgentSpec(name="a", runtime="shell", type="coder", capabilities=("x",), resources=Resources(cpu=1.0), reliability=0.3)
    assert fill(own, types) == own
    bare = AgentSpec(name="a", runtime="shell")
    assert fill(bare, types) == bare
    with pytest.raises(Invalid, match=r"type 'wizard'.*\n.*coder"):
        fill(AgentSpec(name="a", runtime="shell", type="wizard"), types)
