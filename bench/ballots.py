"""How long a ballot of 1,000 electors takes to be decided, by the slowest of the rules."""

from __future__ import annotations

import time
from pathlib import Path
from typing import get_args

from bench.shape import Numbers, serve
from skep.core.consensus import PASS, Ballot, Rule, check, count

ELECTORS = tuple(f"voter-{n}" for n in range(1_000))
OPTIONS = ("A", "B", "C")


def ballot(rule: Rule) -> tuple[Ballot, dict[str, str]]:
    """A ballot that only its last votes decide: nine in ten delegate up a tree, groups are of ten."""
    more = {name: ELECTORS[max(0, n - 1) // 10] for n, name in enumerate(ELECTORS) if n}
    made = Ballot(
        id="bench",
        electors=ELECTORS,
        options=OPTIONS,
        rule=rule,
        weights={name: n % 7 + 1 for n, name in enumerate(ELECTORS)},
        delegates=more,
        depth=3,
        groups={str(start): ELECTORS[start : start + 10] for start in range(0, len(ELECTORS), 10)},
        centre=ELECTORS[0],
        own={ELECTORS[n]: (option,) for n, option in enumerate(OPTIONS)},
    )
    votes = {name: "A" if n % 3 else "B" for n, name in enumerate(ELECTORS)}
    if rule == "delegated":
        votes |= dict.fromkeys(ELECTORS[100:], PASS)
    return made, votes


def decided(rule: Rule) -> float:
    """Milliseconds of processor to check a ballot and count it."""
    made, votes = ballot(rule)
    times = []
    for _ in range(9):
        start = time.process_time()
        check(made)
        if count(made, votes, 0) is None:
            raise RuntimeError(f"a ballot by {rule} was not decided")
        times.append(time.process_time() - start)
    return sorted(times)[4] * 1e3


def ballots(_variant: str, _folder: Path) -> Numbers:
    """The slowest rule's time."""
    return {"decided": max(decided(rule) for rule in get_args(Rule))}


if __name__ == "__main__":
    serve({"ballots": ballots})
