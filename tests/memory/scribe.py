"""A process that writes to a memory until it is ended, and says what was acknowledged, for tests that end it badly.

    python scribe.py STORE FOLDER [SYNCHRONOUS] [FILE_LIMIT]

Each line of its output, `name count`, is a commit that was acknowledged before the line was written: of the keys `left` and
`right` of a namespace, and of one more that is made and deleted in turns. What must be there follows from name and count.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from pathlib import Path

from skep.disk.database import DURABILITY
from skep.errors import SkepError
from skep.memory import Change, Entry, MemoryStore, Record
from skep.memory.markdown import MarkdownStore
from skep.memory.records import deleted, digest, identity, written
from skep.memory.sqlite import SqliteStore

NAMES = ("a", "b", "c", "d")
STORES: dict[str, type[SqliteStore] | type[MarkdownStore]] = {"sqlite": SqliteStore, "markdown": MarkdownStore}


def value(name: str, count: int) -> str:
    """What both keys hold after so many commits; every 16th is large."""
    return f"{name}:{count};" * (4000 if count % 16 == 5 else 50)


def acknowledged(output: bytes) -> dict[str, int]:
    """Name -> commits that were acknowledged, from the whole lines of a scribe's output."""
    said: dict[str, int] = {}
    for line in output.split(b"\n")[:-1]:
        name, count = line.decode().split()
        said[name] = max(int(count), said.get(name, 0))
    return said


async def survivors(kind: str, folder: Path) -> dict[str, int]:
    """Name -> commits, of a memory that a scribe left. Fails when anything of it is not as it was written."""
    store = await STORES[kind].open(folder)
    try:
        found = {}
        assert not getattr(store, "trouble", {})
        for name, head in (await store.heads()).items():
            left, right = [await store.get(name, key) for key in ("left", "right")]
            assert left is not None
            assert right is not None
            (mine,), (other,) = left.entries, right.entries
            count = mine.stamp
            assert (mine.value, other.value, other.stamp) == (value(name, count), value(name, count), count)
            assert mine.trust == "observed"
            third = await store.get(name, "third")
            assert third is not None
            assert len(third.entries) == count % 2
            assert [place for place, _ in await store.changes(name)][-1] == head
            assert await store.page(name) == [left, right, third]
            found[name] = count
        return found
    finally:
        await store.close()


async def scribble(store: MemoryStore, name: str) -> None:
    there: dict[str, Record | None] = {key: await store.get(name, key) for key in ("left", "right", "third")}
    left = there["left"]
    count = left.entries[0].stamp if left else 0
    while True:
        count += 1
        made: dict[str, Record] = {}
        for key, old in there.items():
            entry = Entry(
                id=identity(name, key),
                namespace=name,
                key=key,
                value=value(name, count),
                writer="w",
                stamp=count,
                trust="observed",
            )
            made[key] = written(old, entry) if key != "third" or count % 2 or old is None else deleted(old, "w", count)
        await store.commit([Change(record, digest(there[key])) for key, record in made.items()])
        os.write(1, f"{name} {count}\n".encode())
        there.update(made)


async def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    if len(sys.argv) > 3:
        DURABILITY["synchronous"] = int(sys.argv[3])
    if len(sys.argv) > 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), int(sys.argv[4])))
    store = await STORES[kind].open(folder)
    answers = await asyncio.gather(*(scribble(store, name) for name in NAMES), return_exceptions=True)
    for answer in answers:
        assert isinstance(answer, SkepError), repr(answer)
        os.write(2, f"{type(answer).__name__}: {answer}\n".encode())
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
