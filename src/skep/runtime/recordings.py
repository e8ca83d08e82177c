"""Where people find what attempts printed: in this machine's folder, in the store that it shares with others, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from skep.core.events import TaskAssigned
from skep.core.model import Entry
from skep.core.state import State, unpack
from skep.errors import Invalid, NotFound
from skep.runtime import requests as rq
from skep.runtime.kept import RecordingView
from skep.runtime.onlookers import look_on
from skep.runtime.parts import Parts
from skep.runtime.recorder import fetched
from skep.runtime.results import missing
from skep.store import Append, Recorded, codec
from skep.terminals.transcript import place, recordings

if TYPE_CHECKING:
    from skep.runtime.sessions import Sessions

#: What is recorded of an attempt: its agent, and the checks of what it made.
MERGE = "merge"
PARTS = ("", "verify", MERGE)
#: Appends read at a time: whatever else goes on waits no longer than for these.
PAGE = 50
#: Tasks of which is remembered which nodes their attempts were on.
REMEMBERED = 1_000


class _Tried(NamedTuple):
    """How many attempts at a task there were, and the node of the one that is not over, by its number."""

    attempts: int
    on: dict[int, str]


class Recordings:
    """Answers the requests about recordings."""

    def __init__(self, sessions: Sessions, parts: Parts) -> None:
        self._sessions, self._parts = sessions, parts
        #: Session and task -> attempt -> its node, as the log says.
        self._nodes: dict[tuple[str, str], dict[int, str]] = {}
        self.answers: dict[type, Callable[[Any], Awaitable[Any]]] = {
            rq.Recordings: self._list,
            rq.GetRecording: self._get,
            rq.LookOn: self._look_on,
        }

    async def _list(self, asked: rq.Recordings) -> list[RecordingView]:
        session, task = await self._sessions.names.resolve(asked.session), asked.task
        tried, folder = await self._tried(session, task), self._parts.performer.node.transcripts
        here = set(await asyncio.to_thread(recordings, folder, session, task))
        shared, own = self._parts.recordings, self._parts.here.name
        attempts = range(1, tried.attempts + 1)
        known = await self._known(session, task, [(n, part) for n in attempts for part in PARTS])
        # A file has more than what was sent of it; but a check that was begun here may have been made elsewhere, again.
        elsewhere = {key for key, one in known.items() if key not in here or (key[1] and one.node != own and not one.doubt)}
        silent = [] if shared is None else [n for n in attempts if (n, "") not in here and (n, "") not in known]
        on = await self._on(session, task, silent, tried.on)
        found = [_sent(n, part, known[n, part]) for n, part in elsewhere]
        for n, part in here - elsewhere:
            path = str(place(folder, session, task, n, part))
            found.append(RecordingView(attempt=n, part=part, where="here", path=path, node=own))
        for n in silent:
            found.append(RecordingView(attempt=n, where="nothing" if on[n] == own else "away", node=on[n]))
        return sorted(found, key=lambda view: (view.attempt, view.part))

    async def _get(self, asked: rq.GetRecording) -> bytes:
        session, key = await self._sessions.names.resolve(asked.session), (asked.attempt, asked.part)
        known = await self._known(session, asked.task, [key])
        if key in known and known[key].doubt:
            raise Invalid(f"attempt {asked.attempt} of '{asked.task}': {known[key].doubt}")
        if key not in known or not known[key].digest:
            raise NotFound(f"nothing of attempt {asked.attempt} of '{asked.task}' is in the store", "Look on its node.")
        return await fetched(self._parts.blobs, known[key])

    async def _known(self, session: str, task: str, of: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Recorded]:
        """What lies in the store, by attempt and part. An invited node is believed only of what the log gave to it."""
        shared, ours = self._parts.recordings, self._parts.shared
        if shared is None or (ours is not None and ours.invited):
            return {}
        known = await shared.get(session, task, of)
        said = {key: recorded.node for key, recorded in known.items() if recorded.invited}
        on = await self._on(session, task, [n for n, _ in said], {}) if said else {}
        for (n, part), node in said.items():
            if on[n] != node or part == MERGE:
                why = f"node '{node}', which was only invited, says where it is, and did not make it"
                known[n, part] = Recorded("", 0, "", doubt=why)
        return known

    async def _look_on(self, asked: rq.LookOn) -> bytes:
        session, task, n = await self._sessions.names.resolve(asked.session), asked.task, asked.attempt
        ours, recordings = self._parts.shared, self._parts.recordings
        if ours is None or recordings is None or ours.invited:
            return b""
        node = (await self._on(session, task, [n], (await self._tried(session, task)).on))[n]
        return await look_on(ours.leases, recordings, ours.owner, (session, task, n), node)

    async def _tried(self, session: str, task: str) -> _Tried:
        def query(state: State) -> _Tried | None:
            entry = state.entries.get(task)
            return None if entry is None else _tried(entry)

        found = await self._sessions.live.look(session, query)
        if found is not None:
            return found
        archived = await self._parts.log.archived(session, [task])
        if task not in archived:
            raise missing(session, task)
        return _tried(unpack(archived[task]))

    async def _on(self, session: str, task: str, attempts: Sequence[int], now: dict[int, str]) -> dict[int, str]:
        """The nodes of some attempts. Of those that are over only the log knows: it is read once, as they do not change."""
        known = self._nodes.get((session, task), {}) | now
        if not all(n in known for n in attempts):
            known = dict.fromkeys(attempts, "") | known | await self._read(session, task)
            if len(self._nodes) >= REMEMBERED:
                self._nodes.clear()
            self._nodes[session, task] = known
        return {n: known.get(n, "") for n in attempts}

    async def _read(self, session: str, task: str) -> dict[int, str]:
        seq, found = 0, dict[int, str]()
        while page := await self._parts.log.read(session, after=seq, limit=PAGE):
            found |= await asyncio.to_thread(_assigned, page, task)
            seq = page[-1].last
        return found


def _tried(entry: Entry) -> _Tried:
    attempt = entry.attempt
    return _Tried(entry.attempts, {} if attempt is None else {attempt.n: attempt.node})


def _sent(n: int, part: str, recorded: Recorded) -> RecordingView:
    if recorded.doubt:
        return RecordingView(attempt=n, part=part, where="doubt", doubt=recorded.doubt)
    return RecordingView(attempt=n, part=part, where="store" if recorded.digest else "nothing", node=recorded.node)


def _assigned(page: Sequence[Append], task: str) -> dict[int, str]:
    events = (event for append in page for event in codec.decode(append.blob))
    return {event.n: event.node for event in events if isinstance(event, TaskAssigned) and event.task == task}
