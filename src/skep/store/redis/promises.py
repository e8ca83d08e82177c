"""Which promises of Skep hold with a store as its servers are. Pure: from the findings about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from skep.store.redis.findings import Finding

#: Findings that a promise may need, by what they are about.
WORKS = ("servers", "version", "role", "trial", "cluster")
KEEPS = ("maxmemory-policy", "append-only file")
ON_DISK = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite")
FAILOVER = ("replicas", "min-replicas-to-write", "min-replicas-max-lag", "sentinels")


class Promise(Struct, frozen=True):
    """A promise. `because`: the findings it fails by, or is unknown by. `fix`: what to set; if it holds partly, what lacks."""

    name: str
    text: str
    state: Literal["holds", "partly", "fails", "unknown"]
    because: tuple[str, ...] = ()
    fix: str = ""


#: Name -> what is promised, and the findings that it needs.
PROMISES: dict[str, tuple[str, tuple[str, ...]]] = {
    "R1": ("an accepted task is never lost", (*WORKS, *KEEPS, *ON_DISK, *FAILOVER)),
    "R2": (
        "a task runs at least once, fails a bounded number of times, and never goes silently",
        (*WORKS, *KEEPS, *ON_DISK, *FAILOVER),
    ),
    "R3": ("its result is committed once", (*WORKS, *KEEPS, *ON_DISK, *FAILOVER, "blobs")),
    "R4": ("recovery is bounded in time", (*WORKS, "sentinels", "down-after-milliseconds", "blobs")),
    "R5": ("dependencies first, then first in, first out", (*WORKS, "maxmemory-policy")),
    "R7": ("checkpoints are whole or absent", (*WORKS, "maxmemory-policy")),
    "R8": ("the log shows any edit, gap or reordering", (*WORKS, "maxmemory-policy", "rights")),
    "R9": ("what cannot be done safely is refused", ("password", "rights", "tls")),
    "R10": ("a minority cannot decide", (*WORKS, *KEEPS, *ON_DISK, *FAILOVER)),
}
#: What of a promise does not exist yet.
MISSING = {"R8": "nothing signs the heads of logs elsewhere, so a cut at the end does not show"}


def promises(found: Sequence[Finding]) -> list[Promise]:
    """Each promise, with whether it holds. It fails by any error, and is unknown by any unknown, of what it needs."""
    return [_promise(name, text, [one for one in found if one.name in needs]) for name, (text, needs) in PROMISES.items()]


def _promise(name: str, text: str, needed: list[Finding]) -> Promise:
    bad = [one for one in needed if one.state == "error"]
    if bad := bad or [one for one in needed if one.state == "unknown"]:
        fixes = " ".join(dict.fromkeys(f"{one.fix.rstrip('.')}." for one in bad))
        state: Literal["fails", "unknown"] = "fails" if bad[0].state == "error" else "unknown"
        return Promise(name, text, state, tuple(one.name for one in bad), fixes)
    if name in MISSING:
        return Promise(name, text, "partly", (), MISSING[name])
    return Promise(name, text, "holds")
