"""The port `Relay` over a Redis: a stream that is bounded in bytes, a board, and lists of questions. All have one hash tag."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

import msgspec

from skep.errors import Unavailable
from skep.memory.redis import load
from skep.memory.relay import Heard
from skep.redis.connect import Link
from skep.redis.listen import Channels

#: Where each node hears that there is something new.
CHANNEL = "skep:memory:updates"
#: Bytes that the stream holds at most. Who was away for longer compares with the others.
BOUND = 32 * 2**20
#: Entries that are read at once.
PAGE = 32
#: For how long a node is there after it said something, and remembered, ms.
THERE, REMEMBERED = 20_000, 86_400_000
#: Questions that wait for one node, and for how long they and answers are kept, s.
WAITING, KEPT = 1_000, 60
#: Seconds until an answer has to be there; between two looks for it, at first and at most.
PATIENCE, LOOK, LONGEST = 10.0, 0.01, 0.2
_HEAD, _STREAM, _TIMES, _BOARD = (f"skep:memory:{{relay}}:{part}" for part in ("head", "stream", "times", "board"))
_decode = msgspec.msgpack.Decoder(tuple[str, bytes]).decode


class RedisRelay:
    """See the module.

    Args:
        link: the way to it; it ends with the relay.
        bound: bytes of the stream.
        patience: seconds until an answer has to be there.
    """

    def __init__(self, link: Link, bound: int = BOUND, patience: float = PATIENCE) -> None:
        self._link, self._channels = link, Channels(link)
        self._bound, self._patience = bound, patience

    async def tell(self, body: bytes) -> tuple[bytes, int]:
        """See `Relay.tell`."""
        args = [body, secrets.token_hex(8), self._bound, CHANNEL]
        birth, number = (await self._link.run(load("tell"), [_HEAD, _STREAM], args))[0]
        return birth, int(number)

    async def heard(self, after: int) -> Heard:
        """See `Relay.heard`."""
        birth, last, rows = (await self._link.run(load("heard"), [_HEAD, _STREAM], [after, PAGE]))[0]
        return Heard(birth, int(last), [(int(place.partition(b"-")[0]), fields[1]) for place, fields in rows])

    async def post(self, node: str, body: bytes) -> dict[str, bytes]:
        """See `Relay.post`."""
        found = (await self._link.run(load("post"), [_TIMES, _BOARD], [node, body, THERE, REMEMBERED]))[0]
        return {found[at].decode(errors="replace"): found[at + 1] for at in range(0, len(found), 2)}

    async def leave(self, node: str) -> None:
        """See `Relay.leave`."""
        await self._link.batch(_TIMES, [("ZREM", _TIMES, node), ("HDEL", _BOARD, node)])

    async def ask(self, node: str, number: str, body: bytes) -> bytes:
        """See `Relay.ask`."""
        asked, answered = _asked(node), _answered(number)
        question = msgspec.msgpack.encode((number, body))
        lines = [("RPUSH", asked, question), ("LTRIM", asked, -WAITING, -1), ("EXPIRE", asked, KEPT)]
        await self._link.batch(asked, [*lines, ("PUBLISH", CHANNEL, "asked")])
        pause, deadline = LOOK, asyncio.get_running_loop().time() + self._patience
        while asyncio.get_running_loop().time() < deadline:
            found: bytes | None = await self._link.call("GET", answered)
            if found is not None:
                await self._link.call("UNLINK", answered)
                return found
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST)
        raise Unavailable(f"node {node} does not answer what it was asked of its memory", fix="Look whether it runs.")

    async def asked(self, node: str) -> list[tuple[str, bytes]]:
        """See `Relay.asked`. What has another shape is nobody's question."""
        found = await self._link.call("LPOP", _asked(node), WAITING) or []
        questions: list[tuple[str, bytes]] = []
        for one in found:
            try:
                questions.append(_decode(one))
            except msgspec.MsgspecError:  # no hive wrote that
                continue
        return questions

    async def answer(self, number: str, body: bytes) -> None:
        """See `Relay.answer`."""
        await self._link.call("SET", _answered(number), body, "EX", KEPT)

    async def listen(self, wake: Callable[[], None]) -> Callable[[], Awaitable[None]]:
        """See `Relay.listen`."""
        return await self._channels.listen(CHANNEL, lambda said: wake())

    async def close(self) -> None:
        """See `Relay.close`."""
        await self._channels.close()
        await self._link.close()


def _asked(node: str) -> str:
    return f"skep:memory:{{relay}}:asked:{node}"


def _answered(number: str) -> str:
    return f"skep:memory:{{relay}}:answer:{number}"
