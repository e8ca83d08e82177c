"""Logs on Redis: a stream for each, an entry for an append, and a head that says who may write behind which.

All that changes a log is a script that compares the head with the one that its caller knows, so a writer that was paused, or that
lost a reply, changes nothing that it does not know.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

from msgspec import Struct

from skep.errors import Conflict, Denied, Unavailable
from skep.redis.connect import Link
from skep.redis.quorum import PATIENCE, Quorum
from skep.store import Append, Head, SessionRow, Taken, chain, letters
from skep.store.chain import LAST_EVENT
from skep.store.redis.commit import commit
from skep.store.redis.entries import entry, number
from skep.store.redis.keys import decoded, encoded, of_session
from skep.store.redis.roll import Roll
from skep.store.redis.script import load
from skep.store.redis.sealed import answer_keys, answered, take
from skep.store.redis.snapshots import Snapshots
from skep.store.redis.under_way import UnderWay
from skep.store.ring import Ring, append_text

_CREATE, _ACQUIRE, _APPEND = load("create"), load("log", "acquire"), load("letters", "log", "append")
_READ, _TAIL, _ANNOTATE, _DROP = load("read"), load("tail"), load("annotate"), load("drop")
_TOUCH = load("log", "touch")
#: What proves with which key all are sealed, and the public half of its signing key, if somebody was ever invited.
PROOF, PUBLIC = "skep:key", "skep:public"
#: How often something is tried anew because somebody else changed the session meanwhile.
TRIES = 16
#: Bytes of appends after which a page is full; sessions, and archived tasks, that are asked for at once.
PAGE_BYTES, PAGE = 4 * 2**20, 500


class End(Struct, frozen=True):
    """The end of a log as the server has it, checked: its last append, who acquired it last, up to where it is committed."""

    tail: chain.Tail
    claim: bytes
    mark: int


class RedisLog:
    """The port `Log` over a Redis. Made by `RedisLog.open`; `close` ends the link too.

    Args:
        link: the way to it.
        ring: the keys of this process. With an invitation it reads only: all that writes raises Denied.
        replicas: how many must have an append before it counts, and anybody can read it. Too few: Unavailable.
        patience: how long they are waited for, ms.
    """

    lacks: frozenset[str] = frozenset()

    def __init__(self, link: Link, ring: Ring, replicas: int = 0, patience: int = PATIENCE) -> None:
        self._link = link
        self._ring = ring
        self._quorum = Quorum(link, replicas, patience)
        self._snapshots = Snapshots(link, ring)
        self._roll = Roll(link)
        self._under_way = UnderWay()
        #: The ends of the logs that this process writes. The server compares them with its own.
        self._tails: dict[str, chain.Tail] = {}

    @classmethod
    async def open(cls, link: Link, ring: Ring, replicas: int = 0, patience: int = PATIENCE) -> RedisLog:
        """Opens the store, or makes it. The arguments are those of the class.

        Raises:
            Denied: it is sealed with another key, or the invitation is another store's.
            Unavailable: it does not answer.
        """
        if ring.node:
            if await link.call("GET", PUBLIC) != ring.public.hex().encode():
                raise Denied(
                    f"the invitation of node '{ring.node}' is not for the store at {link.address}",
                    fix="Have it invited with the key of that store: `skep node invite`.",
                )
            return cls(link, ring, replicas, patience)
        proof = chain.seal(ring.key, "proof").hex().encode()
        await link.call("SET", PROOF, proof, "NX")
        if await link.call("GET", PROOF) != proof:
            raise Denied(
                f"the store at {link.address} is sealed with another key than this one",
                fix="Copy the file `key` of the state folder of who made the store, and name it in [store] key.",
            )
        return cls(link, ring, replicas, patience)

    async def create(self, session: str, at: int) -> None:
        """See `Log.create`."""
        chain.check_name(session)
        sealed = chain.seal_head(self._ring.key, session, chain.EMPTY)
        with self._under_way:
            claim = secrets.token_bytes(16)
            await self._roll.add(session)
            made_by = (await self._link.run(_CREATE, [_head(session)], [claim, at, chain.GENESIS, sealed]))[0]
            if made_by != claim:
                raise chain.taken(session)

    async def acquire(self, session: str, owner: str = "", after: int = -1) -> Head:
        """See `Log.acquire`."""
        with self._under_way:
            claim = secrets.token_bytes(16)
            self._roll.forget(session)
            for _ in range(TRIES):
                end = await self._end(session)
                old = end.tail.head
                if end.claim != claim:  # else the reply was lost to a try of this very call
                    chain.check_follows(session, old.epoch, after)
                    new = Head(old.epoch + 1, old.seq, old.hash)
                    sealed = chain.seal_head(self._ring.key, session, new)
                    await self._roll.rouse(session)
                    args = [*_known(old), new.epoch, sealed, encoded(owner), claim, int(not self._quorum.replicas)]
                    if await self._quorum.run(_ACQUIRE, [_head(session)], args) != 1:
                        continue
                    old = new
                    await self._publish(session, old)
                else:
                    await self._confirm(session, old)
                self._tails[session] = chain.Tail(old, end.tail.first, end.tail.batch)
                return old
            raise _restless(session)

    async def append(
        self,
        session: str,
        epoch: int,
        seq: int,
        batch: bytes,
        count: int,
        blob: bytes,
        archive: Sequence[tuple[str, bytes]] = (),
        taken: Sequence[Taken] = (),
    ) -> Head:
        """See `Log.append`."""
        letters.check_taken(session, taken)
        with self._under_way:
            tail = self._tails.get(session)
            for _ in range(TRIES):
                if tail is None or (tail.head.epoch, tail.head.seq) != (epoch, seq):
                    tail = (await self._end(session)).tail
                fresh = chain.extend(self._ring.key, session, tail, epoch, seq, batch, count, blob)
                if fresh is None:
                    await self._confirm(session, tail.head)
                    return tail.head
                head = Head(epoch, fresh.last, fresh.hash)
                await self._roll.rouse(session)
                self._tails.pop(session, None)  # until it is known what became of it
                if await self._write(session, tail.head, head, fresh, archive, taken):
                    await self._publish(session, head, taken)
                    self._tails[session] = chain.Tail.of(head, fresh)
                    return head
                tail = None
            raise _restless(session)

    async def read(self, session: str, after: int = 0, limit: int = 1000) -> list[Append]:
        """See `Log.read`."""
        with self._under_way:
            return (await self._page(session, after, limit))[0]

    def follows(self, session: str, head: Head, append: Append) -> bool:
        """See `Log.follows`."""
        return self._ring.follows(session, head, append)

    def seal(self, text: bytes) -> bytes:
        """See `Log.seal`."""
        return chain.seal_text(self._ring.key, text)

    def seal_to(self, node: str, text: bytes) -> bytes:
        """See `Log.seal_to`. Raises Denied for another node than the one that this process was invited as."""
        return chain.seal_text(self._ring.secret(node), text)

    async def verify(self, session: str) -> Head:
        """See `Log.verify`."""
        with self._under_way:
            after, limit = 0, 1000
            while True:
                page, head, ends = await self._page(session, after, limit)
                if ends:
                    return head
                after = page[-1].last

    async def snapshot(self, session: str, seq: int, blob: bytes) -> None:
        """See `Log.snapshot`."""
        with self._under_way:
            await self._snapshots.put(session, seq, blob)

    async def latest(self, session: str) -> tuple[int, bytes] | None:
        """See `Log.latest`."""
        with self._under_way:
            return await self._snapshots.latest(session)

    async def archived(self, session: str, tasks: Sequence[str]) -> dict[str, bytes]:
        """See `Log.archived`."""
        found: dict[str, bytes] = {}
        with self._under_way:
            await self._check_there(session)
            for start in range(0, len(tasks), PAGE):
                found |= await self._entries(session, tasks[start : start + PAGE])
        return found

    async def archive(self, session: str, after: str = "", limit: int = 1000) -> AsyncIterator[tuple[str, bytes]]:
        """See `Log.archive`."""
        names = of_session(session, "archived")
        while True:
            with self._under_way:
                await self._check_there(session)
                start = b"(" + _text(after) if after else b"-"
                page = await self._link.call("ZRANGEBYLEX", names, start, "+", "LIMIT", 0, min(limit, PAGE))
                tasks = [name.decode("utf-8", "surrogatepass") for name in page]
                found = await self._entries(session, tasks)
            if not tasks:
                return
            for task, blob in found.items():
                yield task, blob
            after = tasks[-1]

    async def sessions(self, after: str = "") -> list[SessionRow]:
        """See `Log.sessions`."""
        with self._under_way:
            names = await self._roll.all(after)
        return await self._rows(names)

    async def awake(self) -> list[SessionRow]:
        """See `Log.awake`."""
        with self._under_way:
            names = await self._roll.awake()
        return await self._rows(names)

    async def rest(self, session: str) -> None:
        """See `Log.rest`."""
        with self._under_way:
            await self._roll.rest(session)

    async def row(self, session: str) -> SessionRow:
        """See `Log.row`."""
        rows = await self._rows([session])
        if not rows:
            raise chain.missing(session)
        return rows[0]

    async def _rows(self, names: Sequence[str]) -> list[SessionRow]:
        """Those sessions that are there, oldest first."""
        fields = ("epoch", "seq", "hash", "mark", "created", "note", "owner")
        with self._under_way:
            heads = await self._link.many([("HMGET", _head(name), *fields) for name in names])
        rows = []
        for name, (epoch, seq, hash_there, mark, created, note, owner) in zip(names, heads, strict=True):
            if epoch is not None:  # else it is being made, or was dropped
                head = Head(number(epoch), number(seq), hash_there or b"")
                if number(mark) < head.seq:
                    head = (await self._page(name, number(mark), 1))[1]
                said = (note or b"").decode("utf-8", "surrogatepass")
                rows.append(SessionRow(name, number(created), head, said, decoded(owner or b"")))
        return sorted(rows, key=lambda row: row.created)

    async def annotate(self, session: str, note: str) -> None:
        """See `Log.annotate`."""
        _ = self._ring.key  # it carries no seal: who was only invited is refused here
        chain.check_note(session, note)
        with self._under_way:
            if (await self._link.run(_ANNOTATE, [_head(session)], [_text(note)]))[0] != 1:
                raise chain.missing(session)

    async def drop(self, session: str, head: Head | None = None) -> None:
        """See `Log.drop`. What is large is freed by the server beside its work."""
        _ = self._ring.key  # as in `annotate`
        with self._under_way:
            await self._check_there(session)
            self._tails.pop(session, None)
            listed, senders = of_session(session, "snapshots"), of_session(session, "senders")
            for _ in range(TRIES):
                seqs, names = await self._link.many([("ZRANGE", listed, 0, -1), ("HKEYS", senders)])
                keys = [_head(session), listed, senders]
                parts = ("inbox", "log", "archive", "archived", "pending", "commits", "recordings")
                keys += [of_session(session, part) for part in parts]
                keys += [of_session(session, "snapshot", seq.decode()) for seq in seqs]
                keys += [of_session(session, "answers", decoded(name)) for name in names]
                known = _known(head) if head is not None else ()
                became = (await self._link.run(_DROP, keys, [len(seqs), len(names), *known]))[0]
                if became == 1:
                    await self._roll.remove(session)
                    return
                if became == 2:
                    raise chain.changed(session)
            raise _restless(session)

    async def close(self) -> None:
        """See `Log.close`."""
        await self._under_way.close()
        await self._link.close()

    async def _write(
        self,
        session: str,
        old: Head,
        head: Head,
        fresh: Append,
        archive: Sequence[tuple[str, bytes]],
        taken: Sequence[Taken],
    ) -> bool:
        """Writes an append behind the head `old`; False if the head is another one."""
        parts = ["head", "log"]
        told: list[Any] = [*_known(old), head.seq, head.hash, chain.seal_head(self._ring.key, session, head)]
        signed = self._ring.sign(append_text(session, old.hash, fresh))
        told += (fresh.first, fresh.batch, fresh.blob, signed, int(not self._quorum.replicas), len(archive))
        for task, blob in archive:
            told += (_text(task), chain.seal_archived(self._ring.key, session, task, blob) + blob)
        told += take(self._ring, session, taken)
        # A Cluster that moves the slot away has a server refuse keys that are not there (yet): only what is touched is named.
        parts += ["archive", "archived"] if archive else []
        parts += ["inbox"] if taken else []
        keys = [of_session(session, part) for part in parts]
        keys += answer_keys(session, taken, bool(self._quorum.replicas))
        outcome = await self._quorum.run(_APPEND, keys, told)
        if isinstance(outcome, bytes):
            raise letters.gone(session, outcome.decode())
        return bool(outcome)

    async def _confirm(self, session: str, head: Head) -> None:
        """Has replicas confirm a head that was written before, by whoever wrote it."""
        if self._quorum.replicas:
            if await self._quorum.run(_TOUCH, [_head(session)], _known(head)) != 1:
                raise _restless(session)
            await self._publish(session, head)

    async def _publish(self, session: str, head: Head, taken: Sequence[Taken] = ()) -> None:
        """Commits what replicas have confirmed. `taken`: the letters that were decided with it."""
        if self._quorum.replicas and not await commit(self._link, session, head.seq, head.hash, answered(taken)):
            raise Unavailable(
                f"session {session}: the server that wrote event {head.seq} was replaced by one without it",
                fix="Read the session again.",
            )

    async def _end(self, session: str) -> End:
        """The end of a log. Raises Invalid when it is damaged."""
        found = (await self._link.run(_TAIL, _log(session), []))[0]
        if found is None:
            raise chain.missing(session)
        (epoch, seq, hash_there, sealed, claim, mark), rows = found
        last, before = [*map(entry, rows), None, None][:2]
        head = Head(number(epoch), number(seq), hash_there or b"")
        self._ring.check_page(session, before, [last] if last else [])
        self._ring.check_end(session, head, sealed or b"", last)
        return End(chain.Tail.of(head, last), claim or b"", number(mark))

    async def _page(self, session: str, after: int, limit: int) -> tuple[list[Append], Head, bool]:
        """Committed appends after an event, the head, and whether there is nothing behind them. It comes in slices, each checked.

        The head ends at the last event that is committed, if that is among these appends or right before them.
        """
        start = min(max(after, 0), LAST_EVENT) + 1
        page: list[Append] = []
        last: Append | None = None
        first: Append | None = None
        while True:
            args = [f"{start}-0", limit - len(page), PAGE_BYTES]
            found = (await self._link.run(_READ, _log(session), args))[0]
            if found is None:
                raise chain.missing(session)
            (epoch, seq, hash_there, sealed, mark), before, rows, ends = found
            if last is None and before:
                last = first = entry(before[0])
            slice_ = [entry(row) for row in rows]
            self._ring.check_page(session, last, slice_)
            page += slice_
            last = page[-1] if page else last
            head = Head(number(epoch), number(seq), hash_there or b"")
            if ends:
                self._ring.check_end(session, head, sealed or b"", last)
            if ends or len(page) >= limit:
                committed = [append for append in (*filter(None, [first]), *page) if append.last <= number(mark)]
                if number(mark) < head.seq:  # what is behind the mark was checked, and is nobody's business yet
                    head = Head(head.epoch, number(mark), committed[-1].hash if committed else chain.GENESIS)
                ends = ends or (len(page) > 0 and page[-1].last > number(mark))
                return [append for append in committed if append is not first], head, bool(ends)
            start = page[-1].last + 1

    async def _entries(self, session: str, tasks: Sequence[str]) -> dict[str, bytes]:
        """What is archived of some tasks, checked."""
        if not tasks:
            return {}
        found: dict[str, bytes] = {}
        values = await self._link.call("HMGET", of_session(session, "archive"), *map(_text, tasks))
        for task, value in zip(tasks, values, strict=True):
            if value is not None:
                chain.check_archived(self._ring.key, session, task, value[32:], value[:32])
                found[task] = value[32:]
        return found

    async def _check_there(self, session: str) -> None:
        if not await self._link.call("EXISTS", _head(session)):
            raise chain.missing(session)


def _head(session: str) -> str:
    return of_session(session, "head")


def _log(session: str) -> list[str]:
    return [_head(session), of_session(session, "log")]


def _known(head: Head) -> tuple[int, int, bytes]:
    """What scripts compare with the head."""
    return head.epoch, head.seq, head.hash


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _restless(session: str) -> Conflict:
    return Conflict(f"session {session} is changed by others all the time", fix="Find out who else writes to it.")
