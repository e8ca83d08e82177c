"""A session's commits as one file, and back: what an export carries, git's own bundle format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from skep.errors import Invalid
from skep.workspace.command import Git, oid
from skep.workspace.names import decode
from skep.workspace.place import Place
from skep.workspace.refs import ABOUT, BASE, MAIN, About, Refs

#: Bytes of a bundle.
LARGEST = 16 << 30


async def bundle(git: Git, refs: Refs, session: str, into: BinaryIO) -> None:
    """Writes all commits that the session's refs hold, with their history. Raises Exhausted beyond LARGEST."""
    names = [refs.name(session, name) for name in await refs.all(session)]
    await git.run("bundle", "create", "-q", "-", *names, into=into, most=LARGEST)


async def unbundle(git: Git, refs: Refs, file: Path, origin: str, session: str, about: About, tip: str) -> None:
    """Takes a bundle in and makes the refs of a session of it, all or none.

    Args:
        file: what `bundle` wrote; hostile until shown otherwise: every object is checked.
        origin: the session it was made of.
        session: the session to make.
        tip: where its branch is to be: the origin's may have moved on while it was bundled.

    Raises:
        Invalid: no bundle, damaged, or without the session's branch.
    """
    found = await _take(git, refs, file, origin, tip)
    await refs.create(session, about, {**found, MAIN: tip})


async def prove(place: Place, refs: Refs, file: Path, session: str, tip: str) -> None:
    """Takes a bundle in beside the repository, as one that has nothing of it would, and compares it with a session's refs.

    Raises:
        Invalid: no repository could take it in, or it is not all that the session's refs hold now.
    """
    git = place.git
    async with place.scratch.folder() as desk:
        aside = {"GIT_OBJECT_DIRECTORY": str(desk)}
        found = await _take(git, refs, file, session, tip, aside)
        if found != await refs.all(session):
            raise Invalid(f"The file's commits are not those of session {session}.", "Have it made again.")
        heads = "".join(f"{commit}\n" for commit in sorted(set(found.values()))).encode()
        whole = await git.run("rev-list", "--objects", "--quiet", "--stdin", stdin=heads, env=aside, ok=(0, 1, 128))
        if whole.code:
            raise Invalid(f"The file's commits are not whole: {whole.err.strip()[-200:]}", "git fetch --unshallow")


async def _take(
    git: Git, refs: Refs, file: Path, origin: str, tip: str, env: Mapping[str, str] | None = None
) -> Mapping[str, str]:
    """Takes the objects of a bundle in, all checked; returns the heads in it: name below the session -> commit."""
    listed = await git.run("bundle", "list-heads", str(file), ok=(0, 1, 128))
    found = _heads(listed.text, refs, origin)
    if listed.code or MAIN not in found or BASE not in found:
        raise Invalid("The file's commits cannot be read.", "Export the session again.")
    # `git bundle unbundle` does not look into objects (git 2.39), so the pack behind the header is taken in by itself.
    with file.open("rb", buffering=0) as pack:
        pack.seek(_header(file))
        ran = await git.run("index-pack", "--strict", "--fix-thin", "--stdin", stdin=pack, env=env, ok=(0, 1, 128))
    if ran.code:
        raise Invalid(f"The file's commits are damaged: {ran.err.strip()[-200:]}", "Export the session again.")
    held = await git.run("merge-base", "--is-ancestor", oid(tip), found[MAIN], env=env, ok=())
    if held.code:
        raise Invalid(f"The file's commits do not hold {tip}, where its branch is to be.", "Export the session again.")
    return found


def _header(file: Path) -> int:
    """How long the header of a bundle is, which ends with an empty line."""
    with file.open("rb") as lines:
        while lines.readline() not in (b"\n", b""):
            pass
        return lines.tell()


def _heads(text: str, refs: Refs, origin: str) -> Mapping[str, str]:
    prefix = refs.below(origin)
    pairs = (line.split(" ", 1) for line in text.splitlines() if " " in line)
    return {
        decode(name.removeprefix(prefix)): commit for commit, name in pairs if name.startswith(prefix) and name != prefix + ABOUT
    }
