"""Configuration -> live parts, adapters picked by name."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from msgspec.structs import replace

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
from skep.memory.bank import Bank
from skep.memory.opening import Together, open_bank
from skep.runtime import environment, usable
from skep.runtime.attempt import Node
from skep.runtime.checkup import Finding
from skep.runtime.confined import Wards
from skep.runtime.node import SHARED_SLOTS, Here, Role, SystemClock, named, place
from skep.runtime.parts import Parts
from skep.runtime.perform import Performer
from skep.runtime.prices import Prices
from skep.runtime.publishers import Publishers
from skep.runtime.recorder import Recorder
from skep.runtime.sealed_secrets import AskedSecrets, TaskSecrets
from skep.runtime.shared import Shared
from skep.security.choice import choose
from skep.security.egress import Egress
from skep.store import Leases, Log, Stores
from skep.terminals.native import Native
from skep.terminals.pool import Pool
from skep.workspace import Commits, Limits
from skep.workspace.carried import CarriedWorkspace
from skep.workspace.git import GitWorkspace
from skep.workspace.remote import Remote

#: Terminals for notifications, beside those of attempts.
ASIDE = 256
#: The store that keeps nothing.
MEMORY = "memory:"


async def stores(config: Config, state: Path, clock: SystemClock) -> Stores:
    """The stores that the configuration names."""
    if config.store.url == MEMORY:
        from skep.store.ephemeral import EphemeralBlobs, EphemeralDisk, EphemeralLog

        disk = EphemeralDisk()
        log = EphemeralLog(disk)
        return Stores(log=log, blobs=EphemeralBlobs(disk, clock.now), close=log.close)
    if config.store.url:
        from skep.store.redis.shared import open_shared

        return await open_shared(config.store, state, clock.now)
    from skep.store.blobs import FileBlobs
    from skep.store.sqlite import SqliteLog

    blobs = FileBlobs(state / "blobs")
    kept = await SqliteLog.open(state)
    return Stores(log=kept, blobs=blobs, close=kept.close)


async def _kept(config: Config, state: Path, clock: SystemClock, role: Role | None) -> Stores:
    """The stores; who serves others is to find out now, not with the first large output, that a part of them is not for it."""
    kept = await stores(config, state, clock)
    try:
        if role is not None and kept.invited not in ("", role.here.name):
            fix = f"Leave out --name, or have '{role.here.name}' invited."
            raise Invalid(f"the invitation is for node '{kept.invited}', not for '{role.here.name}'", fix)
        if role is not None and role.serves and kept.ready is not None:
            await kept.ready()
    except BaseException:
        await kept.close()
        raise
    return kept


async def _bank(config: Config, state: Path, kept: Stores, clock: SystemClock) -> Bank:
    """What is remembered here; the stores are closed if it cannot be opened."""
    try:
        folder = None if config.store.url == MEMORY else state / "memory"
        store = config.store
        together = Together(store.url, store.replicas, kept.log.seal, bool(kept.invited)) if kept.inbox is not None else None
        return await open_bank(config.memory, folder, clock.now, kept.blobs, together)
    except BaseException:
        await kept.close()
        raise


def _carried(workspace: GitWorkspace, kept: Stores, config: Config) -> Commits | None:
    """How commits travel, if others share the store; the workspace knows it from then on."""
    if not isinstance(workspace, CarriedWorkspace) or kept.listing is None:
        return None
    remote = Remote(config.store.remote, kept.name) if config.store.remote else None
    commits = workspace.commits(kept.blobs, kept.listing, Limits(packed=config.store.bundle), remote)
    workspace.carry(commits)
    return commits


def publishers(config: Config, log: Log, clock: SystemClock) -> Publishers | None:
    """Whoever publishes sessions, if they are to be published."""
    publish = config.publish
    if not (publish.channels or publish.state):
        return None
    from skep.redis.connect import Link

    return Publishers(Link(publish.url or config.store.url), publish, log, clock.now)


@asynccontextmanager
async def hive(folder: Path, config: Config) -> AsyncIterator[tuple[Leases, Stores]]:
    """Who is there, and all else, of the store that the configuration names, without becoming anything in it.

    Raises:
        Invalid: it is not shared.
        Denied, Unavailable: it does not let us in, or does not answer.
    """
    if config.store.url in ("", MEMORY):
        raise Invalid("this workspace shares its store with nobody", "Name the store with --redis URL, or [store] in skep.toml.")
    kept = await stores(config, folder / STATE, SystemClock())
    try:
        assert kept.leases is not None
        yield kept.leases, kept
    finally:
        await kept.close()


async def _workspace(folder: Path, state: Path, role: Role | None, shared: bool) -> GitWorkspace:
    """Where attempts work: in copies of the user's files, or, on a node, of what sessions bring along."""
    if not shared:
        return await GitWorkspace.open(folder, state)
    if role is not None and role.hosted:
        return await CarriedWorkspace.host(state)
    return await CarriedWorkspace.open(folder, state)


