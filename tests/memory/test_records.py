"""Clocks and joins, held against a truth that is kept apart: who had seen what when it wrote."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skep.memory import Entry, Record
from skep.memory.clocks import Hybrid, compare, merge, seen, when
from skep.memory.records import RULES, decode, deleted, digest, encode, identity, join, resolved, unexpired, written

Dot = tuple[str, int]
#: For joins that are wrong, and stand in its place.
_joined = join
WRITERS = ("a", "b", "c")
KEY = "k"
clocks = st.dictionaries(st.sampled_from(WRITERS), st.integers(1, 5))


def entry(writer: str, stamp: int, value: Any = None, **rest: Any) -> Entry:
    return Entry(id=identity("n", KEY), namespace="n", key=KEY, value=value, writer=writer, stamp=stamp, **rest)


def empty() -> Record:
    return Record(namespace="n", key=KEY, clock={})


class Event(NamedTuple):
    """Something that was done: a write, or a deletion, by somebody who had seen these events."""

    dot: Dot
    wrote: bool
    saw: frozenset[Dot]


class Copies:
    """Copies of one key's record on several machines, and what each of them has seen, kept without clocks."""

    def __init__(self) -> None:
        self.records = {writer: empty() for writer in WRITERS}
        self.seen: dict[str, frozenset[Dot]] = {writer: frozenset() for writer in WRITERS}
        self.events: dict[Dot, Event] = {}
        self.sent: list[tuple[Record, frozenset[Dot]]] = [(empty(), frozenset())]

    def do(self, step: tuple[str, str, int]) -> None:
        what, writer, number = step
        if what in ("write", "delete"):
            dot = writer, len(self.events) + 1
            self.events[dot] = Event(dot, what == "write", self.seen[writer])
            self.seen[writer] |= {dot}
            record = self.records[writer]
            made = written(record, entry(*dot)) if what == "write" else deleted(record, *dot)
            self.records[writer] = made
        elif what == "send":
            self.sent.append((self.records[writer], self.seen[writer]))
        else:  # anything that was ever sent arrives, in any order, as often as it likes
            record, known = self.sent[number % len(self.sent)]
            self.take(writer, record, known)

    def take(self, writer: str, record: Record, known: frozenset[Dot]) -> None:
        self.records[writer] = join(self.records[writer], record)
        self.seen[writer] |= known

    def right(self, writer: str) -> set[Dot]:
        """The values that this machine must have: all that it knows of but those replaced by somebody it knows of."""
        known = [self.events[dot] for dot in self.seen[writer]]
        replaced = frozenset[Dot]().union(*(event.saw for event in known))
        return {event.dot for event in known if event.wrote} - replaced


steps = st.lists(
    st.tuples(st.sampled_from(["write", "write", "delete", "send", "take"]), st.sampled_from(WRITERS), st.integers(0, 50)),
    max_size=40,
)


def dots(record: Record) -> set[Dot]:
    return {(one.writer, one.stamp) for one in record.entries}


def after_steps(done: list[tuple[str, str, int]]) -> Copies:
    copies = Copies()
    for step in done:
        copies.do(step)
    return copies


@given(steps)
@example([("write", "a", 0), ("send", "a", 0), ("take", "b", 1), ("delete", "b", 0), ("take", "b", 1)])
@example([("write", "a", 0), ("write", "b", 0), ("send", "a", 0), ("take", "b", 1)])
def test_each_copy_has_what_nobody_replaced_whom_it_heard_of(done: list[tuple[str, str, int]]) -> None:
    copies = Copies()
    for step in done:
        copies.do(step)
        for writer in WRITERS:
            assert dots(copies.records[writer]) == copies.right(writer)


@given(steps, st.permutations(WRITERS), st.permutations(WRITERS))
def test_all_end_with_the_same_whoever_talks_to_whom_first(done: list[tuple[str, str, int]], one: Any, other: Any) -> None:
    copies = after_steps(done)
    joined = [reduce(join, (copies.records[writer] for writer in order)) for order in (one, other)]
    assert joined[0] == joined[1]
    assert digest(joined[0]) == digest(joined[1])
    everything = copies.events.values()
    replaced = frozenset[Dot]().union(*(event.saw for event in everything))
    assert dots(joined[0]) == {event.dot for event in everything if event.wrote} - replaced


@given(steps, st.data())
def test_join_is_commutative_associative_and_idempotent(done: list[tuple[str, str, int]], data: st.DataObject) -> None:
    copies = after_steps(done)
    anything = st.sampled_from([record for record, _ in copies.sent] + list(copies.records.values()))
    a, b, c = (data.draw(anything) for _ in range(3))
    assert join(a, b) == join(b, a)
    assert join(a, join(b, c)) == join(join(a, b), c)
    assert join(a, a) == a
    assert join(join(a, b), b) == join(a, b)
    assert decode(encode(join(a, b))) == join(a, b)


@given(steps, st.integers(0, 2))
def test_what_was_deleted_stays_deleted_though_an_old_copy_comes_back(done: list[tuple[str, str, int]], which: int) -> None:
    copies = after_steps([*done, ("write", "a", 0), ("send", "a", 0)])
    for writer in WRITERS:
        copies.take(writer, copies.records["a"], copies.seen["a"])
        copies.take("a", copies.records[writer], copies.seen[writer])
    copies.do(("delete", "a", 0))
    gone = copies.records["a"]
    for record, _ in copies.sent:
        assert not join(gone, record).entries
    assert not join(gone, copies.records[WRITERS[which]]).entries


