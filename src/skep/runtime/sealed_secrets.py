"""Secrets of tasks on their way to the node that runs them: it asks, and whoever began the session answers, sealed for it alone.

A node that serves others and lacks a secret lays down a request, on a lease: which attempt needs what, and one half of a key pair
that was made for this request. Who began the session answers if its own copy of the log gave that attempt to that node, and the
task names that secret. The answer opens with the other half, which is in the memory of the node and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from skep.core.commands import StartAttempt
from skep.core.patterns import fits
from skep.core.state import State
from skep.errors import Invalid, SkepError, Unavailable
from skep.runtime.environment import secrets
from skep.runtime.live import Live
from skep.runtime.parts import Parts
from skep.security.sealing import Opener, seal
from skep.store import Handoffs, Leases, Log, chain

#: The kind of lease that a request stands on, how long it lasts after its node looked last, and an answer that nobody takes, ms.
KIND, ASKS, STAYS = "secret", 5_000, 10_000
#: Seconds between looks for an answer, and for requests, by who hears of nothing; and from one look for requests to the next by
#: who hears of many.
LOOK, LOOK_OUT, BREATH = 0.5, 2.0, 0.1
#: How often a node asks for a secret, each time with another key pair, and how long it waits each time, seconds. As often at most
#: an attempt gets it: an answer may be lost.
TRIES, PATIENCE = 3, 10.0
#: Attempts and secrets of which is remembered which requests were answered.
REMEMBERED = 1_000


class Request(Struct, frozen=True, kw_only=True):
    """What a node asks for. `public`: its half of the key pair, in hex. `sealed`: with the secret of that node, in hex."""

    session: str
    task: str
    n: int
    nonce: str
    name: str
    node: str
    public: str
    sealed: str = ""

    @property
    def about(self) -> bytes:
        """All that it says, as it is sealed; the answer is bound to it, too."""
        said = (self.session, self.task, self.n, self.nonce, self.name, self.node, self.public)
        return chain.pack("secret of a task", *said)

    @property
    def mark(self) -> str:
        """How it is called, and its answer."""
        return hashlib.sha256(self.about).hexdigest()[:32]

    def seal(self, log: Log) -> str:
        """What proves that it comes from the node that it names. Raises Denied for another one without the store's key."""
        return log.seal_to(self.node, b"asks\0" + self.about).hex()

    def secret(self, log: Log) -> bytes:
        """What that node and who has the store's key know, and nobody else. Raises as `seal`."""
        return log.seal_to(self.node, b"answers\0" + self.about)

    def key(self) -> tuple[str, str, int, str, str]:
        """What is asked for, and for which attempt."""
        return self.session, self.task, self.n, self.nonce, self.name


class TaskSecrets:
    """Finds the secrets that tasks name in the environment of this process.

    Args:
        own: that environment.
    """

    def __init__(self, own: Mapping[str, str] = os.environ) -> None:
        self._own = own

    async def of(self, session: str, command: StartAttempt) -> dict[str, str]:
        """The secrets of an attempt, by name. Raises Invalid for one that is not there: no further attempt would find it."""
        return secrets(command.task.secrets, self._own)


class AskedSecrets(TaskSecrets):
    """Finds them there too, and asks whoever began the session for those that are not there.

    Args:
        log: whose seals prove who asks, and who answers.
        leases, handoffs: where it asks, and is answered.
        node: this one.
        owner: this process.
        own: see `TaskSecrets`.
    """

    def __init__(
        self, log: Log, leases: Leases, handoffs: Handoffs, node: str, owner: str, own: Mapping[str, str] = os.environ
    ) -> None:
        super().__init__(own)
        self._log, self._leases, self._handoffs = log, leases, handoffs
        self._node, self._owner = node, owner

    async def of(self, session: str, command: StartAttempt) -> dict[str, str]:
        """See `TaskSecrets.of`.

        Raises:
            Invalid: nobody answers for `TRIES` times `PATIENCE` seconds.
            SkepError: the store was away or refused to be asked at the end of that time.
        """
        away = [name for name in command.task.secrets if name not in self._own]
        # All come to their end, whatever one of them meets: none goes on asking for an attempt that is over.
        answers = await asyncio.gather(*(self._ask(session, command, name) for name in away), return_exceptions=True)
        found = {}
        for name, value in zip(away, answers, strict=True):
            if isinstance(value, BaseException):
                raise value
            if value is None:
                why = f"the secret {name} is not set on node '{self._node}', and nobody who began the session gave it"
                there = f"Set {name} where `skep run` or `skep resume` is called, and leave that running"
                raise Invalid(why, f"{there}; or set it for `skep node join` on '{self._node}'. Then `skep retry` the task.")
            found[name] = value
        return secrets(command.task.secrets, {**self._own, **found})

    async def _ask(self, session: str, command: StartAttempt, name: str) -> str | None:
        """A secret; None if nobody gives it. Raises what kept it from asking the last time."""
        task, n, nonce, node = command.task.id, command.n, command.nonce, self._node
        trouble: SkepError | None = None
        for _ in range(TRIES):
            opener, trouble = Opener(), None
            asked = Request(session=session, task=task, n=n, nonce=nonce, name=name, node=node, public=opener.public.hex())
            asked = replace(asked, sealed=asked.seal(self._log))
            try:
                sealed = await self._answer(asked)
            except SkepError as error:
                trouble = error
                continue
            found = opener.open(sealed, asked.secret(self._log), asked.about) if sealed is not None else None
            if found is not None:  # else somebody else who can write there put it down
                return os.fsdecode(found)
        if trouble is not None:
            raise trouble
        return None

    async def _answer(self, asked: Request) -> bytes | None:
        """What was laid down for a request; None if nothing was in `PATIENCE` s. Raises what kept it from looking at the end."""
        words, rung = msgspec.json.encode(asked).decode(), asyncio.Event()
        stop: Callable[[], Awaitable[None]] | None = None
        why = f"the store did not answer when the secret {asked.name} was asked for"
        trouble: SkepError | None = Unavailable(why, "Look whether it is there, and reached from this node.")
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        stop = stop or await self._handoffs.listen(asked.mark, rung.set)
                        if not rung.is_set():
                            await self._leases.hold(f"{KIND}/{asked.mark}", self._owner, ASKS, words)
                            await self._handoffs.ring(KIND)
                        rung.clear()
                        sealed = await self._handoffs.take(asked.mark)
                        if sealed is not None:
                            return sealed
                        trouble = None
                    except SkepError as error:  # the store may be away for a moment
                        trouble = error
                    await _heard(rung, LOOK)
        except TimeoutError:
            if trouble is not None:
                raise trouble from None
            return None
        finally:
            with contextlib.suppress(SkepError):  # it ends by itself, too
                await self._leases.release(f"{KIND}/{asked.mark}", self._owner)
            if stop is not None:
                await stop()


