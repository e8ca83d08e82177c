"""The worker's process: `python -P -m skep.agents.loop.worker ERRORS`, orders on standard input, words on standard output."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from typing import Any

import msgspec

from skep.agents import Ending, Report
from skep.agents.loop import Answer, Order, Request, Start, Stop, Tell, Word
from skep.agents.loop.attempt import Carried

#: Bytes of one order.
MAX_ORDER = 64 << 20
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Order).decode


class Worker:
    """All attempts of this process.

    Args:
        out: where words are written.
    """

    def __init__(self, out: asyncio.WriteTransport) -> None:
        self._out = out
        self._attempts: dict[int, tuple[Carried, asyncio.Task[None]]] = {}
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._count = 0

    def take(self, order: Order) -> None:
        """Does what an order says, or begins to. What belongs to an attempt that is over is dropped."""
        if isinstance(order, Start):
            self._begin(order)
        elif isinstance(order, Answer):
            if (future := self._asked.pop(order.request, None)) is not None and not future.done():
                future.set_result(order.value)
        elif order.id in self._attempts:
            carried, task = self._attempts[order.id]
            if isinstance(order, Stop):
                task.cancel()
            elif isinstance(order, Tell):
                carried.hear(order.text)
            elif order.server in carried.pipes:
                carried.pipes[order.server].heard(order.line)

    def _begin(self, start: Start) -> None:
        def tell(report: Report) -> None:
            self.say(Word(id=start.id, report=report))

        async def ask(request: Request) -> Any:
            self._count += 1
            number = self._count
            future = self._asked[number] = asyncio.get_running_loop().create_future()
            self.say(Word(id=start.id, number=number, request=request))
            try:
                return await future
            finally:
                self._asked.pop(number, None)

        def write(server: str, line: str) -> None:
            self.say(Word(id=start.id, server=server, line=line))

        carried = Carried(start, tell, ask, write)
        self._attempts[start.id] = carried, asyncio.ensure_future(self._carry_out(start.id, carried))

    async def _carry_out(self, ident: int, carried: Carried) -> None:
        ending = Ending(ok=False, interrupted=True, cause="interrupted", detail="it was stopped")
        try:
            ending = await carried.go()
        finally:
            del self._attempts[ident]
            self.say(Word(id=ident, ending=ending))

    def say(self, word: Word) -> None:
        """Tells the runtime."""
        self._out.write(_encode(word) + b"\n")


async def serve() -> None:
    """Until the runtime closes its end."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=MAX_ORDER)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), os.fdopen(os.dup(0), "rb", buffering=0))
    out, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(os.dup(1), "wb", buffering=0))
    # Whatever prints must not come between the lines.
    errors = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    worker = Worker(out)
    worker.say(Word())
    while line := await orders.readline():
        worker.take(_decode(line))


def main() -> None:
    """Runs the worker."""
    # What was imported stays: looking through it for garbage, again and again, took a quarter of the turns.
    gc.collect()
    gc.freeze()
    try:
        asyncio.run(serve())
    except KeyboardInterrupt:  # the runtime ends it
        sys.exit(1)


if __name__ == "__main__":
    main()
