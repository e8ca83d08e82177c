"""Commits in a git repository that all machines reach, under refs of the store's own: `refs/skep/<store>/<session>/<commit>`.

Git sends what the other side lacks, so that a large history travels once and not as bundles. What comes in is hostile until shown
otherwise: it is fetched beside the repository within limits of the system, with every object checked as fsck does, weighed,
and only what leads to the named commit is taken from there. Whoever can push there can remove or move refs, not make up a commit.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from skep.errors import Exhausted, Invalid, NotFound, SkepError, Unavailable
from skep.workspace import Limits
from skep.workspace.carry import TOLD, take
from skep.workspace.command import Git, Ran, oid
from skep.workspace.names import quote
from skep.workspace.place import Place
from skep.workspace.refs import IN, Refs
from skep.workspace.weigh import TOO_MUCH, weigh

#: What git may speak to it, and the variables that its own ways to log in read.
PROTOCOLS = "file:git:http:https:ssh"
_LOGIN = ("SSH_AUTH_SOCK", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "SSH_ASKPASS")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY", "GIT_SSL_CAINFO", "SSL_CERT_FILE")
#: Tries, and seconds before the second; each further one waits three times as long.
TRIES, WAIT = 4, 0.1
#: Refs that are changed in one push. Bytes of address space that a fetch has besides what it may receive.
MANY, ROOM = 100, 4 << 30
_CHECKS = ("fetch.fsckObjects=true", "fetch.unpackLimit=1", *(f"fetch.fsck.{name}=ignore" for name in TOLD))
_BAD = re.compile(r"fsck error|object [0-9a-f]{40}: \w+")
_ABSENT = re.compile(r"couldn't find remote ref|remote ref does not exist")


class Remote(Struct, frozen=True):
    """The repository at `url`, and the name of the store (hex), below which its refs lie there. Git logs in by itself.

    Every method raises Unavailable when it does not answer, or refuses, after `TRIES` tries.
    """

    url: str
    store: str

    def ref(self, session: str, commit: str) -> str:
        """What a commit of a session is called there."""
        return f"refs/skep/{self.store}/{quote(session)}/{oid(commit)}"

    async def push(self, git: Git, session: str, commits: Sequence[str]) -> None:
        """Puts commits there; those that are there already cost one question."""
        for at in range(0, len(commits), MANY):
            wanted = [f"+{commit}:{self.ref(session, commit)}" for commit in commits[at : at + MANY]]
            await self._run(git, ("push", "-q", "--no-verify", self.url, *wanted))

    async def take(self, place: Place, refs: Refs, session: str, commit: str, limits: Limits) -> None:
        """Brings a commit here with all that leads to it, pinned as `in/<commit>`.

        Raises:
            NotFound: it is not there.
            Invalid: its ref leads elsewhere, or to what git forbids.
            Exhausted: it is more than the limits say.
        """
        async with place.scratch.folder() as desk:
            objects = desk / "objects"
            (objects / "info").mkdir(parents=True)
            (objects / "info" / "alternates").write_text(f"{place.common / 'objects'}\n", errors="surrogateescape")
            aside = {"GIT_OBJECT_DIRECTORY": str(objects)}
            # A pack that builds on what is here grows by that.
            within = replace(limits, packed=2 * limits.packed)
            command = ("fetch", "-q", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--refmap=")
            await self._run(place.git, (*command, self.url, self.ref(session, commit)), aside, within, objects / "pack")
            for pack in sorted((objects / "pack").glob("*.pack")):
                await asyncio.to_thread(weigh, pack, 0, within)
            await take(place.git, commit, desk / "pack", aside, limits)
        await refs.pin(session, f"{IN}/{commit}", commit)

    async def sessions(self, git: Git) -> dict[str, list[str]]:
        """The refs of this store that are there, by session, in git's spelling of its name."""
        found: dict[str, list[str]] = {}
        prefix = f"refs/skep/{self.store}/"
        for line in (await self._run(git, ("ls-remote", "-q", "--refs", self.url, f"{prefix}*"))).text.splitlines():
            name = line.partition("\t")[2]
            found.setdefault(name.removeprefix(prefix).rpartition("/")[0], []).append(name)
        return found

    async def collect(self, git: Git, there: Mapping[str, Sequence[str]], known: Collection[str]) -> int:
        """Removes the refs of sessions that are none of `known`; returns how many.

        Args:
            there: what `sessions` told before the store was asked which it knows: what is newer stays.
        """
        names = {quote(session) for session in known}
        gone = [name for session, refs in there.items() if session not in names for name in refs]
        for at in range(0, len(gone), MANY):
            await self._run(git, ("push", "-q", "--no-verify", self.url, *(f":{name}" for name in gone[at : at + MANY])))
        return len(gone)

    async def _run(
        self,
        git: Git,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        packs: Path | None = None,
    ) -> Ran:
        variables = {name: os.environ[name] for name in (*_LOGIN, *_PROXIES) if name in os.environ}
        variables |= {"GIT_ALLOW_PROTOCOL": PROTOCOLS} | dict(env or {})
        under = () if limits is None else _bounded(limits)
        for tried in range(1, TRIES + 1):
            ran = await git.run(*command, env=variables, config=_CHECKS, ok=(), under=under)
            if ran.code == 0:
                return ran
            error = self._failure(command[0], ran)
            if limits is not None and packs is not None and await asyncio.to_thread(_full, packs, limits.packed):
                raise Exhausted(f"The shared repository {self.url} sent more than {limits.packed} bytes.", TOO_MUCH)
            if tried == TRIES or not isinstance(error, Unavailable):
                raise error
            await asyncio.sleep(WAIT * 3 ** (tried - 1))
        raise AssertionError("unreachable")

    def _failure(self, name: str, ran: Ran) -> SkepError:
        said = " ".join(line.strip() for line in ran.err.splitlines() if line.strip())[-300:] or f"exit code {ran.code}"
        if _BAD.search(ran.err):
            return Invalid(f"What the shared repository {self.url} sent is refused by git: {said}", "See who can push there.")
        if _ABSENT.search(ran.err):
            return NotFound(f"The shared repository {self.url} lacks a commit: {said}", "See who can remove refs there.")
        fix = "See whether `git ls-remote` reaches it from this machine, as this user; then repeat."
        return Unavailable(f"git {name} with the shared repository {self.url} failed: {said}", fix)


def _full(packs: Path, most: int) -> bool:
    """Whether a file there has come to the limit: git was ended over it by a signal, and says nothing of it."""
    return any(path.stat().st_size >= most for path in packs.glob("*"))


def _bounded(limits: Limits) -> tuple[str, ...]:
    """What has a program end that writes, or allocates, more than it may: git has no limit of its own for a fetch."""
    program = shutil.which("prlimit")
    if program is None:
        raise Unavailable("prlimit was not found on PATH, so a fetch cannot be bounded.", "Install util-linux.")
    return (program, f"--fsize={limits.packed}", f"--as={ROOM + 2 * limits.packed}", "--core=0", "--")
