"""Records what the clients print, for the tests of those who read it: `python -m tests.clients.record`.

It writes `streams/` and `talks/`, all or what is named: `claude`, `claude/denied`. Paths of this machine become `/agent` (HOME),
`/project`, `/scratch`, ports `4000`; lists keep six entries, of words three. Nothing else changes.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.clients.drive import CASES, CLIENTS, TALKERS, run
from tests.clients.model_server import ModelServer
from tests.clients.talk import TALKS, talk_with

STREAMS = Path(__file__).parent / "streams"
TALKED = Path(__file__).parent / "talks"


def scrubbed(line: str, folder: Path) -> str:
    """A line without this machine's paths and without long lists."""
    for path, instead in ((folder / "home", "/agent"), (folder / "work", "/project"), (folder / "scratch", "/scratch")):
        line = line.replace(str(path), instead)
    line = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:4000", line)
    return json.dumps(shortened(json.loads(line)), separators=(",", ":"), ensure_ascii=False)


def shortened(value: Any) -> Any:
    """A JSON value with at most six entries of a list, three of a list of words."""
    if isinstance(value, dict):
        return {name: shortened(each) for name, each in value.items()}
    if isinstance(value, list):
        words = all(isinstance(each, str) for each in value)
        return [shortened(each) for each in value[: 3 if words else 6]]
    return value


async def record(name: str, case: str, folder: Path) -> None:
    """Runs one case and writes its stream."""
    async with ModelServer() as server:
        done = await run(CLIENTS[name], server.url, folder, CASES[name][case])
    lines = [scrubbed(line, folder) + "\n" for line in done.lines]
    (STREAMS / f"{name}-{case}.jsonl").write_text("".join(lines), encoding="utf-8")
    wanted = CASES[name][case].exit
    print(f"{name}-{case}: exit {done.exit} (expected {wanted}), {len(lines)} lines, {len(server.requests)} requests")
    if not lines or done.exit != wanted:
        print(done.stderr)


async def record_talk(name: str, case: str, folder: Path) -> None:
    """Has one talk and writes it, each line with whose it is."""
    async with ModelServer() as server:
        talked = await talk_with(name, case, server, folder)
    lines = [scrubbed(json.dumps({who: message}), folder) + "\n" for who, message in talked.said]
    (TALKED / f"{name}-{case}.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"{name}-{case}: {talked.ending}, {len(lines)} lines, {len(talked.asked)} questions")


async def main() -> None:
    """Records all, or those that are named."""
    TALKED.mkdir(parents=True, exist_ok=True)
    streams = [(record, name, case) for name in CASES for case in CASES[name]]
    talks = [(record_talk, name, case) for name in TALKERS for case in TALKS]
    for each, name, case in [*streams, *talks]:
        if len(sys.argv) == 1 or {name, f"{name}/{case}"} & set(sys.argv):
            with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as folder:
                await each(name, case, Path(folder))


if __name__ == "__main__":
    asyncio.run(main())
