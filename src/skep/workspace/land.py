"""Brings a session's branch to a branch of the user's: the one place where Skep touches the user's files.

The working tree goes first and the branch after it, so a landing that was cut short can be repeated: files that already are
as they should be count as done. Git itself decides whether uncommitted work would be overwritten, before it changes anything.
No hook runs, and nothing is signed: what was merged may have changed the hooks (`core.hooksPath` may lie in the tree), and
checks belong to `verify`. A merge commit carries the user's name if git knows one, Skep's otherwise.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct

from skep.errors import Conflict, Invalid, Unavailable
from skep.workspace import snapshot
from skep.workspace.command import Git, shown
from skep.workspace.commits import commit, person, worded
from skep.workspace.difference import Difference, difference
from skep.workspace.merge import merged
from skep.workspace.obstacles import in_the_way
from skep.workspace.place import Place
from skep.workspace.refs import BASE, LANDED, Refs

#: Paths that a message names; the rest are counted.
_NAMED = 20
_UNDER_WAY = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply")


class Target(Struct, frozen=True, gc=False):
    """A branch of the user's: its full name, where it is ("" = not there yet), whether its files are the workspace's."""

    ref: str
    head: str
    here: bool


def listed(paths: list[bytes]) -> str:
    """Paths for a message."""
    more = len(paths) - _NAMED
    return ", ".join(shown(path) for path in sorted(paths)[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def refuse_hidden(place: Place, paths: list[bytes]) -> None:
    """Raises Conflict if a state folder is among what would be written."""
    hidden = [path for path in paths if place.hides(path)]
    if hidden:
        raise Conflict(f"The session's branch holds a state folder: {listed(hidden)}.", "Remove it from the session's commits.")


async def land(place: Place, refs: Refs, session: str, branch: str, squash: bool) -> str:
    """Brings a session's branch to `branch` of the user's repository; see `Workspace.land`."""
    tip = await refs.tip(session)
    target = await _target(place, branch)
    new = await _result(place, refs, session, tip, target, squash)
    if new != target.head:
        if target.here:
            await _update_files(place, target, new)
        await _move(place, refs, session, target, new)
    landed = [f"update {refs.name(session, f'{LANDED}/tip')} {tip}", f"update {refs.name(session, f'{LANDED}/commit')} {new}"]
    await refs.change(landed)
    return new


async def _target(place: Place, branch: str) -> Target:
    ref = f"refs/heads/{branch}"
    if (await place.git.run("check-ref-format", ref, ok=())).code or branch.startswith("-"):
        raise Invalid(f"{branch[:80]!r} is no name of a branch.", "Name a branch of yours, or a new one.")
    head = await place.git.run("rev-parse", "-q", "--verify", f"{ref}^{{commit}}", ok=(0, 1))
    if (await place.user.run("symbolic-ref", "-q", "HEAD", ok=(0, 1))).text == ref:
        return Target(ref, head.text, True)
    where = b""
    for entry in (await place.user.run("worktree", "list", "--porcelain", "-z")).names:
        if entry.startswith(b"worktree "):
            where = entry.removeprefix(b"worktree ")
        elif entry == b"branch " + os.fsencode(ref):
            raise Conflict(f"Branch {branch} is checked out in {shown(where)}.", "Land from there, or name another branch.")
    return Target(ref, head.text, False)


async def _result(place: Place, refs: Refs, session: str, tip: str, target: Target, squash: bool) -> str:
    """The commit that the branch will be at."""
    git, head = place.git, target.head
    words = await _words(place, refs, session, tip, squash)
    author = await person(place.user)
    if not head:
        base = await refs.read(session, BASE)
        return await commit(git, f"{tip}^{{tree}}", [base], words, None, author) if squash else tip
    if await _contains(git, head, tip):
        return head
    if not squash and await _contains(git, tip, head):
        return tip
    result = await merged(git, place.scratch, head, tip)
    if not result.clean:
        paths = ", ".join(map(shown, result.conflicts))
        raise Conflict(
            f"Session {session} does not merge into {target.ref.removeprefix('refs/heads/')}: {paths}.",
            f"Land on a new branch, `skep merge --branch NAME`, and merge that by hand.\n{result.detail}".rstrip(),
        )
    if squash and result.tree == await git("rev-parse", f"{head}^{{tree}}"):
        return head
    return await commit(git, result.tree, [head] if squash else [head, tip], words, None, author)


async def _contains(git: Git, commit: str, ancestor: str) -> bool:
    return (await git.run("merge-base", "--is-ancestor", ancestor, commit, ok=(0, 1))).code == 0


async def _words(place: Place, refs: Refs, session: str, tip: str, squash: bool) -> bytes:
    base = await refs.read(session, BASE)
    titles = await place.git("log", "--first-parent", "--max-count=100", "--format=- %s", f"{base}..{tip}")
    title = f"Skep session {session}" if squash else f"Merge Skep session {session}"
    return worded(f"{title}\n\n{titles}", {"Skep-Session": session})


async def _update_files(place: Place, target: Target, new: str) -> None:
    """Brings working tree and index from the branch's commit to the new one, or raises Conflict and changes nothing."""
    user, head = place.user, target.head
    assert user.gitdir is not None
    under_way = [name for name in _UNDER_WAY if (user.gitdir / name).exists()]
    if under_way:
        raise Conflict(f"A merge or rebase is under way in {place.top} ({under_way[0]}).", "Finish or abort it, and repeat.")
    wanted = await difference(place.git, head, new)
    refuse_hidden(place, wanted.paths)
    await _refuse_untracked(place, wanted, new)
    await user.run("update-index", "-q", "--refresh", ok=())
    update = ("read-tree", "-m", "-u", head, new)
    ran = await user.run(*update, ok=())
    if ran.code == 0:
        return
    if ".lock': File exists" in ran.err or "No space left" in ran.err:
        raise user.failure(update, ran)
    done = await _done_already(place, wanted, head, new)
    if done:
        await user.run("update-index", "-z", "--index-info", stdin=done)
        await user.run(*update)
        return
    raise await _in_the_way(place, wanted, set(), user.failure(update, ran).message)


