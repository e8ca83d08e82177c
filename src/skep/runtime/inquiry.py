"""Questions to an agent after its task is over: asked of a copy of its conversation, without tools, charged to the session.

What a question holds of the session's money while it is under way is known to this process alone: it counts for other questions,
and an attempt that begins meanwhile does not see it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from skep.agents import Ask, Ending, Job, Report, Said, Spent, Verdict
from skep.agents.door import Request
from skep.core import budgets
from skep.core import inputs as inp
from skep.core.model import AgentSpec, Cost, Entry
from skep.core.state import State, unpack
from skep.errors import Conflict, Denied, Invalid, Unavailable
from skep.runtime import environment
from skep.runtime import requests as rq
from skep.runtime.attempt import Node, mode_of, place_of
from skep.runtime.bounds import bounds, of_agent
from skep.runtime.homes import home
from skep.runtime.parts import Parts
from skep.runtime.results import missing
from skep.runtime.views import InquiryView
from skep.security.redact import Redactor, without

if TYPE_CHECKING:
    from skep.runtime.sessions import Sessions

#: Characters of a question, and seconds that its answer may take.
MAX_QUESTION, PATIENCE = 100_000, 600.0


class _Listener:
    """The host of one question: hears what is said and spent; nothing is allowed."""

    def __init__(self) -> None:
        self.spent: list[Spent] = []
        self.said: list[str] = []

    async def spawned(self, pid: int, born: int) -> None:
        """Nobody resumes it: it ends with its owner."""

    def output(self, data: bytes) -> None:
        """Not kept."""

    def report(self, report: Report) -> None:
        """Words and costs."""
        if isinstance(report, Spent):
            self.spent.append(report)
        elif isinstance(report, Said):
            self.said.append(report.text)

    async def ask(self, ask: Ask) -> Verdict:
        """No."""
        return Verdict(False, "This is a question; nothing is to be done.")

    async def serve(self, request: Request) -> Any:
        """Nothing."""
        raise Denied("this is a question; nothing is to be done")

    def listen(self, hear: Callable[[str], None] | None) -> None:
        """Nobody else speaks to it."""


class Inquiries:
    """Answers the requests to ask agents whose tasks are over."""

    def __init__(self, sessions: Sessions, parts: Parts) -> None:
        self._sessions, self._parts = sessions, parts
        #: Session -> dollars that questions under way hold.
        self._held: dict[str, float] = {}

    async def inquire(self, asked: rq.Inquire) -> InquiryView:
        """See the request."""
        if not asked.question.strip() or len(asked.question) > MAX_QUESTION:
            raise Invalid("the question is empty or too long", f"Ask something, in at most {MAX_QUESTION:,} characters.")
        session = await self._sessions.names.resolve(asked.session)
        entry, spec, said = await self._found(session, asked.task)
        host = _Listener()
        with self._reserved(session, entry, spec, said):
            try:
                ending = await self._answered(session, entry, spec, said, asked.question, host)
            finally:
                cost = await asyncio.shield(self._charge(session, asked, host.spent))
        if not ending.ok:
            why = ending.detail or ending.cause
            raise Unavailable(f"{entry.agent} could not answer: {why}", "Try again, or ask in other words.")
        answer = str(ending.result or "\n".join(host.said))
        name = await self._sessions.names.shown(session)
        return InquiryView(session=session, name=name, task=asked.task, agent=entry.agent, answer=answer, cost=cost)

    async def _found(self, session: str, task: str) -> tuple[Entry, AgentSpec, State]:
        """The task, the kind of agent that it talked with, the session's state. Raises as the request says."""
        node = self._parts.performer.node
        state: State = await self._sessions.live.look(session, lambda state: state)
        entry = state.entries.get(task)
        if entry is None:
            archived = await self._parts.log.archived(session, [task])
            if task not in archived:
                raise missing(session, task)
            entry = unpack(archived[task])
        if entry.attempt is not None:
            raise Conflict(
                f"task '{task}' is at work", f"`skep tell {entry.agent} ...` speaks to its agent; ask when it is done."
            )
        spec = state.specs.get(entry.talker)
        if not entry.conversation or spec is None:
            who = state.specs.get(entry.agent.rpartition("-")[0])
            lack = f": its agent's runtime is {who.runtime}" if who is not None else ""
            fix = f"`skep logs {task}` shows what it printed."
            raise Conflict(f"task '{task}' has no conversation that could be asked{lack}", fix)
        runtime = node.runtimes[spec.runtime]
        if "answers" not in runtime.can:
            why = "its client cannot be asked without changing its conversation"
            raise Unavailable(f"not available for {spec.runtime}: {why}", f"`skep logs {task}` shows what it said.")
        if lack := runtime.check():
            raise Unavailable(f"{spec.runtime} cannot be used here: {lack}", "`skep doctor` says more.")
        if why := budgets.used_up(state, state.at):
            raise Conflict(f"session {session}: {why}", "Raise the limit in the file, then `skep resume --file`.")
        return entry, spec, state

    @contextlib.contextmanager
    def _reserved(self, session: str, entry: Entry, spec: AgentSpec, state: State) -> Iterator[None]:
        """Holds what a question may cost, as long as this is open. Raises Conflict if nothing is left to hold."""
        held = self._held.get(session, 0.0)
        own = budgets.reserve(state, entry, spec, held)
        if own is None:
            why = "what is left of the money is held by what is under way"
            raise Conflict(f"session {session}: {why}", "Ask when that is over, or raise the limit with `skep resume --file`.")
        self._held[session] = held + own
        try:
            yield
        finally:
            self._held[session] -= own
            if self._held[session] < 1e-6:
                del self._held[session]

    async def _answered(
        self, session: str, entry: Entry, spec: AgentSpec, state: State, question: str, host: _Listener
    ) -> Ending:
        """Asks it in a folder with its work, and a home with a copy of its conversation; neither is left."""
        node, task, nonce = self._parts.performer.node, entry.task, secrets.token_hex(16)
        folder = Path(f"{node.marks['SKEP_HOME']}/attempts/ask-{nonce[:12]}")
        home = folder / "home"
        home.mkdir(mode=0o700, parents=True)
        place, commit = f"ask/{task.id}/{nonce[:12]}", entry.merged or entry.commit or entry.wip or state.tip
        inside = mode_of(task) != "none" and bool(commit)
        cwd = await node.workspace.checkout(session, place, commit) if inside else str(folder)
        wanted = environment.matching(node.runtimes[spec.runtime].wants)
        marks = {**node.marks, "SKEP_SESSION": session, "SKEP_TASK": task.id, "SKEP_NONCE": nonce}
        # Its conversation may speak of the task's secrets, too. One that is not set here any more cannot be known.
        hidden = {name: os.environ[name] for name in task.secrets if name in os.environ} | environment.keys(wanted)
        try:
            job = Job(
                task=task,
                n=entry.attempts,
                nonce=nonce,
                agent=entry.agent,
                options=spec.options,
                cwd=cwd,
                out=str(folder / "out"),
                env={**node.allowed, **wanted, **marks},
                feedback="",
                model=spec.model,
                home=str(home),
                conversation=entry.conversation,
                question=question,
                past=_past(node, session, entry),
                usd=budgets.cap(state, entry),
            )
            ending = await self._confined(job, spec, state, host, inside, tuple(hidden.values()))
            # Its last words may come from elsewhere than what it printed, such as its standard error.
            words = without([ending.detail, ending.result], Redactor(hidden.values()))
            return replace(ending, detail=words[0], result=words[1])
        finally:
            if inside:
                with contextlib.suppress(Exception):
                    await asyncio.shield(node.workspace.remove(cwd))
            await asyncio.to_thread(shutil.rmtree, folder, True)

    async def _confined(
        self, job: Job, spec: AgentSpec, state: State, host: _Listener, inside: bool, hidden: tuple[str, ...]
    ) -> Ending:
        node = self._parts.performer.node
        said, within = of_agent(node.confining, state.plan, spec), None
        os.makedirs(job.out, exist_ok=True)
        if said.mode != "off":
            around = await node.workspace.around(job.cwd if inside else "")
            job.env.update({name: value for name, value in around.env.items() if name not in job.env})
            within = bounds(said, node.folder, node.state, job.env, around, (str(Path(job.home).parent),), job.home)
        with node.wards.of(job.nonce, within, hidden, said.network):
            job = replace(job, task=replace(job.task, timeout=PATIENCE), confined=within is not None)
            return await node.runtimes[spec.runtime].run(job, host)

    async def _charge(self, session: str, asked: rq.Inquire, reports: list[Spent]) -> Cost:
        """Records what it cost; returns the sum."""
        total, parts = Cost(), self._parts
        for report in reports:
            cost = parts.performer.node.prices(report)
            total.add(cost)
            loop = await self._sessions.live.loop(session, hands=False)
            now = parts.clock.now()
            await loop.tell(inp.Inquired(at=now, task=asked.task, cost=cost, model=report.model, by=asked.by))
        return total


def _past(node: Node, session: str, entry: Entry) -> tuple[str, str]:
    """Home and folder in which the conversation was held."""
    return home(node.marks["SKEP_HOME"], session, entry.task.id), node.workspace.path(session, place_of(entry.task))
