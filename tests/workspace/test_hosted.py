"""A machine without anything of the user's works on their sessions as theirs does; only beginning and landing are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep.errors import Conflict, Unavailable
from skep.store import Blobs, Listing
from skep.store.ephemeral import EphemeralBlobs, EphemeralDisk
from skep.store.ephemeral_shared import EphemeralListing
from skep.workspace import Opened, Workspace
from skep.workspace.git import GitWorkspace
from skep.workspace.place import hosted
from tests.contracts.workspace import WorkspaceContract, WorkspaceHome
from tests.workspace.repository import Repository, git, write
from tests.workspace.test_copy import PlainHome
from tests.workspace.test_git import GitHome, SubfolderHome


class Guest(GitWorkspace):
    """A hosted workspace whose sessions begin and land on the user's machine, through a shared store."""

    user: GitWorkspace
    store: tuple[Blobs, Listing]

    async def begin(self, session: str) -> Opened:
        opened = await self.user.begin(session)
        if session not in await self.sessions():
            await self.user.commits(*self.store).publish(session, opened.base)
            await self.commits(*self.store).ensure(session, opened.base)
            await self.adopt(session, opened, opened.base)
            await self.drop(session, [name for name in await self.refs(session) if name.startswith("in/")])
        return opened

    async def land(self, session: str, branch: str = "", squash: bool = False) -> str:
        tip = await self.tip(session)
        opened = await self.user.begin(session)
        await self.commits(*self.store).publish(session, tip, [opened.base])
        await self.user.commits(*self.store).ensure(session, tip)
        await self.user.adopt(session, opened, tip)
        return await self.user.land(session, branch, squash)


class GuestHome:
    """A user's folder, and another machine that works on it."""

    inside: type[WorkspaceHome] = GitHome

    def __init__(self, top: Path) -> None:
        self.user = self.inside(top)
        self.folder = self.user.folder
        self.state = top.with_name("elsewhere")
        self.store = EphemeralBlobs(disk := EphemeralDisk(), lambda: 0), EphemeralListing(disk)

    async def open(self) -> Guest:
        work, user = Guest(await hosted(self.state)), await self.user.open()
        assert isinstance(user, GitWorkspace)
        work.user, work.store = user, self.store
        return work

    def git(self, *args: str) -> str:
        return git(self.state / "hosted.git", *args)

    def fingerprint(self) -> str:
        return self.user.fingerprint()


class SubfolderGuestHome(GuestHome):
    """The user's folder is one in a larger repository."""

    inside = SubfolderHome


class PlainGuestHome(GuestHome):
    """The user's folder is no repository."""

    inside = PlainHome


