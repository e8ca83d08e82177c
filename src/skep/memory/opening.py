"""The bank that the settings name, opened: store, index and embedder picked by name."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from skep.config import MemoryConfig
from skep.disk.durable import Draft, make_folder
from skep.errors import Invalid, Unavailable
from skep.memory import MemoryStore
from skep.memory.bank import Bank
from skep.memory.large import Listed
from skep.memory.replicate import Replication
from skep.memory.search.embedders import embedder_named
from skep.memory.search.index import Index
from skep.memory.sums import SummedStore
from skep.store import Blobs


class Together(Struct, frozen=True):
    """The Redis that this process shares with others.

    `url`: where it is. `replicas`: that must have what is written there. `seal`: of a text, with the key of the hive.
    `invited`: it has no such key, and cannot seal.
    """

    url: str
    replicas: int
    seal: Callable[[bytes], bytes]
    invited: bool = False


async def open_bank(
    config: MemoryConfig, folder: Path | None, now: Callable[[], int], blobs: Blobs, together: Together | None = None
) -> Bank:
    """Opens the bank of a state folder, begins to index what it keeps, and to replicate it where others share the store.

    Args:
        folder: where it lies; None = nothing is kept.
        now: wall-clock ms.
        blobs: for large values.
        together: the Redis, if the store is one.

    Raises:
        Invalid: there is no such embedder, the folder of files is no whole path, what is there is damaged, or a Redis is needed.
        Denied: it needs the key of the hive, and this process was only invited.
        Unavailable: the store fails its checks, or there is none of that kind.
    """
    embedder = embedder_named(config.embedder, config.embeddings)
    kind = config.store or ("sqlite+redis" if together is not None and not together.invited else "sqlite")
    store = await _store(kind, config, folder, together)
    try:
        index = await Index.open(None if folder is None else folder / "index.db", embedder)
    except BaseException:
        await store.close()
        raise
    bank = Bank(store, now, blobs if together is None else _listed(blobs, together), index, config.cache)
    try:
        await bank.start()
        if isinstance(store, SummedStore) and together is not None:
            bank.replication = _replication(bank, store, together)
            await bank.replication.start()
    except BaseException:
        await bank.close()
        raise
    return bank


async def _store(kind: str, config: MemoryConfig, folder: Path | None, together: Together | None) -> MemoryStore:
    if folder is None:
        from skep.memory.ephemeral import EphemeralStore

        return EphemeralStore()
    if kind == "redis":
        from skep.memory.redis import RedisStore
        from skep.redis.connect import Link

        there = _needed(kind, together)
        _ = there.seal(b"")  # who may not is told before anything is opened
        writer = await asyncio.to_thread(_writer, folder / "writer")
        return RedisStore(Link(there.url), there.seal, writer, there.replicas)
    if kind in ("sqlite", "sqlite+redis"):
        from skep.memory.sqlite import SqliteStore

        if kind == "sqlite":
            return await SqliteStore.open(folder)
        _ = _needed(kind, together).seal(b"")
        return SummedStore(await SqliteStore.open(folder))
    if kind == "markdown":
        from skep.memory.markdown import MarkdownStore

        files = Path(config.folder).expanduser() if config.folder else folder / "notes"
        if not files.is_absolute():
            raise Invalid(f"[memory] folder is '{config.folder}': from where?", "Write the whole path, or ~/ and the rest.")
        return await MarkdownStore.open(folder, files)
    raise Unavailable(f"memory in '{kind}' is not available", "Choose another `store` in [memory] of skep.toml.")


def _replication(bank: Bank, store: SummedStore, together: Together) -> Replication:
    from skep.memory.redis_relay import RedisRelay
    from skep.redis.connect import Link

    return Replication(bank, store, RedisRelay(Link(together.url)), together.seal)


def _listed(blobs: Blobs, together: Together) -> Blobs:
    """Whatever kind of memory it is: others collect what is in the same blobs, and know of this one nothing else."""
    from skep.redis.connect import Link

    return Listed(blobs, Link(together.url))


def _writer(path: Path) -> str:
    """The name under which this state folder writes to a memory that others write to as well; made when it is first needed."""
    make_folder(path.parent)
    if not path.exists():
        with Draft(path.parent) as draft:
            draft.file.write(secrets.token_hex(8).encode())
            draft.keep(path)
    return path.read_text(encoding="ascii").strip()


def _needed(kind: str, together: Together | None) -> Together:
    if together is None:
        raise Invalid(f"memory in '{kind}' needs a Redis", "Name one with --redis URL, or `url` in [store] of skep.toml.")
    return together
