"""What may go wrong, how likely it is under a seed, and how often it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random

#: Kind -> how likely it is each time it could happen, in a world where it is let loose at all.
KINDS: dict[str, float] = {
    "append fails": 0.04,
    "append kept, reply lost": 0.04,
    "append repeated by the driver": 0.05,
    "append slow": 0.05,
    "crash before the append": 0.01,
    "crash after the append": 0.01,
    "crash at a step": 0.6,
    "store silent": 0.02,
    "snapshot fails": 0.1,
    "snapshot spoiled": 0.3,
    "owner paused": 0.2,
    "owner superseded": 0.25,
    "owner stopped in order": 0.15,
    "clock forward": 0.1,
    "clock back": 0.1,
    "call lost": 0.05,
    "answer lost": 0.05,
    "call to an old owner": 0.5,
    "report late": 0.1,
    "report twice": 0.1,
    "report of old": 0.1,
    "spawn fails": 0.03,
    "process unkillable": 0.1,
    "process leaves children": 0.1,
    "orphan lives on": 0.5,
    "orphan reports": 0.5,
    "ref moved by a stranger": 0.05,
    "verification flakes": 0.1,
    "verification lost": 0.15,
    "message sent twice": 0.2,
    "leave used twice": 0.3,
}

#: What the tasks of a workload do of themselves, whatever the weather.
OWN_KINDS = (
    "task fails",
    "task hangs",
    "task fails its verification",
    "task kills its owner",
    "merge conflicts",
    "merge fails",
    "several are merged at once",
    "a culprit above good ones",
    "allowed and done",
    "nobody answers in time",
    "cost estimated",
    "task over its budget",
    "session over its limit",
    "time used up",
    "provider limits",
    "provider down",
    "another agent takes over",
    "message over a missing edge",
    "message read again",
    "candidates in another order",
    "vote decided",
    "vote undecided",
    "vote split",
    "vote out of time",
    "winner refused at the merge",
    "proposal accepted",
    "proposal refused",
    "conflict resolved",
    "resolution fails",
)


class Faults:
    """The faults of one world. Half of the kinds are let loose in each, at rates of their own (swarm testing: Groce et al.,
    "Swarm Testing", 2012), so that combinations occur that no single mix would show.

    Args:
        random: of the world.
        calm: whether nothing goes wrong at all.
        kinds: what may go wrong in this kind of world, and how likely.
    """

    def __init__(self, random: Random, calm: bool = False, kinds: Mapping[str, float] = KINDS) -> None:
        self.healed = False
        self.counts: Counter[str] = Counter()
        self._random = random
        self._rates = {
            kind: 0.0 if calm or random.random() < 0.5 else rate * random.choice((0.5, 1.0, 2.0, 4.0))
            for kind, rate in kinds.items()
        }

    def strikes(self, kind: str) -> bool:
        """Whether it happens now."""
        if not self.may(kind):
            return False
        self.counts[kind] += 1
        return True

    def may(self, kind: str) -> bool:
        """As `strikes`, for what is only prepared now; whoever sees it happen counts it."""
        return not self.healed and self._random.random() < self._rates[kind]

    def note(self, kind: str) -> None:
        """Counts something that a task did of itself."""
        assert kind in OWN_KINDS
        self.counts[kind] += 1

    def heal(self) -> None:
        """From now on nothing goes wrong, but for what the tasks do of themselves."""
        self.healed = True
