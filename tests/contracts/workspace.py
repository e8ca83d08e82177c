"""What every `Workspace` does. A backend passes when `class TestX(WorkspaceContract): home = XHome` does."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Protocol

import pytest

from skep.core.intent import Candidate
from skep.errors import Conflict, Invalid, NotFound
from skep.workspace import Workspace

AT = 1_700_000_000_123
START = {"a.txt": "one\ntwo\nthree\nfour\nfive\n", "src/b.txt": "b\n", "run.sh": "#!/bin/sh\n", ".gitignore": "*.log\n"}
#: Ids that git would not take in a ref as they are, or that would be in each other's way.
NASTY = ("each[name]", "a", "a/b", "a/1", "..", ".", "@{", "@", "x.lock", "-x", "naïve ✓", "a b~^:?*\\", "%41", "\n", "é" * 300)
TRAILERS = {"Skep-Task": "build", "Skep-Attempt": "1"}


class WorkspaceHome(Protocol):
    """A user's folder, holding START, and Skep's state folder in it."""

    folder: Path

    def __init__(self, top: Path) -> None: ...

    async def open(self) -> Workspace:
        """As a new process would; again on the same folder if called twice."""

    def git(self, *args: str) -> str:
        """Plain git on the repository that holds the session's refs."""

    def fingerprint(self) -> str:
        """Of everything that belongs to the user."""


