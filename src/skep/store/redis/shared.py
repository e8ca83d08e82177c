"""The store of a workspace on Redis, opened as its settings say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

from skep.config import StoreConfig
from skep.redis.connect import Link
from skep.redis.listen import Channels
from skep.store import Blobs, Stores
from skep.store.invitation import invitation, invited
from skep.store.key import shared_key
from skep.store.redis.blobs import RedisBlobs
from skep.store.redis.handoffs import RedisHandoffs
from skep.store.redis.inbox import RedisInbox
from skep.store.redis.large import LargeBlobs, place
from skep.store.redis.leases import RedisLeases
from skep.store.redis.listing import RedisListing
from skep.store.redis.log import PROOF, PUBLIC, RedisLog
from skep.store.redis.recordings import RedisRecordings
from skep.store.redis.split import SplitBlobs
from skep.store.ring import HiveRing, Ring


async def open_shared(config: StoreConfig, state: Path, now: Callable[[], int]) -> Stores:
    """Opens the store that a workspace shares with others.

    Args:
        config: where it is.
        state: the state folder, in the workspace from which relative paths begin.
        now: the time in ms.

    Raises:
        Unavailable: it does not answer.
        Denied: it refuses us, is sealed with another key, or our invitation is another store's.
        Invalid: no such URL, or the key, or the invitation, is missing.
    """
    link = Link(config.url)
    try:
        sealed = bool(await link.call("EXISTS", PROOF))
        ring = await asyncio.to_thread(_ring, config, state, not sealed)
        log = await RedisLog.open(link, ring, config.replicas)
    except BaseException:
        await link.close()
        raise
    blobs: Blobs = RedisBlobs(link, now, replicas=config.replicas)
    large = large_blobs(config, state, link)
    if large is not None:
        blobs = SplitBlobs(blobs, large, config.small)
    channels = Channels(link)
    inbox = RedisInbox(link, channels, ring, config.replicas)

    async def ready() -> None:
        if large is not None:
            await large.ready()

    async def invite(node: str) -> bytes:
        said = invitation(ring, node)
        await link.call("SET", PUBLIC, ring.public.hex())
        return said

    async def close() -> None:
        await channels.close()
        await log.close()

    return Stores(
        log=log,
        blobs=blobs,
        inbox=inbox,
        leases=RedisLeases(link),
        listing=RedisListing(link),
        recordings=RedisRecordings(link, ring),
        handoffs=RedisHandoffs(link, channels),
        name=ring.place[:16],
        invited=ring.node,
        invite=invite,
        ready=ready,
        close=close,
    )


def large_blobs(config: StoreConfig, state: Path, link: Link) -> LargeBlobs | None:
    """Where large blobs lie, if not in the Redis; nothing is reached yet.

    Args:
        config: which names the place.
        state: the state folder, in which the key is, if neither it nor an invitation is named.
        link: the way to the Redis.

    Raises:
        Denied: others may read the key, or the invitation.
        Invalid: it is missing.
    """
    if not config.blobs:
        return None
    mark = _ring(config, state, False).place
    return LargeBlobs(partial(place, config.blobs, state.parent, state), config.blobs, link, mark)


def _ring(config: StoreConfig, state: Path, fresh: bool) -> Ring:
    """The keys that the settings name; with `fresh` the hive's is made if there is none."""
    if config.invite:
        return invited(state.parent / config.invite)
    return HiveRing(shared_key(state.parent / config.key if config.key else state / "key", fresh))