def _here(state: Path, kept: Stores) -> Here:
    """This machine as a node, unless its role says otherwise."""
    return Here(name=kept.invited or named(state), slots=SHARED_SLOTS) if kept.leases is not None else Here()


def _together(kept: Stores, role: Role | None) -> Shared | None:
    if kept.inbox is None or kept.leases is None:
        return None
    said = role or Role()
    owner, leads = secrets.token_hex(8), said.leads and not kept.invited
    shared = Shared(inbox=kept.inbox, leases=kept.leases, owner=owner, serves=said.serves, leads=leads, say=said.say)
    return replace(shared, handoffs=kept.handoffs, invited=bool(kept.invited))


def _secrets(log: Log, node: str, shared: Shared | None) -> TaskSecrets:
    """Where secrets of tasks come from: this process's environment; who serves others asks for what is not there."""
    if shared is None or shared.handoffs is None or not shared.serves:
        return TaskSecrets()
    return AskedSecrets(log, shared.leases, shared.handoffs, node, shared.owner)


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


async def _close(*steps: Callable[[], Awaitable[None]]) -> None:
    """Closes what was opened in this order: the last one goes first, and all of them go."""
    async with AsyncExitStack() as stack:
        for step in steps:
            stack.push_async_callback(step)


async def assemble(folder: Path, config: Config, role: Role | None = None) -> Parts:
    """Everything an owner of the workspace needs, started.

    Args:
        role: what it does for others who share its store; otherwise it carries out what is begun here.

    Raises:
        Unavailable: the store fails its checks, or git does not work here.
        Invalid: the folder is nothing to work in.
    """
    state, clock = folder / STATE, SystemClock()
    workspace = await _workspace(folder, state, role, config.store.url not in ("", MEMORY))
    # Last of what may fail: nothing of the above has to be closed again.
    kept = await _kept(config, state, clock, role)
    bank = await _bank(config, state, kept, clock)
    commits = _carried(workspace, kept, config)
    here = replace(role.here if role is not None else _here(state, kept), place=place(state))
    shared, published = _together(kept, role), publishers(config, kept.log, clock)
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
        blobs=kept.blobs,
        allowed=environment.base(config.environment.allow),
        marks=environment.marks(folder, state),
        transcripts=state / TRANSCRIPTS,
        recorder=Recorder(state / TRANSCRIPTS, here.name, kept, config.store.recording),
        prices=prices,
        secrets=_secrets(kept.log, here.name, shared).of,
        prompts=folder / config.prompts.folder if config.prompts.folder else None,
        bank=bank,
    )

    open_later = [one.close for one in (published, wards, *made.values(), inprocess) if one is not None]
    return Parts(
        config=config,
        folder=folder,
        state=state,
        log=kept.log,
        blobs=kept.blobs,
        bank=bank,
        workspace=workspace,
        performer=Performer(node, inprocess, clock.now, calls=role is None or role.calls or not role.serves),
        clock=clock,
        here=here,
        shared=shared,
        terminals=pool.stats,
        close=partial(_close, kept.close, bank.close, node.recorder.close, *open_later),
        listing=kept.listing,
        commits=commits,
        recordings=kept.recordings,
        publishers=published,
    )
