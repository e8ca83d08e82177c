"""What carrying out a plan may cost, foretold from what tasks like its own did cost. Pure.

Each task draws from the past tasks that are most like it; the sums of many such draws, made without chance, give the median and
the ninetieth percentile. Where there is no past, a guess stands in and is called one; where nobody knows a price, none is made
up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from msgspec import Struct

N = TypeVar("N", int, float)
#: Past tasks of one kind without which nothing is foretold from them.
LEAST = 3
#: Sums that are drawn: a prime, so that every step through them visits all.
DRAWS = 199


class Tokens(Struct, frozen=True, gc=False):
    """Tokens read, read from a cache, written."""

    input: int = 0
    cached: int = 0
    output: int = 0

    @property
    def all(self) -> int:
        """Together."""
        return self.input + self.cached + self.output


#: Dollars for tokens of a model, None if nobody knows its price.
Priced = Callable[[str, Tokens], float | None]
#: Ten tasks of coding agents, by nobody's measurement: three are small, two are large.
SMALL, MIDDLING, LARGE = Tokens(10_000, 50_000, 2_000), Tokens(30_000, 300_000, 8_000), Tokens(100_000, 2_000_000, 30_000)
GUESS = (SMALL,) * 3 + (MIDDLING,) * 5 + (LARGE,) * 2


class Past(Struct, frozen=True, gc=False):
    """What a task of earlier did cost, all its tries. `usd` is None if nobody knew the price then."""

    runtime: str
    model: str
    type: str
    tokens: Tokens
    usd: float | None


class Ahead(Struct, frozen=True, gc=False):
    """A task to come that costs something. `open`: it may become many, and how many is not known yet."""

    task: str
    runtime: str
    model: str
    type: str
    open: bool = False


class Estimate(Struct, frozen=True, kw_only=True):
    """What a plan may cost: half of such plans cost less than `p50`, nine of ten less than `p90`.

    Args:
        tasks: how many of its tasks cost something.
        p50, p90: dollars of the tasks whose price is known; None if no price is.
        tokens50, tokens90: of all tasks, what came from a cache included.
        past: how many past tasks it was made from.
        guessed: tasks without a past: what is said of them is a cold guess.
        unpriced: tasks of which nobody knows the price; they are not in `p50` and `p90`.
        open: tasks that may become many, and were counted once.
    """

    tasks: int
    p50: float | None = None
    p90: float | None = None
    tokens50: int = 0
    tokens90: int = 0
    past: int = 0
    guessed: tuple[str, ...] = ()
    unpriced: tuple[str, ...] = ()
    open: tuple[str, ...] = ()


def estimate(ahead: Sequence[Ahead], past: Iterable[Past], priced: Priced) -> Estimate:
    """Foretells what tasks come to.

    Args:
        ahead: the tasks, in their order: the same order gives the same figures.
        past: what is known of earlier ones, in any order.
        priced: the table of prices.
    """
    known = _Known(past)
    dollars, tokens = [0.0] * DRAWS, [0] * DRAWS
    guessed, unpriced, used = [], [], set[int]()
    for number, task in enumerate(ahead):
        like = known.like(task)
        used.update(map(id, like))
        costs = [one for one in (_dollars(each, priced) for each in like) if one is not None]
        amounts = [each.tokens for each in like]
        if not like:
            guessed.append(task.task)
            amounts = list(GUESS)
            costs = [one for one in (priced(task.model, each) for each in GUESS) if one is not None]
        if len(costs) < LEAST:
            unpriced.append(task.task)
        costs, sizes = sorted(costs), sorted(each.all for each in amounts)
        for draw, place in enumerate(_places(number)):
            tokens[draw] += _at(sizes, place)
            if len(costs) >= LEAST:
                dollars[draw] += _at(costs, place)
    told = len(unpriced) < len(ahead)
    dollars.sort()
    tokens.sort()
    return Estimate(
        tasks=len(ahead),
        p50=_at(dollars, 0.5) if told else None,
        p90=_at(dollars, 0.9) if told else None,
        tokens50=_at(tokens, 0.5),
        tokens90=_at(tokens, 0.9),
        past=len(used),
        guessed=tuple(guessed),
        unpriced=tuple(unpriced),
        open=tuple(task.task for task in ahead if task.open),
    )


class _Known:
    """Past tasks by what they have in common with those to come."""

    def __init__(self, past: Iterable[Past]) -> None:
        self._exactly: dict[tuple[str, str, str], list[Past]] = {}
        self._nearly: dict[tuple[str, str], list[Past]] = {}
        for one in past:
            self._exactly.setdefault((one.runtime, one.model, one.type), []).append(one)
            self._nearly.setdefault((one.runtime, one.model), []).append(one)

    def like(self, task: Ahead) -> list[Past]:
        """Those of its type by the same model, or those of the same model; none if there are too few."""
        for found in (
            self._exactly.get((task.runtime, task.model, task.type), []),
            self._nearly.get((task.runtime, task.model), []),
        ):
            if len(found) >= LEAST:
                return found
        return []


def _dollars(past: Past, priced: Priced) -> float | None:
    return past.usd if past.usd is not None else priced(past.model, past.tokens)


def _places(number: int) -> list[float]:
    """Where in its range the draws of the task of this number lie: evenly, and in an order of its own."""
    step, start = 1 + number * 83 % (DRAWS - 1), number * 57 % DRAWS
    return [((draw * step + start) % DRAWS + 0.5) / DRAWS for draw in range(DRAWS)]


def _at(ordered: Sequence[N], place: float) -> N:
    """The value at a place from 0 to 1: the nearest that was seen."""
    return ordered[min(len(ordered) - 1, int(place * len(ordered)))]
