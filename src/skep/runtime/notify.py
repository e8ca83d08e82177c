"""Runs the commands that a plan wants to be told by: a follower of the log, like any other."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

import msgspec

from skep.core import events as ev
from skep.core.terms import Notify
from skep.errors import SkepError
from skep.runtime.checks import argv
from skep.runtime.loop import Loop
from skep.runtime.views import asks_of, state_of
from skep.terminals import Profile, Terminals

#: A notification's command may take this long, seconds; so many of a session run at once.
TIMEOUT = 60.0
PARALLEL = 4


def kind_of(event: ev.Event) -> str:
    """What an event is to a person who wants to be told: `failed`, `needs-you`, `done`, or nothing."""
    then = ""
    if isinstance(event, ev.AttemptEnded | ev.MergeFailed):
        then = event.then
    elif isinstance(event, ev.TaskClosed):
        then = event.state
    elif isinstance(event, ev.TaskAsked) or (isinstance(event, ev.ApprovalAsked) and not event.verdict):
        then = "needs-you"
    elif isinstance(event, ev.Merged):
        then = "done"
    return "failed" if then in ("failed", "gave-up") else then if then in ("needs-you", "done") else ""


class Teller:
    """Runs the `notify` commands of one session's plan.

    Args:
        session: the session.
        terminals: where the commands run.
        env: their whole environment.
        cwd: where they run.
    """

    def __init__(self, session: Loop, terminals: Terminals, env: Mapping[str, str], cwd: str) -> None:
        self._session = session
        self._terminals = terminals
        self._env = env
        self._cwd = cwd
        self._running: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(PARALLEL)

    async def follow(self, after: int) -> None:
        """Tells what happens after event number `after`, until cancelled, and of what needs a person already."""
        try:
            for name, entry in list(self._session.state.entries.items()):
                if after and state_of(entry) == "needs-you":
                    self._tell("needs-you", name)
            async for _, event in self._session.follow(after):
                if kind := kind_of(event):
                    self._tell(kind, getattr(event, "task", ""))
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def _tell(self, kind: str, task: str) -> None:
        for entry in self._session.state.plan.notify:
            if kind in entry.on:
                telling = asyncio.ensure_future(self._run(entry, kind, task))
                self._running.add(telling)
                telling.add_done_callback(self._running.discard)

    async def _run(self, entry: Notify, kind: str, task: str) -> None:
        """With `after` it is told only if the task still needs a person after that many seconds."""
        if entry.after:
            await asyncio.sleep(entry.after)
            current = self._session.state.entries.get(task)
            if kind == "needs-you" and (current is None or state_of(current) != "needs-you"):
                return
        async with self._room:
            await _tell(self._session, entry, kind, task, self._terminals, self._env, self._cwd)


async def _tell(
    session: Loop, entry: Notify, kind: str, task: str, terminals: Terminals, env: Mapping[str, str], cwd: str
) -> None:
    found = session.state.entries.get(task)
    told = {
        "version": 1,
        "session": session.name,
        "on": kind,
        "task": task,
        "question": found.question if found else "",
        "cause": found.cause if found else "",
        "detail": found.detail if found else "",
        "asks": [msgspec.to_builtins(ask) for ask in asks_of(found)] if found else [],
    }
    profile = Profile(
        name="notify",
        argv=argv(entry.run),
        cwd=cwd,
        env=dict(env),
        nonce=secrets.token_hex(16),
        stdin=msgspec.json.encode(told),
        tty=False,
    )
    try:
        terminal = await terminals.create(profile, lambda data: None)
        terminal.release()
        try:
            await asyncio.wait_for(terminal.wait(), TIMEOUT)
        except TimeoutError:
            return
        finally:
            await asyncio.shield(terminal.end())
    except SkepError:
        # Nobody is left to be told that telling failed; the session itself goes on.
        return
