"""The books of a node, and how long a failed task waits."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skep.core.model import AgentSpec, Node, Resources, Retries, Task
from skep.core.resources import could_fit, fits, give_back, reservation, take
from skep.core.retry import MAX_BACKOFF, retries_of, wait

_needs = st.one_of(
    st.none(),
    st.builds(
        Resources,
        cpu=st.one_of(st.sampled_from([0.1, 0.2, 0.3, 1 / 3, 1.0]), st.floats(0.0, 4.0, allow_subnormal=False)),
        memory=st.integers(0, 500),
        storage=st.integers(0, 500),
    ),
)


def node(cpu: float = 4.0, memory: int = 1_000, storage: int = 1_000, slots: int = 6) -> Node:
    return Node(id="n", boot="b", capacity=Resources(cpu, memory, storage), slots=slots)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.booleans(), _needs, st.integers(0, 9)), max_size=120))
def test_the_books_never_drift_and_never_hold_more_than_there_is(steps: list[tuple[bool, Resources | None, int]]) -> None:
    """Against exact arithmetic: what is taken and given back in any order."""
    one, held = node(), []
    for comes, need, index in steps:
        if comes and fits(one, need):
            take(one, need)
            held.append(need)
        elif not comes and held:
            give_back(one, held.pop(index % len(held)))
        booked = [other for other in held if other is not None]
        assert one.used_slots == len(held) <= one.slots
        assert one.used_memory == sum(other.memory for other in booked) <= 1_000
        assert one.used_storage == sum(other.storage for other in booked) <= 1_000
        exact = sum((Fraction(other.cpu) for other in booked), Fraction(0))
        assert abs(Fraction(one.used_cpu) - exact) < Fraction(1, 10**5)
        assert exact <= Fraction(4) + Fraction(1, 10**5)
    for need in held:
        give_back(one, need)
    assert (one.used_cpu, one.used_memory, one.used_storage, one.used_slots) == (0.0, 0, 0, 0)


def test_a_million_small_shares_leave_nothing_behind() -> None:
    one, share = node(slots=10), Resources(cpu=0.1)
    take(one, None)
    for _ in range(20_000):
        for _ in range(9):
            take(one, share)
        for _ in range(9):
            give_back(one, share)
    assert one.used_cpu == 0.0
    give_back(one, None)
    assert one.used_slots == 0


@settings(max_examples=200)
@given(_needs)
def test_what_could_fit_does_fit_an_empty_node(need: Resources | None) -> None:
    assert could_fit(node(), need) <= fits(node(), need)


def test_sums_of_shares_fill_a_node_to_the_brim() -> None:
    one, tenth = node(cpu=1.0, slots=20), Resources(cpu=0.1)
    for _ in range(10):
        assert fits(one, tenth)
        take(one, tenth)
    assert not fits(one, tenth)


def test_memory_and_storage_are_given_out_to_the_last_byte() -> None:
    one = node(memory=10, storage=10)
    take(one, Resources(memory=4, storage=4))
    assert fits(one, Resources(memory=6, storage=6))
    assert not fits(one, Resources(memory=7))
    assert not fits(one, Resources(storage=7))


def test_a_lost_node_takes_nothing() -> None:
    one = node()
    one.lost = True
    assert not fits(one, None)


@pytest.mark.parametrize(
    ("task", "spec", "expected"),
    [
        (None, AgentSpec(name="a", runtime="x"), None),
        (None, AgentSpec(name="a", runtime="x", resources=Resources(1.0, 1, 1)), None),
        (None, AgentSpec(name="a", runtime="x", strict=True), None),
        (None, AgentSpec(name="a", runtime="x", strict=True, resources=Resources(1.0, 9_999, 1)), Resources(1.0, 1_000, 1)),
        (Resources(2.0), AgentSpec(name="a", runtime="x", strict=True, resources=Resources(9.0, 9, 9)), Resources(2.0)),
    ],
)
def test_what_is_reserved(task: Resources | None, spec: AgentSpec, expected: Resources | None) -> None:
    assert reservation(task, spec, node()) == expected


# Waiting


def test_a_number_of_retries_is_a_policy() -> None:
    assert retries_of(Task(retries=3)) == Retries(max=3)
    assert retries_of(Task(retries=Retries(max=1, backoff=2.0))) == Retries(max=1, backoff=2.0)
    assert retries_of(Task()).max == 0


@given(
    st.floats(0.0, 10.0**6, allow_subnormal=False),
    st.integers(1, 10**6),
    st.binary(min_size=16, max_size=16).map(bytes.hex),
)
def test_a_wait_doubles_up_to_its_bound_and_is_spread_by_a_quarter(backoff: float, failures: int, nonce: str) -> None:
    plain = min(backoff * 2.0 ** min(failures - 1, 30), MAX_BACKOFF) * 1_000
    found = wait(Retries(max=1, backoff=backoff), failures, nonce)
    assert int(plain) - 1 <= found <= plain * 1.25 + 1
    assert found <= MAX_BACKOFF * 1_250
    assert found == wait(Retries(max=1, backoff=backoff), failures, nonce)


def test_nonces_spread_a_herd() -> None:
    waits = {wait(Retries(max=1, backoff=8.0), 1, f"{n * 997 % 65536:04x}" + "0" * 28) for n in range(100)}
    assert len(waits) > 90
    assert 8_000 <= min(waits) < 8_300
    assert 9_700 < max(waits) <= 10_000


def test_without_a_backoff_there_is_no_wait() -> None:
    assert wait(Retries(max=9), 5, "f" * 32) == 0
