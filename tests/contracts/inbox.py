# tidy: long because it is one contract, read from its beginning to its end
"""What every `Inbox` does, with the `Log` beside it. A backend passes when `class TestX(InboxContract): home = XHome` does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from skep.errors import Bug, Conflict, Exhausted, Invalid, NotFound, SkepError, Unavailable
from skep.store import Answer, Append, Heard, Inbox, Letter, Log, Taken, letters
from tests.contracts.log import Pen, fresh_batch, new_session


class Shared(NamedTuple):
    """What one process has of a shared store."""

    log: Log
    inbox: Inbox


class InboxHome(Protocol):
    """A shared store, which any number of processes open. `most` and `unread` bound letters and answers (see `Inbox.put`)."""

    def __init__(self, folder: Path) -> None: ...

    async def open(self, most: int = letters.MAX_LETTERS, unread: int = letters.MAX_ANSWERS) -> Shared: ...

    async def close(self) -> None:
        """Ends all that was opened."""


def take(letter: Letter, answer: bytes | None = b"answer") -> Taken:
    """The letter, decided."""
    return Taken(letter.place, letter.sender, letter.number, answer)


async def fill(inbox: Inbox, *bodies: bytes, sender: str = "a", first: int = 1, session: str = "s") -> list[Letter]:
    """Puts letters; returns all that are in the inbox."""
    for number, body in enumerate(bodies, start=first):
        await inbox.put(session, sender, number, body)
    return await inbox.letters(session)


async def decide(pen: Pen, *taken: Taken) -> None:
    """Appends events that decide letters."""
    head = pen.head
    pen.head = await pen.log.append(pen.session, head.epoch, head.seq, fresh_batch(), 1, b"decided", taken=taken)


class Ear:
    """A listener that keeps what it heard."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self._more = asyncio.Event()

    def hear(self, heard: Heard) -> None:
        self.heard.append(heard)
        self._more.set()

    async def until(self, enough: Callable[[list[Heard]], bool]) -> list[Heard]:
        """Waits until it has heard enough."""
        async with asyncio.timeout(30):
            while not enough(self.heard):
                self._more.clear()
                await self._more.wait()
        return self.heard

    async def many(self, count: int) -> list[Heard]:
        """Waits until it has heard so many."""
        return await self.until(lambda heard: len(heard) >= count)


def bodies(found: Sequence[Letter | Answer]) -> list[bytes]:
    return [one.body for one in found]


