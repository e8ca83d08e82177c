"""What people do with what a session did: land it, look at it, discard it, fork it, carry it elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from skep.core import inputs as inp
from skep.core.apply import replay
from skep.core.candidates import rivals
from skep.core.model import TERMINAL, Entry, Plan
from skep.core.state import State, unpack
from skep.core.topology import PERSON
from skep.errors import Conflict, NotFound
from skep.memory.scope import namespace_of
from skep.runtime import copies, pinned
from skep.runtime import requests as rq
from skep.runtime.choice import ChoiceView, choice_view
from skep.runtime.homes import set_aside
from skep.runtime.mail import Handed, MailView, mail_view
from skep.runtime.names import stem_of
from skep.runtime.parcel import Parcel
from skep.runtime.parts import Parts
from skep.runtime.shared import opened_with
from skep.runtime.views import Landing, SessionView
from skep.workspace.erase import erase

if TYPE_CHECKING:
    from skep.runtime.sessions import Sessions

#: The key that signs receipts, in the state folder.
SIGNING_KEY = "receipt.key"


def missing(session: str, task: str) -> NotFound:
    """The error for a task that is not there."""
    return NotFound(f"no task '{task}' in session {session}", "`skep status` lists the tasks.")


def find(state: State, task: str) -> Entry:
    """A task of the live state. Raises NotFound."""
    entry = state.entries.get(task)
    if entry is None:
        raise missing(state.session, task)
    return entry


class Results:
    """Answers the requests about a session's work, its copies and the user's repository."""

    def __init__(self, sessions: Sessions, parts: Parts) -> None:
        self._sessions = sessions
        self._parts = parts
        self.answers: dict[type, Callable[[Any], Awaitable[Any]]] = {
            rq.Proposed: self._proposed,
            rq.Fork: self._fork,
            rq.Export: self._export,
            rq.MakeReceipt: self._receipt,
            rq.Import: self._import,
            rq.Land: self._land,
            rq.Discard: self._discard,
            rq.Drop: self._drop,
            rq.Candidates: self._candidates,
            rq.Message: self._message,
            rq.Messages: self._messages,
            rq.Diff: self._diff,
            rq.OpenTask: self._open_task,
        }

    def _now(self) -> int:
        return self._parts.clock.now()

    async def _proposed(self, asked: rq.Proposed) -> Plan:
        def query(state: State) -> Plan | None:
            asking = (entry for entry in state.entries.values() if entry.proposal is not None and entry.state == "needs-you")
            entry = find(state, asked.task) if asked.task else next(asking, None)
            if entry is None or (proposal := entry.proposal) is None:
                return None
            verify = proposal.verify if proposal.verify is not None else state.plan.verify
            return msgspec.structs.replace(state.plan, tasks=proposal.tasks, verify=verify, fingerprint=proposal.fingerprint)

        found = await self._sessions.live.look(await self._sessions.names.resolve(asked.session), query)
        if found is None:
            who = f"task '{asked.task}'" if asked.task else "no task"
            raise Conflict(f"{who} proposes {'nothing' if asked.task else 'anything'} now", "`skep status` shows what asks.")
        return found

    async def _fork(self, asked: rq.Fork) -> SessionView:
        origin = await self._sessions.names.resolve(asked.session)
        events = await copies.events_until(self._parts.log, origin, asked.at)
        if asked.restore and (loop := self._sessions.live.get(origin)) is not None:
            await self._sessions.live.interrupt(loop, f"restored as it was at {asked.at}", asked.by)
        name = await self._sessions.next_name(stem_of(origin))

        async def fill() -> State:
            state = await copies.fork(self._parts.log, origin, name, events, self._now(), asked.by)
            if state.base:
                await self._parts.workspace.fork(origin, name, state.tip)
            every = await copies.every_event(self._parts.log, origin)
            seq = int(asked.at) if asked.at.isdecimal() else len(events) if asked.at else 0
            await pinned.fork(self._parts.bank, origin, every, seq, name)
            return state

        shown = await self._sessions.names.shown(origin)
        view = await self.copied(name, shown if asked.restore else name, fill)
        if asked.restore:
            await self._sessions.names.give(origin, f"{origin}@{len(events)}", "")
        return view

    async def copied(self, name: str, shown: str, fill: Callable[[], Awaitable[State]]) -> SessionView:
        """A session that is filled with the log of another: whole, or not there. It goes by `shown`, if that is anything."""
        await self._parts.log.create(name, self._now())
        try:
            state = await fill()
            if shown:
                await self._sessions.names.give(name, shown, state.plan.source)
        except BaseException:
            await asyncio.shield(self._sessions.live.discard(name))
            await asyncio.shield(self._parts.bank.forget(namespace_of(name)))
            raise
        return await self._sessions.view(await self._sessions.live.loop(name, hands=False))

    async def _export(self, asked: rq.Export) -> int:
        session = await self._sessions.names.resolve(asked.session)
        name, seq = await self._sessions.names.shown(session), (await self._parts.log.row(session)).head.seq
        return (await copies.save(self._parts, session, name, Path(asked.path), seq)).size

    async def _receipt(self, asked: rq.MakeReceipt) -> bytes:
        from skep.runtime import receipt  # cryptography takes its time, and few ask for a receipt
        from skep.security.signing import Signer

        parts, session = self._parts, await self._sessions.names.resolve(asked.session)
        await self._refuse_rehearsal(session, "there is nothing to certify")
        head = await parts.log.verify(session)
        events = (await copies.events_until(parts.log, session, ""))[: head.seq]
        state = State()
        replay(state, events)
        archived = {name: unpack(blob) async for name, blob in parts.log.archive(session)}
        signer = await asyncio.to_thread(Signer, parts.state / SIGNING_KEY)
        name, entries = await self._sessions.names.shown(session), archived | state.entries
        return receipt.make(name, state, entries.values(), events, head, self._now(), signer)

    async def _import(self, asked: rq.Import) -> SessionView:
        parts = self._parts
        async with copies.opened(Parcel, Path(asked.path), parts.log.seal) as parcel:
            carried = await copies.aside(copies.read, parcel)
            name = await self._sessions.next_name(stem_of(parcel.manifest.session))
            return await self.copied(name, name, lambda: copies.load(parts, parcel, carried, name, asked.by))

    async def _refuse_rehearsal(self, session: str, why: str) -> None:
        if await self._sessions.live.look(session, lambda state: state.plan.rehearsal):
            raise Conflict(f"session {session} is a rehearsal: {why}", "`skep run FILE` without --rehearse does the work.")

    async def _land(self, asked: rq.Land) -> Landing:
        session = await self._sessions.names.resolve(asked.session)
        await self._refuse_rehearsal(session, "its work is not for your branch")
        opened, tip = await self._sessions.live.look(session, lambda state: (opened_with(state), state.tip))
        base, own = opened.base, opened.branch
        if not base or tip == base:
            raise Conflict(f"session {session} has merged nothing", "`skep status` shows what its tasks did.")
        await self._parts.workspace.enter(session, opened, tip)
        commit = await self._parts.workspace.land(session, asked.branch, asked.squash)
        loop = await self._sessions.live.loop(session, hands=False)
        branch = asked.branch or own
        await loop.tell(inp.Landed(at=self._now(), branch=branch, commit=commit, tip=tip, by=asked.by))
        return Landing(commit=commit, branch=branch, head=await self._parts.workspace.head())

    async def _discard(self, asked: rq.Discard) -> list[str]:
        session = await self._sessions.names.resolve(asked.session)
        if asked.task:
            view = await self._sessions.call(rq.GetTask(session=session, task=asked.task))
            if view.state not in TERMINAL:
                raise Conflict(f"task '{asked.task}' is not finished", "Cancel it first.")
        # What is not live any more is in the archive: finished.
        states = await self._sessions.live.look(session, lambda state: {name: e.state for name, e in state.entries.items()})
        gone = []
        for name in await self._parts.workspace.refs(session):
            kind, _, rest = name.partition("/")
            task = rest.rpartition("/")[0]
            if kind not in ("wip", "task") or asked.task not in ("", task):
                continue
            state = states.get(task, "done")
            if asked.task or (state in TERMINAL and (kind == "wip" or state != "done")):
                gone.append(name)
        await self._parts.workspace.drop(session, gone)
        # Homes of what is open stay, as it goes on in its conversation; nothing begins between this look and their going.
        kept = {name for name, state in states.items() if state not in TERMINAL} | self._parts.performer.at_work(session)
        for home in set_aside(str(self._parts.state), session, [asked.task] if asked.task else None, kept):
            await asyncio.to_thread(erase, home)
        return gone

    async def _drop(self, asked: rq.Drop) -> list[str]:
        if await self._sessions.names.find(asked.session):
            raise Conflict(f"session {asked.session} is recorded here", "`skep discard` drops its unmerged work; its log stays.")
        held = await self._parts.workspace.abandon(asked.session, asked.unmerged)
        if held and not asked.unmerged:
            raise Conflict(
                f"nothing else holds the work of session {asked.session}: {', '.join(held[:10])}; nothing was dropped",
                f"Look: git log --all --glob=refs/skep/{asked.session}. To lose it: skep session drop --unmerged {asked.session}",
            )
        for home in set_aside(str(self._parts.state), asked.session, None):
            await asyncio.to_thread(erase, home)
        return held

    async def _message(self, asked: rq.Message) -> Handed:
        loop = await self._sessions.live.loop(await self._sessions.names.resolve(asked.session), hands=False)
        said = inp.Send(at=self._now(), kind="note", source=PERSON, target=asked.agent, payload=asked.text, id=asked.key)
        name: str = await loop.tell(msgspec.structs.replace(said, ttl=int(asked.ttl * 1000), correlation=asked.answers))
        delivered = loop.has_hands and self._parts.performer.hand_over(loop, asked.agent)
        return Handed(id=name, target=asked.agent, delivered=delivered)

    async def _messages(self, asked: rq.Messages) -> MailView:
        session = await self._sessions.names.resolve(asked.session)
        shown = await self._sessions.names.shown(session)
        return await self._sessions.live.look(session, lambda state: mail_view(state, shown, asked.agent))

    async def _candidates(self, asked: rq.Candidates) -> ChoiceView:
        session = await self._sessions.names.resolve(asked.session)
        shown = await self._sessions.names.shown(session)

        def live(state: State) -> ChoiceView | None:
            entry = state.entries.get(asked.task)
            return None if entry is None else choice_view(shown, entry, rivals(state, entry))

        view = await self._sessions.live.look(session, live)
        if view is None:
            found = await self._parts.log.archived(session, [asked.task])
            if asked.task not in found:
                raise missing(session, asked.task)
            entry = unpack(found[asked.task])
            # They leave the live state after their task; until they are all archived some may still be live.
            near = await self._sessions.live.look(session, lambda state: {n: state.entries.get(n) for n in entry.children})
            gone = await self._parts.log.archived(session, [name for name, other in near.items() if other is None])
            others = [near[name] or unpack(gone[name]) for name in entry.children if near[name] is not None or name in gone]
            view = choice_view(shown, entry, [other for other in others if not other.task.ballot])
        if not view.candidates and view.ballot is None:
            raise Conflict(f"task '{asked.task}' has no candidates", "Only a task with `candidates` in its file has some.")
        return view

    async def _diff(self, asked: rq.Diff) -> str:
        session = await self._sessions.names.resolve(asked.session)

        def ends(state: State) -> tuple[str, str]:
            if not asked.task:
                return state.base, state.tip
            entry = find(state, asked.task)
            return entry.base, entry.commit or entry.wip

        old, new = await self._sessions.live.look(session, ends)
        if not old or not new or old == new:
            return ""
        await self._parts.workspace.have(session, old, new)
        return await self._parts.workspace.diff(old, new, asked.color, asked.stat)

    async def _open_task(self, asked: rq.OpenTask) -> str:
        session = await self._sessions.names.resolve(asked.session)
        view = await self._sessions.call(rq.GetTask(session=session, task=asked.task))
        workspace = self._parts.workspace
        if view.pid:
            return workspace.path(session, f"task/{view.id}")
        commit = view.merged or view.commit or view.wip
        if not commit:
            raise Conflict(f"task '{asked.task}' left no commit", "`skep logs` shows what it printed.")
        return await workspace.checkout(session, f"open/{asked.task}", commit)
