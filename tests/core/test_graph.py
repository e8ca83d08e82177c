"""Circles, what falls together, and the chain that takes longest."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from skep.core import graph
from skep.core.model import Task
from skep.errors import Invalid
from tests.core.desk import Desk, run

#: For each task, the tasks it needs, by number.
_graphs = st.integers(1, 9).flatmap(lambda n: st.lists(st.sets(st.integers(0, n - 1), max_size=3), min_size=n, max_size=n))


def tasks_of(needs: Iterable[Iterable[int]]) -> list[Task]:
    return [run(f"n{i}", *(f"n{j}" for j in sorted(others))) for i, others in enumerate(needs)]


def reaches(needs: list[set[int]], start: int, goal: int) -> bool:
    found, left = set(), [start]
    while left:
        for other in needs[left.pop()]:
            if other not in found:
                found.add(other)
                left.append(other)
    return goal in found


@settings(max_examples=300)
@given(_graphs)
def test_a_circle_is_found_where_there_is_one_and_it_is_one(needs: list[set[int]]) -> None:
    circular = any(reaches(needs, i, i) for i in range(len(needs)))
    try:
        graph.check_acyclic(tasks_of(needs))
    except Invalid as error:
        assert circular
        names = error.message.split(": ")[1].split(" -> ")
        assert names[0] == names[-1]
        assert all(int(need[1:]) in needs[int(task[1:])] for task, need in itertools.pairwise(names))
    else:
        assert not circular


def acyclic(needs: list[set[int]]) -> list[set[int]]:
    """The same graph without the needs that point forward."""
    return [{j for j in others if j < i} for i, others in enumerate(needs)]


@settings(max_examples=150)
@given(
    _graphs,
    st.sets(st.integers(0, 8), min_size=1, max_size=3),
    st.booleans(),
    st.sets(st.integers(0, 8), max_size=3),
    st.randoms(),
)
def test_what_falls_is_the_closure_over_open_dependents(
    needs: list[set[int]], roots: set[int], everything: bool, judged: set[int], random: object
) -> None:
    needs = acyclic(needs)
    count = len(needs)
    roots = {root % count for root in roots}
    desk = Desk(at_once=1)
    tasks = tasks_of(needs)
    tasks = [
        Task(id=task.id, run="true", needs=task.needs, condition="always()" if i in judged else "")
        for i, task in enumerate(tasks)
    ]
    desk.submit(*reversed(tasks))
    fallen = {f"n{root}" for root in roots}
    grew = True
    while grew:
        more = {
            f"n{i}"
            for i, others in enumerate(needs)
            if (everything or i not in judged) and any(f"n{j}" in fallen for j in others)
        }
        grew = not more <= fallen
        fallen |= more
    found = graph.fall(desk.state, [f"n{root}" for root in sorted(roots)], everything)
    assert set(found) == fallen
    assert len(found) == len(set(found))
    assert set(desk.cancel(*(f"n{root}" for root in sorted(roots)), subtree=everything)) == fallen


@settings(max_examples=150)
@given(_graphs, st.lists(st.integers(0, 5), min_size=9, max_size=9), st.integers(0, 4), st.booleans())
def test_the_critical_path_is_the_longest_chain_of_open_tasks(
    needs: list[set[int]], lengths: list[int], done: int, backwards: bool
) -> None:
    needs = acyclic(needs)
    desk = Desk(at_once=1)
    tasks = tasks_of(needs)
    desk.submit(*(reversed(tasks) if backwards else tasks))
    for _ in range(min(done, len(tasks) - 1)):
        desk.ok(desk.running()[0])
    seconds = {f"n{i}": float(length) for i, length in enumerate(lengths) if i % 4}
    left = {name for name, state in desk.states().items() if state != "done"}
    longest: dict[str, float] = {}
    for i, others in enumerate(needs):
        if f"n{i}" in left:
            longest[f"n{i}"] = seconds.get(f"n{i}", 0.0) + max((longest[f"n{j}"] for j in others if f"n{j}" in left), default=0.0)
    total, path = graph.critical_path(desk.state, seconds)
    assert total == max(longest.values())
    assert total == sum(seconds.get(name, 0.0) for name in path)
    assert all(need in desk.entry(task).task.needs for need, task in itertools.pairwise(path))
    assert set(path) <= left


def test_a_session_without_open_tasks_has_no_critical_path() -> None:
    desk = Desk()
    assert graph.critical_path(desk.state, {}) == (0.0, [])
    desk.ok(*desk.submit(run("a")))
    assert graph.critical_path(desk.state, {"a": 5.0}) == (0.0, [])
