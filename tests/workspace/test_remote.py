"""Commits through a repository that machines share: real git over files and over its own daemon, hostile refs, an outage."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from skep.errors import Exhausted, Invalid, NotFound, Unavailable
from skep.store.ephemeral import EphemeralBlobs, EphemeralDisk
from skep.store.ephemeral_shared import EphemeralListing
from skep.workspace import LIMITS, Limits, remote
from skep.workspace.git import GitWorkspace
from skep.workspace.remote import Remote
from skep.workspace.travel import PUSHED, BundledCommits
from tests.servers import free_port
from tests.workspace.repository import Repository, git

STORE = "a1b2"


class Hive:
    """A bare repository that all share, and machines around it."""

    def __init__(self, top: Path, url: str = "") -> None:
        self.top, self.bare = top, top / "srv" / "shared.git"
        subprocess.run(["git", "init", "-q", "--bare", str(self.bare)], check=True)
        self.url = url or f"file://{self.bare}"
        self.listing = EphemeralListing(EphemeralDisk())
        self.ada = Repository(top / "ada")

    async def machine(self, name: str, limits: Limits = LIMITS, shared: bool = True) -> BundledCommits:
        folder = self.top / name
        folder.mkdir(exist_ok=True)
        work = await GitWorkspace.open(folder, folder / ".skep")
        blobs = EphemeralBlobs(EphemeralDisk(), lambda: 0)
        commits = work.commits(blobs, self.listing, limits, Remote(self.url, STORE) if shared else None)
        assert isinstance(commits, BundledCommits)
        return commits

    def has(self, name: str, commit: str) -> bool:
        """Whether a machine's private repository holds a commit whole."""
        return git(self.top / name / ".skep" / "repo.git", "rev-list", "--objects", "--count", commit, ok=False) != ""

    def refs(self) -> list[str]:
        """What the shared repository has."""
        return git(self.bare, "for-each-ref", "--format=%(refname)").split()

    def plant(self, session: str, commit: str, target: str) -> None:
        """Somebody who can push there has a commit's ref lead elsewhere."""
        git(self.bare, "update-ref", f"refs/skep/{STORE}/{session}/{commit}", target)


@pytest.fixture
def hive(tmp_path: Path) -> Hive:
    return Hive(tmp_path)


