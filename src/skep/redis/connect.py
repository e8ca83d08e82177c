"""A Redis, reached: requests are repeated, redirected and bounded here, and here its errors become those of Skep."""

from __future__ import annotations

import asyncio
import os
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from skep.errors import Denied, Exhausted, Invalid, SkepError, Unavailable
from skep.redis.address import Address, parse
from skep.redis.routes import ANSWER, REQUESTS, exchange, routes
from skep.redis.script import Script

#: How often a request is repeated, and after how many seconds at first; how often it is redirected.
RETRIES, PAUSE, REDIRECTIONS = 3, 0.1, 16
#: Commands of `many` that go out at once.
PAGE = 200

_ASKING = (("ASKING",),)

Command = tuple[Any, ...]


class Link:
    """The way to a Redis for all parts of the store in this process. Nothing is connected before the first request.

    Every method raises Unavailable when the server does not answer or cannot write (a change may then have been made, so
    commands must bear repetition), Denied for a refused password or a command that is not allowed, Exhausted when it is full.

    Args:
        url: see `address.parse`.
        env: the environment.
    """

    def __init__(self, url: str, env: Mapping[str, str] = os.environ) -> None:
        self.address: Address = parse(url, env)
        self._routes = routes(self.address)
        self._room = asyncio.Semaphore(REQUESTS)
        self._closed = False

    async def call(self, *command: Any, key: str | bytes | None = None) -> Any:
        """Sends one command and returns its reply as RESP 2 has it. `key`: which server it is for; else its first argument."""
        return (await self.batch(command[1] if key is None else key, [command]))[0]

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any], then: Sequence[Command] = ()) -> list[Any]:
        """Runs a script, then commands over the same connection; returns all their replies, those of the commands unchecked."""
        rest = (len(keys), *keys, *args)
        replies = await self._served(keys[0], [("EVALSHA", script.sha, *rest), *then])
        if isinstance(replies[0], NoScriptError):  # a server that has started since, or a new primary
            replies = await self._served(keys[0], [("EVAL", script.text, *rest), *then])
        return [self._sound(replies[0]), *replies[1:]]

    async def batch(self, key: str | bytes, commands: Sequence[Command]) -> list[Any]:
        """Sends commands for one key (or one hash tag) over one connection, all at once; returns their replies."""
        return [self._sound(answer) for answer in await self._served(key, commands)]

    async def many(self, commands: Sequence[Command]) -> list[Any]:
        """Sends any number of commands, each for its own first argument, and returns their replies in the same order."""
        replies: list[Any] = []
        for start in range(0, len(commands), PAGE):
            replies += await self._page(commands[start : start + PAGE])
        return replies

    async def connection(self) -> AbstractConnection:
        """A connection of its own, to any server: for channels, of which a Cluster tells all its nodes. Its owner ends it."""
        try:
            pool = (await self._routes.pools())[0]
            connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py's
            async with asyncio.timeout(ANSWER):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
        except (RedisError, OSError) as error:
            raise self.explained(error) from None
        return connection

    async def close(self) -> None:
        """Ends all connections. Requests under way fail."""
        self._closed = True
        await self._routes.close()

    def explained(self, error: Exception) -> SkepError:
        """What an error of redis-py means for whoever runs Skep."""
        if isinstance(error, AuthenticationError):
            fix = "Give the password in REDIS_PASSWORD, or its file in REDIS_PASSWORD_FILE, and the user in the URL."
            return Denied(f"the store at {self.address} refuses this user or password: {error}", fix=fix)
        if isinstance(error, NoPermissionError):
            return Denied(f"the store at {self.address} does not allow it: {error}", fix="Correct the ACL of its user.")
        if isinstance(error, OutOfMemoryError):
            fix = "Give it more memory (maxmemory), or drop sessions that are not needed."
            return Exhausted(f"the store at {self.address} is full: nothing was written", fix=fix)
        if isinstance(error, MovedError | AskError) and self.address.kind != "cluster":
            return Invalid(f"the store at {self.address} is a node of a Cluster", fix="Say redis+cluster:// in its URL.")
        fix = "Start it, or correct the URL; then repeat: nothing is done twice."
        return Unavailable(f"the store at {self.address} does not answer as it should: {error}", fix=fix)

    async def _page(self, commands: Sequence[Command]) -> list[Any]:
        """`many` for a page: each server gets its commands in one go; what fails is asked for again by itself."""
        if not commands:
            return []
        places: dict[ConnectionPool, list[int]] = defaultdict(list)
        missing = Unavailable("not asked yet")
        replies: list[Any] = [missing] * len(commands)
        try:
            for index, command in enumerate(commands):
                places[await self._routes.pool(_bytes(command[1]))].append(index)
            async with self._room:
                for pool, indices in places.items():
                    for index, answer in zip(indices, await exchange(pool, [commands[i] for i in indices]), strict=True):
                        replies[index] = answer
        except (RedisError, OSError):
            pass  # the server is looked for anew, for each command that has no reply
        return [
            await self.call(*commands[index]) if isinstance(answer, Exception) else answer for index, answer in enumerate(replies)
        ]

    async def _served(self, key: str | bytes, commands: Sequence[Command]) -> list[Any]:
        """The replies to commands of one key, a refusal as an exception of redis-py."""
        async with self._room:
            return await self._routed(_bytes(key), commands)

    async def _routed(self, key: bytes, commands: Sequence[Command]) -> list[Any]:
        asked: ConnectionPool | None = None
        failures = redirections = 0
        while True:
            if self._closed:
                raise Unavailable("the store is closed", fix="Open it again.")
            pool, error = asked, None
            try:
                pool = asked or await self._routes.pool(key)
                replies = await exchange(pool, [*_ASKING, *commands] if asked else commands)
                replies = replies[1:] if asked else replies
                error = next((answer for answer in replies if isinstance(answer, Exception) and _passing(answer)), None)
                if error is None:
                    return replies
            except AuthenticationError as refused:
                raise self.explained(refused) from None
            except (RedisError, OSError) as failed:
                error = failed
            asked = None
            if isinstance(error, AskError) and pool is not None:  # MovedError is one too
                asked = self._redirected(error, pool)
                redirections += 1
            elif isinstance(error, TryAgainError):  # keys of the slot are on their way to another node
                redirections += 1
                await _pause(1)
            else:
                failures += 1
                if pool is not None:
                    await self._routes.failed(pool)
                if failures <= RETRIES:
                    await _pause(failures)
            if failures > RETRIES or redirections > REDIRECTIONS:
                raise self.explained(error)

    def _sound(self, answer: Any) -> Any:
        """The reply, unless it is a refusal."""
        if isinstance(answer, ResponseError):
            raise self.explained(answer) from None
        return answer

    def _redirected(self, error: AskError, pool: ConnectionPool) -> ConnectionPool | None:
        """Where the next try is to begin with ASKING; None: where the slot is."""
        there = self._routes.at(pool, (error.host, error.port))
        if there is None:
            raise self.explained(error)
        if isinstance(error, MovedError):
            self._routes.moved(error.slot_id, there)
            return None
        return there


def _bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key


def _passing(refusal: Exception) -> bool:
    """Whether a refusal may be over in a moment, or elsewhere."""
    kinds = (AskError, TryAgainError, ClusterDownError, ReadOnlyError)
    return isinstance(refusal, kinds) or str(refusal).startswith(("NOREPLICAS", "MISCONF"))


async def _pause(times: int) -> None:
    """Longer each time, and never the same for all who were interrupted at once."""
    await asyncio.sleep(PAUSE * 2 ** (times - 1) * random.uniform(0.75, 1.25))
