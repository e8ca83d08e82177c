"""Memory as a program inside an attempt has it: the same commands, through the door of the attempt, as far as its agent may."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

from skep.errors import Denied, Invalid

if TYPE_CHECKING:
    from skep.agents.door import Request
    from skep.memory import Entry, Filter, Found

#: Set for every program of an attempt.
MARK = "SKEP_NONCE"


def within() -> bool:
    """Whether this process belongs to an attempt: then it is no person's."""
    return MARK in os.environ


class AttemptMemory:
    """What an attempt may do with memory; the rest is for people."""

    async def store(self, key: str, value: Any, **about: Any) -> Entry:
        """Keeps a value, as this agent's. Raises what the door refuses with."""
        from skep.agents.door import Remember
        from skep.memory import Entry
        from skep.memory.records import identity

        taken = {name: about.pop(name) for name in ("namespace", "kind", "tags", "ttl")}
        _refuse({name: given for name, given in about.items() if given not in (None, {}, "siblings")})
        if taken["kind"] == "episodic":
            raise Denied("what happened is noted by Skep itself", "Leave --kind out, or use `working`.")
        made = _ask(Remember(key=key, value=value, **{**taken, "tags": tuple(taken["tags"])}))
        where = made["namespace"]
        return Entry(id=identity(where, key), namespace=where, key=key, value=value, trust="agent", version=made["version"])

    async def get(self, key: str, *, namespace: str) -> Entry:
        """What is kept under a key, wherever this agent may read, if no namespace is named."""
        from skep.agents.door import Recall

        return _entry(_ask(Recall(key=key, namespace=namespace)))

    async def search(self, text: str, wanted: Filter, *, mode: Any, limit: int, wait: bool) -> Found:
        """What fits a text best, wherever this agent may read."""
        from skep.agents.door import MOST_FOUND, Search
        from skep.memory import Found, Hit

        asked = {"namespace": wanted.namespaces, "kind": wanted.kinds, "tag": wanted.tags}
        _refuse({
            "--agent": wanted.agent, "--task": wanted.task, "--since": wanted.since, "--until": wanted.until,
            "--prefix": wanted.prefix, "--trust": wanted.trust if wanted.trust != "untrusted" else "",
            "more than one --namespace": asked["namespace"][1:],
        })  # fmt: skip
        found = _ask(
            Search(
                query=text, mode=mode, limit=min(limit, MOST_FOUND), wait=wait, kinds=wanted.kinds, tags=wanted.tags,
                namespace="".join(wanted.namespaces),
            )
        )  # fmt: skip
        hits = [Hit(entry=_entry(one), score=one["score"], why=tuple(one["why"])) for one in found["found"]]
        return Found(hits=hits, **{name: found[name] for name in ("embedder", "note", "behind") if name in found})

    def __getattr__(self, name: str) -> NoReturn:
        raise Denied(f"`{name}` of memory is for people, not for attempts", "Inside an attempt there are store, get and search.")


def _ask(request: Request) -> Any:
    from skep.agents.door import VARIABLE
    from skep.agents.door.client import Door

    if not os.environ.get(VARIABLE):
        task = os.environ.get("SKEP_TASK", "this")
        raise Denied(f"task '{task}' has no part in the memory bank", "`memory:` of the workflow file grants it.")
    return Door.here().ask(request)


def _refuse(given: dict[str, Any]) -> None:
    """Raises Invalid for what only people can say."""
    for name, value in given.items():
        if value:
            raise Invalid(f"{name} is not available inside an attempt", "Leave it out.")


def _entry(told: dict[str, Any]) -> Entry:
    from skep.memory import Entry
    from skep.memory.records import identity

    names = ("namespace", "key", "value", "kind", "trust", "siblings", "agent", "session", "task", "version", "updated")
    about = {name: told[name] for name in names}
    return Entry(id=identity(told["namespace"], told["key"]), tags=tuple(told["tags"]), **about)
