"""A session's commits travel as a bundle; one from elsewhere is hostile until every object was checked."""

from __future__ import annotations

import hashlib
import zlib
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

from skep.errors import Invalid
from skep.workspace.git import GitWorkspace
from tests.workspace.repository import Repository, git, tree, write

AT = 1_700_000_000_000


async def opened(folder: Path) -> GitWorkspace:
    return await GitWorkspace.open(folder, folder / ".skep")


async def exported(folder: Path) -> bytes:
    """A session in a plain folder that added one file."""
    write(folder, {"a.txt": "a\n"})
    work = await opened(folder)
    base = (await work.begin("s")).base
    path = Path(await work.checkout("s", "t", base))
    write(path, {"new.txt": "new\n"})
    tip = await work.capture(str(path), "s", "task/each[x]/1", "t", {}, AT)
    await work.advance("s", tip, base)
    packed = BytesIO()
    await work.bundle("s", packed)
    return packed.getvalue()


async def take_in(work: GitWorkspace, session: str, data: bytes, origin: str, tip: str = "") -> None:
    """As an import does, with the branch at `tip`, otherwise where the bundle has it."""
    with NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        main = next((line.split(b" ")[0].decode() for line in data.split(b"\n\n")[0].split(b"\n") if b"/main" in line), "1" * 40)
        await work.unbundle(session, Path(file.name), origin, tip or main)


async def test_a_session_comes_out_elsewhere_with_all_its_refs_and_can_land(tmp_path: Path) -> None:
    data = await exported(tmp_path / "one")
    write(tmp_path / "two", {"a.txt": "a\n"})
    work = await opened(tmp_path / "two")
    await take_in(work, "imported-1", data, "s")
    assert (await work.refs("imported-1")).keys() == {"main", "base", "task/each[x]/1"}
    assert await work.sessions() == {"imported-1"}
    await work.land("imported-1")
    assert tree(tmp_path / "two").keys() == {"a.txt", "new.txt"}


async def test_damaged_bundles_are_refused_and_leave_no_session(tmp_path: Path) -> None:
    data = await exported(tmp_path / "one")
    (tmp_path / "two").mkdir()
    work = await opened(tmp_path / "two")
    flipped = data[:-40] + bytes([data[-40] ^ 255]) + data[-39:]
    for bad in (b"", b"rubbish\n\n", data[:60], data[:-30], flipped):
        with pytest.raises(Invalid):
            await take_in(work, "s", bad, "s")
    with pytest.raises(Invalid):
        await take_in(work, "s", data, "another")
    assert await work.sessions() == set()


async def test_its_branch_is_where_the_session_was_although_it_had_moved_on_when_it_was_bundled(tmp_path: Path) -> None:
    data = await exported(tmp_path / "one")
    first = await opened(tmp_path / "one")
    base, main = (await first.refs("s"))["base"], (await first.refs("s"))["main"]
    (tmp_path / "two").mkdir()
    work = await opened(tmp_path / "two")
    await take_in(work, "early", data, "s", tip=base)
    assert (await work.refs("early"))["main"] == base != main
    with pytest.raises(Invalid, match="do not hold"):
        await take_in(work, "never", data, "s", tip="1" * 40)
    assert await work.sessions() == {"early"}


async def test_objects_that_git_itself_would_never_make_are_refused(tmp_path: Path) -> None:
    evil = Repository(tmp_path / "evil")
    blob = git(evil.top, "hash-object", "-w", "--", write_file(tmp_path, "[core]\n"))
    inner = bytes.fromhex(raw_tree(evil, b"100644 config\0" + bytes.fromhex(blob)))
    commit = evil("commit-tree", "-m", "trap", raw_tree(evil, b"40000 .git\0" + inner))
    for name in ("main", "base"):
        evil("update-ref", f"refs/skep/s/{name}", commit)
    evil("bundle", "create", "-q", str(tmp_path / "file"), "refs/skep/s/main", "refs/skep/s/base")
    (tmp_path / "two").mkdir()
    work = await opened(tmp_path / "two")
    with pytest.raises(Invalid, match="damaged"):
        await take_in(work, "s", (tmp_path / "file").read_bytes(), "s")
    assert await work.sessions() == set()


def write_file(folder: Path, text: str) -> str:
    path = folder / "content"
    path.write_text(text)
    return str(path)


def raw_tree(repository: Repository, body: bytes) -> str:
    """Writes a tree object past git's own checks."""
    data = b"tree %d\0" % len(body) + body
    name = hashlib.sha1(data).hexdigest()
    path = repository.top / ".git/objects" / name[:2] / name[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zlib.compress(data))
    return name
