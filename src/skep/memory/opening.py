"""The bank that the settings name, opened: store, index and embedder picked by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from skep.config import MemoryConfig
from skep.errors import Invalid, Unavailable
from skep.memory import MemoryStore
from skep.memory.bank import Bank
from skep.memory.search.embedders import embedder_named
from skep.memory.search.index import Index
from skep.store import Blobs


async def open_bank(config: MemoryConfig, folder: Path | None, now: Callable[[], int], blobs: Blobs) -> Bank:
    """Opens the bank of a state folder, and begins to index what it keeps.

    Args:
        folder: where it lies; None = nothing is kept.
        now: wall-clock ms.
        blobs: for large values.

    Raises:
        Invalid: there is no such embedder, the folder of files is no whole path, or what is there is damaged.
        Unavailable: the store fails its checks, or there is none of that kind.
    """
    embedder = embedder_named(config.embedder, config.embeddings)
    store = await _store(config, folder)
    try:
        index = await Index.open(None if folder is None else folder / "index.db", embedder)
    except BaseException:
        await store.close()
        raise
    bank = Bank(store, now, blobs, index, config.cache)
    try:
        await bank.start()
    except BaseException:
        await bank.close()
        raise
    return bank


async def _store(config: MemoryConfig, folder: Path | None) -> MemoryStore:
    if folder is None:
        from skep.memory.ephemeral import EphemeralStore

        return EphemeralStore()
    if config.store in ("", "sqlite"):
        from skep.memory.sqlite import SqliteStore

        return await SqliteStore.open(folder)
    if config.store == "markdown":
        from skep.memory.markdown import MarkdownStore

        files = Path(config.folder).expanduser() if config.folder else folder / "notes"
        if not files.is_absolute():
            raise Invalid(f"[memory] folder is '{config.folder}': from where?", "Write the whole path, or ~/ and the rest.")
        return await MarkdownStore.open(folder, files)
    raise Unavailable(f"memory in '{config.store}' is not available", "Choose another `store` in [memory] of skep.toml.")