class Giver:
    """Gives secrets of tasks to the nodes that run them, if the session was begun or resumed in this process.

    What serves others gives nothing: its environment is that of whoever lent the machine.

    Args:
        live: the sessions.
        parts: what they work with.
        own: the environment of this process.
    """

    def __init__(self, live: Live, parts: Parts, own: Mapping[str, str] = os.environ) -> None:
        self._live, self._parts, self._own = live, parts, own
        #: What was asked for -> the requests that were answered.
        self._given: dict[tuple[str, str, int, str, str], set[str]] = {}

    async def run(self) -> None:
        """Answers requests until it is cancelled."""
        shared = self._parts.shared
        if shared is None or shared.handoffs is None or shared.serves or shared.invited:
            return
        handoffs, rung = shared.handoffs, asyncio.Event()
        stop: Callable[[], Awaitable[None]] | None = None
        try:
            while True:
                called = rung.is_set()
                rung.clear()
                with contextlib.suppress(SkepError, OSError):  # the next look tries again
                    stop = stop or await handoffs.listen(KIND, rung.set)
                    if called or any(map(self._works_elsewhere, self._live.own.keys() & self._live.roster.going)):
                        requests = await shared.leases.held(KIND)
                        await self.answer({mark: lease.note for mark, lease in requests.items()}, handoffs)
                await asyncio.sleep(BREATH)
                await _heard(rung, LOOK_OUT)
        finally:
            if stop is not None:
                await stop()

    def _works_elsewhere(self, name: str) -> bool:
        """Whether a session has attempts on other nodes: only these ask."""
        session, here = self._live.get(name), self._parts.here.name
        return session is not None and any(node.used_slots and node.id != here for node in session.state.nodes.values())

    async def answer(self, requests: Mapping[str, str], handoffs: Handoffs) -> None:
        """Answers those requests that may be answered here. Others than nodes of this hive may have written some of them."""
        asked = [one for mark, words in requests.items() if (one := _read(words)) is not None and one.mark == mark]
        # At once: a session whose part of the store is away keeps no other one waiting; this one's requests come again.
        due = [self._answer(one, handoffs) for one in asked if self._may_have(one)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE / 2):
                await asyncio.gather(*due)

    def _may_have(self, asked: Request) -> bool:
        """Whether a request is to be answered, as far as can be told at once: any number of them costs next to nothing."""
        session = self._live.get(asked.session) if asked.session in self._live.own else None
        if session is None or not _is_due(asked, session.state):
            return False
        answered = self._given.get(asked.key(), ())
        if asked.mark in answered or len(answered) >= TRIES:
            return False
        if asked.name not in self._own or not fits(asked.name, self._parts.config.environment.send):
            return False
        return hmac.compare_digest(asked.sealed.encode(), asked.seal(self._parts.log).encode())

    async def _answer(self, asked: Request, handoffs: Handoffs) -> None:
        """Gives what is due, once the log has it that it is."""
        session, log = self._live.get(asked.session), self._parts.log
        answered = self._given.setdefault(asked.key(), set())
        if len(self._given) > REMEMBERED:
            del self._given[next(iter(self._given))]
        if session is None or len(answered) >= TRIES:
            return
        answered.add(asked.mark)
        try:
            if not await session.ask(partial(_is_due, asked)):
                return
            value = os.fsencode(self._own[asked.name])
            await handoffs.put(asked.mark, seal(bytes.fromhex(asked.public), asked.secret(log), asked.about, value), STAYS)
        except ValueError:  # what it sent is no key
            return
        except (SkepError, asyncio.CancelledError) as error:  # it is looked at again
            answered.discard(asked.mark)
            if not isinstance(error, SkepError):
                raise


async def _heard(rung: asyncio.Event, seconds: float) -> None:
    """Waits for a ring, so long at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await rung.wait()


def _is_due(asked: Request, state: State) -> bool:
    """Whether an attempt that the log gave to that node, and that goes on, is to have that secret."""
    entry = state.entries.get(asked.task)
    attempt = entry.attempt if entry is not None else None
    if entry is None or attempt is None or attempt.stage not in ("starting", "working"):
        return False
    return (attempt.n, attempt.nonce, attempt.node) == (asked.n, asked.nonce, asked.node) and asked.name in entry.task.secrets


def _read(words: str) -> Request | None:
    try:
        return msgspec.json.decode(words, type=Request)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
