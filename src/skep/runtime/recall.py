"""What an attempt may remember and recall: the bank, within what its agent was granted, and bounded.

What is written counts as an agent's, whatever it says about itself, and names who wrote it. What is read comes with who wrote it
and how far that is to be trusted: to an agent it is data.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec

from skep.agents import door
from skep.agents.brief import shortened
from skep.core.model import AgentSpec, Plan
from skep.core.terms import MemoryGrant
from skep.errors import Denied, Exhausted, NotFound
from skep.memory import Entry, Filter, Hit, Search
from skep.memory.bank import Bank
from skep.memory.consolidate import LEARNED
from skep.memory.draft import Draft
from skep.memory.limits import check_key, check_namespace
from skep.memory.missing import missing
from skep.memory.scope import Scope, namespace_of
from skep.memory.trust import Author
from skep.runtime.episode import EPISODES

#: What one attempt may write: entries, and bytes of them in all.
MAX_WRITTEN, MAX_BYTES = 200, 4 * 2**20
#: Bytes of a value that is recalled; characters of each that a search shows.
MAX_VALUE, MAX_SHOWN = 256 * 1024, 4_000
#: Requests of one attempt that the bank works on at once.
AT_ONCE = 4


def granted(plan: Plan, spec: AgentSpec | None) -> MemoryGrant | None:
    """What was said about an agent and the bank: by the agent's own words, else by its session's; None = nothing was."""
    return spec.memory if spec is not None and spec.memory is not None else plan.memory


def scope_of(session: str, grant: MemoryGrant | None) -> Scope:
    """What agents of a session may read and write."""
    said = grant or MemoryGrant()
    return Scope(namespace_of(session), said.read, said.write)


class Remembering:
    """The bank, as one attempt may use it.

    Args:
        bank: of this node.
        scope: what its agent may read and write.
        by: what stands at what it writes.
    """

    def __init__(self, bank: Bank, scope: Scope, by: Author) -> None:
        self._bank, self._scope, self._by = bank, scope, by
        self._room = asyncio.Semaphore(AT_ONCE)
        self._written = self._bytes = 0

    async def remember(self, asked: door.Remember) -> dict[str, Any]:
        """Keeps a value; it is durable when this returns. Raises Denied, Invalid, Exhausted."""
        namespace = asked.namespace or self._scope.own
        check_namespace(namespace)
        self._scope.check_write(namespace)
        if asked.key.startswith((EPISODES, LEARNED)):
            raise Denied(f"keys that begin with '{EPISODES}' or '{LEARNED}' are Skep's own", "Use another key.")
        # Counted before anything is waited for, so that none of many at once goes past it.
        self._written, self._bytes = self._written + 1, self._bytes + len(msgspec.json.encode(asked))
        if self._written > MAX_WRITTEN or self._bytes > MAX_BYTES:
            why = f"this attempt has written {MAX_WRITTEN} entries or {MAX_BYTES} bytes already"
            raise Exhausted(why, "Put what is left into one entry of your next attempt, or into a file.")
        draft = Draft(namespace=namespace, key=asked.key, value=asked.value, kind=asked.kind, tags=asked.tags, ttl=asked.ttl)
        async with self._room:
            entry = await self._bank.store(draft, self._by)
        return {"namespace": namespace, "key": entry.key, "version": entry.version}

    async def recall(self, asked: door.Recall) -> dict[str, Any]:
        """What is kept under a key: in the namespace, or in the first that has it. Raises NotFound, Denied, Exhausted."""
        check_key(asked.key)
        async with self._room:
            for namespace in await self._among(asked.namespace):
                record = await self._bank.record(namespace, asked.key)
                if record is None or not record.entries:
                    continue
                try:
                    found = await self._bank.find(asked.key, namespace=namespace)
                except NotFound:  # its time is over
                    continue
                if found.size > MAX_VALUE:
                    why = f"'{found.key}' has {found.size} bytes, more than {MAX_VALUE}"
                    raise Exhausted(why, "A person can print it: `skep memory get`.")
                return described(found, (await self._bank.whole(found)).value)
        raise missing(asked.namespace or "any namespace that you read", asked.key)

    async def search(self, asked: door.Search) -> dict[str, Any]:
        """What fits a text best, in all namespaces that may be read, or in one. Raises Denied, Invalid, Unavailable."""
        async with self._room:
            names = await self._among(asked.namespace)
            if not names:  # to the bank this would mean all of them
                return {"found": [], "note": "nothing was ever kept where you may read"}
            wanted = Filter(namespaces=names, kinds=asked.kinds, tags=asked.tags)
            search = Search(text=asked.query, mode=asked.mode, filter=wanted, limit=asked.limit, wait=asked.wait)
            found = await self._bank.search(search)
        hits = [_found(hit) for hit in found.hits if self._scope.may_read(hit.entry.namespace)]
        about = {"note": found.note, "embedder": found.embedder, "behind": found.behind}
        return {"found": hits, **{name: value for name, value in about.items() if value}}

    async def _among(self, namespace: str) -> tuple[str, ...]:
        """The namespaces to look in."""
        if namespace:
            check_namespace(namespace)
            self._scope.check_read(namespace)
            return (namespace,)
        return self._scope.readable(await self._bank.namespaces())


def described(entry: Entry, value: Any) -> dict[str, Any]:
    """An entry as agents see it: the value, and where it comes from."""
    told = {"namespace": entry.namespace, "key": entry.key, "value": value, "kind": entry.kind, "tags": list(entry.tags)}
    told |= {"trust": entry.trust, "from": origin(entry), "siblings": entry.siblings, "version": entry.version}
    return told | {"agent": entry.agent, "session": entry.session, "task": entry.task, "updated": entry.updated}


def origin(entry: Entry) -> str:
    """Who wrote an entry, for which task, and when, in words."""
    who = entry.agent or ("Skep itself" if entry.trust == "observed" else "a person" if entry.trust == "person" else "somebody")
    where = " of ".join(
        part for part in (entry.task and f"task {entry.task}", entry.session and f"session {entry.session}") if part
    )
    at = datetime.fromtimestamp(entry.updated / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return ", ".join(part for part in (who, where, at) if part)


def spelled(value: Any) -> str:
    """A value as text."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _found(hit: Hit) -> dict[str, Any]:
    entry = hit.entry
    text = f"({entry.size} bytes: recall the key)" if entry.blob and entry.value is None else spelled(entry.value)
    shown = shortened(text, MAX_SHOWN)
    value = entry.value if shown == text and not entry.blob else shown
    return {**described(entry, value), "score": round(hit.score, 4), "why": list(hit.why)}