@asynccontextmanager
async def daemon(top: Path) -> AsyncIterator[str]:
    """Git's own server for what lies below a folder; gives the beginning of its URLs."""
    port = free_port()
    command = ("daemon", "--verbose", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", "--export-all", f"--base-path={top}")
    process = await asyncio.create_subprocess_exec(
        "git", *command, "--enable=receive-pack", stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            while b"Ready to rumble" not in (line := await process.stderr.readline()):
                assert line, "it has ended"
        yield f"git://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.communicate()


async def exchanged(hive: Hive) -> None:
    base, new = (hive.ada.commit({"a.txt": f"{n}\n"}) for n in range(2))
    ada, eve = await hive.machine("ada"), await hive.machine("eve")
    await ada.publish("s-1", base)
    await ada.publish("s-1", new, [base])
    assert await hive.listing.all("s-1") == {base: PUSHED, new: PUSHED}
    assert sorted(hive.refs()) == sorted(f"refs/skep/{STORE}/s-1/{commit}" for commit in (base, new))
    await eve.ensure("s-1", new)
    assert hive.has("eve", new)
    private = hive.top / "eve/.skep/repo.git"
    assert {line.split("/")[-1] for line in git(private, "for-each-ref").splitlines()} == {new}
    await eve.publish("s-1", new)


async def test_what_one_pushes_another_fetches(hive: Hive) -> None:
    await exchanged(hive)


async def test_it_works_over_the_network(tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    async with daemon(tmp_path / "srv") as url:
        await exchanged(Hive(tmp_path, f"{url}/shared.git"))


async def test_a_commit_that_was_listed_and_not_pushed_is_pushed_by_whoever_publishes_it_again(hive: Hive) -> None:
    base = hive.ada.commit({"a.txt": "1\n"})
    await hive.listing.put("s", base, PUSHED)  # whoever did died here
    eve = await hive.machine("eve")
    with pytest.raises(NotFound, match="lacks a commit"):
        await eve.ensure("s", base)
    await (await hive.machine("ada")).publish("s", base)
    await eve.ensure("s", base)
    assert hive.has("eve", base)


async def test_a_ref_that_leads_elsewhere_brings_nothing(hive: Hive) -> None:
    base, new, other = (hive.ada.commit({"a.txt": f"{n}\n"}) for n in range(3))
    ada, eve = await hive.machine("ada"), await hive.machine("eve")
    for commit in (base, new, other):
        await ada.publish("s", commit)
    blob = git(hive.bare, "hash-object", "-w", str(hive.top / "ada" / "a.txt"))
    for target in (base, blob):
        hive.plant("s", new, target)
        with pytest.raises(Invalid):
            await eve.ensure("s", new)
        assert not hive.has("eve", new)
        assert git(hive.top / "eve/.skep/repo.git", "for-each-ref") == ""


async def test_what_git_forbids_is_refused(hive: Hive) -> None:
    hive.ada.commit({"a.txt": "1\n"})
    blob = hive.ada("rev-parse", "HEAD:a.txt")
    tree = git(hive.ada.top, "hash-object", "-t", "tree", "-w", "--literally", str(_dotgit(hive, blob)))
    evil = hive.ada("commit-tree", tree, "-m", "evil")
    ada, eve = await hive.machine("ada"), await hive.machine("eve")
    await ada.publish("s", evil)
    with pytest.raises(Invalid, match="refused by git"):
        await eve.ensure("s", evil)
    assert not hive.has("eve", evil)


def _dotgit(hive: Hive, blob: str) -> Path:
    """The bytes of a tree with a `.git` in it, which no git would make."""
    path = hive.top / "tree"
    path.write_bytes(b"100644 .git\0" + bytes.fromhex(blob))
    return path


async def test_too_much_is_refused_by_both_sides(hive: Hive) -> None:
    small = hive.ada.commit({"a.txt": "1\n"})
    numbers = "\n".join(f"{n * 7919 % 1_000_003}" for n in range(400_000))
    large = hive.ada.commit({"b.txt": numbers})
    tight = Limits(packed=200_000)
    ada, ada_tight, eve = await hive.machine("ada"), await hive.machine("ada", tight), await hive.machine("eve", tight)
    await ada.publish("s", small)
    with pytest.raises(Exhausted, match="at most 200000 are sent"):
        await ada_tight.publish("s", large, [small])
    await ada.publish("s", large, [small])
    await eve.ensure("s", small)
    with pytest.raises(Exhausted):
        await eve.ensure("s", large)
    assert not hive.has("eve", large)
    many = await hive.machine("dan", Limits(objects=2))
    with pytest.raises(Exhausted, match="objects or more"):
        await many.ensure("s", large)


async def test_a_repository_that_is_away_is_tried_again_and_told(hive: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    base = hive.ada.commit({"a.txt": "1\n"})
    ada, aside = await hive.machine("ada"), hive.bare.with_name("aside")
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == back:
            aside.rename(hive.bare)

    monkeypatch.setattr(asyncio, "sleep", wait)
    back = 0
    hive.bare.rename(aside)
    with pytest.raises(Unavailable, match="with the shared repository file://"):
        await ada.publish("s", base)
    assert len(waits) == remote.TRIES - 1
    waits, back = [], 2
    await ada.publish("s", base)
    assert (len(waits), len(hive.refs())) == (2, 1)


async def test_a_fork_has_refs_of_its_own(hive: Hive) -> None:
    base = hive.ada.commit({"a.txt": "1\n"})
    ada, eve = await hive.machine("ada"), await hive.machine("eve")
    await ada.publish("s", base)
    await ada.fork("s", "s-2")
    await ada.collect(_known("s-2"))
    assert hive.refs() == [f"refs/skep/{STORE}/s-2/{base}"]
    await eve.ensure("s-2", base)
    assert hive.has("eve", base)


async def test_the_refs_of_sessions_that_are_gone_are_collected_and_no_others(hive: Hive) -> None:
    base = hive.ada.commit({"a.txt": "1\n"})
    ada = await hive.machine("ada")
    for session in ("gone", "stays.é", "newer"):
        await ada.publish(session, base)
    git(hive.bare, "update-ref", "refs/heads/trunk", base)
    git(hive.bare, "update-ref", f"refs/skep/ffff/gone/{base}", base)

    async def known() -> set[str]:
        await ada.publish("younger", base)  # after the look at what is there
        return {"stays.é", "newer"}

    assert await ada.collect(known) == 1
    assert not any(f"/{STORE}/gone/" in ref for ref in hive.refs())
    assert len(hive.refs()) == 5
    assert await ada.collect(_known("stays.é", "newer", "younger")) == 0


def _known(*sessions: str) -> Callable[[], Awaitable[set[str]]]:
    async def known() -> set[str]:
        return set(sessions)

    return known


async def test_machines_without_it_say_what_they_lack(hive: Hive) -> None:
    base = hive.ada.commit({"a.txt": "1\n"})
    await (await hive.machine("ada")).publish("s", base)
    with pytest.raises(NotFound) as caught:
        await (await hive.machine("eve", shared=False)).ensure("s", base)
    assert "`remote` in [store]" in caught.value.fix


async def test_what_was_sent_in_bundles_before_is_still_found(hive: Hive) -> None:
    base, new = (hive.ada.commit({"a.txt": f"{n}\n"}) for n in range(2))
    folder = hive.top / "ada"
    work = await GitWorkspace.open(folder, folder / ".skep")
    blobs = EphemeralBlobs(EphemeralDisk(), lambda: 0)
    await work.commits(blobs, hive.listing).publish("s", base)
    shared = Remote(hive.url, STORE)
    await work.commits(blobs, hive.listing, LIMITS, shared).publish("s", new, [base])
    (hive.top / "eve").mkdir()
    other = await GitWorkspace.open(hive.top / "eve", hive.top / "eve" / ".skep")
    eve = other.commits(blobs, hive.listing, LIMITS, shared)
    await eve.ensure("s", base)
    await eve.ensure("s", new)
    assert hive.has("eve", new)
