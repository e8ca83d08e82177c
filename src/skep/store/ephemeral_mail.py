"""What lies in the inbox of one session in memory, and who listens there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct, field

from skep.store import Answer, Append, Heard, Letter, Taken, letters


class EphemeralMail(Struct):
    """The letters of a session by place, oldest first; how many each sender put; the answers that are left, by number."""

    inbox: dict[str, Letter] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    answers: dict[str, dict[int, bytes]] = field(default_factory=dict)
    places: int = 0

    def put(self, sender: str, number: int, body: bytes) -> Letter:
        """The letter, laid behind all others."""
        self.places += 1
        letter = Letter(f"{self.places:016}", sender, number, body)
        self.inbox[letter.place] = letter
        self.counts[sender] = number
        return letter

    def check(self, session: str, taken: Sequence[Taken]) -> None:
        """Raises Conflict unless all of `taken` are in the inbox."""
        for one in taken:
            if one.place not in self.inbox:
                raise letters.gone(session, one.place)

    def take(self, taken: Sequence[Taken]) -> Iterator[tuple[str, Answer]]:
        """Removes letters and leaves their answers; tells each answer that was left, and for whom."""
        for one in taken:
            there = self.inbox.pop(one.place, None)
            if there is not None and one.answer is not None and one.sender in self.counts:
                self.answers.setdefault(one.sender, {})[one.number] = one.answer
                yield one.sender, Answer(one.number, one.answer)


class Ears:
    """Whoever listens to sessions in memory."""

    def __init__(self) -> None:
        self._ears: dict[str, list[Ear]] = {}

    def add(self, session: str, hear: Callable[[Heard], None], sender: str) -> Ear:
        """One more listener, on the event loop that runs now."""
        ear = Ear(asyncio.get_running_loop(), hear, sender)
        self._ears.setdefault(session, []).append(ear)
        return ear

    def remove(self, session: str, ear: Ear) -> None:
        """It hears nothing any more, not even what was told already."""
        ear.open = False
        there = self._ears.get(session, [])
        if ear in there:
            there.remove(ear)
        if not there:
            self._ears.pop(session, None)

    def letter(self, session: str, letter: Letter) -> None:
        """Tells who listens to letters."""
        for ear in self._ears.get(session, ()):
            if not ear.sender:
                ear.tell(letter)

    def append(self, session: str, append: Append) -> None:
        """Tells who listens to appends."""
        for ear in self._ears.get(session, ()):
            if ear.sender:
                ear.tell(append)

    def answer(self, session: str, sender: str, answer: Answer) -> None:
        """Tells the sender that the answer is for."""
        for ear in self._ears.get(session, ()):
            if ear.sender == sender:
                ear.tell(answer)


class Ear:
    """One listener; told in the next round of its event loop, so that nobody is called from within a call of theirs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, hear: Callable[[Heard], None], sender: str) -> None:
        self.sender = sender
        self.open = True
        self._loop = loop
        self._hear = hear

    def tell(self, heard: Heard) -> None:
        """Soon it hears this, unless it has stopped by then."""
        self._loop.call_soon(self._told, heard)

    def _told(self, heard: Heard) -> None:
        if self.open:
            self._hear(heard)
