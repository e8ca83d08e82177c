"""A process that has a bank and does what lines on its standard input say, many at a time, until it is killed.

    python bank_server.py FOLDER [early]

A line is `number what key value`, an answer `number value`, after what it says is durable. `early` is what a test has to find:
it answers before.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from skep.errors import NotFound
from skep.memory import Change
from skep.memory.bank import Bank
from skep.memory.draft import Draft
from skep.memory.sqlite import SqliteStore

#: What a commit is put off for: so many more.
LATE = 7
NONE = "-"


async def main() -> None:
    """Serves."""
    store = await SqliteStore.open(Path(sys.argv[1]))
    if sys.argv[2:] == ["early"]:
        commit, late = store.commit, list[Sequence[Change]]()

        async def early(changes: Sequence[Change]) -> None:
            late.append(changes)
            while len(late) > LATE:
                await commit(late.pop(0))

        store.commit = early  # type: ignore[method-assign] # the bug
    bank = Bank(store, lambda: time.time_ns() // 1_000_000)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("0 ready", flush=True)
    under_way = set[asyncio.Task[None]]()
    while line := await reader.readline():
        task = asyncio.create_task(answer(bank, *line.decode().split()))
        under_way.add(task)
        task.add_done_callback(under_way.discard)


async def answer(bank: Bank, number: str, what: str, key: str, value: str) -> None:
    """Does what one line says."""
    try:
        if what == "store":
            await bank.store(Draft(namespace="n", key=key, value=value))
        elif what == "delete":
            await bank.delete(key, namespace="n")
        else:
            value = (await bank.get(key, namespace="n")).value
    except NotFound:
        value = NONE
    print(number, value, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
