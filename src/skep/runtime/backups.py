"""Backups of sessions in a folder, and what is made of them again: `<folder>/<session>/<when>-<events>-<key>.skep`.

One with `-archive` in front of its ending is all that is left of a session (see `retention`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from skep.config import seconds
from skep.core.fleet import SYSTEM
from skep.disk.durable import UNFINISHED, make_folder, sync_folder
from skep.errors import Conflict, Invalid, NotFound, SkepError
from skep.runtime import copies, parcel
from skep.runtime import requests as rq
from skep.runtime.kept import BackupView
from skep.runtime.names import stem_of
from skep.runtime.parcel import Parcel, key_of
from skep.runtime.parts import Parts
from skep.runtime.proof import prove
from skep.runtime.results import Results
from skep.runtime.retention import Retention
from skep.runtime.schedule import Schedule
from skep.runtime.shared import OWNERS, opened_with, take_turn
from skep.runtime.views import SessionView
from skep.store import Head
from skep.store.letters import LONGEST_LEASE

if TYPE_CHECKING:
    from skep.runtime.sessions import Sessions

#: Where backups lie in the state folder if the settings name no other place.
FOLDER = "backups"
ENDING = ".skep"
#: In front of the ending of what is all that is left of a session: no later backup pushes it out.
ARCHIVE = "-archive"
#: Seconds after which an unfinished file is nobody's: its writer was killed.
STALE = 86_400.0
#: In the state folder: how the last backups went.
MARK = "backup.json"
#: Damaged files that an error names.
NAMED = 5


class Chosen(NamedTuple):
    """A file to restore from, open and read; and what is to be told about the choice."""

    file: Parcel
    carried: copies.Carried
    notes: list[str]

    def close(self) -> None:
        """For threads other than the loop's."""
        self.file.close()


