"""The commits of sessions travel as bundles in blobs, listed by commit: whoever made one publishes it, whoever needs it fetches.

Where there is a repository that all machines share, they are pushed there instead, and the listing only says so.

Each bundle builds on others. So that a machine that comes late need not fetch thousands, every DEEPEST-th holds all since the
session's beginning. Nothing of the listing is trusted: what it leads to is believed only if it is the very commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from weakref import WeakValueDictionary

from skep.errors import Exhausted, NotFound
from skep.store import Blobs, Listing, Packed
from skep.workspace import Limits
from skep.workspace.carry import NEEDS, held, pack, unpack
from skep.workspace.command import oid
from skep.workspace.place import Place
from skep.workspace.refs import Refs
from skep.workspace.remote import Remote
from skep.workspace.weigh import TOO_MUCH

#: Bundles one after the other that lead to a commit, as they are made here.
DEEPEST = 32
#: ... and the most that are followed: others may make longer chains, and loops.
FOLLOWED = 4 * DEEPEST
#: How a commit is listed that lies in the shared repository.
PUSHED = Packed("")
#: Commits known to be here and listed that are remembered, so that nobody has to be asked.
REMEMBERED = 10_000


class BundledCommits:
    """The port `Commits` over the blobs and the listing of a shared store; `GitWorkspace.commits` makes it."""

    def __init__(
        self, place: Place, refs: Refs, blobs: Blobs, listing: Listing, limits: Limits, remote: Remote | None = None
    ) -> None:
        self._place, self._refs, self._limits, self._remote = place, refs, limits, remote
        #: Session and commit, of what was pushed from here: what is listed may not have been, if somebody died in between.
        self._pushed: dict[tuple[str, str], None] = {}
        self._blobs, self._listing = blobs, listing
        #: Session and commit -> how it is listed, as far as that is known; None = not looked up.
        self._here: dict[tuple[str, str], Packed | None] = {}
        self._fetching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def publish(self, session: str, commit: str, have: Sequence[str] = ()) -> None:
        """See the port."""
        listed = None if commit in have else await self._listed(session, oid(commit))
        if commit in have or (listed is not None and not (listed == PUSHED and self._remote is not None)):
            return
        if self._remote is not None:
            await self._push(self._remote, session, [commit], have)
            return
        needs, depth = await self._grounds(session, have)
        async with self._place.scratch.folder() as desk:
            file, digest = desk / "bundle", ""
            if await pack(self._place.git, commit, needs, file, self._limits):
                digest, _ = await self._blobs.put_file(str(file))
        packed = await self._listing.put(session, commit, Packed(digest, needs, depth))
        if digest:
            await self._blobs.unpin(digest)
        self._remember(session, commit, packed)

    async def ensure(self, session: str, commit: str) -> None:
        """See the port. Whoever asks for what is being fetched waits for that."""
        if (session, oid(commit)) in self._here:
            return
        lock = self._fetching.setdefault(session, asyncio.Lock())
        async with lock:
            await self._bring(session, commit, 0)

    async def ensure_all(self, session: str) -> None:
        """See the port."""
        for commit in await self._listing.all(session):
            await self.ensure(session, commit)

    async def fork(self, origin: str, session: str) -> None:
        """See the port."""
        pushed = []
        for commit, packed in (await self._listing.all(origin)).items():
            await self._listing.put(session, commit, packed)
            if packed == PUSHED:  # its ref is the origin's, and goes with that
                await self.ensure(origin, commit)
                pushed.append(commit)
        if pushed and self._remote is not None:
            await self._push(self._remote, session, pushed)

    async def _push(self, remote: Remote, session: str, commits: Sequence[str], have: Sequence[str] = ()) -> None:
        """Puts commits into the shared repository, listed first: what a session that is gone had there is found by its name."""
        wanted = [commit for commit in commits if (session, commit) not in self._pushed]
        if not wanted:
            return
        if have:
            await self._weigh(wanted, have)
        for commit in wanted:
            await self._listing.put(session, commit, PUSHED)
        await remote.push(self._place.git, session, wanted)
        for commit in wanted:
            self._pushed[session, commit] = None
            self._remember(session, commit, PUSHED)
        while len(self._pushed) > REMEMBERED:
            del self._pushed[next(iter(self._pushed))]

    async def _weigh(self, commits: Sequence[str], have: Sequence[str]) -> None:
        """Raises Exhausted if what leads to commits and is in none of `have` takes more room than others would take in."""
        walk = "".join(f"{line}\n" for line in (*commits, *(f"^{oid(one)}" for one in have))).encode()
        size = int(await self._place.git("rev-list", "--objects", "--disk-usage", "--stdin", stdin=walk))
        if size > self._limits.packed:
            raise Exhausted(
                f"What leads to commit {commits[0]} has {size} bytes; at most {self._limits.packed} are sent.", TOO_MUCH
            )

    async def collect(self, known: Callable[[], Awaitable[Collection[str]]]) -> int:
        """See the port."""
        if self._remote is None:
            return 0
        there = await self._remote.sessions(self._place.git)
        return await self._remote.collect(self._place.git, there, await known()) if there else 0

    async def forget(self, session: str) -> None:
        """See the port."""
        await self._listing.drop(session)
        for known in (self._here, self._pushed):
            for key in [key for key in known if key[0] == session]:
                del known[key]

    async def _bring(self, session: str, commit: str, depth: int) -> None:
        if (session, commit) in self._here:
            return
        if await held(self._place.git, self._refs, session, commit):
            self._remember(session, commit, None)
            return
        packed = await self._listing.get(session, commit)
        if packed is None:
            raise _unpublished(session, commit)
        if depth >= FOLLOWED or len(packed.needs) > NEEDS:
            raise Exhausted(
                f"Commit {commit} of session {session} is listed behind {FOLLOWED} bundles or more, or as built on too much.",
                "The listing is wrong, or was changed by others: see who can write to the store.",
            )
        for need in packed.needs:
            await self._bring(session, oid(need), depth + 1)
        if packed.digest:
            data = await self._blobs.get(packed.digest)
            async with self._place.scratch.folder() as desk:
                await asyncio.to_thread((desk / "bundle").write_bytes, data)
                del data
                await unpack(self._place, self._refs, session, commit, desk / "bundle", self._limits)
        elif packed == PUSHED and self._remote is not None:
            await self._remote.take(self._place, self._refs, session, commit, self._limits)
            self._pushed[session, commit] = None
        elif not await held(self._place.git, self._refs, session, commit):
            raise _unpublished(session, commit)
        self._remember(session, commit, packed)

    async def _grounds(self, session: str, have: Sequence[str]) -> tuple[tuple[str, ...], int]:
        """What a bundle that builds on `have` is to build on, and how deep it lies then."""
        needs = tuple(dict.fromkeys(have))
        depth = await self._depth(session, needs)
        if depth <= DEEPEST:
            return needs, depth
        for _ in range(FOLLOWED):  # down to what needs nothing
            if depth <= 1:
                break
            found = [await self._known(session, need) for need in needs]
            needs = tuple(dict.fromkeys(n for need, p in zip(needs, found, strict=True) for n in (p.needs or (need,))))
            depth = await self._depth(session, needs)
        return needs, depth

    async def _depth(self, session: str, needs: Sequence[str]) -> int:
        return max([(await self._known(session, need)).depth + 1 for need in needs], default=0)

    async def _known(self, session: str, commit: str) -> Packed:
        packed = await self._listed(session, commit)
        if packed is None:
            raise _unpublished(session, commit)
        return packed

    async def _listed(self, session: str, commit: str) -> Packed | None:
        packed = self._here.get((session, commit))
        if packed is None:
            packed = await self._listing.get(session, commit)
            if packed is not None and (session, commit) in self._here:
                self._remember(session, commit, packed)
        return packed

    def _remember(self, session: str, commit: str, packed: Packed | None) -> None:
        self._here.pop((session, commit), None)
        self._here[session, commit] = packed
        while len(self._here) > REMEMBERED:
            del self._here[next(iter(self._here))]


def _unpublished(session: str, commit: str) -> NotFound:
    return NotFound(
        f"Commit {commit} of session {session} is neither here nor published.",
        "Whoever made it has to come back, or its task has to run again; where others have `remote` in [store], set it here too.",
    )
