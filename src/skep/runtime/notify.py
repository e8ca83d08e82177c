"""Runs the commands that a plan wants to be told by: a follower of the log, like any other.

From an event in the log to the command that it starts there is nothing to wait for, as long as fewer than `PARALLEL` commands of
the same entry run. What comes on top waits in line, once for each task; the line has a bound, and what does not fit is counted.
"""

from __future__ import annotations

import asyncio
import heapq
import secrets
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from skep.core import events as ev
from skep.core.approvals import ANSWER_WITHIN
from skep.core.envelope import QUESTION
from skep.core.state import State
from skep.core.terms import Notify
from skep.core.topology import PERSON
from skep.errors import SkepError
from skep.runtime.checks import argv, shown
from skep.runtime.deputies import Deputies, Deputy, unchanged
from skep.runtime.session import Session
from skep.runtime.views import Asked, AskView, asks_of, questions, state_of
from skep.terminals import Profile, Terminals

#: A notification's command may take this long, seconds; so many of one entry of `notify` run at once.
TIMEOUT = 60.0
PARALLEL = 4
#: So many run at once that may answer: each may wait for its person, as long as the question does.
ANSWERING = 32
#: Notices of one entry that wait in line or for their time, each; what comes on top is dropped and counted.
MAX_WAITING = 1_000

Kind = Literal["", "failed", "needs-you", "done"]


def kind_of(event: ev.Event) -> Kind:
    """What an event is to a person who wants to be told, or nothing."""
    then = ""
    if isinstance(event, ev.AttemptEnded | ev.MergeFailed):
        then = event.then
    elif isinstance(event, ev.TaskClosed):
        then = event.state
    elif _asks(event):
        then = "needs-you"
    elif isinstance(event, ev.Merged):
        then = "done"
    if then in ("failed", "gave-up"):
        return "failed"
    return "needs-you" if then == "needs-you" else "done" if then == "done" else ""


def _asks(event: ev.Event) -> bool:
    """Whether a task, or an agent, begins to wait for a person."""
    if isinstance(event, ev.MessageSent):
        return (event.message.type, event.message.target) == (QUESTION, PERSON)
    return isinstance(event, ev.TaskAsked) or (isinstance(event, ev.ApprovalAsked) and not event.verdict)


class Told(Struct, frozen=True, kw_only=True):
    """What the command of a notice gets as JSON. `asks` is what the task's agent asks leave for, `question` the task's own.

    Where agents ask a person something, no task is named, and `questions` are all of these.
    """

    version: int = 1
    session: str
    on: Kind
    task: str
    question: str = ""
    cause: str = ""
    detail: str = ""
    asks: tuple[AskView, ...] = ()
    questions: tuple[Asked, ...] = ()


class Teller:
    """Runs the `notify` commands of one session's plan.

    Args:
        session: the session.
        terminals: where the commands run. Attempts must not be able to use them up.
        env: their whole environment.
        cwd: where they run.
        now: wall-clock ms.
        deputies: takes the commands that may answer.
    """

    def __init__(
        self,
        session: Session,
        terminals: Terminals,
        env: Mapping[str, str],
        cwd: str,
        now: Callable[[], int],
        deputies: Deputies,
    ) -> None:
        self.session, self.terminals = session, terminals
        self.env, self.cwd, self.now, self.deputies = env, cwd, now, deputies
        #: Notices that were not told or went wrong, and the last reason.
        self.dropped = self.failed = 0
        self.why = ""
        self._lanes: dict[Notify, Lane] = {}

    @property
    def trouble(self) -> str:
        """What went wrong with telling, in a line; empty if nothing did."""
        counts = [(self.failed, "failed"), (self.dropped, f"dropped, as {MAX_WAITING} waited already")]
        told = [f"{number} {'notice' if number == 1 else 'notices'} {what}" for number, what in counts if number]
        return ", ".join(told) + (f"; the last: {self.why}" if self.why else "")

    async def follow(self, after: int) -> None:
        """Tells what happens after event number `after`, until cancelled, and of what needs a person already."""
        try:
            for name in list(self.session.state.entries):
                if after and (since := waits_since(self.session.state, name)):
                    self._tell("needs-you", name, since)
            if after and (since := waits_since(self.session.state, "")):
                self._tell("needs-you", "", since)
            async for _, event in self.session.follow(after):
                if kind := kind_of(event):
                    self._tell(kind, getattr(event, "task", ""), event.at)
        finally:
            for lane in self._lanes.values():
                await lane.close()

    def _tell(self, kind: Kind, task: str, at: int) -> None:
        for entry in dict.fromkeys(self.session.state.plan.notify):
            if kind in entry.on:
                lane = self._lanes.get(entry)
                if lane is None:
                    lane = self._lanes[entry] = Lane(self, entry)
                lane.tell(kind, task, at)


