# tidy: long because it is one contract, read from its beginning to its end
"""What every `Log` does. A backend passes when `class TestX(LogContract): home = XHome` does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from skep.errors import Bug, Conflict, Exhausted, Invalid, NotFound, Unavailable
from skep.store import Append, Head, Log, Taken, chain

_batches = count(1)


class Home(Protocol):
    """Where a backend keeps its logs, and, while none is open, the hands of someone who has no key."""

    def __init__(self, folder: Path) -> None: ...

    async def open(self) -> Log: ...

    def rows(self, session: str) -> list[Append]: ...

    def rewrite(self, session: str, rows: Sequence[Append]) -> None: ...

    def spoil_snapshot(self, session: str, seq: int) -> None: ...

    def spoil_archived(self, session: str, task: str) -> None: ...


class Pen:
    """Writes to a session as its owner does."""

    def __init__(self, log: Log, session: str) -> None:
        self.log, self.session = log, session
        self.head = Head(0, 0, b"")

    async def take(self) -> Pen:
        self.head = await self.log.acquire(self.session)
        return self

    async def write(
        self, blob: bytes = b"events", events: int = 3, archive: Sequence[tuple[str, bytes]] = (), batch: bytes = b""
    ) -> Head:
        head = self.head
        self.head = await self.log.append(self.session, head.epoch, head.seq, batch or fresh_batch(), events, blob, archive)
        return self.head


def fresh_batch() -> bytes:
    return next(_batches).to_bytes(16, "big")


async def new_session(log: Log, session: str = "s", at: int = 1) -> Pen:
    await log.create(session, at)
    return await Pen(log, session).take()


def flipped(n: int, field: str, rows: list[Append]) -> list[Append]:
    """The rows with the lowest bit of one field of row `n` turned."""
    value = getattr(rows[n], field)
    turned = value ^ 1 if isinstance(value, int) else value[:-1] + bytes([value[-1] ^ 1])
    return [*rows[:n], msgspec.structs.replace(rows[n], **{field: turned}), *rows[n + 1 :]]


def renumbered(rows: Sequence[Append]) -> list[Append]:
    """The rows in the order given, as if they had been written so."""
    out, seq = [], 0
    for row in rows:
        length = row.last - row.first
        out.append(msgspec.structs.replace(row, first=seq + 1, last=seq + 1 + length))
        seq = out[-1].last
    return out


#: What somebody without the key may do to the ten rows of a log (three events each), and the first event that is then bad.
ATTACKS: dict[str, tuple[Callable[[list[Append]], list[Append]], int]] = {
    "edit": (lambda rows: [*rows[:4], msgspec.structs.replace(rows[4], blob=b"other"), *rows[5:]], 13),
    "cut out of the middle": (lambda rows: [*rows[:4], *rows[6:]], 13),
    "cut out and renumbered": (lambda rows: renumbered([*rows[:4], *rows[6:]]), 13),
    "cut off the beginning": (lambda rows: rows[2:], 1),
    "cut off the end": (lambda rows: rows[:-2], 25),
    "all removed": (lambda rows: [], 1),
    "two swapped": (lambda rows: renumbered([*rows[:2], rows[3], rows[2], *rows[4:]]), 7),
    "one repeated": (lambda rows: renumbered([*rows[:3], rows[2], *rows[3:]]), 10),
    "one added": (lambda rows: [*rows, msgspec.structs.replace(rows[-1], first=31, last=33)], 31),
    "two made one": (
        lambda rows: [*rows[:2], msgspec.structs.replace(rows[3], first=7, blob=rows[2].blob + rows[3].blob), *rows[4:]],
        7,
    ),
    **{
        f"bit of {field} flipped in append {n}": (partial(flipped, n, field), 3 * n + 1)
        for field in ("first", "epoch", "batch", "blob", "hash")
        for n in (0, 5, 9)
    },
}


class LogContract:
    """Subclass it with `home`."""

    home: type[Home]
    #: What the backend may lack, and no more.
    may_lack: frozenset[str] = frozenset({"durable", "shared"})

    @pytest.fixture
    def place(self, tmp_path: Path) -> Home:
        return self.home(tmp_path / "home")

    @pytest.fixture
    async def log(self, place: Home) -> AsyncIterator[Log]:
        log = await place.open()
        yield log
        await log.close()

    async def test_a_backend_says_what_it_lacks(self, log: Log) -> None:
        assert log.lacks <= self.may_lack

    # Sessions

    async def test_a_new_log_is_empty(self, log: Log) -> None:
        await log.create("s", 7)
        (row,) = await log.sessions()
        assert (row.session, row.created, row.note, row.head) == ("s", 7, "", Head(0, 0, chain.GENESIS))
        assert await log.read("s") == []
        assert await log.verify("s") == row.head
        assert await log.latest("s") is None

    async def test_a_session_is_created_once(self, log: Log) -> None:
        pen = await new_session(log)
        head = await pen.write()
        with pytest.raises(Conflict, match="session s exists"):
            await log.create("s", 2)
        assert await log.verify("s") == head

    @pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "a\0b"])
    async def test_a_bad_name_is_refused(self, log: Log, name: str) -> None:
        with pytest.raises(Invalid, match="cannot name a session"):
            await log.create(name, 1)
        assert await log.sessions() == []

    async def test_sessions_come_oldest_first(self, log: Log) -> None:
        for name, at in (("b", 3), ("a", 3), ("ü/..%", 1)):
            await log.create(name, at)
        assert [row.session for row in await log.sessions()] == ["ü/..%", "b", "a"]

    @pytest.mark.parametrize(
        "call",
        [
            lambda log: log.acquire("no"),
            lambda log: log.append("no", 1, 0, bytes(16), 1, b""),
            lambda log: log.read("no"),
            lambda log: log.verify("no"),
            lambda log: log.snapshot("no", 1, b""),
            lambda log: log.latest("no"),
            lambda log: log.archived("no", ["t"]),
            lambda log: log.annotate("no", ""),
            lambda log: log.drop("no"),
        ],
    )
    async def test_a_session_that_was_never_created_is_not_found(
        self, log: Log, call: Callable[[Log], Awaitable[object]]
    ) -> None:
        await log.create("other", 1)
        with pytest.raises(NotFound, match="no session no"):
            await call(log)

    async def test_notes_are_kept_and_bounded(self, log: Log) -> None:
        await log.create("s", 1)
        await log.annotate("s", '{"a": "ü"}')
        with pytest.raises(Invalid, match="note has more than 4096 bytes"):
            await log.annotate("s", "ü" * 2049)
        await log.annotate("s", "n" * 4096)
        (row,) = await log.sessions()
        assert row.note == "n" * 4096

    async def test_a_dropped_session_leaves_nothing_behind(self, log: Log) -> None:
        pen, other = await new_session(log), await new_session(log, "other", 2)
        for writer in (pen, other):
            head = await writer.write(archive=[("t1", b"entry")])
            await log.snapshot(writer.session, head.seq, b"state")
        await log.drop("s")
        with pytest.raises(NotFound):
            await log.read("s")
        assert [row.session for row in await log.sessions()] == ["other"]
        again = await new_session(log)
        assert (again.head.epoch, again.head.seq) == (1, 0)
        await again.write()
        assert await log.latest("s") is None
        assert await log.archived("s", ["t1"]) == {}
        assert await log.latest("other") == (3, b"state")
        assert await log.archived("other", ["t1"]) == {"t1": b"entry"}
        assert (await log.verify("other")).seq == 3

    async def test_a_session_is_dropped_only_where_its_log_is_known_to_end(self, log: Log) -> None:
        pen = await new_session(log)
        before, head = pen.head, await pen.write()
        with pytest.raises(Conflict, match="goes on"):
            await log.drop("s", before)
        later = await log.acquire("s")
        with pytest.raises(Conflict, match="goes on"):
            await log.drop("s", head)
        assert (await log.verify("s")).seq == head.seq
        await log.drop("s", later)
        assert await log.sessions() == []

    # Appending

    async def test_appends_are_numbered_and_chained(self, log: Log) -> None:
        pen = await new_session(log)
        for number, blob in enumerate((b"one", b"", b"\0" * 9000), start=1):
            await pen.write(blob, events=number)
        rows = await log.read("s")
        assert [(row.first, row.last, row.epoch, row.blob) for row in rows] == [
            (1, 1, 1, b"one"),
            (2, 3, 1, b""),
            (4, 6, 1, b"\0" * 9000),
        ]
        assert len({row.hash for row in rows}) == 3
        assert await log.verify("s") == pen.head == Head(1, 6, rows[-1].hash)
        assert (await log.sessions())[0].head == pen.head

    async def test_each_owner_has_a_higher_epoch_and_the_old_one_writes_no_more(self, log: Log) -> None:
        old = await new_session(log)
        await old.write(b"old")
        new = await Pen(log, "s").take()
        assert (new.head.epoch, new.head.seq, new.head.hash) == (old.head.epoch + 1, old.head.seq, old.head.hash)
        with pytest.raises(Conflict, match="another owner"):
            await old.write(b"too late", archive=[("t", b"too late")])
        await new.write(b"new")
        with pytest.raises(Conflict, match="another owner"):
            await old.write(b"too late")
        assert [row.blob for row in await log.read("s")] == [b"old", b"new"]
        assert await log.archived("s", ["t"]) == {}

    async def test_one_session_is_told_of_as_among_all(self, log: Log) -> None:
        pen = await new_session(log, at=7)
        await new_session(log, "other")
        await pen.write()
        await log.annotate("s", "a note")
        row = await log.row("s")
        assert (row.session, row.created, row.head, row.note) == ("s", 7, pen.head, "a note")
        assert row in await log.sessions()
        with pytest.raises(NotFound):
            await log.row("nobody")

    async def test_an_append_follows_one_head_alone_and_only_with_its_seal(self, log: Log) -> None:
        pen = await new_session(log)
        before = (await log.row("s")).head
        await pen.write()
        (first,) = await log.read("s")
        assert log.follows("s", before, first)
        assert not log.follows("s", pen.head, first)
        assert not log.follows("other", before, first)
        for changed in ({"blob": b"forged"}, {"hash": bytes(32)}, {"last": first.last + 1}, {"epoch": first.epoch + 1}):
            assert not log.follows("s", before, msgspec.structs.replace(first, **changed))

    async def test_a_text_has_one_seal_which_is_no_link_of_any_chain(self, log: Log) -> None:
        await (await new_session(log)).write()
        (first,) = await log.read("s")
        assert log.seal(b"text") == log.seal(b"text")
        assert len({log.seal(b""), log.seal(b"text"), log.seal(b"other"), first.hash}) == 4
        assert len(log.seal(b"text")) == 32
        assert len({log.seal(b"text"), log.seal_to("east", b"text"), log.seal_to("west", b"text")}) == 3, "each is for one"

    async def test_who_says_which_owner_it_follows_is_refused_after_another_one(self, log: Log) -> None:
        first = (await new_session(log)).head
        second = await log.acquire("s", after=first.epoch)
        with pytest.raises(Conflict, match="another owner"):
            await log.acquire("s", after=first.epoch)
        assert (await Pen(log, "s").take()).head.epoch == second.epoch + 1

    async def test_nobody_writes_who_has_not_acquired_the_session(self, log: Log) -> None:
        await log.create("s", 1)
        for epoch in (0, 1):
            with pytest.raises(Conflict):
                await log.append("s", epoch, 0, fresh_batch(), 1, b"blob")
        assert await log.read("s") == []

    @pytest.mark.parametrize("off", [-3, -1, 1, 10**6])
    async def test_who_does_not_know_the_end_of_the_log_is_refused(self, log: Log, off: int) -> None:
        pen = await new_session(log)
        await pen.write(b"one")
        head = await pen.write(b"two")
        with pytest.raises(Conflict, match="ends at event 6"):
            await log.append("s", head.epoch, head.seq + off, fresh_batch(), 3, b"wrong", [("t", b"wrong")])
        assert await log.verify("s") == head
        assert await log.archived("s", ["t"]) == {}
        assert (await pen.write(b"three")).seq == 9

    async def test_an_append_whose_answer_was_lost_is_not_written_twice(self, log: Log, place: Home) -> None:
        pen = await new_session(log)
        await pen.write(b"before")
        batch, known = fresh_batch(), pen.head
        head = await pen.write(b"once", batch=batch, archive=[("t", b"entry")])
        assert await log.append("s", known.epoch, known.seq, batch, 3, b"once", [("t", b"entry")]) == head
        await log.close()
        log = await place.open()
        assert await log.append("s", known.epoch, known.seq, batch, 3, b"once", [("t", b"entry")]) == head
        assert [row.blob for row in await log.read("s")] == [b"before", b"once"]
        await log.close()

    async def test_a_lost_answer_is_found_again_under_a_new_epoch(self, log: Log) -> None:
        pen = await new_session(log)
        batch = fresh_batch()
        lost = await pen.write(b"once", batch=batch)
        again = await Pen(log, "s").take()
        assert await log.append("s", again.head.epoch, 0, batch, 3, b"once") == again.head
        assert again.head == Head(2, lost.seq, lost.hash)

    async def test_letters_that_are_not_there_cannot_be_taken(self, log: Log) -> None:
        pen = await new_session(log)
        call = log.append("s", pen.head.epoch, pen.head.seq, fresh_batch(), 1, b"blob", taken=[Taken("1", "a", 1)])
        with pytest.raises(Bug if "shared" in log.lacks else Conflict):
            await call
        assert await log.verify("s") == pen.head

    async def test_a_batch_that_is_not_the_last_one_is_somebody_elses(self, log: Log) -> None:
        pen = await new_session(log)
        first, last = fresh_batch(), fresh_batch()
        await pen.write(batch=first)
        head = await pen.write(batch=last)
        for seq, batch, events in ((0, first, 3), (0, last, 3), (3, last, 2)):
            with pytest.raises(Conflict):
                await log.append("s", head.epoch, seq, batch, events, b"events")
        assert await log.verify("s") == head

    @pytest.mark.parametrize(("events", "batch"), [(0, bytes(16)), (-1, bytes(16)), (1, b""), (1, bytes(17))])
    async def test_an_append_without_events_or_batch_id_is_refused(self, log: Log, events: int, batch: bytes) -> None:
        pen = await new_session(log)
        with pytest.raises(Invalid):
            await log.append("s", 1, 0, batch, events, b"blob")
        assert await log.verify("s") == pen.head

    async def test_the_size_of_an_append_is_bounded(self, log: Log) -> None:
        pen = await new_session(log)
        with pytest.raises(Exhausted, match="at most"):
            await pen.write(bytes(chain.LARGEST_APPEND + 1))
        assert await log.verify("s") == Head(1, 0, chain.GENESIS)

    async def test_the_number_of_events_is_bounded(self, log: Log) -> None:
        pen = await new_session(log)
        head = await pen.write(events=chain.LAST_EVENT - 1)
        with pytest.raises(Exhausted, match="no more"):
            await pen.write(events=2)
        assert (await pen.write(events=1)).seq == chain.LAST_EVENT
        assert [row.last for row in await log.read("s")] == [head.seq, chain.LAST_EVENT]
        assert len(await log.read("s", after=head.seq)) == 1

    async def test_sessions_written_at_once_do_not_touch_each_other(self, log: Log) -> None:
        pens = [await new_session(log, f"s{n}", n) for n in range(8)]
        stale = await new_session(log, "stale", 9)
        taken = await Pen(log, "stale").take()

        async def fill(pen: Pen) -> None:
            for n in range(20):
                await pen.write(f"{pen.session}:{n}".encode(), archive=[(f"t{n}", pen.session.encode())])

        async def refused() -> int:
            answers = await asyncio.gather(*(stale.write(b"late") for _ in range(40)), return_exceptions=True)
            return sum(isinstance(answer, Conflict) for answer in answers)

        late, *_ = await asyncio.gather(refused(), *(fill(pen) for pen in pens))
        assert late == 40
        assert await log.verify("stale") == taken.head
        for pen in pens:
            assert await log.verify(pen.session) == pen.head
            assert [row.blob for row in await log.read(pen.session)] == [f"{pen.session}:{n}".encode() for n in range(20)]
            assert await log.archived(pen.session, ["t19"]) == {"t19": pen.session.encode()}

    async def test_two_appends_for_the_same_place_let_one_through(self, log: Log) -> None:
        pen = await new_session(log)
        answers = await asyncio.gather(
            *(log.append("s", 1, 0, fresh_batch(), 1, b"%d" % n) for n in range(5)), return_exceptions=True
        )
        assert sum(isinstance(answer, Head) for answer in answers) == 1
        assert sum(isinstance(answer, Conflict) for answer in answers) == 4
        assert (await log.verify("s")).seq == pen.head.seq + 1

    # Reading

    async def test_reading_goes_by_pages(self, log: Log) -> None:
        pen = await new_session(log)
        for _ in range(10):
            await pen.write()
        seen: list[int] = []
        while page := await log.read("s", after=seen[-1] if seen else 0, limit=4):
            assert len(page) <= 4
            seen += [row.last for row in page]
        assert seen == list(range(3, 31, 3))

    @pytest.mark.parametrize(("after", "first"), [(0, 1), (1, 1), (2, 1), (3, 4), (8, 7), (9, None), (10**15, None)])
    async def test_an_append_is_read_whole_if_any_of_it_is_new(self, log: Log, after: int, first: int | None) -> None:
        pen = await new_session(log)
        for _ in range(3):
            await pen.write()
        rows = await log.read("s", after=after)
        assert (rows[0].first if rows else None) == first

    # Finished tasks

    async def test_finished_tasks_leave_with_the_append_that_decides_them(self, log: Log) -> None:
        pen = await new_session(log)
        tasks = [(f"t{n}", b"entry %d" % n) for n in range(100)]
        await pen.write(archive=tasks)
        await pen.write(archive=[("t5", b"again"), ("ü", b"")])
        assert await log.archived("s", ["t5", "no", "t99", "ü"]) == {"t5": b"again", "t99": b"entry 99", "ü": b""}
        assert await log.archived("s", []) == {}
        assert len(await log.archived("s", [task for task, _ in tasks] * 10)) == 100

    async def test_the_archive_is_listed_in_order(self, log: Log) -> None:
        pen = await new_session(log)
        names = ["t2", "t10", "b", "ü", "t1"]
        await pen.write(archive=[(name, name.encode()) for name in names])
        listed = [entry async for entry in log.archive("s", limit=2)]
        assert listed == [(name, name.encode()) for name in sorted(names)]
        assert [task async for task, _ in log.archive("s", after="t1")] == ["t10", "t2", "ü"]

    async def test_a_damaged_entry_of_the_archive_is_never_returned(self, log: Log, place: Home) -> None:
        pen = await new_session(log)
        await pen.write(archive=[("t1", b"one"), ("t2", b"two")])
        await log.close()
        place.spoil_archived("s", "t2")
        log = await place.open()
        assert await log.archived("s", ["t1"]) == {"t1": b"one"}
        with pytest.raises(Invalid, match="t2 is damaged"):
            await log.archived("s", ["t1", "t2"])
        with pytest.raises(Invalid, match="t2 is damaged"):
            assert [entry async for entry in log.archive("s")]
        await log.close()

    # Snapshots

    async def test_the_newest_snapshot_is_found(self, log: Log) -> None:
        pen = await new_session(log)
        for n in range(4):
            head = await pen.write()
            await log.snapshot("s", head.seq, b"state %d" % n)
        assert await log.latest("s") == (12, b"state 3")
        await log.snapshot("s", 12, b"again")
        assert await log.latest("s") == (12, b"again")

    async def test_a_damaged_snapshot_is_passed_over_for_the_one_before(self, log: Log, place: Home) -> None:
        pen = await new_session(log)
        for n in range(3):
            head = await pen.write()
            await log.snapshot("s", head.seq, b"state %d" % n)
        await log.close()
        place.spoil_snapshot("s", 9)
        log = await place.open()
        assert await log.latest("s") == (6, b"state 1")
        await log.close()
        place.spoil_snapshot("s", 6)
        log = await place.open()
        assert await log.latest("s") is None
        await log.close()

    async def test_two_whole_snapshots_are_kept_whatever_became_of_others(self, log: Log, place: Home) -> None:
        pen = await new_session(log)
        for n in range(2):
            head = await pen.write()
            await log.snapshot("s", head.seq, b"state %d" % n)
        await log.close()
        place.spoil_snapshot("s", 6)
        log = await place.open()
        pen = await Pen(log, "s").take()
        head = await pen.write()
        await log.snapshot("s", head.seq, b"state 2")
        await log.close()
        place.spoil_snapshot("s", 9)
        log = await place.open()
        assert await log.latest("s") == (3, b"state 0")
        await log.close()

    @pytest.mark.parametrize("seq", [0, 2, 4, -1])
    async def test_a_snapshot_stands_at_the_end_of_an_append(self, log: Log, seq: int) -> None:
        pen = await new_session(log)
        await pen.write()
        with pytest.raises(Invalid, match="no append ends with event"):
            await log.snapshot("s", seq, b"state")
        assert await log.latest("s") is None

    # Tampering

    @pytest.mark.parametrize("attack", ATTACKS)
    async def test_tampering_is_found_and_its_first_event_named(self, log: Log, place: Home, attack: str) -> None:
        change, event = ATTACKS[attack]
        pen = await new_session(log)
        other = await new_session(log, "other", 2)
        for n in range(10):
            if n in (3, 6):
                await pen.take()
            await pen.write(b"blob %d" % n)
            await other.write(b"blob %d" % n)
        await log.close()
        rows = place.rows("s")
        assert len(rows) == 10
        place.rewrite("s", change(rows))
        log = await place.open()
        with pytest.raises(Invalid, match=f"session s: the log is damaged at event {event}: ") as caught:
            await log.verify("s")
        assert caught.value.fix
        with pytest.raises(Invalid, match=f"at event {event}: "):
            await log.read("s")
        assert (await log.verify("other")).seq == 30
        await log.close()

    @pytest.mark.parametrize("attack", ["cut off the end", "all removed", "one added", "bit of blob flipped in append 9"])
    async def test_nobody_becomes_the_writer_of_a_log_whose_end_is_damaged(self, log: Log, place: Home, attack: str) -> None:
        pen = await new_session(log)
        for n in range(10):
            await pen.write(b"blob %d" % n)
        await log.close()
        place.rewrite("s", ATTACKS[attack][0](place.rows("s")))
        log = await place.open()
        with pytest.raises(Invalid, match="the log is damaged"):
            await log.acquire("s")
        await log.close()

    async def test_a_log_does_not_pass_for_another_sessions(self, log: Log, place: Home) -> None:
        for name in ("s", "other"):
            pen = await new_session(log, name)
            await pen.write(name.encode())
        await log.close()
        place.rewrite("s", place.rows("other"))
        log = await place.open()
        with pytest.raises(Invalid, match="at event 1: "):
            await log.read("s")
        await log.close()

    async def test_an_append_of_another_past_of_the_same_session_does_not_fit(self, log: Log, place: Home) -> None:
        pasts: list[list[Append]] = []
        for past in ("dropped", "kept"):
            if pasts:
                await log.drop("s")
            pen = await new_session(log)
            for n in range(3):
                await pen.write(f"{past} {n}".encode())
            pasts.append(await log.read("s"))
        await log.close()
        dropped, kept = pasts
        place.rewrite("s", [kept[0], dropped[1], kept[2]])
        log = await place.open()
        with pytest.raises(Invalid, match="at event 4: "):
            await log.verify("s")
        await log.close()

    # Which there are

    async def test_sessions_that_were_made_after_one_can_be_listed_alone(self, log: Log) -> None:
        for at, name in enumerate(("c", "ü/..%", "a"), 1):
            await log.create(name, at)
        assert [row.session for row in await log.sessions("c")] == ["ü/..%", "a"]
        assert await log.sessions("a") == []
        assert len(await log.sessions("nobody")) == 3, "nothing is known of one that is not there"

    async def test_a_session_rests_until_something_is_written_to_it(self, log: Log) -> None:
        pen, other = await new_session(log), await new_session(log, "other", 2)
        assert [row.session for row in await log.awake()] == ["s", "other"]
        await pen.write()
        await log.rest("s")
        at_rest = ["other"] if "shared" not in log.lacks else ["s", "other"]
        assert [row.session for row in await log.awake()] == at_rest
        await pen.write()
        row, _ = await log.awake()
        assert row == await log.row("s")
        await log.rest("s")
        await log.rest("other")
        await log.rest("other")
        assert not at_rest[1:] or len(await log.awake()) == 2
        assert at_rest[1:] or await log.awake() == [], "all of them may rest"
        await other.take()
        assert [row.session for row in await log.awake()][-1:] == ["other"]

    async def test_who_was_its_writer_cannot_say_that_it_rests(self, log: Log, place: Home) -> None:
        if "shared" in log.lacks:
            return
        await new_session(log)
        successor = await place.open()
        await Pen(successor, "s").take()
        await log.rest("s")
        assert [row.session for row in await log.awake()] == ["s"]
        await successor.drop("s")
        assert await log.awake() == []
        await successor.close()

    # Opening and closing

    async def test_everything_is_there_after_it_was_closed_and_opened(self, log: Log, place: Home) -> None:
        pen = await new_session(log)
        await pen.write(b"one", archive=[("t", b"entry")])
        await log.snapshot("s", 3, b"state")
        await log.annotate("s", "note")
        await log.close()
        log = await place.open()
        (row,) = await log.sessions()
        assert (row.head, row.note) == (pen.head, "note")
        assert [append.blob for append in await log.read("s")] == [b"one"]
        assert await log.archived("s", ["t"]) == {"t": b"entry"}
        assert await log.latest("s") == (3, b"state")
        again = await Pen(log, "s").take()
        assert again.head == Head(2, 3, pen.head.hash)
        await again.write(b"two")
        assert await log.verify("s") == again.head
        await log.close()

    async def test_a_closed_log_says_so(self, place: Home) -> None:
        log = await place.open()
        pen = await new_session(log)
        await log.close()
        await log.close()
        for call in (pen.write(), log.read("s"), log.acquire("s"), log.sessions(), log.create("t", 1)):
            with pytest.raises(Unavailable, match="closed"):
                await call

    async def test_what_was_asked_before_closing_is_done(self, place: Home) -> None:
        log = await place.open()
        pens = [await new_session(log, f"s{n}") for n in range(5)]
        writes = [asyncio.ensure_future(pen.write(b"last words")) for pen in pens]
        await asyncio.gather(*(asyncio.ensure_future(log.sessions()) for _ in range(2)))
        await log.close()
        assert [head.seq for head in await asyncio.gather(*writes)] == [3] * 5
        log = await place.open()
        assert [row.head.seq for row in await log.sessions()] == [3] * 5
        await log.close()
