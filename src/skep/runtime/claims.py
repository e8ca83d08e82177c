"""Tasks taken by hand: what a claim hands out, and how whoever holds it renews, settles or returns it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from skep.agents.hand import HandRuntime, Held
from skep.core import inputs as inp
from skep.core.claims import held_by
from skep.core.model import TERMINAL
from skep.core.placement import BY_HAND, HAND
from skep.core.state import State
from skep.errors import Conflict, Unavailable
from skep.runtime import requests as rq
from skep.runtime.parts import Parts
from skep.runtime.results import find
from skep.runtime.session import Session
from skep.runtime.views import ClaimView, TaskView, task_view

if TYPE_CHECKING:
    from skep.runtime.sessions import Sessions

#: Variables of the attempt that whoever works on it by hand may want.
SHOWN = ("SKEP_OUT", "SKEP_NEEDS", "SKEP_INPUTS", "SKEP_PROMPT", "SKEP_TASK_KEY", "SKEP_SLOT")


class Claims:
    """Answers the requests about tasks that are taken by hand."""

    def __init__(self, sessions: Sessions, parts: Parts) -> None:
        self._sessions, self._parts = sessions, parts
        self.answers: dict[type, Callable[[Any], Awaitable[Any]]] = {rq.Claim: self._claim, rq.Settled: self._settle}

    @property
    def _hand(self) -> HandRuntime:
        hand = self._parts.performer.node.runtimes[HAND]
        assert isinstance(hand, HandRuntime)
        return hand

    @property
    def count(self) -> int:
        """How many tasks are held by hand."""
        return len(self._hand.held)

    async def _claim(self, asked: rq.Claim) -> ClaimView:
        session, live = await self._sessions.names.resolve(asked.session), self._sessions.live
        if asked.nonce:
            held = self._mine(asked.nonce, asked.task)
            held.renew(asked.lease)
            return await self._view(session, asked.task, held)
        if not live.is_at_work(session):
            # Nobody carries it out: what else is ready must not begin because somebody takes a task by hand.
            loop = await live.loop(session, hands=False)
            await loop.tell(inp.Pause(at=self._now(), why=BY_HAND, by=asked.by))
        loop = await live.loop(session, hands=True)
        while await self._ends(loop, asked.task):
            pass
        nonce: str = await loop.tell(inp.Claim(at=self._now(), task=asked.task, by=asked.by))
        held = await self._prepared(loop, asked.task, nonce)
        held.renew(asked.lease)
        return await self._view(session, asked.task, held)

    async def _ends(self, loop: Session, task: str) -> bool:
        """Whether an attempt of the task is being brought to its end, such as one whose owner died; returns when that moved."""

        def ending(state: State) -> tuple[int, bool]:
            attempt = find(state, task).attempt
            return state.seq, attempt is not None and attempt.stage == "ending"

        seq, ends = await loop.ask(ending)
        if ends:
            await loop.moved(seq)
        return bool(ends)

    async def _prepared(self, loop: Session, task: str, nonce: str) -> Held:
        """The claim once its worktree is ready. Raises Unavailable, with the reason, if it cannot be made ready."""

        def look(state: State) -> tuple[int, TaskView, str]:
            entry = find(state, task)
            return state.seq, task_view(state, entry), held_by(entry)

        while True:
            seq, entry, holder = await loop.ask(look)
            if nonce in self._hand.held:
                return self._hand.held[nonce]
            if entry.state == "running" and holder != nonce:
                raise Unavailable(
                    f"this claim of task '{task}' is over: another attempt has begun", f"`skep logs {task}` shows more."
                )
            if entry.state != "running":
                raise Unavailable(f"task '{task}' could not be prepared: {entry.detail}", f"`skep logs {task}` shows more.")
            moved = asyncio.ensure_future(loop.moved(seq))
            arrived = asyncio.ensure_future(self._hand.arrival())
            await asyncio.wait([moved, arrived], return_when=asyncio.FIRST_COMPLETED)
            moved.cancel()
            arrived.cancel()

    async def _settle(self, asked: rq.Settled) -> TaskView:
        session = await self._sessions.names.resolve(asked.session)
        held = self._mine(asked.nonce, asked.task)
        loop = await self._sessions.live.loop(session, hands=True)
        if asked.how == "release":
            await loop.tell(inp.Release(at=self._now(), task=asked.task, nonce=asked.nonce))
        else:
            held.settle(asked.how == "done", asked.message)
        while True:
            seq, view, over = await loop.ask(lambda state: self._outcome(state, asked))
            if over:
                found: TaskView = view
                return found
            await loop.moved(seq)

    def _outcome(self, state: State, asked: rq.Settled) -> tuple[int, TaskView, bool]:
        """How the task stands, and whether that is what came of the claim."""
        entry = find(state, asked.task)
        judged = held_by(entry) != asked.nonce and not (entry.state == "merging" and (state.intent or not state.paused))
        return state.seq, task_view(state, entry), judged or entry.state in TERMINAL

    def _mine(self, nonce: str, task: str) -> Held:
        held = self._hand.held.get(nonce)
        if held is None or held.job.task.id != task:
            fix = f"What it left is kept; `skep status` shows how '{task}' stands, `skep claim {task}` takes it again."
            raise Conflict(f"there is no such claim of task '{task}': it ran out, was settled, or its owner ended", fix)
        return held

    async def _view(self, session: str, task: str, held: Held) -> ClaimView:
        job = held.job
        return ClaimView(
            session=session,
            name=await self._sessions.names.shown(session),
            task=task,
            attempt=job.n,
            path=job.cwd,
            prompt=job.prompt,
            nonce=job.nonce,
            until=int((time.time() + held.left) * 1000),
            env={name: job.env[name] for name in SHOWN if name in job.env},
        )

    def _now(self) -> int:
        return self._parts.clock.now()
