"""The letters of one session as its writer gets them: each once, those that came first first."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import Struct

from skep.core import inputs as inp
from skep.core import invited
from skep.core.senders import node_of
from skep.core.state import State
from skep.errors import Bug, Conflict, Denied, NotFound, SkepError, Unavailable
from skep.runtime import letters
from skep.runtime.letters import Enclosed
from skep.store import Heard, Inbox, Letter, Taken
from skep.store.letters import Unsealed

#: Letters that were taken and are remembered.
REMEMBERED = 20_000
#: Letters of one invited node that the loop has at once: those of others go past what waits of it.
MAX_OF_NODE = 256
#: Wait before the next look when the store did not answer, or there was no room, seconds.
SOON = 0.05

#: Why a letter is not decided that was before, and one of which nobody can tell any more.
AGAIN = Conflict("the letter was decided before", "Find out who writes to this Redis.")
OLD = Unavailable("outcome unknown: the session has moved on too far since", "Repeat the call with the same key; it counts once.")


class Refused(Struct, frozen=True):
    """What a loop gets in place of a letter's inputs when these cannot be decided, so that it takes the letter: why not.

    `counts`: the letter is as good as decided, and its number is used up.
    """

    why: SkepError
    counts: bool = False

    def __call__(self, _: object) -> SkepError:
        """See `Query`."""
        return self.why


Deliver = Callable[[Sequence[tuple[inp.Input | Refused, Enclosed]]], bool]


class Postbox:
    """Brings letters to a loop, and knows which of them it has.

    Args:
        session: whose inbox it is.
        inbox: where it lies.
        deliver: takes the inputs of a letter; False when there is no room for them now.
        broken: hears why no letters will come any more.
        state: the session as it stands: it knows whose letters were decided.
    """

    def __init__(
        self, session: str, inbox: Inbox, deliver: Deliver, broken: Callable[[SkepError], None], state: Callable[[], State]
    ) -> None:
        self._session = session
        self._inbox = inbox
        self._deliver = deliver
        self._broken = broken
        self._state = state
        #: Places of letters that the loop has and the store was not told of yet.
        self._has: set[str] = set()
        #: Places of the letters that it took last: what is pushed late, or twice, is not decided again.
        self._gone: dict[str, None] = {}
        #: The number of the last letter of each sender that the loop has.
        self._brought: dict[str, int] = {}
        #: Letters of each invited node that the loop has.
        self._of_node: Counter[str] = Counter()
        #: Places of letters that the log cannot hold as they are: why, and how often that was tried.
        self._too_large: dict[str, tuple[SkepError, int]] = {}
        #: How often everything was to be brought anew.
        self._anew = 0
        self._look = asyncio.Event()
        self._reading = True
        self._stop: Callable[[], Awaitable[None]] | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begins to listen, and to look into the inbox."""
        self._stop = await self._inbox.listen(self._session, self._hear)
        self._look.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"letters to {self._session}")

    async def close(self) -> None:
        """Brings no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._stop is not None:
            with contextlib.suppress(SkepError):
                await self._stop()

    def look(self) -> None:
        """Letters lie in the inbox: they may be some of which nothing was heard."""
        self._look.set()

    def again(self) -> None:
        """The loop has forgotten what it had: everything that lies in the inbox is brought anew."""
        self._has.clear()
        self._gone.clear()
        self._brought.clear()
        self._of_node.clear()
        self._anew += 1
        self._reading = True
        self._look.set()

    def too_large(self, letter: Letter, why: SkepError) -> None:
        """What a letter alone leads to is more than the log can hold. It is brought again as what the log can."""
        _, tries = self._too_large.get(letter.place, (why, 0))
        self._too_large[letter.place] = (why, tries + 1)

    def taken(self, batch: Sequence[tuple[object, object]], answers: Sequence[Any], seq: int) -> list[Taken]:
        """The letters of a turn, with what their senders are to hear.

        Args:
            batch: the turn's items; those that are no inputs have no answer, but for what is refused.
            answers: to the inputs, in their order.
            seq: the last event that they presuppose.
        """
        found, said, wanted = list[Taken](), iter(answers), list[tuple[int, Any]]()
        for given, whence in batch:
            value = given.why if isinstance(given, Refused) else None if callable(given) else next(said)
            if not isinstance(whence, Enclosed):
                continue
            if whence.wanted:
                wanted.append((whence.index, value))
            if whence.last:
                letter = whence.letter
                body = letters.answer(seq, wanted) if wanted else None
                found.append(Taken(letter.place, letter.sender, letter.number, body))
                wanted = []
        return found

    async def settle(self, epoch: int, taken: Sequence[Taken]) -> None:
        """Has the store take letters that led to no event."""
        await self._inbox.settle(self._session, epoch, taken)

    def gone(self, taken: Sequence[Taken]) -> None:
        """The store has taken them."""
        for one in taken:
            if one.place in self._has:
                self._has.remove(one.place)
                self._of_node[node_of(one.sender)] -= 1
            self._too_large.pop(one.place, None)
            self._gone[one.place] = None
            if self._brought.get(one.sender) == one.number:
                del self._brought[one.sender]
        while len(self._gone) > REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def _hear(self, heard: Heard) -> None:
        # While the inbox is read, and after a gap, what lies there comes in its order.
        if not self._reading and isinstance(heard, Letter):
            if heard.place in self._has or heard.place in self._gone:
                return
            if heard.number == self._last(heard.sender) + 1 and not self._waits(heard) and self._bring(heard):
                return
        self._reading = True
        self._look.set()

    def _waits(self, letter: Letter) -> bool:
        """Whether the loop has as many of an invited node's letters as it takes at once: nobody else is to wait for them."""
        node = node_of(letter.sender)
        return bool(node) and self._of_node[node] >= MAX_OF_NODE and letter.place not in self._has

    def _last(self, sender: str) -> int:
        """The number of this sender's last letter that was brought or decided."""
        return self._brought.get(sender) or self._state().senders.last(sender)

    def _bring(self, letter: Letter) -> bool:
        if letter.place in self._has or letter.place in self._gone:
            return True
        if letter.number <= self._last(letter.sender):
            # Somebody who need not have the key has repeated it: whoever wrote it waits for nothing more.
            return self._refuse(letter, AGAIN, wanted=False)
        try:
            since, items = letters.read(letter)
        except SkepError as error:  # of another version: its sender hears so
            return self._refuse(letter, error)
        state = self._state()
        if since.opened != state.opened or state.senders.too_old(letter.sender, since.seq):
            return self._refuse(letter, OLD)
        if not self._give(letter, [(self._fitting(self._allowed(letter, given), whence), whence) for given, whence in items]):
            return False
        self._brought[letter.sender] = letter.number
        return True

    def _allowed(self, letter: Letter, given: inp.Input) -> inp.Input | Refused:
        """What its sender may say; who has the key of the hive may say everything."""
        try:
            if node := node_of(letter.sender):
                invited.check(self._state(), node, given)
        except Denied as why:
            return Refused(why, counts=True)
        return given

    def _fitting(self, given: inp.Input | Refused, whence: Enclosed) -> inp.Input | Refused:
        """What is decided of an input in a letter that the log cannot hold as it is."""
        why, tries = self._too_large.get(whence.letter.place, (None, 0))
        if why is None or isinstance(given, Refused):
            return given
        return (letters.instead(given, whence.wanted, why) if tries == 1 else None) or Refused(why, counts=True)

    def _refuse(self, letter: Letter, why: SkepError, wanted: bool = True) -> bool:
        return self._give(letter, [(Refused(why), Enclosed(letter, letters.WHOLE, wanted, True))])

    def _give(self, letter: Letter, items: Sequence[tuple[inp.Input | Refused, Enclosed]]) -> bool:
        if not self._deliver(items):
            return False
        self._has.add(letter.place)
        self._of_node[node_of(letter.sender)] += 1
        return True

    async def _run(self) -> None:
        try:
            await self._look_after()
        except SkepError as error:
            self._broken(error)
        except Exception as error:
            self._broken(Bug(f"letters to {self._session}: {type(error).__name__}: {error}", "Please report it."))

    async def _look_after(self) -> None:
        while True:
            await self._look.wait()
            self._look.clear()
            self._reading = True
            if await self._read():
                self._reading = self._look.is_set()
            else:
                self._look.set()
                await asyncio.sleep(SOON)

    async def _read(self) -> bool:
        """Brings what lies there. Whether all of it could be brought."""
        after, late, anew = "", set[str](), self._anew
        with contextlib.suppress(Unavailable):
            while True:
                page: Sequence[Letter]
                try:
                    page = await self._inbox.letters(self._session, after)
                    last = page[-1].place if page else ""
                except Unsealed as error:
                    # Nobody with the key put it there, so nobody waits for it. A person is told (`Live.unread`).
                    page, last = error.sealed, error.last
                except NotFound:  # the session is gone: its loop will hear so itself
                    return True
                if anew != self._anew:  # what comes after what was forgotten would make that old
                    return False
                for letter in page:
                    node = node_of(letter.sender)
                    if node in late or self._waits(letter):
                        late.add(node)  # all that comes after it waits too: it would make this one old
                    elif not self._bring(letter):
                        return False
                if not last:
                    return not late
                after = last
        return False