@given(steps, st.integers(0, 100))
def test_what_expires_goes_on_every_machine_without_a_word(done: list[tuple[str, str, int]], now: int) -> None:
    """Values are dropped here and not there, then all join: it is as if they had been dropped of what was joined."""
    copies = after_steps(done)
    records = [
        Record(
            namespace="n",
            key=KEY,
            clock=record.clock,
            entries=tuple(entry(one.writer, one.stamp, expires=one.stamp) for one in record.entries),
        )
        for record in copies.records.values()
    ]
    whole = unexpired(reduce(join, records), now)
    swept = reduce(join, [unexpired(record, now) if at else record for at, record in enumerate(records)])
    assert unexpired(swept, now) == whole


@given(clocks, clocks, clocks)
def test_clocks_merge_in_any_order_and_compare_as_sets_do(a: dict[str, int], b: dict[str, int], c: dict[str, int]) -> None:
    assert merge(a, b) == merge(b, a)
    assert merge(a, merge(b, c)) == merge(merge(a, b), c)
    assert merge(a, a) == dict(sorted(a.items()))

    def events(clock: dict[str, int]) -> set[Dot]:
        return {(writer, number) for writer, last in clock.items() for number in range(1, last + 1)}

    here, there = events(a), events(b)
    wanted = "same" if here == there else "before" if here < there else "after" if here > there else "beside"
    assert compare(a, b) == wanted
    assert all(seen(a, *dot) == (dot in here) for dot in here | there)


@given(st.lists(st.one_of(st.integers(0, 2**41), st.tuples(st.integers(0, 2**57)))))
def test_stamps_always_go_up_and_tell_the_time(told: list[int | tuple[int]]) -> None:
    clock, last, latest = Hybrid(), 0, 0
    for said in told:
        if isinstance(said, tuple):
            clock.hear(said[0])
            last = max(last, said[0])
            continue
        stamp = clock.tick(said)
        assert stamp > last
        latest = max(latest, said, when(last))
        assert when(stamp) in (latest, latest + 1)
        last = stamp


# Rules

values = st.one_of(st.integers(-5, 5), st.text("ab", max_size=2), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))


@given(st.lists(st.lists(values, max_size=4), min_size=2, max_size=4), st.data())
def test_lists_are_united_the_same_way_on_every_machine(lists: list[list[Any]], data: st.DataObject) -> None:
    entries = [entry(f"w{number}", number + 1, value, rule="union") for number, value in enumerate(lists)]
    told = [Record(namespace="n", key=KEY, clock={one.writer: one.stamp}, entries=(one,)) for one in entries]
    read = resolved(reduce(join, data.draw(st.permutations(told))), RULES)
    assert read is not None
    assert encoded(read.value) == encoded(RULES["union"](entries))
    assert {encoded(item) for item in read.value} == {encoded(item) for one in lists for item in one}
    assert len(read.value) == len({encoded(item) for item in read.value})
    assert read.siblings == 0


def encoded(value: Any) -> str:
    """A value with its type: 1 is neither True nor 1.0."""
    return repr(value)


class Counter:
    """A counter on several machines, each adding as the bank does."""

    def __init__(self) -> None:
        first = entry("a", 1, 0, rule="counter", counts={"a": (1, 0)})
        self.records = {writer: written(None, first) for writer in WRITERS}
        self.stamp = 1

    def add(self, writer: str, amount: int) -> None:
        self.stamp += 1
        record = self.records[writer]
        there = resolved(record, RULES)
        assert there is not None
        counts = {**there.counts, writer: (self.stamp, there.counts.get(writer, (0, 0))[1] + amount)}
        value = sum(one for _, one in counts.values())
        self.records[writer] = written(record, entry(writer, self.stamp, value, rule="counter", counts=counts))


@given(st.lists(st.tuples(st.sampled_from(WRITERS), st.sampled_from(WRITERS), st.integers(-9, 9)), max_size=30))
def test_all_that_is_added_to_a_counter_counts_once(done: list[tuple[str, str, int]]) -> None:
    counter = Counter()
    for writer, other, amount in done:
        if writer == other:
            counter.add(writer, amount)
        else:
            counter.records[writer] = join(counter.records[writer], counter.records[other])
    read = resolved(reduce(join, counter.records.values()), RULES)
    assert read is not None
    assert read.value == sum(amount for writer, other, amount in done if writer == other)


def last_one_wins(a: Record, b: Record) -> Record:
    return max(a, b, key=lambda one: max(one.clock.values(), default=0))


def forgets_deletions(a: Record, b: Record) -> Record:
    return _joined(a, b) if a.entries and b.entries else a if a.entries else b


def drops_one_side(a: Record, b: Record) -> Record:
    return Record(namespace="n", key=KEY, clock=merge(a.clock, b.clock), entries=a.entries or b.entries)


@pytest.mark.parametrize("wrong", [last_one_wins, forgets_deletions, drops_one_side])
def test_a_wrong_join_is_seen(wrong: Callable[[Record, Record], Record], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "join", wrong)
    with pytest.raises(AssertionError):
        test_each_copy_has_what_nobody_replaced_whom_it_heard_of()


@pytest.mark.parametrize("rule", ["siblings", "last"])
def test_of_values_written_at_the_same_time_the_most_trusted_counts_and_then_the_newest(rule: str) -> None:
    person = entry("a", 5, "of a person", rule=rule, trust="person")
    agents = entry("b", 9, "newer", rule=rule, trust="agent"), entry("c", 8, "older", rule=rule, trust="agent")
    clock = {"a": 5, "b": 9, "c": 8}
    for entries, wanted in (((person, *agents), "of a person"), (agents, "newer")):
        read = resolved(Record(namespace="n", key=KEY, clock=clock, entries=entries), RULES)
        assert read is not None
        assert (read.value, read.siblings) == (wanted, len(entries) - 1 if rule == "siblings" else 0)