class Backups:
    """Answers the requests about backups; one is made at a time."""

    def __init__(self, sessions: Sessions, results: Results, parts: Parts) -> None:
        self._sessions = sessions
        self._results = results
        self._parts = parts
        self._one = asyncio.Lock()
        self.retention = Retention(sessions, self, parts)
        #: Session -> its last backup by the schedule that is known to be good: an unchanged session needs no other.
        self._good: dict[str, Path] = {}
        self.answers: dict[type, Callable[[Any], Awaitable[Any]]] = {
            rq.BackUp: self._back_up,
            rq.Backups: self._list,
            rq.Restore: self._restore,
            **self.retention.answers,
        }

    def chores(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What goes on beside the sessions, if the settings say so; nothing without the store's key."""
        config, shared = self._parts.config, self._parts.shared
        if shared is not None and shared.invited:
            return []
        backups = [self._schedule().run] if config.backup.every else []
        return [*backups, self.retention.schedule().run] if config.store.keep else backups

    def _schedule(self) -> Schedule:
        """What makes backups of all sessions again and again."""
        every = seconds(self._parts.config.backup.every)
        return Schedule(every, self._parts.state / MARK, self._parts.clock.now, self.due)

    def _folder(self, named: str) -> Path:
        to = self._parts.config.backup.to
        return Path(named) if named else self._parts.folder / to if to else self._parts.state / FOLDER

    # Making

    async def due(self) -> dict[str, str]:
        """Backs up what has changed since its last backup and is written here, or by nobody who is still there.

        Returns:
            why sessions have none, by name.
        """
        keep, failed = self._parts.config.backup.keep, dict[str, str]()
        others, own = await self._others(), self._parts.shared.owner if self._parts.shared is not None else ""
        for session in await self._all():
            with contextlib.suppress(NotFound):  # dropped meanwhile
                owner = (await self._parts.log.row(session)).owner
                if not others(owner) and not await self._unchanged(session):
                    made = await self._make(session, self._folder(""), keep, left=owner not in ("", own))
                    if made.trouble:
                        failed[made.name] = made.trouble
                    else:
                        self._good[session] = Path(made.path)
        return failed

    async def _all(self) -> list[str]:
        """All sessions, and the one that keeps the fleets."""
        system = [row.session for row in await self._parts.log.sessions() if row.session == SYSTEM]
        return [known.session for known in await self._sessions.names.all()] + system

    async def _others(self) -> Callable[[str], bool]:
        """Tells whether another process backs up what a process writes, or wrote last.

        Whoever writes a session does, as its commits are there. What the last writer left that is gone one of all processes does.
        """
        shared = self._parts.shared
        if shared is None:
            return lambda owner: False
        every = 1_000 * seconds(self._parts.config.backup.every or "1h")
        stands_in = await take_turn(shared, MARK, min(2 * every, LONGEST_LEASE))
        there = await shared.leases.held(OWNERS)
        return lambda owner: owner not in ("", shared.owner) and not (stands_in and owner not in there)

    async def _unchanged(self, session: str) -> bool:
        events = (await self._parts.log.row(session)).head.seq
        folder, key = self._folder("") / session, key_of(self._parts.log.seal)

        def good() -> Path | None:
            newest = next(_files(folder, key), None)
            if newest is None or _events(newest) != events:
                return None
            if newest != self._good.get(session) and parcel.check(newest, self._parts.log.seal)[2]:
                return None
            return newest

        if not events:
            return True
        if found := await copies.aside(good):
            self._good[session] = found
        return found is not None

    async def _back_up(self, asked: rq.BackUp) -> list[BackupView]:
        names, folder = self._sessions.names, self._folder(asked.to)
        if asked.keep < 0 or (asked.all and asked.session):
            raise Invalid("a backup is of one session or of all, and keeps 0 (all) or more", "`skep backup --help` says how.")
        sessions = await self._all() if asked.all else [await names.resolve(asked.session)]
        return [await self._make(session, folder, asked.keep) for session in sessions]

    async def archive(self, session: str, head: Head) -> BackupView:
        """A backup of a session that ends at `head`, compared with all that the store has of it. It stays.

        The one of a try before serves as well. What is wrong with it, or why there is none, is told in the view.
        """
        place, ending = self._folder("") / session, f"-{head.seq}-{key_of(self._parts.log.seal)}{ARCHIVE}{ENDING}"
        found = next((path for path in await copies.aside(lambda: list(_files(place))) if path.name.endswith(ending)), None)
        if found is not None and not await self._unproven(session, found, head):
            return _view(found, None, True, "")
        made = await self._make(session, self._folder(""), 0, ARCHIVE)
        return made if made.trouble else replace(made, trouble=await self._unproven(session, Path(made.path), head))

    async def _unproven(self, session: str, path: Path, head: Head) -> str:
        """What is wrong with an archive; empty if nothing is."""
        try:
            await prove(self._parts, session, path, head)
        except SkepError as error:
            return error.message
        return ""

    def archived(self) -> set[str]:
        """The sessions that are in archives: their names are not given again. For threads.

        Those in a folder that cannot be read are not known: a session can begin without its backups.
        """
        with contextlib.suppress(Invalid):
            return {path.parent.name for path in _all_files(self._folder("")) if path.name.endswith(f"{ARCHIVE}{ENDING}")}
        return set()

    async def _make(self, session: str, folder: Path, keep: int, mark: str = "", left: bool = False) -> BackupView:
        """Backs one session up; what goes wrong is told in the view. `left`: somebody else wrote it, who is gone."""
        parts, name = self._parts, await self._sessions.names.shown(session)
        place = folder / session
        async with self._one:
            try:
                await copies.aside(_ready, place)
                head, key = (await parts.log.row(session)).head, key_of(parts.log.seal)
                path = place / f"{_stamp(parts.clock.now())}-{head.seq}-{key}{mark}{ENDING}"
                if left:
                    await self._bring(session)
                written = await copies.save(parts, session, name, path, head.seq)
                if keep:
                    await copies.aside(_prune, place, key, keep)
            except SkepError as error:
                return BackupView(session=session, name=name, trouble=error.message)
            except OSError as error:
                return BackupView(session=session, name=name, trouble=f"{place} cannot be used: {error.strerror}")
        return _view(path, written.manifest, True, "")

    async def _bring(self, session: str) -> None:
        """Brings here what others made of a session."""
        opened, tip = await self._sessions.live.look(session, lambda state: (opened_with(state), state.tip))
        if opened.base:
            await self._parts.workspace.enter(session, opened, tip)
            await self._parts.workspace.gather(session)

    # Looking

    async def _list(self, asked: rq.Backups) -> list[BackupView]:
        name = asked.session and await self._wanted(asked.session)
        return await copies.aside(self._look, self._folder(asked.folder), name)

    def _look(self, folder: Path, name: str) -> list[BackupView]:
        views = []
        for path in _all_files(folder):
            if name and name not in (path.parent.name, self._peek(path)[1]):
                continue
            manifest, ours, trouble = parcel.check(path, self._parts.log.seal)
            views.append(_view(path, manifest, ours, trouble))
        return views

    async def _wanted(self, name: str) -> str:
        """The name that a session goes by here, or just the name."""
        found = await self._sessions.names.find(name)
        return await self._sessions.names.shown(found) if found else name

    def _peek(self, path: Path) -> tuple[bool, str, int]:
        """Of a file: whether this store sealed it, the name that the session went by, when. Nothing for what cannot be read."""
        try:
            opened = Parcel(path, self._parts.log.seal)
        except SkepError:
            return False, "", 0
        opened.close()
        return opened.ours, opened.manifest.name, opened.manifest.at

    # Going back

    async def _restore(self, asked: rq.Restore) -> SessionView:
        wanted = await self._wanted(asked.session)
        given = Path(asked.path) if asked.path else self._folder("")
        async with copies.opened(self._choose, given, wanted, asked.until) as found:
            manifest = found.file.manifest
            if wanted not in (manifest.name, manifest.session):
                fix = f"Say so: skep restore {manifest.name} --from {given}"
                raise Invalid(f"{found.file.path} is of session {manifest.name}, not of {wanted}", fix)
            view = await self._replace(found.file, found.carried, wanted, asked.by)
        return replace(view, notes=tuple(found.notes))

    async def _replace(self, found: Parcel, carried: copies.Carried, shown: str, by: str) -> SessionView:
        names, live = self._sessions.names, self._sessions.live
        if found.manifest.session == SYSTEM:
            with contextlib.suppress(NotFound):
                row = await self._parts.log.row(SYSTEM)
                if row.head.seq:
                    fix = "`skep fleet init FILE --adopt` forms a fleet of sessions that are there."
                    raise Conflict("fleets were formed here already, and are not replaced", fix)
                await self._parts.log.drop(SYSTEM, row.head)  # whoever restored them was killed over it
            return await self._results.copied(SYSTEM, "", lambda: copies.load(self._parts, found, carried, SYSTEM, by))
        holder = await names.find(shown)
        if holder and (loop := live.get(holder)) is not None:
            try:
                await live.interrupt(loop, f"restored from a backup: {found.path.name}", by)
            except SkepError:
                if live.get(holder) is not None:  # it goes on; one that cannot go on is why somebody restores it
                    raise
        name = await self._sessions.next_name(stem_of(found.manifest.session))
        view = await self._results.copied(name, shown, lambda: copies.load(self._parts, found, carried, name, by))
        if holder:
            await names.give(holder, f"{holder}@{(await self._parts.log.row(holder)).head.seq}", "")
        return view

    def _choose(self, given: Path, name: str, until: int) -> Chosen:
        """The file to restore from, open and read."""
        notes: list[str] = []
        for path in [given] if given.is_file() or not given.is_dir() else self._candidates(given, name, until):
            try:
                found = Parcel(path, self._parts.log.seal)
            except SkepError as error:
                if path == given:
                    raise
                notes.append(f"skipped: {error.message}")
                continue
            try:
                carried = copies.read(found, until)
            except BaseException as error:
                found.close()
                if path == given or not isinstance(error, Invalid):
                    raise
                notes.append(f"skipped: {error.message}")
                continue
            if not found.ours:
                notes.append(f"{path} is sealed with the key {found.manifest.key} of another store: only damage would show here")
            if found.manifest.lost:
                notes.append(f"outputs that were lost before the backup: {', '.join(found.manifest.lost[:NAMED])}")
            return Chosen(found, carried, notes)
        said = f"; {'; '.join(notes[:NAMED])}" if notes else ""
        raise NotFound(f"no good backup of session {name} in {given}{said}", "`skep backup list` shows what there is.")

    def _candidates(self, folder: Path, name: str, until: int) -> list[Path]:
        """The backups of a session, those to be taken first in front.

        Those that this store sealed, if there are any: others may share the folder. To go back to a time, the first one after it
        knows most of it.
        """
        known = [(path, *self._peek(path)) for path in _all_files(folder)]
        broken = [path for path, _, shown, _ in known if not shown and path.parent.name == name]
        named = [one for one in known if one[2] == name] or [one for one in known if one[0].parent.name == name and one[2]]
        named = [one for one in named if one[1]] or named
        later = [path for path, _, _, at in reversed(named) if until and at >= until]
        return [*broken, *later, *(path for path, _, _, at in named if not until or at < until)]


def _ready(place: Path) -> None:
    """Makes a session's folder, and removes what killed writers left in it."""
    make_folder(place)
    for left in place.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError):
            if left.stat().st_mtime < time.time() - STALE:
                left.unlink()