class InboxContract:
    """Subclass it with `home`."""

    home: type[InboxHome]

    @pytest.fixture
    async def place(self, tmp_path: Path) -> AsyncIterator[InboxHome]:
        home = self.home(tmp_path / "home")
        yield home
        await home.close()

    @pytest.fixture
    async def log(self, place: InboxHome) -> Log:
        return (await place.open()).log

    @pytest.fixture
    async def inbox(self, place: InboxHome) -> Inbox:
        """Of another process than the log."""
        return (await place.open()).inbox

    @pytest.fixture
    async def pen(self, log: Log) -> Pen:
        return await new_session(log)

    # Putting

    @pytest.mark.parametrize("body", [b"", b"text", bytes(range(256)) * 4, b"\0" * 200_000])
    async def test_a_letter_is_found_as_it_was_put(self, pen: Pen, inbox: Inbox, place: InboxHome, body: bytes) -> None:
        await inbox.put("s", "sender-ü/{1}%", 1, body)
        (letter,) = await (await place.open()).inbox.letters("s")
        assert (letter.sender, letter.number, letter.body) == ("sender-ü/{1}%", 1, body)
        assert letter.place

    async def test_it_says_in_which_inboxes_letters_lie(self, pen: Pen, log: Log, inbox: Inbox) -> None:
        other = await new_session(log, "other")
        assert await inbox.waiting([]) == set()
        (letter,) = await fill(inbox, b"text")
        assert await inbox.waiting(["s", "other", "nobody's"]) == {"s"}
        await fill(inbox, b"text", session="other")
        await inbox.settle("s", pen.head.epoch, [take(letter)])
        assert await inbox.waiting(["s", "other"]) == {other.session}

    async def test_letters_lie_in_the_order_in_which_they_came(self, pen: Pen, inbox: Inbox) -> None:
        for number in range(1, 13):
            for sender in ("b", "a"):
                await inbox.put("s", sender, number, b"%s%d" % (sender.encode(), number))
        found = await inbox.letters("s")
        assert bodies(found) == [b"%s%d" % (sender, number) for number in range(1, 13) for sender in (b"b", b"a")]
        assert len({letter.place for letter in found}) == 24

    async def test_letters_are_read_page_by_page_also_behind_one_that_was_taken(self, pen: Pen, inbox: Inbox) -> None:
        found = await fill(inbox, *(b"%d" % n for n in range(25)))
        paged: list[Letter] = []
        while page := await inbox.letters("s", after=paged[-1].place if paged else "", limit=10):
            assert len(page) <= 10
            paged += page
        assert paged == found
        await decide(pen, take(found[11]))
        assert await inbox.letters("s", after=found[11].place) == found[12:]
        assert await inbox.letters("s", after=found[-1].place) == []

    async def test_a_letter_is_put_once_however_often_it_is_repeated(self, pen: Pen, place: InboxHome) -> None:
        one, other = (await place.open()).inbox, (await place.open()).inbox
        for inbox in (one, other, one):
            await inbox.put("s", "a", 1, b"once")
        (letter,) = await one.letters("s")
        await decide(pen, take(letter))
        for inbox in (one, other):
            await inbox.put("s", "a", 1, b"once")
        assert await one.letters("s") == []
        assert await one.answers("s", "a") == [Answer(1, b"answer")]
        assert bodies(await fill(one, b"next", first=2)) == [b"next"]

    async def test_a_letter_is_put_once_however_often_it_is_put_at_once(self, pen: Pen, place: InboxHome) -> None:
        inboxes = [(await place.open()).inbox for _ in range(3)]
        await asyncio.gather(*(inbox.put("s", "a", 1, b"once") for _ in range(10) for inbox in inboxes))
        assert bodies(await inboxes[0].letters("s")) == [b"once"]

    async def test_letters_that_are_put_at_once_lie_in_order_and_each_once(self, pen: Pen, place: InboxHome) -> None:
        inboxes = {sender: (await place.open()).inbox for sender in "abc"}
        await asyncio.gather(*(inbox.put("s", sender, n, b"%d" % n) for n in range(1, 101) for sender, inbox in inboxes.items()))
        found = await inboxes["a"].letters("s")
        assert len(found) == 300
        for sender in "abc":
            assert [letter.number for letter in found if letter.sender == sender] == list(range(1, 101))

    async def test_a_letter_before_which_one_is_missing_waits_for_it(self, pen: Pen, inbox: Inbox) -> None:
        for number in (2, 3):
            with pytest.raises(Unavailable, match="before its letter 1"):
                await inbox.put("s", "a", number, b"early")
        assert await inbox.letters("s") == []
        assert bodies(await fill(inbox, b"one", b"two")) == [b"one", b"two"]
        with pytest.raises(Unavailable, match="letter 5 of a came before its letter 3"):
            await inbox.put("s", "a", 5, b"early")

    async def test_each_sender_counts_for_itself_in_each_session(self, pen: Pen, log: Log, inbox: Inbox) -> None:
        await new_session(log, "t", 2)
        for session in ("s", "t"):
            for sender in ("a", "b"):
                await inbox.put(session, sender, 1, f"{session}{sender}".encode())
        assert bodies(await inbox.letters("s")) == [b"sa", b"sb"]
        assert bodies(await inbox.letters("t")) == [b"ta", b"tb"]

    @pytest.mark.parametrize(
        "call",
        [
            lambda inbox: inbox.put("no", "a", 1, b""),
            lambda inbox: inbox.letters("no"),
            lambda inbox: inbox.settle("no", 1, []),
            lambda inbox: inbox.answers("no", "a"),
        ],
    )
    async def test_a_session_that_was_never_created_is_not_found(
        self, pen: Pen, inbox: Inbox, call: Callable[[Inbox], Awaitable[object]]
    ) -> None:
        with pytest.raises(NotFound, match="no session no"):
            await call(inbox)
        await inbox.forget("no", "a")

    @pytest.mark.parametrize(("sender", "number"), [("", 1), ("x" * 201, 1), ("a\nb", 1), ("a", 0), ("a", -1)])
    async def test_what_no_letter_can_have_is_refused(self, pen: Pen, inbox: Inbox, sender: str, number: int) -> None:
        with pytest.raises(Invalid):
            await inbox.put("s", sender, number, b"body")
        assert await inbox.letters("s") == []

    # Taking

    async def test_letters_leave_in_the_append_that_decides_them_and_answers_are_left(self, pen: Pen, inbox: Inbox) -> None:
        one, two, three = await fill(inbox, b"one", b"two", b"three")
        await decide(pen, take(one, b"yes"), take(three, None))
        assert await inbox.letters("s") == [two]
        assert await inbox.answers("s", "a") == [Answer(1, b"yes")]
        assert [append.blob for append in await pen.log.read("s")] == [b"decided"]

    async def test_an_append_that_is_refused_leaves_the_letters_and_no_answers(self, pen: Pen, log: Log, inbox: Inbox) -> None:
        found = await fill(inbox, b"one", b"two")
        taken = [take(letter) for letter in found]
        await pen.write()
        head = pen.head
        for epoch, seq in ((head.epoch - 1, head.seq), (head.epoch + 1, head.seq), (head.epoch, head.seq - 1)):
            with pytest.raises(Conflict):
                await log.append("s", epoch, seq, fresh_batch(), 1, b"refused", taken=taken)
        with pytest.raises(Invalid):
            await log.append("s", head.epoch, head.seq, fresh_batch(), 0, b"refused", taken=taken)
        assert await inbox.letters("s") == found
        assert await inbox.answers("s", "a") == []
        await decide(pen, *taken)
        assert await inbox.letters("s") == []

    async def test_who_was_taken_over_takes_nothing(self, pen: Pen, log: Log, inbox: Inbox) -> None:
        (letter,) = await fill(inbox, b"one")
        heir = await Pen(log, "s").take()
        with pytest.raises(Conflict, match="another owner"):
            await decide(pen, take(letter, b"from the old one"))
        with pytest.raises(Conflict, match="another owner"):
            await inbox.settle("s", pen.head.epoch, [take(letter, b"from the old one")])
        await decide(heir, take(letter, b"from the new one"))
        assert await inbox.answers("s", "a") == [Answer(1, b"from the new one")]

    async def test_an_append_whose_answer_was_lost_takes_once(self, pen: Pen, log: Log, inbox: Inbox) -> None:
        (letter,) = await fill(inbox, b"one")
        batch, head = fresh_batch(), pen.head
        for _ in range(2):
            again = await log.append("s", head.epoch, head.seq, batch, 1, b"decided", taken=[take(letter)])
        assert again.seq == 1
        assert await inbox.answers("s", "a") == [Answer(1, b"answer")]
        assert await inbox.answers("s", "a", after=1) == []
        await log.append("s", head.epoch, head.seq, batch, 1, b"decided", taken=[take(letter)])
        assert await inbox.answers("s", "a") == []

    async def test_what_was_decided_before_is_not_decided_again(self, pen: Pen, inbox: Inbox) -> None:
        one, two = await fill(inbox, b"one", b"two")
        await decide(pen, take(one))
        known = pen.head
        with pytest.raises(Conflict, match="decided before"):
            await decide(pen, take(two, b"no"), take(one, b"no"))
        assert await pen.log.verify("s") == known
        assert await inbox.letters("s") == [two]
        assert await inbox.answers("s", "a") == [Answer(1, b"answer")]
        with pytest.raises(Bug, match="taken twice"):
            await decide(pen, take(two), take(two))
        await decide(pen, take(two))
        assert (await pen.log.verify("s")).seq == known.seq + 1

    async def test_letters_that_led_to_nothing_are_settled_and_settling_again_changes_nothing(
        self, pen: Pen, inbox: Inbox
    ) -> None:
        one, two, three = await fill(inbox, b"one", b"two", b"three")
        for _ in range(2):
            await inbox.settle("s", pen.head.epoch, [take(one, b"no"), take(two, None)])
        assert await inbox.letters("s") == [three]
        assert await inbox.answers("s", "a") == [Answer(1, b"no")]
        assert await inbox.answers("s", "a", after=1) == []
        await inbox.settle("s", pen.head.epoch, [take(one, b"again"), take(three)])
        assert await inbox.answers("s", "a") == [Answer(3, b"answer")]
        assert await pen.log.verify("s") == pen.head

    async def test_nobody_settles_who_has_not_acquired_the_session(self, log: Log, inbox: Inbox) -> None:
        await log.create("s", 1)
        (letter,) = await fill(inbox, b"one")
        for epoch in (0, 1):
            with pytest.raises(Conflict):
                await inbox.settle("s", epoch, [take(letter)])
        assert await inbox.letters("s") == [letter]

    async def test_letters_that_come_while_others_are_taken_are_each_decided_once(self, pen: Pen, place: InboxHome) -> None:
        senders = {name: (await place.open()).inbox for name in ("a", "b", "c")}
        reader = (await place.open()).inbox

        async def write(name: str, inbox: Inbox) -> None:
            for number in range(1, 31):
                await asyncio.gather(*(inbox.put("s", name, number, b"%d" % number) for _ in range(2)))

        writing = asyncio.gather(*(write(name, inbox) for name, inbox in senders.items()))
        decided: list[Letter] = []
        while len(decided) < 90:
            if page := await reader.letters("s", limit=7):
                await decide(pen, *(take(letter, letter.body) for letter in page))
                decided += page
            await asyncio.sleep(0)
        await writing
        assert await reader.letters("s") == []
        assert len({(letter.sender, letter.number) for letter in decided}) == 90
        for name in senders:
            assert await reader.answers("s", name) == [Answer(n, b"%d" % n) for n in range(1, 31)]

    # Answers

    async def test_answers_are_kept_until_they_are_read_past(self, pen: Pen, inbox: Inbox, place: InboxHome) -> None:
        found = await fill(inbox, *(b"%d" % n for n in range(1, 6)))
        await decide(pen, *(take(letter, b"to " + letter.body) for letter in found))
        for _ in range(2):
            assert bodies(await inbox.answers("s", "a")) == [b"to 1", b"to 2", b"to 3", b"to 4", b"to 5"]
        assert bodies(await inbox.answers("s", "a", after=2, limit=2)) == [b"to 3", b"to 4"]
        assert bodies(await (await place.open()).inbox.answers("s", "a")) == [b"to 3", b"to 4", b"to 5"]
        assert await inbox.answers("s", "a", after=9) == []
        assert await inbox.answers("s", "a") == []

    async def test_answers_come_by_number_in_whatever_order_they_were_left(self, pen: Pen, inbox: Inbox) -> None:
        found = await fill(inbox, *(b"%d" % n for n in range(1, 13)))
        for letter in (found[10], found[1], *found[3:5]):
            await decide(pen, take(letter, b"to " + letter.body))
        assert await inbox.answers("s", "a") == [Answer(n, b"to %d" % n) for n in (2, 4, 5, 11)]
        assert await inbox.answers("s", "a", after=4) == [Answer(n, b"to %d" % n) for n in (5, 11)]
        await decide(pen, take(found[0], b"late"))
        assert await inbox.answers("s", "a", after=0) == [Answer(n, b) for n, b in ((1, b"late"), (5, b"to 5"), (11, b"to 11"))]

    async def test_each_sender_finds_its_own_answers(self, pen: Pen, inbox: Inbox) -> None:
        await fill(inbox, b"one", sender="a")
        found = await fill(inbox, b"one", sender="b")
        await decide(pen, *(take(letter, b"to " + letter.sender.encode()) for letter in found))
        assert await inbox.answers("s", "a", after=1) == []
        assert await inbox.answers("s", "b") == [Answer(1, b"to b")]
        assert await inbox.answers("s", "c") == []

    # Bounds

    async def test_the_size_of_a_letter_is_bounded_and_its_number_is_free_again(self, pen: Pen, inbox: Inbox) -> None:
        with pytest.raises(Exhausted, match="at most"):
            await inbox.put("s", "a", 1, bytes(letters.LARGEST_LETTER + 1))
        assert await inbox.letters("s") == []
        (letter,) = await fill(inbox, bytes(letters.LARGEST_LETTER))
        assert len(letter.body) == letters.LARGEST_LETTER

    async def test_the_size_of_an_answer_is_bounded(self, pen: Pen, inbox: Inbox) -> None:
        one, two = await fill(inbox, b"one", b"two")
        large = bytes(letters.LARGEST_LETTER)
        for call in (decide(pen, take(one, large + b"!")), inbox.settle("s", pen.head.epoch, [take(one, large + b"!")])):
            with pytest.raises(Exhausted, match="at most"):
                await call
        assert await inbox.letters("s") == [one, two]
        assert await pen.log.verify("s") == pen.head
        await decide(pen, take(one, large))
        await inbox.settle("s", pen.head.epoch, [take(two, large)])
        assert await inbox.answers("s", "a") == [Answer(1, large), Answer(2, large)]

    async def test_an_inbox_holds_so_many_letters(self, pen: Pen, place: InboxHome) -> None:
        inbox = (await place.open(most=3)).inbox
        found = await fill(inbox, b"one", b"two", b"three")
        for sender, number in (("a", 4), ("b", 1)):
            with pytest.raises(Exhausted, match="inbox of session s holds 3 letters"):
                await inbox.put("s", sender, number, b"too many")
        await inbox.put("s", "a", 3, b"three")
        assert await inbox.letters("s") == found
        await decide(pen, take(found[0]))
        assert bodies(await fill(inbox, b"four", first=4)) == [b"two", b"three", b"four"]

    async def test_of_letters_put_at_once_into_an_inbox_that_fills_up_those_that_fit_lie_there(
        self, pen: Pen, place: InboxHome
    ) -> None:
        inbox = (await place.open(most=3)).inbox
        ended = await asyncio.gather(*(inbox.put("s", "a", n, b"%d" % n) for n in range(1, 7)), return_exceptions=True)
        assert ended[:3] == [None] * 3
        assert isinstance(ended[3], Exhausted)
        assert all(isinstance(error, Exhausted | Unavailable) for error in ended[4:])
        assert bodies(await inbox.letters("s")) == [b"1", b"2", b"3"]

    async def test_who_does_not_read_answers_can_put_no_more(self, pen: Pen, place: InboxHome) -> None:
        inbox = (await place.open(unread=2)).inbox
        found = await fill(inbox, b"one", b"two", b"three")
        await decide(pen, *(take(letter) for letter in found[:2]))
        with pytest.raises(Exhausted, match="2 answers that a has not read"):
            await inbox.put("s", "a", 4, b"four")
        await fill(inbox, b"another", sender="b")
        await inbox.answers("s", "a", after=1)
        assert bodies(await fill(inbox, b"four", first=4)) == [b"three", b"another", b"four"]

    # Going

    async def test_a_sender_that_is_forgotten_leaves_nothing_and_gets_nothing(self, pen: Pen, inbox: Inbox) -> None:
        one, two = await fill(inbox, b"one", b"two")
        (*_, other) = await fill(inbox, b"one", sender="b")
        await decide(pen, take(one))
        for _ in range(2):
            await inbox.forget("s", "a")
        assert await inbox.answers("s", "a") == []
        assert await inbox.letters("s") == [two, other]
        await decide(pen, take(two), take(other))
        assert await inbox.answers("s", "a") == []
        assert await inbox.answers("s", "b") == [Answer(1, b"answer")]
        with pytest.raises(Unavailable, match="before its letter 1"):
            await inbox.put("s", "a", 3, b"three")
        assert bodies(await fill(inbox, b"anew")) == [b"anew"]

    async def test_a_session_is_not_dropped_as_ended_while_a_letter_waits(self, pen: Pen, log: Log, inbox: Inbox) -> None:
        (letter,) = await fill(inbox, b"wait")
        with pytest.raises(Conflict, match="goes on"):
            await log.drop("s", pen.head)
        await decide(pen, take(letter))
        await log.drop("s", pen.head)
        assert await log.sessions() == []

    async def test_a_dropped_session_takes_its_inbox_along(self, pen: Pen, log: Log, inbox: Inbox) -> None:
        found = await fill(inbox, b"one", b"two")
        await decide(pen, take(found[0]))
        await log.drop("s")
        with pytest.raises(NotFound):
            await inbox.put("s", "a", 3, b"three")
        await new_session(log)
        assert await inbox.letters("s") == []
        assert await inbox.answers("s", "a") == []
        assert bodies(await fill(inbox, b"anew")) == [b"anew"]

    async def test_letters_and_answers_outlive_those_who_put_them(self, pen: Pen, inbox: Inbox, place: InboxHome) -> None:
        one, two = await fill(inbox, b"one", b"two")
        await decide(pen, take(one))
        await place.close()
        log, again = await place.open()
        assert await again.letters("s") == [two]
        assert await again.answers("s", "a") == [Answer(1, b"answer")]
        await again.put("s", "a", 2, b"two")
        await decide(await Pen(log, "s").take(), take(two))
        assert await again.letters("s") == []

    async def test_who_acquired_the_session_last_is_told(self, pen: Pen, log: Log) -> None:
        for owner in ("one", "ü/{2}"):
            await log.acquire("s", owner)
            assert [row.owner for row in await log.sessions()] == [owner]
        with pytest.raises(Conflict):
            await log.acquire("s", "three", after=1)
        assert [row.owner for row in await log.sessions()] == ["ü/{2}"]

    # Listening

    async def test_letters_are_heard_by_all_who_listen_to_them(self, pen: Pen, inbox: Inbox, place: InboxHome) -> None:
        ears = [Ear() for _ in range(3)]
        listening = [inbox, inbox, (await place.open()).inbox]
        stops = [await there.listen("s", ear.hear) for there, ear in zip(listening, ears, strict=True)]
        found = await fill(inbox, b"one", b"", b"three")
        await inbox.put("s", "a", 3, b"three")
        for ear in ears:
            assert await ear.many(3) == found
        await decide(pen, take(found[0]))
        await fill(inbox, b"four", first=4)
        for ear in ears:
            assert bodies([one for one in await ear.many(4) if isinstance(one, Letter)]) == [b"one", b"", b"three", b"four"]
        for stop in stops:
            await stop()

    async def test_appends_and_answers_are_heard_by_the_sender(self, pen: Pen, inbox: Inbox, place: InboxHome) -> None:
        a, b = Ear(), Ear()
        stops = [await inbox.listen("s", a.hear, "a"), await (await place.open()).inbox.listen("s", b.hear, "b")]
        one, two = await fill(inbox, b"one", b"two")
        await decide(pen, take(one, b"to one"))
        await inbox.settle("s", pen.head.epoch, [take(two, b"to two")])
        await pen.write(b"last")
        first, last = await pen.log.read("s")
        assert await b.many(2) == [first, last]
        heard = await a.many(4)
        assert [append for append in heard if isinstance(append, Append)] == [first, last]
        assert [answer for answer in heard if isinstance(answer, Answer)] == [Answer(1, b"to one"), Answer(2, b"to two")]
        assert len(heard) == 4
        for stop in stops:
            await stop()

    async def test_what_is_too_large_to_be_told_makes_the_listener_look(self, pen: Pen, inbox: Inbox) -> None:
        reader, sender = Ear(), Ear()
        stops = [await inbox.listen("s", reader.hear), await inbox.listen("s", sender.hear, "a")]
        large = bytes(letters.LARGEST_LETTER)
        (letter,) = await fill(inbox, large)
        assert (await reader.many(1))[0] in (letter, None)
        await inbox.settle("s", pen.head.epoch, [take(letter, large)])
        assert (await sender.many(1))[0] in (Answer(1, large), None)
        await pen.write(large)
        (append,) = await pen.log.read("s")
        assert (await sender.many(2))[1] in (append, None)
        for stop in stops:
            await stop()

    async def test_who_stopped_listening_hears_nothing(self, pen: Pen, inbox: Inbox) -> None:
        gone, there = Ear(), Ear()
        stops = [await inbox.listen("s", ear.hear) for ear in (gone, there)]
        await inbox.put("s", "a", 1, b"one")
        await there.many(1)
        await gone.many(1)
        await inbox.put("s", "a", 2, b"two")
        await stops[0]()
        await stops[0]()
        heard = len(gone.heard)
        await inbox.put("s", "a", 3, b"three")
        await there.many(3)
        await stops[1]()
        again = Ear()
        stop = await inbox.listen("s", again.hear)
        await inbox.put("s", "a", 4, b"four")
        await again.many(1)
        await stop()
        assert [len(ear.heard) for ear in (gone, there, again)] == [heard, 3, 1]

    async def test_listeners_hear_of_their_own_session(self, pen: Pen, log: Log, inbox: Inbox) -> None:
        ears = {"s": Ear(), "t": Ear(), "not yet": Ear()}
        stops = [await inbox.listen(session, ear.hear) for session, ear in ears.items()]
        for session in ("t", "not yet"):
            await new_session(log, session, 2)
        for session, ear in ears.items():
            await fill(inbox, session.encode(), session=session)
            await ear.many(1)
        assert [bodies([one for one in ear.heard if isinstance(one, Letter)]) for ear in ears.values()] == [
            [b"s"],
            [b"t"],
            [b"not yet"],
        ]
        for stop in stops:
            await stop()

    async def test_what_is_refused_is_not_heard(self, pen: Pen, inbox: Inbox) -> None:
        reader, sender = Ear(), Ear()
        stops = [await inbox.listen("s", reader.hear), await inbox.listen("s", sender.hear, "a")]
        (letter,) = await fill(inbox, b"one")
        refused: list[Awaitable[object]] = [
            inbox.put("s", "a", 3, b"early"),
            inbox.put("s", "a", 2, bytes(letters.LARGEST_LETTER + 1)),
            pen.log.append("s", 9, 0, fresh_batch(), 1, b"refused", taken=[take(letter)]),
            inbox.settle("s", 9, [take(letter)]),
        ]
        for call in refused:
            with pytest.raises(SkepError):
                await call
        await inbox.put("s", "a", 2, b"two")
        await decide(pen, take(letter))
        assert bodies([one for one in await reader.many(2) if isinstance(one, Letter)]) == [b"one", b"two"]
        append, answer = await sender.many(2)
        assert isinstance(append, Append)
        assert answer == Answer(1, b"answer")
        for stop in stops:
            await stop()
