"""A workspace whose sessions others work on too: what is made here is published, what others made is fetched in time."""

from __future__ import annotations

from collections.abc import Mapping

from skep.core.intent import Candidate
from skep.errors import NotFound
from skep.workspace import Built, Commits, Opened
from skep.workspace.git import GitWorkspace
from skep.workspace.place import Place


class CarriedWorkspace(GitWorkspace):
    """The port `Workspace` over a repository and the commits that travel; `carry` says how they do, before anything else."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._commits: Commits
        #: Where each worktree began, by its path: what is captured there builds on it.
        self._began: dict[str, str] = {}

    def carry(self, commits: Commits) -> None:
        """From now on commits travel this way."""
        self._commits = commits

    async def begin(self, session: str) -> Opened:
        """See the port. The session's base is published before anybody can be told of it."""
        opened = await super().begin(session)
        await self._commits.publish(session, opened.base)
        return opened

    async def enter(self, session: str, opened: Opened, tip: str) -> None:
        """See the port."""
        at = await self.refs(session)
        if (at.get("base"), at.get("main")) != (opened.base, tip):
            await self.have(session, opened.base, tip)
            await self.adopt(session, opened, tip)

    async def have(self, session: str, *commits: str) -> None:
        """See the port."""
        for commit in dict.fromkeys(commits):
            if commit:
                await self._commits.ensure(session, commit)

    async def checkout(
        self, session: str, name: str, commit: str, include: bool = True, keep: bool = False, tree: str = ""
    ) -> str:
        """See the port."""
        await self.have(session, commit)
        path = await super().checkout(session, name, commit, include, keep, tree)
        self._began[path] = commit
        return path

    async def capture(self, path: str, session: str, ref: str, message: str, trailers: Mapping[str, str], at: int) -> str:
        """See the port. It is published when this returns."""
        commit = await super().capture(path, session, ref, message, trailers, at)
        if commit:
            await self._publish(session, commit, self._began.get(path, ""))
        return commit

    async def remove(self, path: str) -> None:
        """See the port."""
        self._began.pop(path, None)
        await super().remove(path)

    async def build(
        self, session: str, base: str, candidate: Candidate, at: int, message: str, trailers: Mapping[str, str]
    ) -> Built:
        """See the port."""
        await self.have(session, base, candidate.commit)
        return await super().build(session, base, candidate, at, message, trailers)

    async def advance(self, session: str, new: str, old: str) -> str:
        """See the port. The merge is published before the branch moves."""
        await self._publish(session, new, old)
        return await super().advance(session, new, old)

    async def fork(self, origin: str, session: str, tip: str) -> None:
        """See the port."""
        await super().fork(origin, session, tip)
        await self._commits.fork(origin, session)

    async def gather(self, session: str) -> None:
        """See the port."""
        await self._commits.ensure_all(session)

    async def abandon(self, session: str, unmerged: bool = False) -> list[str]:
        """See the port."""
        await self._commits.forget(session)
        return await super().abandon(session, unmerged)

    async def _publish(self, session: str, commit: str, base: str) -> None:
        try:
            await self._commits.publish(session, commit, [base] if base else [])
        except NotFound:  # what it builds on was never sent: then all of it is
            await self._commits.publish(session, commit)
