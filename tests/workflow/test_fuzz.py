"""Whatever is handed in as a file: a plan comes out, or Invalid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skep.core.model import Plan
from skep.errors import Invalid, NotFound
from skep.workflow import parse
from skep.workflow.kinds import Later
from skep.workflow.schema import AGENT, FOREACH, RETRIES, TASK, WORKFLOW

FILES = Path(__file__).parent / "files"
STORIES = Path(__file__).parent.parent / "stories" / "workflow"
SEEDS = [path.read_bytes() for folder in (FILES, STORIES) for path in sorted(folder.glob("*.yaml"))]


def read(path: Path) -> bytes:
    if path.name.startswith("plan"):
        return b"Plan ${{ inputs.audience }}"
    raise NotFound(f"there is no file {path}")


def taken(data: bytes | str) -> Plan | None:
    try:
        plan = parse(data, "f.yaml", {"audience": "all"}, now=0, read=read)
    except Invalid as error:
        lines = error.message.splitlines()
        for line in lines[: 50 if len(lines) > 50 else None]:
            source, row, column, _ = line.split(":", 3)
            if not (source == "f.yaml" and int(row) > 0 and int(column) > 0):
                raise
        return None
    if msgspec.json.decode(msgspec.json.encode(plan), type=Plan) != plan:
        raise AssertionError("the plan does not survive the log")
    return plan


def test_the_seeds_are_worth_mutating() -> None:
    assert any(taken(seed) for seed in SEEDS)


@given(st.binary(max_size=200))
@example(b"\xff\xfe\x00")
@example(b"")
@example(b"\xef\xbb\xbf")
def test_any_bytes(data: bytes) -> None:
    taken(data)


@given(st.text(max_size=200))
@example("\ud800")
@example("tasks: {a: {run: '\ud800'}}")
def test_any_text(text: str) -> None:
    taken(text)


PIECES = [
    b"",
    b"\n",
    b": ",
    b"- ",
    b"  ",
    b"\t",
    b"'",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b"&a ",
    b"*a",
    b"<<: ",
    b"!x ",
    b"|\n",
    b"# ",
]
PIECES += [b"---\n", b"~", b"null", b"true", b"-1", b"1e9", b"9" * 30, b"\xff", b"\x00", b"${{ ", b" }}", b"needs.", b"run: x"]
cut = st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(PIECES))


@settings(max_examples=300)
@given(
    st.sampled_from(SEEDS),
    st.lists(cut, min_size=1, max_size=6),
)
def test_files_with_pieces_cut_out_and_put_in(seed: bytes, cuts: list[tuple[float, int, bytes]]) -> None:
    for where, length, piece in cuts:
        start = int(where * len(seed))
        seed = seed[:start] + piece + seed[start + length :]
    taken(seed)


@settings(max_examples=200)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)), min_size=1, max_size=5))
def test_files_with_lines_moved(seed: bytes, moves: list[tuple[float, float]]) -> None:
    lines = seed.split(b"\n")
    for origin, goal in moves:
        lines.insert(int(goal * len(lines)), lines[int(origin * len(lines))])
    taken(b"\n".join(lines))


names = st.sampled_from(["a", "b", "c", "item", "shell"])
WORDS = [
    "a",
    "b",
    "make",
    "2h",
    "4GB",
    "needs.a.state",
    "needs.a.outputs.x",
    "${{ needs.b.result }}",
    "always()",
    "low",
    "",
    "true",
]
WORDS += ["shell", "python", "isolated", "none", "ask", "a:b", "tests/**", "x.md", "inputs.a", "p.md"]
words = st.sampled_from(WORDS)
leaves = st.none() | st.booleans() | st.integers(-2, 300) | st.floats(allow_nan=False) | words
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=4
)


def record(fields: Any, **known: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings with some of the keys that there are, with values that mostly do not fit."""
    keys = [key for key, field in fields.items() if not isinstance(field.kind, Later)]
    return st.fixed_dictionaries(known, optional={key: anything for key in keys if key not in known})


retries = record(RETRIES.fields) | st.integers(0, 3)
foreach = record(FOREACH.fields, **{"in": words})
needs = st.lists(names, max_size=2)
some_task = st.one_of(
    st.fixed_dictionaries({"run": words}, optional={"needs": needs, "if": words, "retries": retries}),
    st.fixed_dictionaries({"prompt": words}, optional={"needs": needs, "foreach": foreach, "agent": names}),
    record(TASK.fields),
)
agent = record(AGENT.fields, runtime=words, **{"with": st.just({"run": "x"})})
files = record(
    WORKFLOW.fields,
    version=st.just(1),
    tasks=st.dictionaries(names, some_task, max_size=4),
    agents=st.dictionaries(names, agent, max_size=2),
)


@settings(max_examples=200)
@given(files)
def test_files_of_the_right_keys_and_any_values(file: dict[str, Any]) -> None:
    taken(msgspec.json.encode(file))


linked = st.fixed_dictionaries({"run": st.just("x")}, optional={"needs": st.sets(names, max_size=2).map(sorted)})
shaped = st.fixed_dictionaries({"version": st.just(1), "tasks": st.dictionaries(names, linked, min_size=1)})


@given(shaped)
def test_a_plan_never_has_a_need_that_is_not_there_or_a_circle(file: dict[str, Any]) -> None:
    plan = taken(msgspec.json.encode(file))
    if plan is None:
        return
    done: set[str] = set()
    left = list(plan.tasks)
    while left:
        ready = [task for task in left if set(task.needs) <= done]
        assert ready
        done.update(task.id for task in ready)
        left = [task for task in left if task.id not in done]
