"""A session's commits as one file, and back: what an export carries, git's own bundle format."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from skep.errors import Invalid
from skep.workspace.command import Git
from skep.workspace.names import decode
from skep.workspace.refs import ABOUT, BASE, MAIN, About, Refs


async def bundle(git: Git, refs: Refs, session: str) -> bytes:
    """All commits that the session's refs hold, with their history. Raises Exhausted beyond what git may print (256 MB)."""
    names = [refs.name(session, name) for name in await refs.all(session)]
    return (await git.run("bundle", "create", "-q", "-", *names)).out


async def unbundle(git: Git, refs: Refs, data: bytes, origin: str, session: str, about: About) -> None:
    """Takes a bundle in and makes the refs of a session of it, all or none.

    Args:
        data: what `bundle` made; hostile until shown otherwise: every object is checked.
        origin: the session it was made of.
        session: the session to make.

    Raises:
        Invalid: no bundle, damaged, or without the session's branch.
    """
    with tempfile.NamedTemporaryFile(suffix=".bundle") as file:
        Path(file.name).write_bytes(data)
        listed = await git.run("bundle", "list-heads", file.name, ok=(0, 1, 128))
        found = _heads(listed.text, refs, origin)
        if listed.code or MAIN not in found or BASE not in found:
            raise Invalid("The file's commits cannot be read.", "Export the session again.")
    # `git bundle unbundle` does not look into objects (git 2.39), so the pack behind the header is taken in by itself.
    pack = data[data.index(b"\n\n") + 2 :]
    ran = await git.run("index-pack", "--strict", "--fix-thin", "--stdin", stdin=pack, ok=(0, 1, 128))
    if ran.code:
        raise Invalid(f"The file's commits are damaged: {ran.err.strip()[-200:]}", "Export the session again.")
    await refs.create(session, about, found)


def _heads(text: str, refs: Refs, origin: str) -> Mapping[str, str]:
    prefix = refs.below(origin)
    pairs = (line.split(" ", 1) for line in text.splitlines() if " " in line)
    return {
        decode(name.removeprefix(prefix)): commit for commit, name in pairs if name.startswith(prefix) and name != prefix + ABOUT
    }
