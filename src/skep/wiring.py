"""Configuration -> live parts, adapters picked by name."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from skep.agents import Runtime, codex, gemini, opencode
from skep.agents.acp import AcpRuntime
from skep.agents.claude import ClaudeRuntime
from skep.agents.hand import HandRuntime
from skep.agents.inprocess import InProcess
from skep.agents.llm import LlmRuntime
from skep.agents.logins import LOGINS
from skep.agents.python import PythonRuntime
from skep.agents.shell import ShellRuntime
from skep.config import STATE, TRANSCRIPTS, Config, load
from skep.errors import Invalid
from skep.runtime import environment, usable
from skep.runtime.attempt import Node
from skep.runtime.checkup import Finding
from skep.runtime.confined import Wards
from skep.runtime.node import SystemClock
from skep.runtime.parts import Parts
from skep.runtime.perform import Performer
from skep.runtime.prices import Prices
from skep.security.choice import choose
from skep.security.egress import Egress
from skep.store import Blobs, Log
from skep.terminals.native import Native
from skep.terminals.pool import Pool
from skep.workspace.git import GitWorkspace

#: Terminals for notifications, beside those of attempts.
ASIDE = 256


async def stores(config: Config, state: Path, clock: SystemClock) -> tuple[Log, Blobs]:
    """The log and the blobs that the configuration names."""
    if config.store.url == "memory:":
        from skep.store.ephemeral import EphemeralBlobs, EphemeralDisk, EphemeralLog

        disk = EphemeralDisk()
        return EphemeralLog(disk), EphemeralBlobs(disk, clock.now)
    from skep.store.blobs import FileBlobs
    from skep.store.sqlite import SqliteLog

    blobs = FileBlobs(state / "blobs")
    return await SqliteLog.open(state), blobs


def runtimes(wards: Wards, pool: Pool, prices: Prices) -> dict[str, Runtime]:
    """All runtimes, by name; none of them has begun anything.

    Args:
        wards: where what agents do is started.
        pool: where Skep's own programs are.
    """
    told_once = (codex.runtime(wards), gemini.runtime(wards), opencode.runtime(wards))
    clients = (ClaudeRuntime(wards), AcpRuntime(wards), *told_once)
    made = (ShellRuntime(wards), PythonRuntime(wards), HandRuntime(), *clients, LlmRuntime(wards, pool, prices.of))
    return {runtime.name: runtime for runtime in made}


async def runtimes_here(folder: Path, login: str | None = None) -> list[Finding]:
    """A finding for each runtime, of a workspace.

    Args:
        login: the one whose login is tried by a real call; empty = all that have one, None = none.

    Raises:
        Invalid: it has no login.
    """
    if login and login not in LOGINS:
        raise Invalid(f"'{login}' is no runtime with a login.", f"Those are {', '.join(LOGINS)}.")
    try:
        config = load(folder)
    except Invalid:  # the settings are a finding of their own, and nothing is called by settings that are not meant
        config, login = Config(), None
    with tempfile.TemporaryDirectory(prefix="skep-doctor-") as name:
        place = Path(name).resolve()
        pool = Pool(Native(), config.terminals.pool)
        sandbox = await asyncio.to_thread(choose, place) if login is not None else "nothing is started"
        wards = Wards(pool, sandbox, Egress(place))
        made = runtimes(wards, pool, Prices(config.prices))
        try:
            found = await usable.usable(made)
            return found if login is None else await usable.proven(found, made, wards, config, login)
        finally:
            for runtime in made.values():
                await runtime.close()
            await wards.close()


async def assemble(folder: Path, config: Config) -> Parts:
    """Everything an owner of the workspace needs, started.

    Raises:
        Unavailable: the store fails its checks, or git does not work here.
        Invalid: the folder is nothing to work in.
    """
    state = folder / STATE
    clock = SystemClock()
    workspace = await GitWorkspace.open(folder, state)
    # Last of what may fail: nothing of the above has to be closed again.
    log, blobs = await stores(config, state, clock)
    native = Native(str(state))
    pool = Pool(native, config.terminals.pool)
    wards = Wards(pool, await asyncio.to_thread(choose, state / "sandbox"), Egress(state / "sandbox"))
    prices = Prices(config.prices)
    made = runtimes(wards, pool, prices)
    inprocess = InProcess()
    node = Node(
        workspace=workspace,
        folder=folder,
        state=state,
        wards=wards,
        aside=Pool(native, ASIDE),
        confining=config.sandbox,
        runtimes=made,
        blobs=blobs,
        allowed=environment.base(config.environment.allow),
        marks=environment.marks(folder, state),
        transcripts=state / TRANSCRIPTS,
        prices=prices,
        prompts=folder / config.prompts.folder if config.prompts.folder else None,
    )

    async def close() -> None:
        async with AsyncExitStack() as stack:  # the last one goes first, and all of them go
            stack.push_async_callback(log.close)
            stack.push_async_callback(wards.close)
            for runtime in made.values():
                stack.push_async_callback(runtime.close)
            stack.push_async_callback(inprocess.close)

    return Parts(
        config=config,
        folder=folder,
        state=state,
        log=log,
        blobs=blobs,
        workspace=workspace,
        performer=Performer(node, inprocess, clock.now),
        clock=clock,
        terminals=pool.stats,
        close=close,
    )
