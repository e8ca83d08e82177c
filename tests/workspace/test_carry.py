"""A commit goes from one repository to another as a file; what comes in is hostile until every object was weighed and checked."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from skep.errors import Exhausted, Invalid, NotFound, SkepError, Unavailable
from skep.workspace import Limits
from skep.workspace.carry import held, pack, unpack
from skep.workspace.place import Place, locate
from skep.workspace.refs import Refs
from tests.workspace.packs import BLOB, BY_ID, BY_PLACE, Forged, bundle, delta, entry, far, packed
from tests.workspace.repository import Repository, git

SMALL = Limits(packed=1 << 20, objects=1000, unpacked=1 << 20, object=1 << 19, depth=50)


class Side:
    """A repository and how Skep sees it."""

    def __init__(self, repository: Repository, place: Place) -> None:
        self.repository, self.place = repository, place
        self.refs = Refs(place.git, place.common)

    async def take(self, commit: str, file: Path, limits: Limits = SMALL) -> None:
        await unpack(self.place, self.refs, "s", commit, file, limits)

    def has(self, name: str) -> bool:
        """Whether an object is there."""
        return not self.repository("cat-file", "-e", name, ok=False) and name in self.repository(
            "cat-file", "--batch-all-objects", "--batch-check=%(objectname)"
        )

    def everything(self) -> str:
        """All objects and refs, and what lies about unfinished."""
        objects = self.repository("cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
        left = [str(path) for path in (self.place.state / "git" / "scratch").iterdir()]
        counted = self.repository("count-objects", "-v").split("garbage: ")[1]
        return "\n".join([objects, self.repository("for-each-ref"), *left, counted])


async def side(folder: Path) -> Side:
    repository = Repository(folder)
    repository.commit({"unrelated.txt": folder.name})
    return Side(repository, await locate(folder, folder / ".skep"))


@pytest.fixture
async def here(tmp_path: Path) -> Side:
    return await side(tmp_path / "here")


@pytest.fixture
async def there(tmp_path: Path) -> Side:
    return await side(tmp_path / "there")


def lines(seed: int, count: int = 4000) -> str:
    """Text that does not compress well."""
    chance = random.Random(seed)
    return "".join(f"{chance.getrandbits(64):x}\n" for _ in range(count))


async def test_a_commit_arrives_whole_and_touches_one_ref(here: Side, there: Side, tmp_path: Path) -> None:
    base = here.repository.commit({"a.txt": "a\n", "deep/b.txt": "b\n"})
    size = await pack(here.place.git, base, (), tmp_path / "base")
    assert size == (tmp_path / "base").stat().st_size
    before = there.repository("for-each-ref")
    fingerprint = there.repository.fingerprint()
    await there.take(base, tmp_path / "base")
    await there.take(base, tmp_path / "base")
    assert there.repository.files(base) == {"a.txt", "deep/b.txt", "unrelated.txt"}
    refs = set(there.repository("for-each-ref").splitlines()) - set(before.splitlines())
    assert refs == {f"{base} commit\trefs/skep/s/in/{base}"}
    assert there.repository.fingerprint() == fingerprint
    there.repository("fsck", "--strict", "--connectivity-only")
    assert git(there.repository.top, "bundle", "verify", str(tmp_path / "base"))  # a bundle that git knows too


async def test_many_objects_arrive_as_a_pack(here: Side, there: Side, tmp_path: Path) -> None:
    base = here.repository.commit({f"{n}.txt": f"{n}\n" for n in range(200)})
    await pack(here.place.git, base, (), tmp_path / "base")
    await there.take(base, tmp_path / "base")
    assert len(there.repository.files(base)) == 201
    there.repository("fsck", "--strict")
    assert "packs: 1" in there.repository("count-objects", "-v")


async def test_only_what_is_new_is_sent_and_what_it_builds_on_is_named(here: Side, there: Side, tmp_path: Path) -> None:
    text = lines(1)
    base = here.repository.commit({"large.txt": text})
    new = here.repository.commit({"large.txt": text + "one more\n"})
    await pack(here.place.git, base, (), tmp_path / "base")
    assert await pack(here.place.git, new, (base,), tmp_path / "new") < 1000 < len(text)
    before = there.everything()
    with pytest.raises(NotFound, match=base):
        await there.take(new, tmp_path / "new")
    assert there.everything() == before
    await there.take(base, tmp_path / "base")
    await there.take(new, tmp_path / "new")
    assert there.repository.show(new, "large.txt") == (text + "one more\n").removesuffix("\n")


async def test_what_others_have_already_makes_no_file(here: Side, tmp_path: Path) -> None:
    base = here.repository.commit()
    new = here.repository.commit()
    for commit, have in ((base, (base,)), (base, (new,)), (new, (base, new))):
        assert await pack(here.place.git, commit, have, tmp_path / "file") == 0
        assert not (tmp_path / "file").exists()


async def test_a_commit_that_is_not_here_cannot_be_packed(here: Side, tmp_path: Path) -> None:
    base = here.repository.commit()
    for commit, have in (("f" * 40, ()), (base, ("f" * 40,)), ("HEAD", ()), (base, ("--all",))):
        with pytest.raises(Invalid):
            await pack(here.place.git, commit, have, tmp_path / "file")
    assert not (tmp_path / "file").exists()


async def test_what_is_too_large_is_not_sent_and_says_what_helps(here: Side, tmp_path: Path) -> None:
    base = here.repository.commit({"large.txt": lines(1)})
    with pytest.raises(Exhausted, match=r"The whole history up to commit .* has more than the 10000 bytes"):
        await pack(here.place.git, base, (), tmp_path / "file", Limits(packed=10_000))
    assert not (tmp_path / "file").exists()


async def test_a_shallow_clone_says_so(here: Side, tmp_path: Path) -> None:
    here.repository.commit()
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth=1", here.repository.top.as_uri(), str(clone))
    place = await locate(clone, clone / ".skep")
    with pytest.raises(Unavailable, match="unshallow"):
        await pack(place.git, git(clone, "rev-parse", "HEAD"), (), tmp_path / "file")


async def test_old_histories_with_badly_written_authors_and_modes_travel(here: Side, there: Side, tmp_path: Path) -> None:
    blob = git(here.repository.top, "hash-object", "-w", "-t", "blob", "unrelated.txt")
    body = b"040000 sub\0" + bytes.fromhex(_raw(here, "tree", b"100644 a\0" + bytes.fromhex(blob)))
    tree = _raw(here, "tree", body)
    who = b"Ada<ada@example.org> 1700000000 +051800"
    commit = _raw(here, "commit", b"tree %s\nauthor %s\ncommitter %s\n\nold\n" % (tree.encode(), who, who))
    await pack(here.place.git, commit, (), tmp_path / "file")
    await there.take(commit, tmp_path / "file")
    assert there.repository.files(commit) == {"sub/a"}


def _raw(side: Side, kind: str, body: bytes) -> str:
    path = side.repository.top.parent / "body"
    path.write_bytes(body)
    return side.repository("hash-object", "-w", "-t", kind, "--literally", str(path))


GITMODULES = b'[submodule "x"]\n\tpath = x\n\turl = -u./payload\n'
TRAPS = {
    "git-folder": ({b"40000 .git": {b"100644 config": b"[core]\n"}}, "hasDotgit"),
    "git-folder-in-other-letters": ({b"40000 .GIT": {b"100644 config": b"[core]\n"}}, "hasDotgit"),
    "git-folder-for-windows": ({b"40000 git~1": {b"100644 config": b"[core]\n"}}, "hasDotgit"),
    "way-up": ({b"40000 ..": {b"100644 a": b"a"}}, "hasDotdot"),
    "way-in-a-name": ({b"100644 a/../../b": b"a"}, "fullPathname"),
    "option-as-submodule-url": ({b"100644 .gitmodules": GITMODULES}, "gitmodulesUrl"),
    "submodules-behind-a-symlink": ({b"120000 .gitmodules": b"elsewhere"}, "gitmodulesSymlink"),
    "file-and-symlink-of-one-name": ({b"120000 a": b"/tmp", b"40000 a": {b"100644 b": b"b"}}, "duplicateEntries"),
}


@pytest.mark.parametrize("trap", TRAPS)
async def test_what_git_forbids_is_refused_and_leaves_nothing(there: Side, tmp_path: Path, trap: str) -> None:
    tree, said = TRAPS[trap]
    forged = Forged(tree)  # type: ignore[arg-type]  # a table of trees
    before = there.everything()
    with pytest.raises(Invalid, match=said):
        await there.take(forged.commit, bundle(tmp_path / "file", forged.commit, packed(forged.entries)))
    assert there.everything() == before


async def test_damage_is_refused_and_leaves_nothing(here: Side, there: Side, tmp_path: Path) -> None:
    base = here.repository.commit({"a.txt": "a\n"})
    file = tmp_path / "file"
    await pack(here.place.git, base, (), file)
    data = file.read_bytes()
    before = there.everything()
    bad = [
        b"",
        b"\n\n",
        b"# v2 git bundle\n\n",
        data[:20],
        data[:90],
        data[:-1],
        data[:-30],
        data + b"x",
        data[:-21] + b"x" + data[-20:],
    ]
    bad += [data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :] for at in range(0, len(data), 7)]
    for rotten in bad:
        file.write_bytes(rotten)
        with pytest.raises(SkepError):
            await there.take(base, file)
    assert there.everything() == before


async def test_a_file_is_of_one_commit_only(here: Side, there: Side, tmp_path: Path) -> None:
    base = here.repository.commit()
    new = here.repository.commit()
    await pack(here.place.git, new, (), tmp_path / "file")
    with pytest.raises(Invalid, match="not of commit"):
        await there.take(base, tmp_path / "file")
    here.repository("bundle", "create", "-q", str(tmp_path / "two"), "HEAD", "trunk")
    with pytest.raises(Invalid):
        await there.take(new, tmp_path / "two")
    blob = here.repository("rev-parse", f"{new}:unrelated.txt")
    with pytest.raises(Invalid):
        await there.take(blob, bundle(tmp_path / "blob", blob, (tmp_path / "file").read_bytes().partition(b"\n\n")[2]))


async def test_what_does_not_lead_to_the_commit_stays_outside(there: Side, tmp_path: Path) -> None:
    wanted, other = Forged({b"100644 a": b"a"}), Forged({b"100644 smuggled": b"b"})
    await there.take(wanted.commit, bundle(tmp_path / "file", wanted.commit, packed(wanted.entries + other.entries)))
    assert there.has(wanted.commit)
    assert not there.has(other.commit)


async def test_a_commit_without_all_that_leads_to_it_is_refused(there: Side, tmp_path: Path) -> None:
    forged = Forged({b"100644 a": b"a", b"100644 b": b"b"})
    before = there.everything()
    for left_out in range(len(forged.entries)):
        some = forged.entries[:left_out] + forged.entries[left_out + 1 :]
        with pytest.raises(Invalid):
            await there.take(forged.commit, bundle(tmp_path / "file", forged.commit, packed(some)))
    assert there.everything() == before


def _chain(length: int) -> list[bytes]:
    """A blob and deltas one upon the other."""
    entries = [entry(BLOB, b"x")]
    for n in range(length):
        entries.append(entry(BY_PLACE, delta(1, 1, b"\x01" + bytes([n % 256])), far(len(entries[-1]))))
    return entries


BOMBS = {
    "object": ([entry(BLOB, bytes(1 << 20))], "bytes in one object"),
    "all-together": ([entry(BLOB, bytes(1 << 18) + bytes([n])) for n in range(5)], "bytes unpacked"),
    "delta": ([entry(BLOB, b"x"), entry(BY_PLACE, delta(1, 1 << 40), far(10))], "bytes in one object"),
    "deltas": ([entry(BLOB, b"x"), *[entry(BY_ID, delta(1, 1 << 18), bytes(20))] * 5], "bytes unpacked"),
    "chain": (_chain(60), "deltas upon each other"),
    "count": ([entry(BLOB, b"%d" % n) for n in range(1001)], "objects"),
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_small_file_that_holds_very_much_never_reaches_git(
    there: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bomb: str
) -> None:
    entries, said = BOMBS[bomb]
    file = bundle(tmp_path / "file", "1" * 40, packed(entries))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Exhausted, match=said):
        await there.take("1" * 40, file)


async def test_sizes_that_lie_are_refused(there: Side, tmp_path: Path) -> None:
    large = bytes(1 << 20)
    for lie in ([entry(BLOB, large, size=10)], [entry(BLOB, b"abc", size=1 << 18)], [entry(BLOB, b"")[:3]], [entry(5, b"")]):
        with pytest.raises(Invalid):
            await there.take("1" * 40, bundle(tmp_path / "file", "1" * 40, packed(lie)))
    with pytest.raises(Invalid):
        await there.take("1" * 40, bundle(tmp_path / "file", "1" * 40, packed([entry(BLOB, b"x")], count=2)))
    with pytest.raises(Invalid, match="no repository has"):
        await there.take("1" * 40, bundle(tmp_path / "file", "1" * 40, packed([entry(BY_ID, delta(1, 1), b"\1" * 20)])))
    with pytest.raises(Exhausted, match="at most"):
        await there.take(
            "1" * 40, bundle(tmp_path / "file", "1" * 40, packed([entry(BLOB, random.Random(1).randbytes(1 << 19))] * 3))
        )


async def test_a_commit_is_held_only_with_all_that_leads_to_it(here: Side, there: Side, tmp_path: Path) -> None:
    base = here.repository.commit({"a.txt": "a\n"})
    await pack(here.place.git, base, (), tmp_path / "file")
    await there.take(base, tmp_path / "file")
    assert await held(there.place.git, there.refs, "s", base)
    assert not await held(there.place.git, there.refs, "s", "f" * 40)
    tree = there.repository("rev-parse", f"{base}^{{tree}}")
    loose = there.repository("commit-tree", "-m", "loose", tree)
    assert await held(there.place.git, there.refs, "s", loose)
    assert there.repository("rev-parse", f"refs/skep/s/in/{loose}") == loose
    broken = _raw(there, "commit", b"tree %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n" % (b"f" * 40))
    assert not await held(there.place.git, there.refs, "s", broken)
