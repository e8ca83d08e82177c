"""How letters come to a loop: those of one node do not keep others from being heard."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from skep.core import inputs as inp
from skep.core.senders import Since
from skep.core.state import State
from skep.errors import SkepError
from skep.runtime import letters, postbox
from skep.runtime.letters import Enclosed
from skep.runtime.postbox import Postbox, Refused
from skep.store import Letter, Taken
from skep.store.ephemeral import EphemeralDisk, EphemeralLog
from skep.store.ephemeral_shared import EphemeralInbox


class Paged(EphemeralInbox):
    """Gives two letters at a time; `before` says what happens before a page is there."""

    before: Callable[[str], None] = staticmethod(lambda after: None)

    async def letters(self, session: str, after: str = "", limit: int = 2) -> list[Letter]:
        page = await super().letters(session, after, limit)
        self.before(after)
        return page


class Loop:
    """Takes letters, and decides none before the test says so."""

    def __init__(self, inbox: EphemeralInbox) -> None:
        self.box = Postbox("s", inbox, self.take, self.broken, State)
        self.inbox = inbox
        self.has: list[Enclosed] = []
        self.refused: list[Refused] = []

    def take(self, items: Sequence[tuple[inp.Input | Refused, Enclosed]]) -> bool:
        self.refused += [given for given, _ in items if isinstance(given, Refused)]
        self.has += [whence for _, whence in items]
        return True

    def broken(self, error: SkepError) -> None:
        raise error

    async def decide(self, epoch: int) -> None:
        """All that it has."""
        decided, self.has = self.has, []
        taken = [Taken(one.letter.place, one.letter.sender, one.letter.number, None) for one in decided]
        await self.inbox.settle("s", epoch, taken)
        self.box.gone(taken)

    def numbers(self, sender: str) -> list[int]:
        return [one.letter.number for one in self.has if one.letter.sender == sender]


async def test_a_node_that_writes_many_letters_lets_those_of_others_pass() -> None:
    disk, most = EphemeralDisk(), postbox.MAX_OF_NODE
    log, inbox = EphemeralLog(disk), EphemeralInbox(disk)
    await log.create("s", 1)
    epoch = (await log.acquire("s")).epoch
    body = letters.write([letters.enclose(inp.LoseNode(at=0, node="east", why="?"), False)], Since(0, 0))
    for number in range(1, most + 11):
        await inbox.put("s", "east/a", number, body)
    await inbox.put("s", "east/b", 1, body)
    await inbox.put("s", "boss", 1, body)
    loop = Loop(inbox)
    assert not await loop.box._read(), "some wait"
    assert (loop.numbers("boss"), loop.numbers("east/b")) == ([1], [])
    assert loop.numbers("east/a") == list(range(1, most + 1))
    assert not await loop.box._read()
    assert len(loop.has) == most + 1, "nothing comes twice"
    await loop.decide(epoch)
    assert await loop.box._read()
    assert (loop.numbers("east/a"), loop.numbers("east/b")) == (list(range(most + 1, most + 11)), [1])
    await loop.decide(epoch)
    assert await inbox.letters("s") == []


async def test_what_is_forgotten_while_the_inbox_is_read_is_brought_before_what_came_after_it() -> None:
    disk = EphemeralDisk()
    log, inbox = EphemeralLog(disk), Paged(disk)
    await log.create("s", 1)
    body = letters.write([letters.enclose(inp.LoseNode(at=0, node="east", why="?"), False)], Since(0, 0))
    for number in range(1, 5):
        await inbox.put("s", "boss", number, body)
    loop = Loop(inbox)

    def forget(after: str) -> None:
        if after and loop.has:
            inbox.before = lambda after: None
            loop.has.clear()
            loop.box.again()

    inbox.before = forget
    while not await loop.box._read():
        pass
    assert (loop.numbers("boss"), loop.refused) == ([1, 2, 3, 4], [])
