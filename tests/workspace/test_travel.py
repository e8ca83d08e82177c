"""Commits reach every machine through a shared store: published by whoever made them, fetched by whoever needs them."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from skep.errors import Exhausted, Invalid, NotFound
from skep.store import Packed
from skep.store.blobs import FileBlobs
from skep.store.ephemeral import EphemeralDisk
from skep.store.ephemeral_shared import EphemeralListing
from skep.workspace import LIMITS, Limits, travel
from skep.workspace.git import GitWorkspace
from skep.workspace.travel import BundledCommits
from tests.workspace.crashing import run
from tests.workspace.repository import Repository, git


class Counted(FileBlobs):
    """Counts what is fetched."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: Counter[str] = Counter()

    async def get(self, digest: str) -> bytes:
        self.asked[digest] += 1
        return await super().get(digest)


class Hive:
    """A shared store and machines around it, each with a repository of its own."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.blobs = Counted(top / "blobs")
        self.listing = EphemeralListing(EphemeralDisk())
        self.ada = Repository(top / "ada")

    async def machine(self, name: str, limits: Limits = LIMITS) -> BundledCommits:
        """A machine's door to the store; with a repository that is there or an empty one."""
        folder = self.top / name
        folder.mkdir(exist_ok=True)
        work = await GitWorkspace.open(folder, folder / ".skep")
        commits = work.commits(self.blobs, self.listing, limits)
        assert isinstance(commits, BundledCommits)
        return commits

    def has(self, name: str, commit: str) -> bool:
        """Whether the private repository of a machine holds a commit whole."""
        private = self.top / name / ".skep" / "repo.git"
        return git(private, "rev-list", "--objects", "--count", commit, ok=False) != ""

    def chain(self, length: int) -> list[str]:
        """Commits one upon the other."""
        return [self.ada.commit({"a.txt": f"{n}\n"}) for n in range(length)]


@pytest.fixture
def hive(tmp_path: Path) -> Hive:
    return Hive(tmp_path)


async def test_what_one_publishes_another_can_have(hive: Hive) -> None:
    base, new = hive.chain(2)
    ada, eve = await hive.machine("ada"), await hive.machine("eve")
    await ada.publish("s", base)
    await ada.publish("s", new, [base])
    await eve.ensure("s", new)
    assert hive.has("eve", new)
    private = hive.top / "eve/.skep/repo.git"
    assert {line.split("/")[-1] for line in git(private, "for-each-ref").splitlines()} == {base, new}


async def test_what_is_here_or_published_already_costs_nothing(hive: Hive) -> None:
    base, new = hive.chain(2)
    ada, eve = await hive.machine("ada"), await hive.machine("eve")
    await ada.publish("s", base)
    listed = await hive.listing.all("s")
    await ada.publish("s", base, [base])
    await ada.publish("s", base)
    await eve.ensure("s", base)
    await eve.ensure("s", base)
    await (await hive.machine("eve")).ensure("s", base)
    await eve.publish("s", base)
    assert await hive.listing.all("s") == listed
    assert hive.blobs.asked.total() == 1
    await ada.publish("s", new, [base])
    await ada.ensure("s", new)
    assert hive.blobs.asked.total() == 1


async def test_a_commit_that_lies_in_a_published_one_needs_no_bundle_of_its_own(hive: Hive) -> None:
    base, new = hive.chain(2)
    ada, eve = await hive.machine("ada"), await hive.machine("eve")
    await ada.publish("s", new)
    await ada.publish("s", base, [new])
    assert await hive.listing.get("s", base) == Packed("", (new,), 1)
    await eve.ensure("s", base)
    assert hive.has("eve", base)


async def test_what_nobody_published_is_not_found_and_nothing_builds_on_it(hive: Hive) -> None:
    base, new = hive.chain(2)
    ada, eve = await hive.machine("ada"), await hive.machine("eve")
    with pytest.raises(NotFound, match=base):
        await ada.publish("s", new, [base])
    with pytest.raises(NotFound, match=new):
        await eve.ensure("s", new)
    await ada.publish("other", base)
    with pytest.raises(NotFound):
        await eve.ensure("s", base)


