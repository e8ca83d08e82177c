"""How a vote is decided: one counting function over electorate, weights, threshold and delegation.

The electorate is fixed when a ballot opens, and every share is a share of it, never of the votes that happened to arrive. An
option wins with at least the threshold *and* more than a half, so no two can. Shares are whole numbers compared crosswise:
nothing is rounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

from msgspec import Struct

from skep.errors import Conflict, Invalid

Rule = Literal["quorum", "unanimous", "weighted", "delegated", "distributed", "centralized"]
#: The share of the electorate, or of its weight, that a rule asks for when nothing else is said.
THRESHOLDS: dict[str, str] = {
    "quorum": "2/3",
    "unanimous": "1",
    "weighted": "1/2",
    "delegated": "2/3",
    "distributed": "2/3",
    "centralized": "1",
}
#: What an elector may say beside the name of an option: none of them, or what whoever it delegates to says.
ABSTAIN, PASS = "", "^"
#: Electors of one ballot, options, and the weight of one elector.
MAX_ELECTORS, MAX_OPTIONS, MAX_WEIGHT = 10_000, 1_000, 1_000_000_000


class Ballot(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is decided by whom, fixed when it opens.

    Args:
        id: its name.
        electors: everybody who may vote, in order.
        options: what may be chosen, in order.
        rule: how it is counted.
        threshold: the share that wins, as a fraction ("2/3", "0.75"), from a half to one; empty = the rule's own.
        weights: elector -> whole number (rule weighted); who is not named has 1.
        delegates: elector -> the elector that speaks for it if it passes or says nothing (rule delegated).
        depth: levels that a vote passes up at most.
        groups: name -> its electors; every elector is in one (rule distributed).
        centre: the elector that decides (rule centralized); the others' votes are feedback.
        own: elector -> options that are its own work, for which it cannot vote.
    """

    id: str
    electors: tuple[str, ...]
    options: tuple[str, ...]
    rule: Rule = "quorum"
    threshold: str = ""
    weights: dict[str, int] = {}
    delegates: dict[str, str] = {}
    depth: int = 1
    groups: dict[str, tuple[str, ...]] = {}
    centre: str = ""
    own: dict[str, tuple[str, ...]] = {}


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How a ballot ended.

    Args:
        ballot: its name.
        reached: whether there is a decision.
        choice: the option that won, empty if none did.
        counts: option -> electors whose own vote it got.
        weights: option -> what counted for it in the end: weight, votes passed up, size of its groups, or the centre.
        threshold: the share that was asked for.
        total: what the share is taken of.
        silent: electors that said nothing.
        abstained: electors that chose none.
        leading: options with the most weight, if nobody won: more than one is a tie.
        at: when it was decided, wall-clock ms.
    """

    ballot: str
    rule: Rule
    reached: bool
    choice: str = ""
    counts: dict[str, int] = {}
    weights: dict[str, int] = {}
    threshold: str = ""
    total: int = 0
    silent: int = 0
    abstained: int = 0
    leading: tuple[str, ...] = ()
    at: int = 0


class Poll(Struct, kw_only=True, omit_defaults=True, gc=False):
    """A ballot over the candidates of a task, as it stands.

    Args:
        options: what the voters see -> the candidate behind it.
        voters: elector -> the task that brings its vote.
        votes: elector -> option, or nothing for an abstention.
        reasons: elector -> why it voted so, or why its vote is an abstention.
        until: wall-clock ms when it is counted as it stands; 0 = no such time.
    """

    ballot: Ballot
    options: dict[str, str]
    voters: dict[str, str]
    votes: dict[str, str] = {}
    reasons: dict[str, str] = {}
    opened: int = 0
    until: int = 0
    result: Result | None = None


def check(ballot: Ballot) -> None:
    """Raises Invalid for a ballot that could never be counted, or whose outcome would not be one."""
    electors = frozenset(ballot.electors)
    if not 1 <= len(ballot.electors) <= MAX_ELECTORS or len(electors) != len(ballot.electors):
        raise Invalid(f"ballot '{ballot.id}' has no electors, too many, or one twice", f"Name 1 to {MAX_ELECTORS}, each once.")
    options = frozenset(ballot.options)
    if not 1 <= len(ballot.options) <= MAX_OPTIONS or len(options) != len(ballot.options) or options & {ABSTAIN, PASS}:
        raise Invalid(f"ballot '{ballot.id}' has no options, too many, or one twice", f"Name 1 to {MAX_OPTIONS}, each once.")
    threshold_of(ballot.rule, ballot.threshold)
    grouped = [elector for members in ballot.groups.values() for elector in members]
    named = (*ballot.weights, *ballot.delegates, *ballot.delegates.values(), *grouped, *ballot.own)
    if stranger := next((name for name in named if name not in electors), ""):
        raise Invalid(f"ballot '{ballot.id}' speaks of '{stranger}', who is no elector", "The electorate is fixed when it opens.")
    for elector, weight in ballot.weights.items():
        if not 0 <= weight <= MAX_WEIGHT:
            raise Invalid(f"the weight of '{elector}' is {weight}", f"Use a whole number from 0 to {MAX_WEIGHT}.")
    if ballot.rule == "weighted" and not any(ballot.weights.get(elector, 1) for elector in ballot.electors):
        raise Invalid(f"in ballot '{ballot.id}' no vote has any weight", "Give at least one elector a weight.")
    if ballot.rule == "distributed" and (len(grouped) != len(electors) or len(frozenset(grouped)) != len(electors)):
        raise Invalid(f"in ballot '{ballot.id}' somebody is in no group, or in two", "Put every elector into one group.")
    if ballot.rule == "centralized" and ballot.centre not in electors:
        raise Invalid(f"ballot '{ballot.id}' has no centre among its electors", "Name the elector that decides.")
    if ballot.depth < 0:
        raise Invalid(f"votes of ballot '{ballot.id}' pass up {ballot.depth} levels", "Use a number that is not negative.")
    if circle := _circle(ballot.delegates):
        shown = " -> ".join(circle[:20])
        raise Invalid(f"in ballot '{ballot.id}' votes pass in a circle: {shown}", "Let one of them speak for itself.")


def _circle(delegates: Mapping[str, str]) -> list[str]:
    """Electors whose votes pass from one to the next and back to the first; empty if there are none."""
    clear: set[str] = set()
    for elector in delegates:
        path: dict[str, None] = {}
        while elector in delegates and elector not in clear:
            if elector in path:
                names = list(path)
                return [*names[names.index(elector) :], elector]
            path[elector] = None
            elector = delegates[elector]
        clear.update(path)
    return []


def threshold_of(rule: str, said: str = "") -> Fraction:
    """The share that wins. Raises Invalid for what is none, or is so small that two options could have it."""
    try:
        share = Fraction(said or THRESHOLDS[rule])
    except (ValueError, ZeroDivisionError):
        raise Invalid(f"'{said[:40]}' is no threshold", "Write a fraction such as 2/3 or 0.75.") from None
    if not Fraction(1, 2) <= share <= 1:
        raise Invalid(f"a threshold of {said[:40]} cannot decide anything", "Use one from 1/2 (which means more than it) to 1.")
    return share


def admit(ballot: Ballot, votes: Mapping[str, str], elector: str, choice: str) -> None:
    """Whether a vote may be cast.

    Raises:
        Invalid: not an elector, no such option, its own work, or nobody to pass it to.
        Conflict: it has voted already; the first vote counts.
    """
    if elector not in ballot.electors:
        raise Invalid(f"'{elector}' is no elector of ballot '{ballot.id}'", "The electorate is fixed when a ballot opens.")
    if elector in votes:
        raise Conflict(f"'{elector}' has voted in ballot '{ballot.id}' already: the first vote counts")
    if choice == PASS and elector not in ballot.delegates:
        raise Invalid(f"'{elector}' has nobody to pass its vote to", "Vote, or abstain.")
    if choice not in (ABSTAIN, PASS, *ballot.options):
        raise Invalid(f"ballot '{ballot.id}' has no option '{choice[:40]}'", f"Choose among {', '.join(ballot.options)}.")
    if choice in ballot.own.get(elector, ()):
        raise Invalid(f"'{choice}' is the work of '{elector}' itself", "Nobody votes for their own: choose another, or abstain.")


def count(ballot: Ballot, votes: Mapping[str, str], at: int, closed: bool = False) -> Result | None:
    """Counts what was cast. The only place where a vote is decided.

    Args:
        votes: elector -> option, ABSTAIN or PASS. What is of no elector, names no option or is for one's own counts for nothing.
        at: wall-clock ms.
        closed: no more votes come.

    Returns: the result, or None while it could still become another one.
    """
    said = {elector: _said(ballot, votes, elector, closed) for elector in ballot.electors}
    blocks = _blocks(ballot)
    share = threshold_of(ballot.rule, ballot.threshold)
    total = sum(weight for _, weight in blocks)
    sure = dict.fromkeys(ballot.options, 0)
    possible = dict.fromkeys(ballot.options, 0)
    for members, weight in blocks:
        won, may_win = _block(ballot, members, said, share)
        for option in may_win:
            possible[option] += weight
        if won:
            sure[won] += weight
    choice = next((option for option, weight in sure.items() if _wins(weight, total, share)), "")
    if not choice and any(possible[o] > sure[o] and _wins(possible[o], total, share) for o in ballot.options):
        return None
    most = max(sure.values())
    cast = Counter(votes.get(elector) for elector in ballot.electors)
    return Result(
        ballot=ballot.id,
        rule=ballot.rule,
        reached=bool(choice),
        choice=choice,
        counts={option: cast[option] for option in ballot.options},
        weights=sure,
        threshold=str(share),
        total=total,
        silent=cast[None],
        abstained=cast[ABSTAIN],
        leading=() if choice or not most else tuple(option for option in ballot.options if sure[option] == most),
        at=at,
    )


def _blocks(ballot: Ballot) -> list[tuple[tuple[str, ...], int]]:
    """Who speaks with one voice, and what that voice weighs."""
    if ballot.rule == "distributed":
        return [(members, len(members)) for members in ballot.groups.values()]
    if ballot.rule == "centralized":
        return [((ballot.centre,), 1)]
    weights = ballot.weights if ballot.rule == "weighted" else {}
    return [((elector,), weights.get(elector, 1)) for elector in ballot.electors]


def _block(
    ballot: Ballot, members: tuple[str, ...], said: Mapping[str, str | None], share: Fraction
) -> tuple[str, tuple[str, ...]]:
    """The option that a block is for in any case, and all those that it could still be for."""
    if len(members) == 1:
        choice = said[members[0]]
        if choice is None:
            own = ballot.own.get(members[0], ())
            return "", tuple(option for option in ballot.options if option not in own)
        return (choice, (choice,)) if choice else ("", ())
    sure = dict.fromkeys(ballot.options, 0)
    for choice in (said[member] for member in members):
        if choice:
            sure[choice] += 1
    won = next((option for option, votes in sure.items() if _wins(votes, len(members), share)), "")
    if won:
        return won, (won,)
    silent = [ballot.own.get(member, ()) for member in members if said[member] is None]
    may = (o for o in ballot.options if _wins(sure[o] + sum(o not in own for own in silent), len(members), share))
    return "", tuple(may)


def _said(ballot: Ballot, votes: Mapping[str, str], elector: str, closed: bool) -> str | None:
    """What counts for an elector: an option, ABSTAIN, or None while that is not known."""
    speaker, levels = elector, ballot.depth if ballot.rule == "delegated" else 0
    while True:
        choice = votes.get(speaker)
        if choice is None and not closed:
            return None
        if choice is not None and choice != PASS:
            break
        if not levels or speaker not in ballot.delegates:
            return ABSTAIN
        speaker, levels = ballot.delegates[speaker], levels - 1
    # What is its own work does not become eligible by way of another, nor does what is no option.
    return choice if choice in ballot.options and choice not in ballot.own.get(elector, ()) else ABSTAIN


def _wins(weight: int, total: int, share: Fraction) -> bool:
    """At least the share, and more than a half."""
    return weight * share.denominator >= total * share.numerator and 2 * weight > total