class HostedContract(WorkspaceContract):
    """What nothing but the user's folder holds after landing nothing here holds."""

    async def test_forgetting_keeps_what_nothing_else_holds(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        one = await self.attempt(work, base, "one", {"a.txt": "1\n"})
        await self.merge(work, one, "one")
        await work.land("s-1")
        assert await work.forget("s-1") == ["main"]
        assert (await work.refs("s-1")).keys() == {"main", "base"}

    async def test_what_nothing_else_holds_is_told_and_nothing_is_removed(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        await self.merge(work, await self.attempt(work, base, "one", {"a.txt": "1\n"}), "one")
        await work.land("s-1")
        assert await work.unmerged("s-1") == ["main"]

    async def test_a_landed_session_is_forgotten_wholly(self, work: Workspace) -> None:
        # That it may go has to be said.
        base = (await work.begin("s-1")).base
        await self.merge(work, await self.attempt(work, base, "one", {"a.txt": "1\n"}), "one")
        await work.land("s-1")
        await work.abandon("s-1", unmerged=True)
        assert await work.refs("s-1") == {}
        assert await work.sessions() == set()


class TestHostedGit(HostedContract):
    home = GuestHome


class TestHostedSubfolder(HostedContract):
    home = SubfolderGuestHome


class TestHostedPlainFolder(HostedContract):
    home = PlainGuestHome


async def test_nothing_begins_or_lands_where_no_files_of_the_user_are(tmp_path: Path) -> None:
    work = await GitWorkspace.host(tmp_path / "state")
    assert work.kind == "hosted"
    with pytest.raises(Unavailable, match="where your files are"):
        await work.begin("s")
    assert await work.head() == ""
    home = GuestHome(tmp_path / "user")
    guest = await home.open()
    await guest.begin("s")
    with pytest.raises(Unavailable, match="where your repository is"):
        await super(Guest, guest).land("s")


async def test_the_branch_goes_where_the_log_says(tmp_path: Path) -> None:
    home = GuestHome(tmp_path / "user")
    work = await home.open()
    opened = await work.begin("s")
    path = Path(await work.checkout("s", "t", opened.base))
    (path / "a.txt").write_text("new\n")
    tip = await work.capture(str(path), "s", "task/t/1", "t", {}, 0)
    await work.adopt("s", opened, tip)
    assert await work.tip("s") == tip
    await work.adopt("s", opened, opened.base)
    assert await work.tip("s") == opened.base


async def test_files_are_kept_as_they_are_where_the_session_began(tmp_path: Path) -> None:
    files = {".gitattributes": "*.txt text eol=crlf\n", "a.txt": "a\n"}
    repository = Repository(tmp_path / "git" / "user")
    repository.commit(files)
    write(tmp_path / "copy" / "user", files)
    for kind, content in (("git", b"a\r\n"), ("copy", b"a\n")):
        user = await GitWorkspace.open(tmp_path / kind / "user", tmp_path / kind / "user/.skep")
        store = EphemeralBlobs(disk := EphemeralDisk(), lambda: 0), EphemeralListing(disk)
        opened = await user.begin("s")
        await user.commits(*store).publish("s", opened.base)
        work = await GitWorkspace.host(tmp_path / kind / "state")
        await work.commits(*store).ensure("s", opened.base)
        await work.adopt("s", opened, opened.base)
        again = await GitWorkspace.host(tmp_path / kind / "state")
        for one in (user, work, again):
            assert (Path(await one.checkout("s", "t", opened.base)) / "a.txt").read_bytes() == content


async def test_a_state_folder_is_for_one_kind_of_workspace_at_a_time(tmp_path: Path) -> None:
    home = GuestHome(tmp_path / "user")
    work = await home.open()
    opened = await work.begin("s")
    for kind in ("copy", "git:part", "git:../../etc", "git:/etc", "none"):
        with pytest.raises(Conflict, match="state folder of their own"):
            await work.adopt("t", Opened(opened.base, "", kind), opened.base)
    user = await GitWorkspace.open(home.folder, home.folder / ".skep")
    with pytest.raises(Conflict):
        await user.adopt("t", Opened(opened.base, "", "copy"), opened.base)
    await work.abandon("s", unmerged=True)
    await work.adopt("t", Opened(opened.base, "", "git:part"), opened.base)
    assert work.path("t", "x").endswith("/part")


async def test_a_confined_program_commits_there_and_its_commits_are_taken_over(tmp_path: Path) -> None:
    work = await GuestHome(tmp_path / "user").open()
    base = (await work.begin("s")).base
    path = Path(await work.checkout("s", "t", base))
    around = await work.around(str(path))
    (path / "own.txt").write_text("own\n")
    git(path, "add", "own.txt", env=around.env)
    git(path, "commit", "-q", "-m", "by itself", env=around.env)
    own = git(path, "rev-parse", "HEAD", env=around.env)
    assert await work.capture(str(path), "s", "task/t/1", "t", {}, 0) == own
    await work.commits(*work.store).publish("s", own, [base])
    await work.user.commits(*work.store).ensure("s", own)
    assert await work.user.changed(base, own) == ["own.txt"]
    await work.user.pin("s", "task/t/1", own)
    assert (await work.user.refs("s")).keys() == {"main", "base", "task/t/1"}
