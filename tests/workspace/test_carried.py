"""Where a session's branch is on a machine that others worked besides: where the log has it, whatever lies there."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep.core.commands import Merge, Stacked
from skep.core.intent import Candidate, MergeIntent
from skep.errors import Exhausted
from skep.runtime.stacks import Refusal, land
from skep.store.ephemeral import EphemeralBlobs, EphemeralDisk
from skep.store.ephemeral_shared import EphemeralListing
from skep.workspace import Limits, Opened
from skep.workspace.carried import CarriedWorkspace
from tests.workspace.repository import Repository

AT = 1_700_000_000_123


class Pair:
    """A machine with the user's files and one without, over one store, and a session begun on the first."""

    def __init__(self, here: CarriedWorkspace, there: CarriedWorkspace, opened: Opened) -> None:
        self.here, self.there, self.opened = here, there, opened

    async def attempt(self, name: str) -> Candidate:
        """What an attempt made, here, from the base."""
        path = Path(await self.here.checkout("s", f"task/{name}/1", self.opened.base))
        (path / f"{name}.txt").write_text(name)
        return Candidate(name, 1, await self.here.capture(str(path), "s", f"task/{name}/1", name, {}, AT))


@pytest.fixture
async def pair(tmp_path: Path) -> Pair:
    repo = Repository(tmp_path / "here")
    disk = EphemeralDisk()
    blobs, listing = EphemeralBlobs(disk, lambda: 0), EphemeralListing(disk)
    here = await CarriedWorkspace.open(repo.top, repo.top / ".skep")
    there = await CarriedWorkspace.host(tmp_path / "there")
    for work in (here, there):
        assert isinstance(work, CarriedWorkspace)
        work.carry(work.commits(blobs, listing))
    assert isinstance(here, CarriedWorkspace)
    assert isinstance(there, CarriedWorkspace)
    return Pair(here, there, await here.begin("s"))


async def good(top: Candidate, commit: str) -> Refusal | None:
    return None


def merge(base: str, *stack: Candidate) -> Merge:
    return Merge(MergeIntent(base=base, at=AT, stack=stack), tuple(Stacked(one.task) for one in stack), None)


async def test_a_merge_that_nobody_recorded_is_made_anew_and_the_same(pair: Pair) -> None:
    one = await pair.attempt("one")
    command = merge(pair.opened.base, one)
    made = (await land(pair.here, "s", command, good)).commits
    await pair.here.enter("s", pair.opened, pair.opened.base)
    assert await pair.here.tip("s") == pair.opened.base
    assert (await land(pair.here, "s", command, good)).commits == made
    await pair.there.enter("s", pair.opened, pair.opened.base)
    assert (await land(pair.there, "s", command, good)).commits == made, "wherever it is made"


async def test_what_others_merged_instead_replaces_a_merge_that_nobody_recorded(pair: Pair) -> None:
    one, two = await pair.attempt("one"), await pair.attempt("two")
    assert not (await land(pair.here, "s", merge(pair.opened.base, one), good)).cause
    # This machine was given up before it could say so, and the other one merged something else.
    await pair.there.enter("s", pair.opened, pair.opened.base)
    (tip,) = (await land(pair.there, "s", merge(pair.opened.base, two), good)).commits
    await pair.here.enter("s", pair.opened, tip)
    ended = await land(pair.here, "s", merge(tip, one), good)
    assert not ended.cause, ended.detail
    assert len(ended.commits) == 1


async def test_a_session_that_was_made_anew_begins_where_it_says(pair: Pair) -> None:
    one = await pair.attempt("one")
    (tip,) = (await land(pair.here, "s", merge(pair.opened.base, one), good)).commits
    await pair.there.enter("s", pair.opened, tip)
    await pair.there.enter("s", Opened(tip, pair.opened.branch, pair.opened.kind), tip)
    assert (await pair.there.refs("s"))["base"] == tip


async def test_a_history_that_is_too_large_to_be_sent_says_which_settings_help(tmp_path: Path) -> None:
    repo, disk = Repository(tmp_path / "here"), EphemeralDisk()
    work = await CarriedWorkspace.open(repo.top, repo.top / ".skep")
    assert isinstance(work, CarriedWorkspace)
    work.carry(work.commits(EphemeralBlobs(disk, lambda: 0), EphemeralListing(disk), Limits(packed=100)))
    with pytest.raises(Exhausted, match=r"The whole history up to commit [0-9a-f]{40} has more than the 100 bytes") as refused:
        await work.begin("s")
    for setting in ("`bundle` (bytes) in [store] of skep.toml", "`git count-objects -vH`", "as `remote` there"):
        assert setting in refused.value.fix
