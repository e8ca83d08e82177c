"""The published schema says what the checker does, for they are one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec.structs import fields

from skep.core.model import AgentSpec, Foreach, Limits, Resources, Retries, Task, Vote
from skep.core.terms import Notify
from skep.core.topology import Shape
from skep.workflow import deciding, json_schema, reference
from skep.workflow import schema as table
from skep.workflow.kinds import Later
from skep.workflow.problems import Problems
from skep.workflow.record import Record, records
from skep.workflow.yamltree import Map, Node, Scalar, Seq, compose, plain

FILES = Path(__file__).parent / "files"
STORIES = Path(__file__).parent.parent / "stories" / "workflow"
VALIDATOR = Draft202012Validator(json_schema())
#: Stories whose mistakes lie in the form of the file, so that an editor can show them.
OF_FORM = ("unknown-keys", "wrong-values", "not-yet", "paths", "not-a-mapping", "defaults")


def read(text: str) -> tuple[Node, bool]:
    """The tree, and whether the checker takes its form."""
    problems = Problems("f")
    node = compose(text, problems)
    assert node is not None
    table.WORKFLOW.read(node, "", problems)
    return node, not problems


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", sorted(FILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_it_takes_the_examples(path: Path) -> None:
    node, fine = read(path.read_text())
    assert fine
    VALIDATOR.validate(plain(node))


@pytest.mark.parametrize("name", OF_FORM)
def test_it_refuses_what_the_checker_refuses_for_its_form(name: str) -> None:
    node, fine = read((STORIES / f"{name}.yaml").read_text())
    assert not fine
    assert not VALIDATOR.is_valid(plain(node))


IN_THE_FILE = [
    "version: 2",
    "name: my feature",
    "limits: {agents: 0}",
    "limits: {time: 2 hours}",
    "limits: {cost_usd: -3}",
    "inputs: {a b: {}}",
    "inputs: {a: 3}",
    "verify: []",
    "verify: ''",
    "notify: [{on: success, run: x}]",
    "notify: [{on: done}]",
    "agents: {a: {type: coder}}",
    "agents: {a: {runtime: shell, reliability: 2}}",
    "environment: {services: [redis]}",
    "topology: tree",
    "other: 1",
    "defaults: {needs: [a]}",
    "tasks: {}",
    "tasks: {t1: {run: x}}",
    "tasks: {it: {}}",
    "tasks: {it: {run: x, prompt: y}}",
]
IN_A_TASK = [
    "timeout: 10:30",
    "timeout: -1",
    "retries: many",
    "retries: {max: 1.5}",
    "retries: {feedback: yes}",
    "retries: {from: start}",
    "exit_codes: [256]",
    "exit_codes: [0, 0]",
    "priority: urgent",
    "resources: {memory: 4G}",
    "needs: [a, a]",
    "needs: {a: b}",
    "outputs: {a: ../x}",
    "protect: [tests/]",
    "env: {SKEP_OUT: x}",
    "env: {A: [x]}",
    "secrets: [A B]",
    "foreach: {key: x}",
    "setup: [[]]",
    "on_conflict: later",
    "candidates: [a]",
    "candidates: 1",
    "candidates: 2, vote: {by: a, threshold: most}",
    "candidates: 2, vote: {by: a, rule: dictated}",
    "timout: 3",
]


@pytest.mark.parametrize("mistake", [*IN_THE_FILE, *IN_A_TASK])
def test_each_mistake_alone_is_one_for_both(mistake: str) -> None:
    key = mistake.split(":")[0]
    whole = {"version": "version: 1", "tasks": "tasks: {it: {run: x}}"}
    if mistake in IN_A_TASK:
        whole["tasks"] = f"tasks: {{it: {{run: x, {mistake}}}}}"
    else:
        whole[key] = mistake
    node, fine = read("\n".join(whole.values()))
    assert (fine, VALIDATOR.is_valid(plain(node))) == (False, False)


def test_every_key_says_what_it_is_for() -> None:
    for record in records(table.WORKFLOW):
        assert record.about.endswith(".")
        for key, field in record.fields.items():
            assert field.about.endswith("."), f"{record.title}.{key}"


#: What of a task only Skep itself sets.
OWN = {"id", "options", "item", "parent", "inferred", "seat", "ballot", "resolves", "plans", "generation", "gate"}
#: Struct -> its record, and what only Skep itself sets.
STRUCTS: list[tuple[type, Record, set[str]]] = [
    (Task, table.TASK, OWN),
    (AgentSpec, table.AGENT, {"name"}),
    (Limits, table.LIMITS, set()),
    (Retries, table.RETRIES, set()),
    (Foreach, table.FOREACH, set()),
    (Resources, table.RESOURCES, set()),
    (Notify, table.NOTIFY, {"seals"}),  # made when a session is opened
    (Vote, deciding.VOTE, set()),
    (Shape, table.TOPOLOGY, set()),
]


@pytest.mark.parametrize(("struct", "record", "own"), STRUCTS, ids=lambda value: getattr(value, "__name__", ""))
def test_everything_that_a_struct_holds_can_be_written(struct: type, record: Record, own: set[str]) -> None:
    held = {field.encode_name for field in fields(struct)} - own
    later = {key for key, field in record.fields.items() if isinstance(field.kind, Later)}
    assert held - set(record.fields) == set()
    assert set(record.fields) - held - later <= {"with"}


def test_the_manual_has_every_key() -> None:
    text = reference()
    for record in records(table.WORKFLOW):
        assert f"\n## {record.title}\n" in text
        for key in record.fields:
            assert f"| `{key}` |" in text
    assert "**Not available yet:**" in text


def paths(node: Node) -> list[Node]:
    inner = [] if isinstance(node, Scalar) else list(node.items if isinstance(node, Seq) else node.entries.values())
    return [node, *(found for one in inner for found in paths(one))]


WHOLE = [path.read_text() for path in sorted(FILES.glob("*.yaml"))]
VALUES = [
    "~",
    "''",
    "true",
    "-1",
    "3",
    "0.5",
    "many",
    "2h",
    "4GB",
    "[]",
    "[a]",
    "[a, a]",
    "{}",
    "{a: 1}",
    "{file: x}",
    "../x",
    "[[a]]",
]


@given(st.sampled_from(WHOLE), st.randoms(use_true_random=False), st.sampled_from(VALUES))
def test_what_the_checker_takes_the_schema_takes(text: str, random: Any, value: str) -> None:
    """Any one value of an example is replaced; the schema must never be the stricter one."""
    node, _ = read(text)
    target = random.choice(paths(node)[1:])
    problems = Problems("f")
    changed = replaced(node, target, compose(value, problems))
    table.WORKFLOW.read(changed, "", problems)
    if not problems:
        VALIDATOR.validate(plain(changed))


def replaced(node: Node, target: Node, new: Node | None) -> Node:
    if node is target and new is not None:
        return new
    if isinstance(node, Map):
        entries = {key: replaced(value, target, new) for key, value in node.entries.items()}
        return Map(node.line, node.column, entries, node.keys, node.size, node.height)
    if isinstance(node, Seq):
        return Seq(node.line, node.column, tuple(replaced(one, target, new) for one in node.items), node.size, node.height)
    return node
