"""Lands a session whose workspace is a plain folder: copies back what changed, file by file, each one whole or not at all.

A file is written only if the user's is as it was when the session began (or last landed) or already as it should be; if any
is not, nothing is written. Repeating a landing that was cut short goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from skep.errors import Conflict
from skep.workspace import snapshot
from skep.workspace.difference import Difference, difference
from skep.workspace.land import listed, refuse_hidden
from skep.workspace.obstacles import in_the_way, is_folder
from skep.workspace.place import Place
from skep.workspace.refs import BASE, LANDED, Refs

#: What a file is called until it is whole.
DRAFT = b".skep-draft"


async def copy_back(place: Place, refs: Refs, session: str) -> str:
    """Brings a session's files to the folder; returns the session's commit.

    Raises:
        Conflict: the user changed one of the files, or something of theirs is in the way; nothing was changed.
        Unavailable: a file cannot be written; what was written is whole, and the call can be repeated.
    """
    tip = await refs.tip(session)
    base = await refs.read(session, f"{LANDED}/tip") or await refs.read(session, BASE)
    wanted = await difference(place.git, base, tip)
    refuse_hidden(place, wanted.paths)
    async with place.scratch.folder() as stage:
        await _copy(place, stage, base, tip, wanted)
    await refs.change([f"update {refs.name(session, f'{LANDED}/{name}')} {tip}" for name in ("tip", "commit")])
    return tip


async def _copy(place: Place, stage: Path, base: str, tip: str, wanted: Difference) -> None:
    index = stage / "index"
    assert place.user.index is not None
    if place.user.index.exists():  # there is none before the first snapshot, as for an imported session
        await asyncio.to_thread(shutil.copy2, place.user.index, index)
    user = place.user.on(place.top, index, own=False)
    now = await snapshot.record(user, await snapshot.changes(user, place.hides, also=wanted.paths))
    theirs = await difference(place.git, base, now)
    touched = set(theirs.paths)
    todo = [path for path in wanted.paths if path not in touched or theirs.new.get(path) != wanted.new.get(path)]
    clashes = {path for path in todo if path in touched}
    clashes |= await asyncio.to_thread(in_the_way, place.top, todo, wanted)
    if clashes:
        raise Conflict(
            f"Files in {place.top} were changed meanwhile: {listed(list(clashes))}.",
            "Move your changes of these files aside, and repeat.",
        )
    await user.run("read-tree", tip)
    coming = [path for path in todo if path in wanted.new]
    if coming:
        names = b"".join(path + b"\0" for path in coming)
        await user.run("checkout-index", "-q", "-z", "--stdin", f"--prefix={stage}/files/", stdin=names)
    leaving = [path for path in todo if path not in wanted.new]
    await asyncio.to_thread(_apply, os.fsencode(stage / "files"), os.fsencode(place.top), coming, leaving)


def _apply(stage: bytes, root: bytes, coming: Iterable[bytes], leaving: Iterable[bytes]) -> None:
    for path in leaving:
        target = os.path.join(root, path)
        if os.path.lexists(target):
            os.unlink(target)
        _prune(root, os.path.dirname(path))
    for path in coming:
        target = os.path.join(root, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if is_folder(target):
            for where, _, _ in os.walk(target, topdown=False):
                os.rmdir(where)
        draft = os.path.join(os.path.dirname(target), DRAFT)
        if os.path.lexists(draft):
            os.unlink(draft)
        shutil.copy2(os.path.join(stage, path), draft, follow_symlinks=False)  # the state folder may be on another disk
        _keep_mode(target, draft)
        os.replace(draft, target)


def _keep_mode(target: bytes, draft: bytes) -> None:
    """Gives a new version the permissions of the old one, but for whether it can be executed: that is the session's."""
    if os.path.islink(draft) or not os.path.isfile(target) or os.path.islink(target):
        return
    mode, new = stat.S_IMODE(os.stat(target).st_mode), os.stat(draft).st_mode
    os.chmod(draft, mode | (mode & 0o444) >> 2 if new & stat.S_IXUSR else mode & ~0o111)


def _prune(root: bytes, folder: bytes) -> None:
    """Removes folders that a deletion left empty, as git does."""
    while folder:
        try:
            os.rmdir(os.path.join(root, folder))
        except OSError:  # not empty
            return
        folder = os.path.dirname(folder)
