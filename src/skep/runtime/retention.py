"""Sessions that ended long ago go, each once it lies in an archive that was compared with the store.

`skep restore` brings one back.

What is done with one of them, each step durable before the next begins:

1. It is archived: a backup that no later one pushes out, compared with all that the store has (`proof`).
2. It is noted which one is about to go (`GOING`, in the state folder).
3. Its log goes, if it still ends where the archive ends and nobody's letter waits.
4. What only it needed goes: refs, memory, recordings, homes, the list of its commits. Its blobs follow with the next collection.

Killed before the third step, it is there with all it has, and the next time finds its archive; after it, the next owner of the
state folder does the fourth.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from skep.config import redacted, seconds
from skep.core.fleet import SYSTEM
from skep.core.state import State
from skep.disk.durable import Draft, sync_folder
from skep.errors import Conflict, Invalid, NotFound, SkepError
from skep.memory.scope import namespace_of
from skep.runtime import requests as rq
from skep.runtime.homes import set_aside
from skep.runtime.kept import PruneView
from skep.runtime.names import Known
from skep.runtime.parts import Parts
from skep.runtime.schedule import Schedule
from skep.runtime.shared import CHORES, OWNERS, take_turn
from skep.runtime.views import needs, status_of
from skep.store import SessionRow, codec
from skep.terminals.transcript import of_session
from skep.workspace.erase import erase
from skep.workspace.refs import IN

if TYPE_CHECKING:
    from skep.runtime.backups import Backups
    from skep.runtime.sessions import Sessions

#: In the state folder: how it went the last time, and which session is going.
MARK, GOING = "retention.json", "going.json"
#: Seconds between looks by schedule; how long one process may take for one session before another may begin, ms.
DAILY, TURN = 86_400, 600_000
#: Refs with work of their own that are named.
NAMED = 5


class _Going(Struct, frozen=True):
    """The session whose log is about to go, and of which store: whether it went another store cannot tell."""

    session: str
    store: str


class Retention:
    """Answers the request to prune, and prunes daily where the settings say how long sessions stay; one after the other."""

    def __init__(self, sessions: Sessions, backups: Backups, parts: Parts) -> None:
        self._sessions = sessions
        self._backups = backups
        self._parts = parts
        self._one = asyncio.Lock()
        self.answers: dict[type, Callable[[Any], Awaitable[Any]]] = {rq.Prune: self._prune}

    async def begin(self) -> None:
        """Before anything is asked: what a process that was killed had begun. Who prunes is told what stands in its way."""
        with contextlib.suppress(SkepError, OSError):
            await self.finish()

    def schedule(self) -> Schedule:
        """What prunes daily."""
        return Schedule(DAILY, self._parts.state / MARK, self._parts.clock.now, self._due)

    async def _due(self) -> dict[str, str]:
        return {view.name: view.trouble for view in await self._all(self._parts.config.store.keep, False) if view.trouble}

    async def _prune(self, asked: rq.Prune) -> list[PruneView]:
        return await self._all(asked.older or self._parts.config.store.keep, asked.dry)

    async def _all(self, older: str, dry: bool) -> list[PruneView]:
        if not seconds(older):
            fix = 'Say it, such as `skep prune --older 30d`, or keep = "30d" in [store] of skep.toml.'
            raise Invalid(f"nothing says how long sessions stay once they ended: '{older[:40]}'", fix)
        before = self._parts.clock.now() - seconds(older) * 1000
        async with self._one:
            await self.finish()
            views, there = list[PruneView](), await self._sessions.names.all()  # read anew: fleets go by these names
            fleets = await self._of_fleets()
            for known in there:
                with contextlib.suppress(NotFound, Invalid):  # dropped meanwhile; a damaged log tells no time
                    row = await self._parts.log.row(known.session)
                    if ended := await self._ended(known, row, before):
                        view = PruneView(session=known.session, name=known.name, ended=ended)
                        views.append(await self._go(view, row, fleets, dry))
        return views

    async def _ended(self, known: Known, row: SessionRow, before: int) -> int:
        """When a session ended, ms; 0 if it did not, or not before that time, or somebody is needed in it."""
        if not row.head.seq:
            return 0
        (append,) = await self._parts.log.read(known.session, after=row.head.seq - 1, limit=1)
        ended = codec.decode(append.blob)[-1].at

        def over(state: State) -> bool:
            return status_of(state) in ("completed", "failed", "closed") and not needs(state, known.name, False)

        return ended if ended < before and await self._sessions.live.look(known.session, over) else 0

    async def _go(self, view: PruneView, row: SessionRow, fleets: dict[str, str], dry: bool) -> PruneView:
        return await self._tried(view, self._try(view, row, fleets, dry))

    async def _try(self, view: PruneView, row: SessionRow, fleets: dict[str, str], dry: bool) -> PruneView:
        if view.session in fleets:
            return replace(view, kept=f"it is of fleet {fleets[view.session]}")
        if why := await self._stays(row):
            return replace(view, kept=why)
        if dry:
            return view
        async with self._turn():
            return await self._archive_and_drop(view, row)

    async def _tried(self, view: PruneView, work: Awaitable[PruneView | None]) -> PruneView:
        """What became of the session; what goes wrong is told in the view."""
        try:
            return await work or view
        except SkepError as error:
            return replace(view, trouble=error.message)
        except OSError as error:
            return replace(view, trouble=f"{error.filename or self._parts.state}: {error.strerror}")

    async def _stays(self, row: SessionRow) -> str:
        """Why a session stays that ended long ago; empty if it may go."""
        live, shared, work = self._sessions.live, self._parts.shared, self._parts.workspace
        session = row.session
        if live.is_at_work(session) and (shared is None or session in live.own):
            return "it is being carried out here"
        if shared is not None and row.owner not in ("", shared.owner) and row.owner in await shared.leases.held(OWNERS):
            return "another process has it open: that one prunes it"
        for path, (of, name) in (await work.trees()).items():
            if of == session and name.startswith(("open/", "task/")) and await asyncio.to_thread(os.path.exists, path):
                done = "`skep open` put its work into" if name.startswith("open/") else "an attempt left what is not kept yet in"
                return f"{done} {path}: remove that folder when you are done with it"
        if not await live.look(session, lambda state: state.base):
            return ""
        if not await work.refs(session):
            return "its commits are not in this repository: prune where it was run"
        # What came from elsewhere is in the archive, and has a ref of its own once it was of use here.
        if held := [name for name in await work.unmerged(session) if not name.startswith(f"{IN}/")]:
            how = "`skep merge` lands it, `skep discard` drops what was kept"
            return f"nothing else holds its work: {', '.join(held[:NAMED])}; {how}"
        return ""

    async def _archive_and_drop(self, view: PruneView, row: SessionRow) -> PruneView:
        session, live = view.session, self._sessions.live
        if await live.look(session, lambda state: state.base):
            await self._parts.workspace.gather(session)
        made = await self._backups.archive(session, row.head)
        view = replace(view, path=made.path, bytes=made.bytes)
        if made.trouble:
            return replace(view, trouble=made.trouble)
        await asyncio.to_thread(self._note, session)
        if (loop := live.roster.get(session)) is not None and loop.failure is None:
            loop.break_off(NotFound(f"session {view.name} ended long ago and is in {made.path} now", "`skep restore` it."))
        await live.drop_broken()
        await self._sessions.names.forget(session, row.head)
        return await self._tried(replace(view, gone=True), self.finish())

    # What only it needed

    async def finish(self) -> None:
        """Goes on where a process had dropped the log of a session and was killed. Raises what stands in the way."""
        path = self._parts.state / GOING
        try:
            going = msgspec.json.decode(path.read_bytes(), type=_Going)
        except FileNotFoundError:
            return
        except msgspec.MsgspecError:
            raise Invalid(
                f"{path} is damaged: it said which session was about to go", "Remove it, then see `skep doctor`."
            ) from None
        if going.store != redacted(self._parts.config.store.url):
            return
        if not any(row.session == going.session for row in await self._parts.log.sessions()):
            await self._tidy(going.session)
        await asyncio.to_thread(_forget, path)

    def _note(self, session: str) -> None:
        with Draft(self._parts.state) as draft:
            draft.file.write(msgspec.json.encode(_Going(session, redacted(self._parts.config.store.url))))
            draft.keep(self._parts.state / GOING)

    async def _tidy(self, session: str) -> None:
        parts = self._parts
        for path, (of, _) in (await parts.workspace.trees()).items():
            if of == session:
                await parts.workspace.remove(path)
        if await parts.workspace.refs(session):
            await parts.workspace.abandon(session, unmerged=True)  # the archive has all of them
        await parts.bank.forget(namespace_of(session))
        if parts.listing is not None:
            await parts.listing.drop(session)
        if parts.publishers is not None:
            await parts.publishers.forget(session)
        for place in (*set_aside(str(parts.state), session, None), of_session(parts.performer.node.transcripts, session)):
            await asyncio.to_thread(erase, place)

    # Together with others

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Of the processes that share a store one prunes at a time. Raises Conflict while another one does."""
        shared = self._parts.shared
        if shared is None:
            yield
            return
        if not await take_turn(shared, MARK, TURN):
            raise Conflict("another process prunes sessions of this store at the moment", "Try again later.")
        try:
            yield
        finally:
            with contextlib.suppress(SkepError):
                await shared.leases.release(f"{CHORES}/{MARK}", shared.owner)

    async def _of_fleets(self) -> dict[str, str]:
        """The sessions that swarms of fleets have, and whose: they are made again when they are not there."""
        if not any(row.session == SYSTEM for row in await self._parts.log.sessions()):
            return {}

        def swarms(state: State) -> dict[str, str]:
            return {swarm.session: name for name, formed in state.fleets.items() for swarm in formed.fleet.swarms}

        found = await self._sessions.live.look(SYSTEM, swarms)
        # A fleet finds them by the names that they go by: one that was restored has another of its own.
        return {await self._sessions.names.find(session): name for session, name in found.items()}


def _forget(path: Path) -> None:
    path.unlink()
    sync_folder(path.parent)