class Lane:
    """What one entry of `notify` has to tell."""

    def __init__(self, teller: Teller, entry: Notify) -> None:
        self.entry = entry
        self._teller = teller
        self._most = ANSWERING if entry.answers else PARALLEL
        self._running: set[asyncio.Task[None]] = set()
        self._line: dict[tuple[Kind, str], None] = {}
        #: When to tell (ms), of what, which was so since (ms).
        self._later: list[tuple[int, Kind, str, int]] = []
        self._alarm: asyncio.TimerHandle | None = None

    def tell(self, kind: Kind, task: str, at: int) -> None:
        """Something is so since `at`: tells it at once, or after the entry's time."""
        if not self.entry.after:
            self._now(kind, task)
        elif len(self._later) >= MAX_WAITING:
            self._teller.dropped += 1
        else:
            heapq.heappush(self._later, (at + int(self.entry.after * 1000), kind, task, at))
            self._set()

    def _set(self) -> None:
        """Sets the alarm for what is to be told next. A wall clock that jumps is noticed when it rings."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None
        if self._later:
            wait = max(0, self._later[0][0] - self._teller.now()) / 1000
            self._alarm = asyncio.get_running_loop().call_later(wait, self._ring)

    def _ring(self) -> None:
        while self._later and self._later[0][0] <= self._teller.now():
            _, kind, task, at = heapq.heappop(self._later)
            # Another question, asked since and not waiting that long, has a time of its own.
            if kind != "needs-you" or 0 < waits_since(self._teller.session.state, task) <= at:
                self._now(kind, task)
        self._set()

    def _now(self, kind: Kind, task: str) -> None:
        if len(self._running) < self._most:
            telling = asyncio.get_running_loop().create_task(self._run(kind, task))
            self._running.add(telling)
            telling.add_done_callback(self._next)
        elif len(self._line) < MAX_WAITING or (kind, task) in self._line:
            self._line[kind, task] = None
        else:
            self._teller.dropped += 1

    def _next(self, done: asyncio.Task[None]) -> None:
        self._running.discard(done)
        if done.cancelled():
            return
        while self._line and len(self._running) < self._most:
            kind, task = next(iter(self._line))
            del self._line[kind, task]
            if kind != "needs-you" or waits_since(self._teller.session.state, task):
                self._now(kind, task)

    async def close(self) -> None:
        """Ends what runs; what waits is not told any more."""
        self._line.clear()
        if self._alarm is not None:
            self._alarm.cancel()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, kind: Kind, task: str) -> None:
        try:
            why = await self._command(self._told(kind, task))
        except SkepError as error:
            why = error.message
        if why:  # nobody is left to be told that telling failed; `skep status` says it, and the session itself goes on
            self._teller.failed += 1
            self._teller.why = f"`{shown(self.entry.run)[:200]}`: {why}"

    def _told(self, kind: Kind, task: str) -> Told:
        found = self._teller.session.state.entries.get(task)
        told = Told(session=self._teller.session.name, on=kind, task=task)
        if not task:
            return msgspec.structs.replace(told, questions=questions(self._teller.session.state))
        if found is None:
            return told
        said = {"question": found.question, "cause": found.cause, "detail": found.detail}
        return msgspec.structs.replace(told, asks=asks_of(found), **said)

    async def _command(self, told: Told) -> str:
        """Runs the command to its end; says what went wrong. Raises Denied, and starts nothing, if its seals are broken."""
        entry, teller = self.entry, self._teller
        identity = await asyncio.to_thread(unchanged, entry.seals) if entry.answers else ()
        profile = Profile(
            name="notify",
            argv=argv(entry.run),
            cwd=teller.cwd,
            env=dict(teller.env),
            nonce=secrets.token_hex(16),
            stdin=msgspec.json.encode(told),
            tty=False,
        )
        terminal = await teller.terminals.create(profile, lambda data: None)
        if entry.answers:
            deputy = Deputy(teller.session.name, profile.nonce, entry.seals, identity)
            teller.deputies.appoint(terminal.pid, terminal.born, deputy)
        terminal.release()
        most = max(TIMEOUT, teller.session.state.plan.limits.answer_within or ANSWER_WITHIN) if entry.answers else TIMEOUT
        try:
            async with asyncio.timeout(most):
                ended = await terminal.wait()
        except TimeoutError:
            return f"ended, as it took more than {most:g} s"
        finally:
            await asyncio.shield(terminal.end())
            teller.deputies.dismiss(terminal.pid, terminal.born)
        return "" if ended.code == 0 else f"exit code {ended.code}" if ended.code is not None else f"signal {ended.signal}"


def waits_since(state: State, task: str) -> int:
    """Since when a task has been waiting for a person (wall-clock ms); 0 if it does not. No task: agents' questions."""
    if not task:
        return min((asked.since for asked in questions(state)), default=0)
    entry = state.entries.get(task)
    if entry is None or state_of(entry) != "needs-you":
        return 0
    asks = [ask.at for ask in asks_of(entry)]
    return min([*asks, entry.since] if entry.state == "needs-you" else asks, default=0)
