"""How sessions share one node: fairly, without taking back what is in use, and so that each of them gets on."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from skep.core.model import Credit

#: One figure for each of cpu, memory, storage, slots.
Amounts = list[float]


class Claim(Struct, frozen=True):
    """One session at the node.

    Args:
        used: what its attempts have reserved.
        credit: what it may use by now.
        need: what the first of its tasks that wait for room would reserve; None = it has nothing to run.
    """

    used: Credit
    credit: Credit
    need: Credit | None


def shares(whole: Credit, claims: Sequence[Claim]) -> list[Credit]:
    """The credits that the sessions should have now, in the order of the claims.

    A session that has nothing to run keeps what it uses; the others are made equal, up to twice what they need next. Each gets at
    least what its next task needs, and where that is not to be had for all, who comes first does. What nobody can use is spread.

    No more than `whole` is ever granted or in use: a credit grows by what others do not hold any more, so it may take several
    rounds, as sessions learn of smaller credits and attempts end. A credit shrinks only when another session needs what it loses.

    Args:
        whole: what the node has.
        claims: those first who wait longest for their next task.
    """
    total = amounts(whole)
    used, held = [amounts(claim.used) for claim in claims], [_most(amounts(c.used), amounts(c.credit)) for c in claims]
    needs = [amounts(claim.need) if claim.need is not None else None for claim in claims]
    ideal = _ideal(total, used, needs)
    granted = [amounts(claim.credit) for claim in claims]
    for d, most in enumerate(total):
        free = most - sum(one[d] for one in held)
        short = [i for i, need in enumerate(needs) if need is not None and ideal[i][d] > held[i][d]]
        if sum(ideal[i][d] - held[i][d] for i in short) > free:
            for i, one in enumerate(granted):
                one[d] = min(one[d], ideal[i][d])
        for i in short:
            more = max(0.0, min(ideal[i][d] - held[i][d], free))
            granted[i][d], free = max(granted[i][d], held[i][d] + more) if more else granted[i][d], free - more
    return [Credit(one[0], int(one[1]), int(one[2]), int(one[3])) for one in granted]


def amounts(credit: Credit) -> Amounts:
    """The figures of a credit."""
    return [credit.cpu, credit.memory, credit.storage, credit.slots]


def _ideal(total: Amounts, used: list[Amounts], needs: list[Amounts | None]) -> list[Amounts]:
    """What each would have if nothing were in use by those who want more."""
    dimensions = range(len(total))
    lows = [list(one) if need is None else [0.0] * len(total) for one, need in zip(used, needs, strict=True)]
    highs = [list(low) for low in lows]
    taken = [sum(low[d] for low in lows) for d in dimensions]
    for i, need in enumerate(needs):
        if need is not None:
            for d in dimensions:
                lows[i][d] = max(0.0, min(need[d], total[d] - taken[d]))
                taken[d] += lows[i][d]
                highs[i][d] = max(lows[i][d], 2 * (used[i][d] + need[d]))
    columns = [_levelled(total[d], [low[d] for low in lows], [high[d] for high in highs]) for d in dimensions]
    found = [[column[i] for column in columns] for i in range(len(used))]
    _lend(found, used, needs)
    for d in dimensions:
        rest = max(0.0, total[d] - sum(one[d] for one in found)) / len(found)
        for one in found:
            one[d] += rest
    return found


def _levelled(total: float, lows: list[float], highs: list[float]) -> list[float]:
    """Everybody gets the same, but at least their low and at most their high."""

    def at(level: float) -> list[float]:
        return [min(max(level, low), high) for low, high in zip(lows, highs, strict=True)]

    level = 0.0
    for point in sorted({*lows, *highs}):
        if sum(at(point)) > total:
            rising = sum(low <= level < high for low, high in zip(lows, highs, strict=True))
            level += max(0.0, total - sum(at(level))) / rising if rising else 0.0
            break
        level = point
    return at(level)


def _lend(found: list[Amounts], used: list[Amounts], needs: list[Amounts | None]) -> None:
    """Where a share has no room for the next task besides what is in use, others may use the rest meanwhile."""
    stuck = [
        i
        for i, need in enumerate(needs)
        if need is not None
        and _holds(found[i], used[i])
        and not _holds(found[i], [a + b for a, b in zip(used[i], need, strict=True)])
    ]
    if len(stuck) < 2:
        return
    pool = [sum(found[i][d] - used[i][d] for i in stuck) for d in range(len(found[0]))]
    for i in stuck:
        need = needs[i]
        assert need is not None
        given = need if _holds(pool, need) else [0.0] * len(need)
        found[i] = [a + b for a, b in zip(used[i], given, strict=True)]
        pool = [a - b for a, b in zip(pool, given, strict=True)]


def _holds(one: Amounts, other: Amounts) -> bool:
    return all(a + 1e-9 >= b for a, b in zip(one, other, strict=True))


def _most(one: Amounts, other: Amounts) -> Amounts:
    return [max(pair) for pair in zip(one, other, strict=True)]