class WorkspaceContract:
    """Subclass it with `home`."""

    home: type[WorkspaceHome]

    @pytest.fixture
    def place(self, tmp_path: Path) -> WorkspaceHome:
        return self.home(tmp_path / "user")

    @pytest.fixture
    async def work(self, place: WorkspaceHome) -> Workspace:
        return await place.open()

    async def attempt(self, work: Workspace, base: str, name: str, files: dict[str, str | None]) -> str:
        """One attempt that writes (or with None deletes) files; returns the commit."""
        path = Path(await work.checkout("s-1", f"task/{name}/1", base))
        for file, text in files.items():
            if text is None:
                (path / file).unlink()
            else:
                (path / file).parent.mkdir(parents=True, exist_ok=True)
                (path / file).write_text(text)
        commit = await work.capture(str(path), "s-1", f"task/{name}/1", f"do {name}", TRAILERS, AT)
        await work.remove(str(path))
        return commit

    async def merge(self, work: Workspace, candidate: str, name: str) -> str:
        """Merges a commit into the session's branch; returns the merge."""
        base = await work.tip("s-1")
        built = await work.build("s-1", base, Candidate(name, 1, candidate), AT, f"Merge {name}", {"Skep-Task": name})
        assert built.commit, built
        assert await work.advance("s-1", built.commit, base) == built.commit
        return built.commit

    async def test_a_session_begins_where_the_user_is_and_beginning_again_changes_nothing(self, work: Workspace) -> None:
        first = await work.begin("s-1")
        commit = await self.attempt(work, first.base, "t", {"a.txt": "new\n"})
        tip = await self.merge(work, commit, "t")
        assert await work.begin("s-1") == first
        assert await work.tip("s-1") == tip != first.base

    async def test_a_session_that_has_not_begun_is_not_found(self, work: Workspace) -> None:
        with pytest.raises(NotFound):
            await work.tip("s-9")

    async def test_a_checkout_holds_the_commit_at_the_path_that_was_foretold(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        path = await work.checkout("s-1", "task/each[a/b]/1", base)
        assert path == work.path("s-1", "task/each[a/b]/1")
        assert {name: Path(path, name).read_text() for name in START} == START

    async def test_a_second_checkout_of_a_name_replaces_the_first(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        path = await work.checkout("s-1", "task/t/1", base)
        Path(path, "left").write_text("over")
        Path(path, "a.txt").write_text("spoiled")
        assert await work.checkout("s-1", "task/t/1", base) == path
        assert not Path(path, "left").exists()
        assert Path(path, "a.txt").read_text() == START["a.txt"]

    async def test_many_checkouts_at_once_all_succeed(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        paths = await asyncio.gather(*(work.checkout("s-1", f"task/t/{n}", base) for n in range(16)))
        assert len(set(paths)) == 16
        assert all(Path(path, "a.txt").read_text() == START["a.txt"] for path in paths)
        await asyncio.gather(*(work.remove(path) for path in paths))
        assert not any(os.path.lexists(path) for path in paths)

    async def test_a_checkout_of_what_is_no_commit_is_refused(self, work: Workspace) -> None:
        await work.begin("s-1")
        for commit in ("", "HEAD", "--help", "0" * 40, "f" * 40):
            with pytest.raises(Invalid):
                await work.checkout("s-1", "task/t/1", commit)

    async def test_capture_records_every_change_that_is_not_ignored(self, work: Workspace, place: WorkspaceHome) -> None:
        base = (await work.begin("s-1")).base
        path = Path(await work.checkout("s-1", "task/t/1", base))
        (path / "a.txt").write_text("changed\n")
        (path / "src/b.txt").unlink()
        (path / "run.sh").chmod(0o755)
        (path / "new/deep").mkdir(parents=True)
        (path / "new/deep/ü \n.txt").write_text("new\n")
        (path / "link").symlink_to("a.txt")
        (path / "noise.log").write_text("noise\n")
        (path / ".skep").mkdir()
        (path / ".skep/state").write_text("never\n")
        os.mkfifo(path / "pipe")
        commit = await work.capture(str(path), "s-1", "task/t/1", "title", TRAILERS, AT)
        changed = await work.changed(base, commit)
        assert sorted(changed) == sorted(["a.txt", "src/b.txt", "run.sh", "new/deep/ü \n.txt", "link"])
        assert (await work.refs("s-1"))["task/t/1"] == commit
        log = place.git("log", "-1", "--format=%an <%ae>|%cn <%ce>|%at %ct %ai|%P|%B", commit)
        seconds = AT // 1000
        who = "Skep <skep@localhost>"
        assert log.startswith(f"{who}|{who}|{seconds} {seconds} 2023-11-14 22:13:20 +0000|{base}|title\n\nSkep-Task: build\n")
        assert place.git("log", "-1", "--format=%(trailers:key=Skep-Attempt,valueonly)", commit).strip() == "1"

    async def test_capture_of_the_same_gives_the_same_commit_and_of_nothing_gives_none(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        path = await work.checkout("s-1", "task/t/1", base)
        assert await work.capture(path, "s-1", "task/t/1", "title", TRAILERS, AT) == ""
        Path(path, "a.txt").write_text("changed\n")
        first = await work.capture(path, "s-1", "task/t/1", "title", TRAILERS, AT)
        assert first
        assert await work.capture(path, "s-1", "wip/t/1", "title", TRAILERS, AT) == first
        Path(path, "a.txt").write_text(START["a.txt"])
        assert await work.capture(path, "s-1", "task/t/1", "title", TRAILERS, AT) == ""

    async def test_capture_of_a_worktree_that_is_gone_is_refused(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        path = await work.checkout("s-1", "task/t/1", base)
        await work.remove(path)
        await work.remove(path)
        with pytest.raises(Invalid):
            await work.capture(path, "s-1", "task/t/1", "title", TRAILERS, AT)

    async def test_nothing_but_worktrees_is_ever_removed(self, work: Workspace, place: WorkspaceHome) -> None:
        await work.begin("s-1")
        for path in (place.folder, place.folder / "src", Path(work.path("s-1", "x")).parent.parent, Path("/")):
            with pytest.raises(Invalid):
                await work.remove(str(path))
        assert (place.folder / "src/b.txt").exists()

    async def test_edits_of_different_places_merge_and_the_branch_holds_both(self, work: Workspace, place: WorkspaceHome) -> None:
        base = (await work.begin("s-1")).base
        one = await self.attempt(work, base, "one", {"a.txt": "ONE\ntwo\nthree\nfour\nfive\n"})
        two = await self.attempt(work, base, "two", {"a.txt": "one\ntwo\nthree\nfour\nFIVE\n", "src/new.txt": "new\n"})
        first = await self.merge(work, one, "one")
        second = await self.merge(work, two, "two")
        path = await work.checkout("s-1", "verify/two/1", second)
        assert Path(path, "a.txt").read_text() == "ONE\ntwo\nthree\nfour\nFIVE\n"
        assert Path(path, "src/new.txt").read_text() == "new\n"
        assert place.git("log", "-1", "--format=%P", first) == f"{base} {one}"
        assert place.git("log", "-1", "--format=%P", second) == f"{first} {two}"

    async def test_a_conflict_names_the_paths_and_changes_nothing(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        one = await self.attempt(work, base, "one", {"a.txt": "mine\n", "src/b.txt": None})
        two = await self.attempt(work, base, "two", {"a.txt": "yours\n", "src/b.txt": "kept\n"})
        tip = await self.merge(work, one, "one")
        refs = await work.refs("s-1")
        built = await work.build("s-1", tip, Candidate("two", 1, two), AT, "Merge two", {})
        assert (built.commit, sorted(built.conflicts)) == ("", ["a.txt", "src/b.txt"])
        assert "CONFLICT (content)" in built.detail
        assert "CONFLICT (modify/delete)" in built.detail
        assert await work.refs("s-1") == refs

    async def test_the_branch_moves_only_from_where_it_was_expected(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        one = await self.attempt(work, base, "one", {"a.txt": "1\n"})
        two = await self.attempt(work, base, "two", {"src/b.txt": "2\n"})
        tip = await self.merge(work, one, "one")
        assert await work.advance("s-1", two, base) == tip == await work.tip("s-1")
        assert await work.advance("s-1", tip, base) == tip

    async def test_refs_hold_any_id_and_give_it_back(self, work: Workspace, place: WorkspaceHome) -> None:
        base = (await work.begin("s-1")).base
        names = [f"wip/{name}/1" for name in NASTY]
        for name in names:
            await work.pin("s-1", name, base)
        assert await work.refs("s-1") == dict.fromkeys((*names, "main", "base"), base)
        for ref in place.git("for-each-ref", "--format=%(refname)", "refs/skep").splitlines():
            place.git("check-ref-format", ref)

    async def test_what_only_skep_moves_cannot_be_pinned(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        for name in ("main", "base", "about", "landed/tip", "wip//1", ""):
            with pytest.raises(Invalid):
                await work.pin("s-1", name, base)
        with pytest.raises(Invalid):
            await work.pin("s-1", "wip/a/1", "f" * 40)

    async def test_refs_that_a_caller_made_can_be_dropped_and_no_others(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        await work.pin("s-1", "wip/each[a/b]/1", base)
        with pytest.raises(Invalid):
            await work.drop("s-1", ["wip/each[a/b]/1", "main"])
        await work.drop("s-1", ["wip/each[a/b]/1"])
        assert (await work.refs("s-1")).keys() == {"main", "base"}

    async def test_sessions_that_have_refs_are_known_by_name(self, work: Workspace) -> None:
        for name in ("s-1", "each[x]", "n" * 400):
            await work.begin(name)
        assert await work.sessions() == {"s-1", "each[x]", "n" * 400}

    async def test_a_fork_has_refs_of_its_own(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        one = await self.attempt(work, base, "one", {"a.txt": "1\n"})
        await self.merge(work, one, "one")
        await work.fork("s-1", "s-2", base)
        await work.fork("s-1", "s-2", base)
        assert await work.tip("s-2") == base
        assert (await work.refs("s-2"))["task/one/1"] == one
        with pytest.raises(Conflict):
            await work.fork("s-1", "s-2", one)
        with pytest.raises(NotFound):
            await work.fork("s-9", "s-3", base)

    async def test_forgetting_keeps_what_nothing_else_holds(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        one = await self.attempt(work, base, "one", {"a.txt": "1\n"})
        await self.attempt(work, base, "two", {"a.txt": "2\n"})
        await self.merge(work, one, "one")
        path = await work.checkout("s-1", "shared", base)
        assert await work.forget("s-1") == ["main", "task/two/1"]
        assert not Path(path).exists()
        assert {"main", "task/two/1"} <= (await work.refs("s-1")).keys()
        assert "task/one/1" not in await work.refs("s-1")
        await work.land("s-1")
        assert await work.forget("s-1", keep=["task/two/1"]) == []
        assert "task/two/1" in await work.refs("s-1")
        assert await work.forget("s-1") == ["task/two/1"]

    async def test_what_nothing_else_holds_is_told_and_nothing_is_removed(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        one = await self.attempt(work, base, "one", {"a.txt": "1\n"})
        await self.attempt(work, base, "two", {"a.txt": "2\n"})
        await self.merge(work, one, "one")
        before = await work.refs("s-1")
        assert await work.unmerged("s-1") == ["main", "task/two/1"]
        await work.land("s-1")
        assert await work.unmerged("s-1") == ["task/two/1"]
        assert (await work.refs("s-1")).keys() >= before.keys()
        assert await work.unmerged("nobody") == []

    async def test_a_bundle_is_proved_only_if_it_holds_all_of_a_session(self, work: Workspace, tmp_path: Path) -> None:
        base = (await work.begin("s-1")).base
        await self.merge(work, await self.attempt(work, base, "one", {"a.txt": "1\n"}), "one")
        tip, file = await work.tip("s-1"), tmp_path / "bundle"
        with file.open("wb") as into:
            await work.bundle("s-1", into)
        await work.prove("s-1", file, tip)
        whole = file.read_bytes()
        for damage in (b"", whole[:-30], whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:]):
            file.write_bytes(damage)
            with pytest.raises(Invalid):
                await work.prove("s-1", file, tip)
        file.write_bytes(whole)
        with pytest.raises(Invalid):
            await work.prove("s-1", file, await self.attempt(work, base, "two", {"a.txt": "2\n"}))
        with pytest.raises(Invalid, match="are not those of"):
            await work.prove("s-1", file, tip)

    async def test_a_landed_session_is_forgotten_wholly(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        await self.merge(work, await self.attempt(work, base, "one", {"a.txt": "1\n"}), "one")
        await work.land("s-1")
        assert await work.forget("s-1") == []
        assert await work.refs("s-1") == {}
        assert await work.forget("s-1") == []

    async def test_tidying_removes_worktrees_that_nobody_works_in(self, work: Workspace, place: WorkspaceHome) -> None:
        base = (await work.begin("s-1")).base
        live = await work.checkout("s-1", "task/live/1", base)
        dead = await work.checkout("s-1", "task/dead/1", base)
        again = await place.open()
        assert await again.tidy([live, str(place.folder)]) == 1
        assert Path(live, "a.txt").exists()
        assert not Path(dead).exists()
        assert "dead" not in place.git("worktree", "list", "--porcelain")
        assert await again.tidy([live]) == 0

    async def test_differences_are_shown_as_git_shows_them(self, work: Workspace) -> None:
        base = (await work.begin("s-1")).base
        one = await self.attempt(work, base, "one", {"a.txt": "1\n"})
        assert "+1\n" in await work.diff(base, one)
        assert "\x1b[32m+" in await work.diff(base, one, color=True)
        assert "1 file changed" in await work.diff(base, one, stat=True)

    async def test_landing_brings_what_changed_to_the_users_folder(self, work: Workspace, place: WorkspaceHome) -> None:
        base = (await work.begin("s-1")).base
        files = {"a.txt": "landed\n", "src/b.txt": None, "new/c.txt": "c\n"}
        await self.merge(work, await self.attempt(work, base, "one", files), "one")
        (place.folder / "own.txt").write_text("uncommitted\n")
        commit = await work.land("s-1")
        assert commit == await work.tip("s-1")
        assert (place.folder / "a.txt").read_text() == "landed\n"
        assert (place.folder / "new/c.txt").read_text() == "c\n"
        assert not (place.folder / "src").exists()
        assert (place.folder / "own.txt").read_text() == "uncommitted\n"
        after = place.fingerprint()
        assert await work.land("s-1") == commit
        assert place.fingerprint() == after

    async def test_landing_again_brings_what_came_since(self, work: Workspace, place: WorkspaceHome) -> None:
        base = (await work.begin("s-1")).base
        tip = await self.merge(work, await self.attempt(work, base, "one", {"a.txt": "1\n"}), "one")
        await work.land("s-1")
        await self.merge(work, await self.attempt(work, tip, "two", {"a.txt": "2\n"}), "two")
        await work.land("s-1")
        assert (place.folder / "a.txt").read_text() == "2\n"

    async def test_landing_over_uncommitted_work_is_refused_and_changes_nothing(
        self, work: Workspace, place: WorkspaceHome
    ) -> None:
        base = (await work.begin("s-1")).base
        files: dict[str, str | None] = {"a.txt": "landed\n", "new.txt": "new\n", "src/b.txt": "b2\n"}
        await self.merge(work, await self.attempt(work, base, "one", files), "one")
        (place.folder / "a.txt").write_text("mine\n")
        (place.folder / "new.txt").write_text("mine too\n")
        before = place.fingerprint()
        with pytest.raises(Conflict) as refused:
            await work.land("s-1")
        assert "a.txt" in refused.value.message
        assert "new.txt" in refused.value.message
        assert place.fingerprint() == before

    async def test_nothing_but_landing_touches_what_is_the_users(self, work: Workspace, place: WorkspaceHome) -> None:
        (place.folder / "a.txt").write_text("uncommitted\n")
        (place.folder / "untracked.txt").write_text("untracked\n")
        os.utime(place.folder / "run.sh", (1, 1))  # git would like to note that in the index
        before = place.fingerprint()
        base = (await work.begin("s-1")).base
        one = await self.attempt(work, base, "one", {"src/b.txt": "1\n", "x": "y\n"})
        tip = await self.merge(work, one, "one")
        await work.fork("s-1", "s-2", base)
        await work.checkout("s-1", "task/left/1", tip)
        await work.diff(base, tip)
        await work.forget("s-2")
        await (await place.open()).tidy([])
        await work.forget("s-1")
        assert place.fingerprint() == before