def _prune(place: Path, key: str, keep: int) -> None:
    old = list(_files(place, key))[keep:]
    for path in old:
        path.unlink(missing_ok=True)
    if old:
        sync_folder(place)


def _listed(folder: Path) -> list[str]:
    """What is in a folder, nothing if it is none. Raises Invalid if it cannot be read."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise Invalid(f"{folder} cannot be read: {error.strerror}", "See who owns it, and whether it is mounted.") from error


def _files(place: Path, key: str = "") -> Iterator[Path]:
    """The backups of a session's folder, newest first, of one store or of all."""
    names = sorted(_listed(place), reverse=True)
    yield from (place / name for name in names if name.endswith(f"{key}{ENDING}") and not name.startswith("."))


def _all_files(folder: Path) -> list[Path]:
    """The backups of all sessions, newest first."""
    return sorted(
        (path for place in sorted(_listed(folder)) for path in _files(folder / place)), key=lambda path: path.name, reverse=True
    )


def _stamp(at: int) -> str:
    """A time that can be read and sorts, in UTC: 20261121T183000.123Z."""
    return f"{datetime.fromtimestamp(at // 1000, UTC):%Y%m%dT%H%M%S}.{at % 1000:03}Z"


def _events(path: Path) -> int:
    """How many events a backup holds, by its name; -1 if it does not say."""
    parts = path.name.split("-")
    return int(parts[1]) if len(parts) == 3 and parts[1].isdecimal() else -1


def _view(path: Path, manifest: parcel.Manifest | None, ours: bool, trouble: str) -> BackupView:
    size = path.stat().st_size if path.exists() else 0
    view = BackupView(session=path.parent.name, path=str(path), bytes=size, ours=ours, trouble=trouble)
    if manifest is None:
        return view
    return replace(view, session=manifest.session, name=manifest.name, at=manifest.at, events=manifest.events, lost=manifest.lost)
