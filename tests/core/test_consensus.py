"""Votes: the rules of the feature list one by one, and the counting function against a plain twin that tries everything."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.core.consensus import ABSTAIN, PASS, Ballot, Result, Rule, admit, check, count
from skep.errors import Conflict, Invalid

FIVE = ("a", "b", "c", "d", "e")


def ballot(electors: int = 3, options: str = "XYZ", **more: Any) -> Ballot:
    made = Ballot(id="b", electors=FIVE[:electors], options=tuple(options), **more)
    check(made)
    return made


def over(made: Ballot, **votes: str) -> Result:
    """The result when no more votes come."""
    result = count(made, votes, at=7, closed=True)
    assert result is not None
    return result


def winner(made: Ballot, **votes: str) -> str:
    return over(made, **votes).choice


def test_two_of_three_pass_a_quorum_exactly() -> None:
    result = over(ballot(), a="X", b="X", c="Y")
    assert (result.reached, result.choice, result.counts) == (True, "X", {"X": 2, "Y": 1, "Z": 0})
    assert (result.ballot, result.threshold, result.total, result.at) == ("b", "2/3", 3, 7)


def test_a_quorum_is_of_the_electorate_not_of_the_votes_that_arrived() -> None:
    assert winner(ballot(), a="X") == ""
    assert winner(ballot(5), a="X", b="X", c="X") == ""
    assert winner(ballot(5), a="X", b="X", c="X", d="X") == "X"


def test_who_abstains_stays_in_the_electorate() -> None:
    result = over(ballot(), a="X", b=ABSTAIN, c=ABSTAIN)
    assert (result.reached, result.abstained, result.silent) == (False, 2, 0)


def test_a_split_and_a_tie_decide_nothing_and_are_named() -> None:
    assert over(ballot(), a="X", b="Y", c="Z").leading == ("X", "Y", "Z")
    assert over(ballot(4), a="X", b="Y", c="X", d="Y").leading == ("X", "Y")
    assert over(ballot()).leading == ()


def test_unanimous_means_everybody() -> None:
    assert winner(ballot(rule="unanimous"), a="X", b="X", c="X") == "X"
    assert winner(ballot(rule="unanimous"), a="X", b="X") == ""
    assert winner(ballot(rule="unanimous"), a="X", b="X", c=ABSTAIN) == ""


def test_weighted_is_over_half_of_the_whole_weight() -> None:
    made = ballot(rule="weighted", weights={"a": 2})
    assert winner(made, a="X", b="Y", c="Y") == ""  # two against two of four
    assert winner(made, a="X", b="X") == "X"
    assert over(made, a="X", b="X").weights == {"X": 3, "Y": 0, "Z": 0}


def test_votes_pass_up_as_many_levels_as_may_be() -> None:
    chain = {"a": "b", "b": "c"}
    assert over(ballot(rule="delegated", delegates=chain, depth=2), c="X").weights["X"] == 3
    assert over(ballot(rule="delegated", delegates=chain, depth=1), c="X").weights["X"] == 2
    assert over(ballot(rule="delegated", delegates=chain, depth=0), c="X").weights["X"] == 1
    assert winner(ballot(rule="delegated", delegates=chain, depth=2), a=PASS, b=PASS, c="X") == "X"


def test_who_speaks_for_itself_is_not_spoken_for() -> None:
    made = ballot(rule="delegated", delegates={"a": "c", "b": "c"})
    assert over(made, a="Y", b=ABSTAIN, c="X").weights == {"X": 1, "Y": 1, "Z": 0}


def test_what_is_passed_up_does_not_come_back_to_ones_own_work() -> None:
    made = ballot(rule="delegated", delegates={"a": "c", "b": "c"}, own={"a": ("X",)})
    assert over(made, c="X").weights["X"] == 2


def test_groups_decide_and_then_count_by_their_size() -> None:
    made = ballot(5, rule="distributed", groups={"left": ("a", "b", "c"), "right": ("d", "e")}, threshold="1/2")
    assert winner(made, a="X", b="X", c="Y", d="Y", e="Y") == "X"  # three votes of five are for Y
    assert over(made, a="X", b="Y", c="Z", d="Y", e="Y").weights == {"X": 0, "Y": 2, "Z": 0}


def test_the_centre_decides_and_the_others_are_heard() -> None:
    result = over(ballot(rule="centralized", centre="b"), a="X", b="Y", c="X")
    assert (result.choice, result.counts, result.weights) == ("Y", {"X": 2, "Y": 1, "Z": 0}, {"X": 0, "Y": 1, "Z": 0})
    assert winner(ballot(rule="centralized", centre="b"), a="X", c="X") == ""


def test_it_ends_as_soon_as_nothing_can_change_it() -> None:
    assert count(ballot(), {"a": "X"}, 0) is None
    won = count(ballot(), {"a": "X", "b": "X"}, 0)
    assert won is not None
    assert (won.choice, won.silent) == ("X", 1)
    lost = count(ballot(4, options="XY", threshold="1"), {"a": "X", "b": "Y"}, 0)
    assert lost is not None
    assert not lost.reached
    heard = count(ballot(rule="centralized", centre="b"), {"b": "Y"}, 0)
    assert heard is not None
    assert heard.choice == "Y"


def test_who_may_not_vote_for_an_option_is_not_waited_for_on_its_account() -> None:
    made = ballot(options="XY", threshold="1", own={"c": ("X",)})
    assert count(made, {"a": "X"}, 0) == count(made, {"a": "X"}, 0, closed=True)


def test_one_vote_per_elector_the_first_counts() -> None:
    with pytest.raises(Conflict, match="the first vote counts"):
        admit(ballot(), {"a": "X"}, "a", "Y")


@pytest.mark.parametrize(
    ("elector", "choice", "said"),
    [("z", "X", "no elector"), ("a", "Q", "no option"), ("a", "Y", "work of 'a' itself"), ("a", PASS, "nobody to pass")],
)
def test_what_is_no_vote_is_refused(elector: str, choice: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        admit(ballot(own={"a": ("Y",)}), {}, elector, choice)


def test_what_is_no_vote_would_not_count_either() -> None:
    made = ballot(own={"a": ("X",)})
    assert over(made, a="X", b="X", z="X", c="Q").weights == {"X": 1, "Y": 0, "Z": 0}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"electors": ()}, "no electors"),
        ({"electors": ("a", "a")}, "one twice"),
        ({"options": ()}, "no options"),
        ({"options": ("X", PASS)}, "no options"),
        ({"threshold": "1/3"}, "cannot decide"),
        ({"threshold": "4/3"}, "cannot decide"),
        ({"threshold": "most"}, "no threshold"),
        ({"threshold": "1/0"}, "no threshold"),
        ({"weights": {"z": 1}}, "no elector"),
        ({"weights": {"a": -1}}, "weight of 'a' is -1"),
        ({"rule": "weighted", "weights": {"a": 0, "b": 0, "c": 0}}, "no vote has any weight"),
        ({"rule": "distributed", "groups": {"g": ("a", "b")}}, "no group"),
        ({"rule": "distributed", "groups": {"g": ("a", "b"), "h": ("b", "c")}}, "no group"),
        ({"rule": "centralized"}, "no centre"),
        ({"depth": -1}, "pass up -1 levels"),
        ({"delegates": {"a": "b", "b": "c", "c": "a"}}, "in a circle"),
        ({"delegates": {"a": "a"}}, "in a circle"),
    ],
)
def test_a_ballot_that_could_decide_nothing_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=said) as refused:
        check(Ballot(**{"id": "b", "electors": ("a", "b", "c"), "options": ("X", "Y"), **more}))
    assert refused.value.fix


# Against a twin


@st.composite
def ballots(draw: st.DrawFn) -> tuple[Ballot, dict[str, str]]:
    """A small ballot of any rule, and some votes, not all of them allowed."""
    electors, options = FIVE[: draw(st.integers(1, 5))], ("X", "Y", "Z")[: draw(st.integers(1, 3))]
    rule: Rule = draw(st.sampled_from(get_args(Rule)))
    threshold = draw(st.sampled_from(["", "1/2", "0.6", "2/3", "3/4", "1"]))
    more: dict[str, Any] = {"own": draw(st.dictionaries(st.sampled_from(electors), st.sampled_from(options).map(lambda o: (o,))))}
    if rule == "weighted":
        more["weights"] = draw(st.dictionaries(st.sampled_from(electors), st.integers(1, 3)))
    if rule == "delegated":
        upwards = [(low, high) for i, low in enumerate(electors) for high in electors[i + 1 :]]
        more["delegates"] = dict(draw(st.lists(st.sampled_from(upwards)))) if upwards else {}
        more["depth"] = draw(st.integers(0, 3))
    if rule == "distributed":
        cut = draw(st.integers(0, len(electors)))
        halves = {"left": electors[:cut], "right": electors[cut:]}
        more["groups"] = {name: members for name, members in halves.items() if members}
    if rule == "centralized":
        more["centre"] = draw(st.sampled_from(electors))
    made = Ballot(id="b", electors=electors, options=options, rule=rule, threshold=threshold, **more)
    check(made)
    return made, draw(st.dictionaries(st.sampled_from(electors), st.sampled_from([ABSTAIN, PASS, *options])))


def twin(made: Ballot, votes: dict[str, str]) -> str:
    """The winner when no more votes come, counted in floating point, voice by voice."""
    share = {"": None, "1/2": 0.5, "0.6": 0.6, "2/3": 2 / 3, "3/4": 0.75, "1": 1.0}[made.threshold]
    if share is None:
        share = {"unanimous": 1.0, "centralized": 1.0, "weighted": 0.5}.get(made.rule, 2 / 3)

    def voice(elector: str, steps: int) -> str:
        said = votes.get(elector, PASS)
        if said != PASS:
            return said
        return voice(made.delegates[elector], steps - 1) if steps and elector in made.delegates else ABSTAIN

    def best(counted: list[tuple[str, int]]) -> str:
        whole = sum(weight for _, weight in counted)
        for option in made.options:
            part = sum(weight for said, weight in counted if said == option) / whole
            if part > 0.5 + 1e-9 and part >= share - 1e-9:
                return option
        return ABSTAIN

    heard: dict[str, str] = {}
    for elector in made.electors:
        said = voice(elector, made.depth if made.rule == "delegated" else 0)
        heard[elector] = ABSTAIN if said in made.own.get(elector, ()) else said
    if made.rule == "centralized":
        return heard[made.centre]
    if made.rule == "distributed":
        return best([(best([(heard[m], 1) for m in members]), len(members)) for members in made.groups.values()])
    return best([(heard[e], made.weights.get(e, 1)) for e in made.electors])


@given(ballots())
def test_a_closed_ballot_ends_as_the_twin_says(cast: tuple[Ballot, dict[str, str]]) -> None:
    made, votes = cast
    result = count(made, votes, 0, closed=True)
    assert result is not None
    assert result.choice == twin(made, votes)
    assert result.reached == bool(result.choice)
    assert sum(result.counts.values()) + result.abstained + result.silent <= len(made.electors)


@given(ballots())
def test_an_open_ballot_ends_only_when_every_way_on_leads_there(cast: tuple[Ballot, dict[str, str]]) -> None:
    made, votes = cast
    result = count(made, votes, 0)
    silent = [elector for elector in made.electors if elector not in votes]
    ways = product([ABSTAIN, PASS, *made.options], repeat=len(silent))
    endings = {twin(made, {**votes, **dict(zip(silent, way, strict=True))}) for way in ways}
    if result is not None:
        assert endings == {result.choice}
    elif made.rule != "delegated":
        assert len(endings) > 1, "it could have ended"
    if not silent:
        assert result is not None


@given(ballots(), st.randoms())
def test_the_order_of_the_votes_shows_nowhere(cast: tuple[Ballot, dict[str, str]], random: Any) -> None:
    made, votes = cast
    shuffled = list(votes.items())
    random.shuffle(shuffled)
    assert count(made, dict(shuffled), 0) == count(made, votes, 0)