async def _in_the_way(place: Place, wanted: Difference, lost: set[bytes], otherwise: str) -> Conflict:
    """The refusal that names all uncommitted files of the user's among those that are to change."""
    status = ("status", "--porcelain", "-z", "--no-renames", "-uall", "--ignore-submodules=dirty")
    dirty = {entry[3:] for entry in (await place.user.run(*status)).names}
    named = list(lost | dirty.intersection(wanted.paths))
    what = listed(named) if named else otherwise
    return Conflict(f"Uncommitted work in {place.top} would be overwritten: {what}.", "Commit it or move it aside, and repeat.")


async def _refuse_untracked(place: Place, wanted: Difference, new: str) -> None:
    """Raises Conflict if a file of the user's that git does not hold would be lost: git itself spares no ignored ones."""
    lost = await asyncio.to_thread(in_the_way, place.top, wanted.paths, wanted)
    coming = [path for path in wanted.new if path not in wanted.old and os.path.isfile(place.top / os.fsdecode(path))]
    if coming:
        lost |= set(coming) & await _unlike(place, coming, new)
    if lost:
        raise await _in_the_way(place, wanted, lost, "")


async def _unlike(place: Place, paths: list[bytes], new: str) -> set[bytes]:
    """Of the paths, those whose files are not as a commit has them, ignored or not; tried in a copy of the index."""
    async with _copied_index(place) as trial:
        found = await asyncio.to_thread(snapshot.sort, place.top, paths, paths)
        await snapshot.record(trial, found)
        unlike = (await trial.run("diff-index", "--cached", "-z", "--name-only", "--no-renames", new)).names
        return set(unlike).intersection(paths)


async def _done_already(place: Place, wanted: Difference, head: str, new: str) -> bytes:
    """Index lines for the files that are as the new commit wants them, if with these nothing stands in the way any more.

    That is so after a landing that was cut short between the files and the index.
    """
    unlike = await _unlike(place, wanted.paths, new)
    nothing = (b"0", b"0" * len(head))
    done = [(path, wanted.new.get(path, nothing)) for path in wanted.paths if path not in unlike]
    lines = b"".join(mode + b" " + blob + b"\t" + path + b"\0" for path, (mode, blob) in done)
    async with _copied_index(place) as trial:
        await trial.run("update-index", "-z", "--index-info", stdin=lines)
        await trial.run("update-index", "-q", "--refresh", ok=())
        ran = await trial.run("read-tree", "-m", "-u", "-n", head, new, ok=())
        return lines if ran.code == 0 else b""


@asynccontextmanager
async def _copied_index(place: Place) -> AsyncIterator[Git]:
    """The user's working tree with a copy of the index."""
    assert place.user.gitdir is not None
    async with place.scratch.folder() as folder:
        await asyncio.to_thread(shutil.copy2, place.user.gitdir / "index", folder / "index")
        yield place.user.on(place.top, folder / "index", own=False)


async def _move(place: Place, refs: Refs, session: str, target: Target, new: str) -> None:
    lines = [f"update {target.ref} {new} {target.head or '0' * len(new)}"]
    if target.here:
        lines.append(f"update ORIG_HEAD {target.head}")
    try:
        await refs.change(lines, f"skep merge: session {session}")
    except Unavailable:
        at = (await place.git.run("rev-parse", "-q", "--verify", target.ref, ok=(0, 1))).text
        if at == target.head:
            raise
        if target.here:
            await place.user.run("read-tree", "-m", "-u", new, target.head)
        raise Conflict(f"{target.ref} moved while the session was landing.", "Repeat it.") from None
