"""A relay in virtual time that loses, repeats and delays whatever goes through it, and forgets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from random import Random

from skep.errors import Unavailable
from skep.memory.redis_relay import PATIENCE, THERE
from skep.memory.relay import Heard

#: Entries of a page, and that are kept: few, so that machines miss some often.
PAGE, KEPT = 4, 40


class Switchboard:
    """What the machines of a world share. While `calm` is not set, things go wrong.

    Args:
        dice: say what goes wrong, and when.
    """

    def __init__(self, dice: Random) -> None:
        self.dice, self.calm = dice, False
        self.births = 0
        self.birth, self.last = b"", 0
        self.entries: list[tuple[int, bytes]] = []
        self.board: dict[str, tuple[float, bytes]] = {}
        self.questions: dict[str, list[tuple[str, bytes]]] = {}
        self.answers: dict[str, bytes] = {}
        self.wakes: dict[str, Callable[[], None]] = {}
        #: Whether its stream never was put back to an earlier state.
        self.whole = True

    def unlucky(self, chance: float) -> bool:
        """Whether something goes wrong now."""
        return not self.calm and self.dice.random() < chance

    def forget(self) -> None:
        """All of it is lost."""
        self.birth, self.last, self.entries = b"", 0, []
        self.board.clear()
        self.questions.clear()
        self.answers.clear()

    def put_back(self) -> None:
        """The stream is as it was some entries ago, as after another server took over."""
        self.whole = False
        gone = self.dice.randint(1, 5)
        self.last = max(0, self.last - gone)
        self.entries = [one for one in self.entries if one[0] <= self.last]

    def tell(self, body: bytes) -> tuple[bytes, int]:
        """An entry more; some are lost, some come again after later ones."""
        if not self.birth:
            self.births += 1
            self.birth = b"%d" % self.births
        self.last += 1
        if not self.unlucky(0.1):
            self.entries = [*self.entries, (self.last, body)][-KEPT:]
        if self.unlucky(0.1):
            self.later(self.dice.uniform(0.0, 20.0), lambda: self.tell(body))
        self.wake()
        return self.birth, self.last

    def wake(self) -> None:
        """Wakes everybody; some sleep on."""
        for wake in list(self.wakes.values()):
            if not self.unlucky(0.3):
                self.later(self.dice.uniform(0.0, 0.01), wake)

    def later(self, delay: float, work: Callable[[], object]) -> None:
        """Does something in so many seconds, whoever has died by then."""
        asyncio.get_running_loop().call_later(delay, work, context=Context())


class LossyRelay:
    """The port `Relay` of one machine, which may be cut off.

    Args:
        name: of the machine.
    """

    def __init__(self, name: str, switchboard: Switchboard) -> None:
        self._name, self._there = name, switchboard
        #: Whether nothing gets through.
        self.cut = False
        #: Who was there when it last said something.
        self.others = set[str]()

    async def tell(self, body: bytes) -> tuple[bytes, int]:
        """See `Relay.tell`."""
        await self._way()
        told = self._there.tell(body)
        self._back()
        return told

    async def heard(self, after: int) -> Heard:
        """See `Relay.heard`."""
        await self._way()
        there = self._there
        found = Heard(there.birth, there.last, [one for one in there.entries if one[0] > after][:PAGE])
        self._back()
        return found

    async def post(self, node: str, body: bytes) -> dict[str, bytes]:
        """See `Relay.post`."""
        await self._way()
        now = asyncio.get_running_loop().time()
        self._there.board[node] = now, body
        found = {name: said for name, (at, said) in self._there.board.items() if at > now - THERE / 1000}
        self._back()
        self.others = set(found)
        return found

    async def leave(self, node: str) -> None:
        """See `Relay.leave`."""
        await self._way()
        self._there.board.pop(node, None)

    async def ask(self, node: str, number: str, body: bytes) -> bytes:
        """See `Relay.ask`."""
        await self._way()
        if not self._there.unlucky(0.05):
            self._there.questions.setdefault(node, []).append((number, body))
        self._there.wake()
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < deadline:
            if number in self._there.answers:
                return self._there.answers.pop(number)
            await asyncio.sleep(0.1)  # tidy: sleeps because time is virtual
        raise Unavailable(f"node {node} does not answer")

    async def asked(self, node: str) -> list[tuple[str, bytes]]:
        """See `Relay.asked`."""
        await self._way()
        found = self._there.questions.pop(node, [])
        self._back()
        return found

    async def answer(self, number: str, body: bytes) -> None:
        """See `Relay.answer`."""
        await self._way()
        self._there.answers[number] = body

    async def listen(self, wake: Callable[[], None]) -> Callable[[], Awaitable[None]]:
        """See `Relay.listen`."""
        await self._way()
        self._there.wakes[self._name] = wake

        async def stop() -> None:
            self._there.wakes.pop(self._name, None)

        return stop

    async def close(self) -> None:
        """See `Relay.close`."""

    async def _way(self) -> None:
        """There: it takes a while, and may not get through."""
        await asyncio.sleep(self._there.dice.uniform(0.0, 0.02))  # tidy: sleeps because time is virtual
        self._back()

    def _back(self) -> None:
        """And back: what was asked for may have been done, and nobody hears of it."""
        if self.cut or self._there.unlucky(0.02):
            raise Unavailable("the relay cannot be reached")
