"""What a plan may cost: from the past, or a guess that says so, and never a price that nobody knows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.core.estimates import LARGE, LEAST, MIDDLING, Ahead, Estimate, Past, Tokens, estimate

KINDS = st.sampled_from([("claude", "opus"), ("claude", "sonnet"), ("codex", "")])
TYPES = st.sampled_from(["coding", "review"])
USD = st.floats(0.0, 50.0)
PASTS = st.lists(
    st.builds(
        lambda kind, what, amount, usd: Past(kind[0], kind[1], what, Tokens(amount, amount, amount), usd),
        KINDS, TYPES, st.integers(0, 10**6), USD | st.none(),
    ),
    max_size=12,
)  # fmt: skip
AHEAD = st.lists(st.builds(lambda kind, what: Ahead("t", kind[0], kind[1], what), KINDS, TYPES), max_size=8)


def nobody(model: str, tokens: Tokens) -> None:
    """A table without prices."""


def cheap(model: str, tokens: Tokens) -> float:
    """A dollar for a million tokens."""
    return tokens.all / 1e6


def past(*usd: float | None, runtime: str = "claude", model: str = "opus", what: str = "coding") -> list[Past]:
    return [Past(runtime, model, what, Tokens(100, 0, 10), one) for one in usd]


def ahead(*names: str, runtime: str = "claude", model: str = "opus", what: str = "coding") -> list[Ahead]:
    return [Ahead(name, runtime, model, what) for name in names]


def test_one_task_costs_what_tasks_like_it_did() -> None:
    found = estimate(ahead("a"), past(*(number / 10 for number in range(1, 11))), nobody)
    assert (found.p50, found.p90, found.past) == (0.6, 1.0, 10)
    assert (found.guessed, found.unpriced) == ((), ())


def test_ten_tasks_cost_ten_times_the_mean_and_not_ten_times_the_worst() -> None:
    history = past(*(number / 10 for number in range(1, 11)))
    found = estimate(ahead(*"abcdefghij"), history, nobody)
    assert found.p50 == pytest.approx(5.5, rel=0.1)
    assert found.p90 is not None
    assert 5.5 < found.p90 < 8.0


def test_those_of_the_same_type_are_asked_first_then_those_of_the_same_model_and_of_another_model_never() -> None:
    history = [*past(1.0, 1.0, 1.0), *past(9.0, 9.0, 9.0, what="review"), *past(70.0, 70.0, 70.0, model="haiku")]
    assert estimate(ahead("a"), history, nobody).p50 == 1.0
    assert estimate(ahead("a", what="docs"), history, nobody).p90 == 9.0
    assert estimate(ahead("a", model="sonnet"), history, nobody) == Estimate(
        tasks=1, tokens50=MIDDLING.all, tokens90=LARGE.all, guessed=("a",), unpriced=("a",)
    )


def test_without_a_past_it_is_a_guess_and_without_a_price_no_dollars() -> None:
    few = past(*[1.0] * (LEAST - 1))
    guess = estimate(ahead("a"), few, cheap)
    assert (guess.guessed, guess.unpriced, guess.past) == (("a",), (), 0)
    assert (guess.p50, guess.p90) == (MIDDLING.all / 1e6, LARGE.all / 1e6)
    assert estimate(ahead("a"), few, nobody).p50 is None


def test_an_unknown_price_is_no_zero_but_a_table_that_learned_it_gives_it() -> None:
    history = past(None, None, None)
    unknown = estimate(ahead("a", "b"), history, nobody)
    assert (unknown.p50, unknown.p90, unknown.unpriced) == (None, None, ("a", "b"))
    assert (unknown.tokens50, unknown.past) == (220, 3)
    assert estimate(ahead("a"), history, cheap).p50 == pytest.approx(110 / 1e6)
    both = estimate([*ahead("a"), *ahead("b", model="sonnet")], past(2.0, 2.0, 2.0), nobody)
    assert (both.p50, both.unpriced) == (2.0, ("b",))


def test_nothing_to_pay_costs_nothing_that_could_be_told() -> None:
    assert estimate([], past(1.0, 1.0, 1.0), cheap) == Estimate(tasks=0)


def figures(found: Estimate) -> Sequence[float]:
    return [found.p50 or 0.0, found.p90 or 0.0, found.tokens50, found.tokens90]


@given(AHEAD, PASTS)
def test_the_median_is_never_above_the_ninetieth_percentile_and_both_lie_in_what_was_seen(
    tasks: list[Ahead], history: list[Past]
) -> None:
    found = estimate(tasks, history, cheap)
    assert found.tokens50 <= found.tokens90
    assert (found.p50 is None) == (found.p90 is None) == (not tasks)
    if found.p50 is not None and found.p90 is not None:
        most = max([*(one.usd if one.usd is not None else cheap("", one.tokens) for one in history), cheap("", LARGE)])
        assert 0 <= found.p50 <= found.p90 <= most * len(tasks) + 1e-9


@given(AHEAD, PASTS, st.randoms(use_true_random=False))
def test_the_order_of_the_past_does_not_matter(tasks: list[Ahead], history: list[Past], chance: object) -> None:
    mixed = list(history)
    chance.shuffle(mixed)  # type: ignore[attr-defined]  # Hypothesis' own Random
    assert estimate(tasks, mixed, cheap) == estimate(tasks, history, cheap)


@given(AHEAD, PASTS, st.builds(lambda kind, what: Ahead("more", kind[0], kind[1], what), KINDS, TYPES))
def test_one_more_task_never_makes_it_cheaper(tasks: list[Ahead], history: list[Past], more: Ahead) -> None:
    before, after = figures(estimate(tasks, history, cheap)), figures(estimate([*tasks, more], history, cheap))
    assert all(less <= most + 1e-9 for less, most in zip(before, after, strict=True))


@given(AHEAD, PASTS, st.integers(2, 1000))
def test_if_everything_had_cost_so_many_times_more_so_would_the_plan(tasks: list[Ahead], history: list[Past], times: int) -> None:
    dear = [Past(o.runtime, o.model, o.type, o.tokens, None if o.usd is None else o.usd * times) for o in history]

    def dearer(model: str, tokens: Tokens) -> float:
        return cheap(model, tokens) * times

    one, many = estimate(tasks, history, cheap), estimate(tasks, dear, dearer)
    assert (many.p50 or 0) == pytest.approx((one.p50 or 0) * times)
    assert (many.p90 or 0) == pytest.approx((one.p90 or 0) * times)