async def test_one_that_comes_late_fetches_a_bounded_number_of_bundles(hive: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(travel, "DEEPEST", 3)
    commits = hive.chain(9)
    ada, eve = await hive.machine("ada"), await hive.machine("eve")
    await ada.publish("s", commits[0])
    for before, commit in pairwise(commits):
        await ada.publish("s", commit, [before])
    assert max(packed.depth for packed in (await hive.listing.all("s")).values()) == 3
    await eve.ensure("s", commits[-1])
    assert hive.has("eve", commits[-1])
    assert hive.blobs.asked.total() <= 4


async def test_many_who_want_the_same_fetch_it_once(hive: Hive) -> None:
    commits = hive.chain(4)
    ada, eve = await hive.machine("ada"), await hive.machine("eve")
    await ada.publish("s", commits[0])
    for before, commit in pairwise(commits):
        await ada.publish("s", commit, [before])
    await asyncio.gather(*(eve.ensure("s", commit) for commit in commits * 3))
    assert set(hive.blobs.asked.values()) == {1}


async def test_a_fork_has_what_its_origin_published_and_a_forgotten_session_nothing(hive: Hive) -> None:
    (base,) = hive.chain(1)
    ada, eve = await hive.machine("ada"), await hive.machine("eve")
    await ada.publish("s", base)
    await ada.fork("s", "t")
    await ada.forget("s")
    with pytest.raises(NotFound):
        await eve.ensure("s", base)
    await eve.ensure("t", base)
    await ada.publish("s", base)
    assert (await hive.listing.all("s")).keys() == {base}


@pytest.mark.parametrize("wrong", ["loop", "self", "many", "digest", "commit"])
async def test_a_listing_that_lies_is_found_out(hive: Hive, wrong: str) -> None:
    base, new = hive.chain(2)
    ada, eve = await hive.machine("ada"), await hive.machine("eve")
    await ada.publish("t", base)
    good = await hive.listing.get("t", base)
    assert good is not None
    lies = {
        "loop": {new: Packed(good.digest, (base,), 1), base: Packed(good.digest, (new,), 1)},
        "self": {new: Packed(good.digest, (new,), 0)},
        "many": {new: Packed(good.digest, tuple(f"{n:040x}" for n in range(1, 100)), 1)},
        "digest": {new: Packed("d" * 64)},
        "commit": {new: good},
    }
    for commit, packed in lies[wrong].items():
        await hive.listing.put("s", commit, packed)
    with pytest.raises((Exhausted, NotFound, Invalid)):
        await eve.ensure("s", new)
    assert not hive.has("eve", new)


async def test_what_is_too_large_to_be_sent_or_taken_in_says_what_helps(hive: Hive) -> None:
    base, new = hive.chain(2)
    ada, eve = await hive.machine("ada", Limits(packed=100)), await hive.machine("eve", Limits(objects=2))
    with pytest.raises(Exhausted, match=r"Raise `bundle` .* as `remote` there"):
        await ada.publish("s", base)
    await (await hive.machine("ada")).publish("s", new)
    with pytest.raises(Exhausted, match=r"Raise `bundle` .* as `remote` there"):
        await eve.ensure("s", new)
    assert not hive.has("eve", new)


async def test_a_kill_at_any_step_leaves_nothing_and_it_can_be_repeated(hive: Hive, tmp_path: Path) -> None:
    (new,) = hive.chain(1)
    await (await hive.machine("ada")).publish("s", new)
    listed = await hive.listing.get("s", new)
    assert listed is not None
    before = [
        "from skep.store import Packed",
        "from skep.store.blobs import FileBlobs",
        "from skep.store.ephemeral import EphemeralDisk",
        "from skep.store.ephemeral_shared import EphemeralListing",
        "listing = EphemeralListing(EphemeralDisk())",
        f"await listing.put('s', {new!r}, Packed({listed.digest!r}))",
    ]
    ensure = f"await work.commits(FileBlobs(Path({str(tmp_path / 'blobs')!r})), listing).ensure('s', {new!r})"
    (tmp_path / "whole").mkdir()
    opening = run(tmp_path / "whole", tmp_path / "desk", "\n".join(before))
    last = run(tmp_path / "whole", tmp_path / "desk", "\n".join([*before, ensure]))
    for crash in range(opening + 1, last + 1):
        (tmp_path / f"killed-{crash}").mkdir()
        assert run(tmp_path / f"killed-{crash}", tmp_path / "desk", "\n".join([*before, ensure]), crash) == 0
        folder = tmp_path / f"killed-{crash}"
        work = await GitWorkspace.open(folder, folder / ".skep")
        await work.tidy([])
        assert list((folder / ".skep/git/scratch").iterdir()) == []
        assert await work.refs("s") == {}
        await work.commits(hive.blobs, hive.listing).ensure("s", new)
        assert await work.refs("s") == {f"in/{new}": new}
        assert "garbage: 0" in git(folder / ".skep/repo.git", "count-objects", "-v")
        git(folder / ".skep/repo.git", "fsck", "--strict")
