"""`skep doctor --redis`: is a store set as Skep needs it, and what does Skep promise on it?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from msgspec import Struct

from skep.errors import Invalid, SkepError
from skep.redis.address import parse
from skep.redis.connect import Link
from skep.store.redis.facts import gather
from skep.store.redis.findings import Finding, findings
from skep.store.redis.large import LargeBlobs
from skep.store.redis.promises import PROMISES, Promise, promises

#: What makes the place of large blobs over a link; None if there is none.
Large = Callable[[Link], LargeBlobs | None]


class Report(Struct, frozen=True):
    """What was found. `store`: its URL, without a password."""

    store: str
    findings: list[Finding]
    promises: list[Promise]

    @property
    def ok(self) -> bool:
        """Whether nothing is known to be wrong; what is unknown is not."""
        return all(one.state != "error" for one in self.findings)


async def examine(
    url: str, replicas: int, env: Mapping[str, str] = os.environ, given: bool = False, large: Large | None = None
) -> Report:
    """Asks all servers of a store; changes nothing, but for a key of its own, which it removes. Trouble is a finding.

    Args:
        url: see `address.parse`.
        replicas: how many must have what was written before it counts, as Skep is configured.
        env: with the passwords.
        given: whether the URL was an argument, which everybody on the machine can read.
        large: tells where it keeps large blobs; None = it is not known here.

    Raises:
        Invalid: no such URL, a password in an argument, or a password's file that cannot be read.
    """
    if given and parse(url, {}).password:
        fix = "Leave it out of the URL: REDIS_PASSWORD_FILE names a file with it, or REDIS_PASSWORD holds it."
        raise Invalid("a password among a command's arguments can be read by everybody on the machine", fix)
    address = parse(url, env)
    try:
        facts = await gather(address, env, replicas)
    except Invalid:
        raise
    except SkepError as error:
        silent = Finding("servers", "error", error.message, error.fix)
        unknown = [Promise(name, text, "unknown", ("servers",), error.fix) for name, (text, _) in PROMISES.items()]
        return Report(str(address), [silent], unknown)
    found = findings(facts, replicas)
    if large is not None:
        found.append(await _blobs(url, env, large))
    return Report(str(address), found, promises(found))


async def _blobs(url: str, env: Mapping[str, str], large: Large) -> Finding:
    """Whether the place of large blobs answers, and is the one that all who share the store see."""
    link = Link(url, env)
    try:
        place = large(link)
        if place is None:
            return Finding("blobs", "ok", "all lie in the Redis")
        if not await place.tried():
            return Finding("blobs", "unknown", f"{place.where}: nobody has used it yet", "Check again after `skep run`.")
    except SkepError as error:
        return Finding("blobs", "error", error.message, error.fix)
    finally:
        await link.close()
    return Finding("blobs", "ok", f"{place.where} carries the mark of this store, and was written and read")
