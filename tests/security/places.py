"""Where a session leaves something that is kept or handed on, to be searched for what must be in none of it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import skep
from skep.interfaces.cli.debug import gathered
from tests.workspace.repository import git


async def holding(session: skep.Session, top: Path, canary: str) -> set[str]:
    """The kinds of places that hold it: `state`, `commits`, `receipt`, `bundle`, `export`.

    Args:
        top: the user's repository, with the state folder.
    """
    exported = top.parent / f"{session.name}.skep"
    await session.export(exported)
    with zipfile.ZipFile(io.BytesIO(exported.read_bytes())) as archive:
        members = [archive.read(name) for name in archive.namelist()]
    exported.unlink()
    # Nothing is taken out by the values of this environment: there must be nothing to take out.
    bundle, _ = await gathered(session, {})
    found = {
        "state": [path.read_bytes() for path in (top / ".skep").rglob("*") if path.is_file()],
        "commits": [git(top, "cat-file", "--batch", "--batch-all-objects").encode(errors="surrogateescape")],
        "receipt": [await session.receipt()],
        "bundle": [text.encode() for text in bundle.values()],
        "export": members,
    }
    assert all(any(parts) for parts in found.values()), found
    return {place for place, parts in found.items() if any(canary.encode() in part for part in parts)}
