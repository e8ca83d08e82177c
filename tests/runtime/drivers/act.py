"""A process that opens a workspace and carries out a piece of Python there: `act.py WORKSPACE CODE`.

The code may await; it knows `hive`, `skep`, `Plan`-making names of skep, `say(word, value)` (a line of JSON for the test) and
`await hear()` (a line from the test). It is written in the test that runs it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import sys
from typing import Any

import skep


def say(word: str, value: Any = None) -> None:
    """Tells the test."""
    print(json.dumps([word, value]), flush=True)


async def hear() -> str:
    """Waits for a line from the test; "" when it hung up."""
    return str(await asyncio.to_thread(sys.stdin.readline)).strip()


async def main(folder: str, code: str) -> None:
    """Opens the workspace and runs the code."""
    compiled = compile(code, "<act>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    async with skep.open(folder) as hive:
        names: dict[str, Any] = {"hive": hive, "skep": skep, "say": say, "hear": hear, "asyncio": asyncio}
        result = eval(compiled, names)
        if inspect.isawaitable(result):
            await result


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
