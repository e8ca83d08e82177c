"""A user at a shell, whose coding clients speak to the scripted model: command lines of Skep, run while the model answers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

SKEP = str(Path(sys.executable).parent / "skep")
GIT = {f"GIT_{who}_{what}": "x@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


async def run(folder: Path, *command: str, code: int = 0) -> str:
    """What a command prints there; it must end with this code. Its environment is this process's."""
    env = {**os.environ, **GIT, "TERM": "dumb", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=env, stdin=null, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == code, f"{' '.join(command)} ended with {process.returncode}:\n{said.decode()}"
    return said.decode()


async def skep(folder: Path, *args: str, code: int = 0) -> str:
    """A command line of Skep's."""
    return await run(folder, SKEP, *args, code=code)


async def told(folder: Path, *args: str) -> Any:
    """What a command says with `--json`."""
    return json.loads(await skep(folder, *args, "--json"))


async def committed(folder: Path) -> None:
    """Makes a repository of the folder, with all that is in it."""
    for step in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "begin")):
        await run(folder, "git", *step)
