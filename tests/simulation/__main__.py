"""`python -m tests.simulation --seeds 500`: runs seeds, prints what struck, and how to see a failure again."""

from __future__ import annotations

import sys
import time
from collections import Counter

import click

from tests.simulation.faults import KINDS, OWN_KINDS
from tests.simulation.run import Run, simulate
from tests.simulation.world import Violated


@click.command()
@click.option("--seeds", default=500, show_default=True, help="How many seeds to run.")
@click.option("--first", default=0, show_default=True, help="The first of them.")
@click.option("--seed", type=int, help="Run this one alone, and tell its story.")
@click.option("--digest", is_flag=True, help="Print the digest of each seed and nothing else.")
def main(seeds: int, first: int, seed: int | None, digest: bool) -> None:
    """Runs the production core and loop in simulated worlds full of faults. Ends with 1 if a promise was broken."""
    if seed is not None:
        sys.exit(tell(seed))
    struck: Counter[str] = Counter()
    broken, events, hours = 0, 0, 0.0
    begun = time.perf_counter()
    for number in range(first, first + seeds):
        try:
            outcome = simulate(number)
        except Violated as error:
            broken += 1
            click.echo(error)
            continue
        if digest:
            click.echo(f"{number} {outcome.digest}")
        struck += outcome.faults
        events += outcome.events
        hours += outcome.seconds / 3600
    if not digest:
        took = time.perf_counter() - begun
        for kind in (*KINDS, *OWN_KINDS):
            click.echo(f"{struck[kind]:8}  {kind}")
        click.echo(f"{seeds} seeds, {broken} broken, {events} events, {hours:.1f} simulated hours, {seeds / took:.1f} seeds/s")
    sys.exit(1 if broken else 0)


def tell(seed: int) -> int:
    """Prints every event of a seed, with the world's time, and what was wrong if anything was."""
    run = Run(seed)
    run.scene.world.chronicle.told = lambda event: click.echo(f"{run.loop.time():10.3f}  {event}")
    try:
        run.go()
    except Violated as error:
        click.echo(error)
        return 1
    return 0


if __name__ == "__main__":
    main()
