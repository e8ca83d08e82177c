"""Channels of a Redis: one connection in a process hears for all who listen there."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from skep.errors import SkepError, Unavailable
from skep.redis.connect import Link

#: Seconds without a message after which the server is asked whether it is there, and for its answer to that or to a request.
QUIET, ANSWER = 15.0, 5.0
#: Seconds until a lost connection is made anew: at first, and at most.
PAUSE, LONGEST = 0.05, 2.0

#: Hears what was published; None: something may have been missed.
Hear = Callable[[bytes | None], None]


class Ear:
    """One listener. `new` until it is told what is published."""

    def __init__(self, hear: Hear) -> None:
        self.hear = hear
        self.new = True


class Channel:
    """Who listens to one channel, and how many of our requests for it the server has not confirmed yet."""

    def __init__(self) -> None:
        self.ears: list[Ear] = []
        self.asked = 0
        self.open = asyncio.Event()


class Channels:
    """All channels that somebody in this process listens to. The connection is there while there is one.

    Args:
        link: the way to the server; a Cluster tells every node what is published on any.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channels: dict[bytes, Channel] = {}
        self._connection: AbstractConnection | None = None
        #: Held while something is sent, so that nobody ends the connection then.
        self._sending = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def listen(self, name: str, hear: Hear) -> Callable[[], Awaitable[None]]:
        """From when this returns `hear` is called with all that is published there; returns how to stop.

        Raises:
            Unavailable: the server does not answer.
        """
        if self._closed:
            raise Unavailable("the store is closed", fix="Open it again.")
        key, ear = name.encode(), Ear(hear)
        channel = self._channels.setdefault(key, Channel())
        channel.ears.append(ear)
        try:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run(), name="skep redis channels")
            elif len(channel.ears) == 1:
                await self._ask(b"SUBSCRIBE", key)
            async with asyncio.timeout(ANSWER):
                await channel.open.wait()
        except TimeoutError:
            await self._stop(key, channel, ear)
            fix = "Start it, or correct the URL."
            raise Unavailable(f"the store at {self._link.address} does not let us listen", fix=fix) from None
        except BaseException:
            await self._stop(key, channel, ear)
            raise
        ear.new = False
        return partial(self._stop, key, channel, ear)

    async def _stop(self, key: bytes, channel: Channel, ear: Ear) -> None:
        if ear not in channel.ears:
            return
        channel.ears.remove(ear)
        if not channel.ears and self._channels.get(key) is channel:
            del self._channels[key]
            await self._ask(b"UNSUBSCRIBE", key)

    @property
    def lost(self) -> bool:
        """Whether nothing can be heard now, though somebody listens."""
        return bool(self._channels) and self._connection is None

    async def close(self) -> None:
        """Ends the connection; nobody hears anything any more."""
        self._closed = True
        self._channels.clear()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        """Keeps the connection, for as long as there is something to listen to."""
        pause = PAUSE
        while self._channels:
            try:
                self._connection = connection = await self._link.connection()
                await self._ask(b"SUBSCRIBE", *self._channels)
                while self._channels:
                    if self._take(await self._read(connection)):
                        pause = PAUSE
            except (RedisError, OSError, SkepError):
                pass  # it is made anew, and then all are told to look
            finally:
                async with self._sending:
                    lost, self._connection = self._connection, None
                    for channel in self._channels.values():
                        channel.open.clear()
                        channel.asked = 0
                    if lost is not None:
                        await lost.disconnect(nowait=True)
            if self._channels:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST)

    async def _read(self, connection: AbstractConnection) -> Any:
        reply = await connection.read_response(timeout=QUIET, disconnect_on_error=False)
        if reply is None:
            await self._ask(b"PING")
            reply = await connection.read_response(timeout=ANSWER, disconnect_on_error=False)
        if reply is None:
            raise OSError("no answer")
        return reply

    def _take(self, reply: Any) -> bool:
        """Tells what the server sent to whom it is for; whether it was of a channel."""
        if not isinstance(reply, list) or len(reply) != 3:
            return False
        kind, name, data = reply
        channel = self._channels.get(name)
        if channel is None:
            return False
        if kind == b"message":
            self._tell(channel, data)
        elif kind == b"subscribe":
            channel.asked -= 1
            if channel.asked <= 0:
                self._ready(channel)
        return True

    def _ready(self, channel: Channel) -> None:
        """From now on the server tells us what is published there. Who listened before may have missed something."""
        channel.open.set()
        self._tell(channel, None)
        for ear in channel.ears:
            ear.new = False

    def _tell(self, channel: Channel, data: bytes | None) -> None:
        for ear in [ear for ear in channel.ears if not ear.new]:
            try:
                ear.hear(data)
            except Exception as error:  # of one listener; the others hear it all the same
                context = {"message": "what was published was not taken", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

    async def _ask(self, command: bytes, *names: bytes) -> None:
        """Sends a request, if there is a connection; its confirmation comes among the messages."""
        async with self._sending:
            connection = self._connection
            if connection is None or not connection.is_connected:
                return
            for name in names:
                if command == b"SUBSCRIBE" and name in self._channels:
                    self._channels[name].asked += 1
            with contextlib.suppress(RedisError, OSError):  # whoever reads from it sees it too
                async with asyncio.timeout(ANSWER):
                    await connection.send_command(command, *names, check_health=False)
