"""What can be asked of the sessions of one state folder, answered in the process that owns it: `runtime.requests`, one by one."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from skep.config import redacted
from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.estimates import Estimate, Past, estimate
from skep.core.model import TERMINAL, AgentSpec, Entry, Limits, Plan, Task, TaskState
from skep.core.placement import INPROCESS, explain
from skep.core.settle import halted
from skep.core.state import State, unpack
from skep.errors import Conflict, Invalid, NotFound, SkepError, Unavailable
from skep.runtime import foretell, node, pinned, plans, revise
from skep.runtime import requests as rq
from skep.runtime.backups import Backups
from skep.runtime.bounds import at_work
from skep.runtime.claims import Claims
from skep.runtime.costs import CostView, cost_view
from skep.runtime.deputies import sealed
from skep.runtime.episodes import Episodes
from skep.runtime.fleets import Fleets
from skep.runtime.inquiry import Inquiries
from skep.runtime.live import Live
from skep.runtime.membership import Membership, carried
from skep.runtime.names import Known, Names, check_name
from skep.runtime.parts import Parts
from skep.runtime.prices import Prices
from skep.runtime.ready import Readiness, readiness
from skep.runtime.recordings import Recordings
from skep.runtime.remembering import Remembering
from skep.runtime.results import Results, find, missing
from skep.runtime.sealed_secrets import Giver
from skep.runtime.session import Session, resting
from skep.runtime.views import (
    Brief,
    Need,
    Result,
    SessionView,
    TaskView,
    brief,
    needs,
    result_of,
    session_view,
    status_of,
    task_view,
)

R = TypeVar("R")

#: Inputs that may come through `Tell`; the others are made by the owner itself.
FOR_PEOPLE = (
    inp.Cancel,
    inp.Retry,
    inp.Say,
    inp.Permit,
    inp.Interrupt,
    inp.Pause,
    inp.Resume,
    inp.Close,
    inp.Mark,
    inp.DeclareAgents,
    inp.ChangePlan,
)


class Sessions:
    """All sessions here, asked by whoever holds the door."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.names = Names(parts.log, shared := parts.shared is not None)
        self.live = Live(parts, self.names)
        self._membership: Membership | None = None
        self.deputies = parts.performer.deputies
        self._making, self._since = asyncio.Lock(), parts.clock.now()
        self.guests: Callable[[], int] = lambda: 0
        self._claims = Claims(self, parts)
        results = Results(self, parts)
        self._backups = Backups(self, results, parts)
        self.live.episodes = Episodes(parts.log, parts.bank, parts.workspace, parts.state, self.live.look, shared)
        self.live.chores += [*self._backups.chores(), Giver(self.live, parts).run, self.live.episodes.run]
        self._answers: dict[type, Callable[[Any], Awaitable[Any]]] = {
            rq.Who: self._who,
            rq.ListSessions: self._list,
            rq.Create: self._create,
            rq.Ensure: self._ensure,
            rq.Activate: self._activate,
            rq.Revise: self._revise,
            rq.Stop: self._stop,
            rq.Submit: self._submit,
            rq.Tell: self._tell,
            rq.Status: self._status,
            rq.GetTask: self._task,
            rq.Await: self._await,
            rq.Settle: self._settle,
            rq.Explain: self._explain,
            rq.Foretell: self._foretell,
            rq.Costs: self._costs,
            rq.Inbox: self._inbox,
            rq.Ready: self._ready,
            **results.answers,
            **self._backups.answers,
            **self._claims.answers,
            **Fleets(self, parts).answers,
            **Recordings(self, parts).answers,
            **Remembering(parts).answers,
            rq.Inquire: Inquiries(self, parts).inquire,
        }

    async def call(self, request: rq.Request[R]) -> R:
        """Answers a request. Raises what the request's description names."""
        answer: R = await self._answers[request.__class__](request)
        return answer

    async def stream(self, request: rq.Follow) -> AsyncGenerator[tuple[int, ev.Event], None]:
        """The events of a session; of one that is not carried out here, those that are there."""
        async with contextlib.aclosing(self.live.stream(await self.names.resolve(request.session), request.after)) as source:
            async for item in source:
                yield item

    async def begin(self) -> None:
        """Tidies up after an owner that died. Before anything is asked."""
        await self.live.begin()
        await self._backups.retention.begin()
        if self._parts.shared is not None:
            self._membership = Membership(self._parts, self._parts.shared, self.live)
            await self._membership.start()

    async def close(self) -> None:
        """Stops what runs, keeps its work, closes everything."""
        try:
            try:
                await self.live.close()
            finally:
                if self._membership is not None:
                    await self._membership.close()
        finally:
            await self._parts.close()

    async def parted(self) -> None:
        """See `Membership.left`; never returns for what is no node of a shared store."""
        await (self._membership.left() if self._membership is not None else asyncio.Event().wait())

    def _now(self) -> int:
        return self._parts.clock.now()

    # Sessions

    async def _who(self, _: rq.Who) -> rq.OwnerView:
        at_work, here = self.live.at_work(), self._parts.performer.node.wards.here
        view = rq.OwnerView(pid=os.getpid(), since=self._since, sessions=at_work, guests=self.guests())
        if self._parts.shared is not None:
            view = msgspec.structs.replace(view, store=redacted(self._parts.config.store.url))
        return msgspec.structs.replace(view, terminals=self._parts.terminals(), confinement=here, claims=self._claims.count)

    async def _list(self, _: rq.ListSessions) -> list[Brief]:
        briefs = [await self._briefly(known) for known in await self.names.all()]
        return [one for one in briefs if one is not None]

    async def _briefly(self, known: Known) -> Brief | None:
        live = self.live.is_at_work(known.session)
        shown = partial(brief, session=known.session, name=known.name, opened=known.created, live=live)
        try:
            return await self.live.look(known.session, shown)
        except NotFound:  # pruned meanwhile
            return None
        except Invalid as error:  # one damaged log must not hide the other sessions
            return msgspec.structs.replace(shown(State()), state="damaged", objective=error.message)

    async def _create(self, asked: rq.Create) -> SessionView:
        plan = await self.complete(asked.plan)
        self._check_confinement(plan, plan.agents, plan.tasks)
        async with self._making:
            if not asked.new and plan.source:
                await self._refuse_unfinished(plan.source)
            foretold = await self._may_cost(plan)
            view = await self._make(asked.name or await self.next_name(plan.name), plan, asked.by, asked.start)
        notes = plans.scaled(plan, self._parts.config, node.capacity(self._parts.state))
        notes += plans.mute(plan, self._parts.performer.node.runtimes)
        notes += plans.exposed(plan, self._parts.config)
        return msgspec.structs.replace(view, notes=notes, estimate=foretold if foretold.tasks else None)

    async def _foretell(self, asked: rq.Foretell) -> Estimate:
        return await self._may_cost(plans.complete(asked.plan, self._parts.config))

    async def _may_cost(self, plan: Plan) -> Estimate:
        """What a complete plan may cost."""
        parts, known = self._parts, list[Past]()
        prices = Prices(parts.config.prices)
        coming = foretell.ahead(plan, parts.here.join(parts.state, parts.clock), prices)
        rows = [row for row in await parts.log.sessions() if row.note and row.head.seq <= foretell.MAX_EVENTS] if coming else []
        for row in rows[: -foretell.MAX_SESSIONS - 1 : -1]:
            with contextlib.suppress(Invalid):  # a damaged log tells nothing
                known += await self.live.look(row.session, lambda state: list(foretell.past(state)))
            if len(known) >= foretell.MAX_PAST:
                break
        return estimate(coming, known[: foretell.MAX_PAST], foretell.priced(prices))

    def _elastic(self, plan: Plan) -> Plan:
        return plan if self._parts.shared is None else msgspec.structs.replace(plan, elastic=True)

    async def complete(self, plan: Plan) -> Plan:
        """The plan of somebody who has it carried out: that is their word also for the commands that may answer for them."""
        parts, whole = self._parts, self._elastic(plans.complete(plan, self._parts.config))
        return await asyncio.to_thread(sealed, whole, str(parts.folder), parts.performer.node.allowed.get("PATH", os.defpath))

    async def _refuse_unfinished(self, source: str) -> None:
        for known in await self.names.all():
            if known.source != source or known.replaced:
                continue
            with contextlib.suppress(NotFound):  # pruned meanwhile
                if await self.live.look(known.session, status_of) in ("active", "paused"):
                    fix = f"`skep resume {known.name}` goes on with it; `skep run --new` starts another."
                    raise Conflict(f"session {known.name} of this file is unfinished", fix)

    async def next_name(self, stem: str) -> str:
        """A free name for a session."""
        # A state folder that was deleted leaves its refs, a session that was pruned its archive: their names are not given again.
        taken = await self._parts.workspace.sessions() | await asyncio.to_thread(self._backups.archived)
        return await self.names.next(stem, taken)

    async def _make(self, name: str, plan: Plan, by: str, start: bool = True) -> SessionView:
        """A session with all its tasks, or none: it is there when it has its name."""
        check_name(name)
        parts, now = self._parts, self._now()
        plans.rehearse(plan, parts.here.join(parts.state, parts.clock))
        await parts.log.create(name, now)
        if start:
            self.live.asked(name)
        try:
            loop = await self.live.loop(name, hands=False)
            bare = msgspec.structs.replace(plan, tasks=())
            opened = inp.OpenSession(at=now, session=name, plan=bare, by=by)
            if plans.needs_place(plan.tasks):
                place = await parts.workspace.begin(name)
                opened = msgspec.structs.replace(
                    opened, base=place.base, kind=place.kind, branch=place.branch, left_out=place.left_out
                )
            told = [loop.tell(opened)]
            if plan.tasks:
                told.append(loop.tell(inp.Submit(at=now, tasks=plan.tasks, by=by)))
            for answer in told:
                await answer
            await self.names.give(name, name, plan.source)
        except BaseException:
            await asyncio.shield(self.live.discard(name))
            raise
        return await self.view(await self.live.loop(name, hands=start, fresh=True), tasks=False)

    async def _ensure(self, asked: rq.Ensure) -> SessionView:
        plan = Plan(name=asked.name, limits=Limits(agents=asked.agents))
        plan = self._elastic(plans.complete(plan, self._parts.config, asked.inprocess))
        async with self._making:
            found = await self.names.find(asked.name)
            if not found:
                return await self._make(asked.name, plan, asked.by)
        loop = await self._carry_on(found, asked.by)
        if asked.inprocess:
            await self._declare(loop, *(spec for spec in plan.agents if spec.name == INPROCESS))
        return await self.view(loop, tasks=False)

    async def _activate(self, asked: rq.Activate) -> SessionView:
        session = await self.names.resolve(asked.session)
        await self.live.look(session, lambda state: self._check_confinement(state.plan, state.specs.values(), _open(state)))
        taken_over = not self.live.is_at_work(session)
        loop = await self._carry_on(session, asked.by)
        if taken_over and (here := loop.state.specs.get(INPROCESS)) is not None:
            # Callables of a program that is gone: they are run in processes of their own.
            await self._declare(loop, msgspec.structs.replace(here, runtime="python"))
        return await self.view(loop)

    async def _revise(self, asked: rq.Revise) -> SessionView:
        plan, name = await self.complete(asked.plan), asked.session
        if not name:
            of_file = [known.session for known in await self.names.all() if known.source == plan.source]
            if not of_file:
                raise NotFound(f"no session here began with {plan.source}", "`skep run FILE` starts one; or name the session.")
            name = of_file[-1]
        self._check_confinement(plan, plan.agents, plan.tasks)
        session = await self.names.resolve(name)
        self.live.asked(session)
        loop = await self.live.loop(session, hands=True)
        keep, known_fates = await revise.kept(self._parts.log, loop, plan)
        await self._base(loop, plan.tasks)
        given = inp.ChangePlan(at=self._now(), plan=plan, keep=keep, known=known_fates, by=asked.by)
        await loop.tell(given)
        self.live.watch(loop, loop.head.seq)
        await loop.tell(inp.Resume(at=self._now(), by=asked.by))
        return await self.view(loop)

    def _check_confinement(self, plan: Plan, specs: Iterable[AgentSpec], tasks: Iterable[Task]) -> None:
        """Raises Unavailable or Invalid if what is to run cannot be confined as it must be: before anything is started."""
        for said in at_work(self._parts.config.sandbox, plan, specs, tasks).values():
            self._parts.performer.node.wards.expected(said)

    def _confined(self, state: State) -> dict[str, str]:
        """How each agent would be confined that has something to do."""
        found = at_work(
            self._parts.config.sandbox, state.plan, state.specs.values(), [one.task for one in state.entries.values()]
        )
        return {name: self._parts.performer.node.wards.would(said) for name, said in found.items()}

    async def _declare(self, loop: Session, *specs: AgentSpec) -> None:
        if any(loop.state.specs.get(spec.name) != spec for spec in specs):
            await loop.tell(inp.DeclareAgents(at=self._now(), specs=specs))

    async def _carry_on(self, session: str, by: str) -> Session:
        self.live.asked(session)
        loop = await self.live.loop(session, hands=True)
        await loop.tell(inp.Resume(at=self._now(), by=by))
        return loop

    async def view(self, loop: Session, tasks: bool = True) -> SessionView:
        """An open session, shown."""
        name = await self.names.shown(loop.name)
        view: SessionView = await loop.ask(lambda state: session_view(state, name, tasks, loop.has_hands, self._confined(state)))
        return await self._with_troubles(loop.name, view)

    async def _with_troubles(self, session: str, view: SessionView) -> SessionView:
        live = self.live
        untold, unpublished, unread = live.untold(session), live.unpublished(session), await live.unread(session)
        return msgspec.structs.replace(view, untold=untold, unpublished=unpublished, unread=unread)

    async def _stop(self, asked: rq.Stop) -> int:
        loop = await self.live.loop(await self.names.resolve(asked.session), hands=False)
        return await self.live.interrupt(loop, asked.why, asked.by)

    async def _status(self, asked: rq.Status) -> SessionView:
        session = await self.names.resolve(asked.session)
        name, live = await self.names.shown(session), self.live.is_at_work(session)
        shown = partial(session_view, name=name, tasks=asked.tasks, live=live)
        view = await self.live.look(session, lambda state: shown(state, expected=self._confined(state)))
        return await self._with_troubles(session, view)

    async def _settle(self, asked: rq.Settle) -> SessionView:
        loop = await carried(self.live, await self.names.resolve(asked.session), settled)
        return await self.live.through(loop, self._settled)

    async def _settled(self, loop: Session) -> SessionView:
        if loop.has_hands:
            await loop.until(lambda state: settled(state) or None)
        return await self.view(loop)

    # Tasks

    async def _submit(self, asked: rq.Submit) -> tuple[str, ...]:
        session = await self.names.resolve(asked.session)
        loop = self.live.get(session) or await self.live.loop(session, hands=asked.carry)
        await self._base(loop, asked.tasks)
        known = await self._known(loop, asked.tasks)
        given = inp.Submit(at=self._now(), tasks=asked.tasks, key=asked.key, known=known, by=asked.by)
        ids: tuple[str, ...] = await loop.tell(given)
        return ids

    async def _base(self, loop: Session, tasks: tuple[Task, ...]) -> None:
        """Makes the session's branch, if it has none and one of the tasks works in a worktree."""
        if not loop.state.base and plans.needs_place(tasks):
            opened = await self._parts.workspace.begin(loop.name)
            based = inp.SetBase(at=self._now(), base=opened.base, kind=opened.kind, branch=opened.branch)
            await loop.tell(msgspec.structs.replace(based, left_out=opened.left_out))

    async def _known(self, loop: Session, tasks: tuple[Task, ...]) -> dict[str, TaskState]:
        """The fates of needs that left the live state. Raises Conflict for an id that an archived task has."""
        entries, own = loop.state.entries, {task.id for task in tasks if task.id}
        needs = {need for task in tasks for need in task.needs if need not in entries and need not in own}
        if not needs and not own:
            return {}
        found = await self._parts.log.archived(loop.name, sorted(needs | own))
        taken = next((name for name in found if name in own), "")
        if taken:
            raise Conflict(f"there was a task '{taken}' in this session already", "Give the task another id, or none.")
        return {name: unpack(blob).state for name, blob in found.items()}

    async def _tell(self, asked: rq.Tell) -> Any:
        session = await self.names.resolve(asked.session)
        given = msgspec.structs.replace(asked.input, at=self._now())
        if not isinstance(given, FOR_PEOPLE):
            raise Invalid(f"'{type(given).__name__}' is not for callers")
        told = await (await self.live.loop(session, hands=False)).tell(given)
        if isinstance(given, inp.Mark):
            await pinned.pin(self._parts.bank, session, told)
        return told

    async def _task(self, asked: rq.GetTask) -> TaskView:
        session = await self.names.resolve(asked.session)

        def query(state: State) -> TaskView | None:
            entry = state.entries.get(asked.task)
            return None if entry is None else task_view(state, entry)

        found = await self.live.look(session, query)
        if found is not None:
            return found
        archived = await self._parts.log.archived(session, [asked.task])
        if asked.task not in archived:
            raise missing(session, asked.task)
        return task_view(State(), unpack(archived[asked.task]))

    async def _await(self, asked: rq.Await) -> list[Result]:
        session = await self.names.resolve(asked.session)
        loop = self.live.get(session) or await carried(self.live, session, settled)
        return await self.live.through(loop, partial(self._ended, asked.tasks))

    async def _ended(self, tasks: Sequence[str], loop: Session) -> list[Result]:
        found: dict[str, Result] = {}
        gone: list[str] = []
        open_tasks: list[str] = []
        complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        left = 0

        def finished(entry: Entry | SkepError) -> None:
            nonlocal left
            if complete.done():
                return
            if isinstance(entry, SkepError):
                complete.set_exception(entry)
                return
            found[entry.task.id] = result_of(entry)
            left -= 1
            if left == 0:
                complete.set_result(None)

        def query(state: State) -> None:
            nonlocal left
            for name in tasks:
                entry = state.entries.get(name)
                if entry is None:
                    gone.append(name)
                elif entry.state in TERMINAL:
                    found[name] = result_of(entry)
                else:
                    left += 1
                    open_tasks.append(name)
                    loop.when_done(name, finished)
            if left and halted(state):
                raise resting(state)

        try:
            await loop.ask(query)
            if gone:
                for name, blob in (await self._parts.log.archived(loop.name, gone)).items():
                    found[name] = result_of(unpack(blob))
            lost = next((name for name in gone if name not in found), "")
            if lost:
                raise missing(loop.name, lost)
            if left:
                if not loop.has_hands:
                    raise Unavailable(f"nobody carries session {loop.name} out", f"`skep resume {loop.name}` goes on with it.")
                await complete
        finally:
            if left:
                for name in open_tasks:
                    loop.never_mind(name, finished)
        return [found[name] for name in tasks]

    async def _explain(self, asked: rq.Explain) -> Any:
        session = await self.names.resolve(asked.session)
        return await self.live.look(session, lambda state: explain(state, find(state, asked.task).task))

    async def _costs(self, asked: rq.Costs) -> CostView:
        name = await self.names.resolve(asked.session)
        now = self._parts.clock.now() if self.live.is_at_work(name) else 0
        return await self.live.look(name, lambda state: cost_view(state, name, now))

    async def _inbox(self, _: rq.Inbox) -> list[Need]:
        found: list[Need] = []
        for known in await self.names.all():
            live = self.live.is_at_work(known.session)
            with contextlib.suppress(Invalid, NotFound):  # a damaged log asks nothing; the list of sessions tells of it
                found += await self.live.look(known.session, partial(needs, name=known.name, live=live))
        return sorted(found, key=lambda need: need.since)

    async def _ready(self, asked: rq.Ready) -> list[Readiness]:
        return await self.live.look(await self.names.resolve(asked.session), readiness)


def _open(state: State) -> list[Task]:
    return [entry.task for entry in state.entries.values() if entry.state not in TERMINAL]


def settled(state: State) -> bool:
    """Whether nothing goes on in a session by itself."""
    if state.running or state.intent is not None:
        return False
    if state.open_tasks == 0 or state.paused or state.closed:
        return True
    return not any(
        entry.state in ("ready", "parked", "merging") or (entry.state == "waiting" and not entry.unmet)
        for entry in state.entries.values()
    )
