"""One commit as a file that another repository takes in: a git bundle with one head, and with what it builds on named in front.

What comes in is hostile until shown otherwise. It is weighed before git sees it, unpacked beside the repository with every
object checked as git's own fsck does, and only what leads to the named commit is taken from there. Until then nothing in the
repository knows of it, so a failure or a crash leaves nothing but a scratch folder, which `Scratch.tidy` removes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from skep.errors import Exhausted, Invalid, NotFound, SkepError, Unavailable
from skep.workspace import LIMITS, Limits
from skep.workspace.command import Git, Ran, oid
from skep.workspace.place import Place
from skep.workspace.refs import IN, Refs
from skep.workspace.weigh import TOO_MUCH, weigh

#: Commits that a bundle may build on.
NEEDS = 16
#: Below so many objects they are laid down one by one, as git's own fetch does: a pack for each small commit makes git slow.
_FEW = 100
_MAGIC = b"# v2 git bundle\n"
_HEADER = 4096
#: Errors of fsck that old histories are full of and that only ask how a name, an address or a date is written.
TOLD = (
    *("badDate", "badEmail", "badName", "badTimezone", "missingEmail", "missingNameBeforeEmail"),
    *("missingSpaceBeforeDate", "missingSpaceBeforeEmail", "zeroPaddedDate", "zeroPaddedFilemode"),
)
_STRICT = "--strict=" + ",".join(f"{name}=ignore" for name in TOLD)
#: What git says when it is not the bundle's fault.
_OURS = re.compile(r"No space left|quota exceeded|[Pp]ermission denied|unable to (create|write)|[Oo]ut of memory")
_PACKING = ("pack.useBitmaps=false", "pack.allowPackReuse=false", "pack.depth=50", "pack.writeBitmaps=false")


async def pack(git: Git, commit: str, have: Sequence[str], file: Path, limits: Limits = LIMITS) -> int:
    """Writes all that leads to a commit and is in none of the commits `have`, as a git bundle that names those.

    Returns:
        Its size in bytes; 0 if the commit is in one of them: then there is nothing to send.

    Raises:
        Invalid: a commit is not here.
        Exhausted: it is larger than `limits.packed`.
        Unavailable: this clone does not have the whole history.
    """
    if len(oid(commit)) != 40:
        raise Unavailable("Commits of a repository with SHA-256 ids cannot be sent to other machines: not available.", "")
    needs = [oid(need) for need in dict.fromkeys(have)]
    if len(needs) > NEEDS:
        raise Invalid(f"A bundle can build on {NEEDS} commits, not on {len(needs)}.", "Name the newest.")
    if not needs and await git("rev-parse", "--is-shallow-repository") == "true":
        raise Unavailable("This clone is shallow: others could not work on its commits.", "git fetch --unshallow")
    wanted = "".join(f"{line}\n" for line in (f"{commit}^{{commit}}", *(f"^{need}^{{commit}}" for need in needs)))
    command = ("pack-objects", "--revs", "--thin", "--stdout", "-q", "--delta-base-offset")
    try:
        with file.open("wb") as out:
            out.write(_MAGIC + "".join(f"-{need} \n" for need in needs).encode() + f"{commit} {_head(commit)}\n\n".encode())
            start = out.tell()
            await git.run(*command, stdin=wanted.encode(), config=_PACKING, into=out, most=limits.packed)
    except Exhausted:
        file.unlink()
        what = f"What leads to commit {commit}" if needs else f"The whole history up to commit {commit}"
        why = f"{what} has more than the {limits.packed} bytes that are sent to other machines at once."
        raise Exhausted(why, TOO_MUCH) from None
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    if _count(file, start) == 0:
        file.unlink()
        return 0
    return file.stat().st_size


async def unpack(place: Place, refs: Refs, session: str, commit: str, file: Path, limits: Limits = LIMITS) -> None:
    """Takes a commit in from the file that `pack` made, pinned as `in/<commit>`; no other ref is touched. Repeating it is fine.

    Raises:
        NotFound: it builds on commits that are not here; they are named.
        Invalid: it is damaged, is of another commit, or holds what git forbids.
        Exhausted: it is more than the limits say.
        Unavailable: the disk refuses.
    """
    git = place.git
    needs, start = await asyncio.to_thread(_header, file, oid(commit))
    bases = await asyncio.to_thread(weigh, file, start, limits)
    gone = await _absent(git, [*needs, *bases])
    if lacking := [need for need in needs if need in gone]:
        raise NotFound(f"Commit {commit} builds on {', '.join(lacking)}, not in {place.common}.", "Bring that here first.")
    if gone:
        raise Invalid(f"The bundle of commit {commit} builds on objects that no repository has.", "Have it made again.")
    async with place.scratch.folder() as desk:
        objects = desk / "objects"
        (objects / "info").mkdir(parents=True)
        (objects / "info" / "alternates").write_text(f"{place.common / 'objects'}\n", errors="surrogateescape")
        aside = {"GIT_OBJECT_DIRECTORY": str(objects)}
        with file.open("rb", buffering=0) as stream:
            stream.seek(start)
            checking = ("index-pack", "--stdin", "--fix-thin", _STRICT, f"--max-input-size={limits.packed}")
            ran = await git.run(*checking, stdin=stream, env=aside, config=("core.fsync=none",), ok=())
        if ran.code:
            raise _refused(git, checking, ran, commit)
        await take(git, commit, desk / "pack", aside, limits)
    await refs.pin(session, f"{IN}/{commit}", commit)


async def held(git: Git, refs: Refs, session: str, commit: str) -> bool:
    """Whether a commit is here with all that leads to it; if so, a ref of the session keeps it from then on."""
    walk = ("rev-list", "--max-count=1", f"{oid(commit)}^{{commit}}", "--not", f"--glob={refs.below(session)}")
    beyond = await git.run(*walk, ok=(0, 1, 128))
    if beyond.code or not beyond.out:
        return not beyond.code
    whole = await git.run("rev-list", "--objects", "--quiet", commit, "--not", "--all", ok=(0, 1, 128))
    if whole.code == 0:
        await refs.pin(session, f"{IN}/{commit}", commit)
    return whole.code == 0


async def take(git: Git, commit: str, draft: Path, aside: dict[str, str], limits: Limits) -> None:
    """Brings what leads to a commit and is not here from the objects aside into the repository, and no more."""
    listing = ("rev-list", "--objects", "--no-object-names", f"{commit}^{{commit}}", "--not", "--all")
    listed = await git.run(*listing, env=aside, ok=())
    if listed.code:
        raise _refused(git, listing, listed, commit)
    if not listed.out:
        return
    with draft.open("wb") as out:
        packing = ("pack-objects", "--stdout", "-q", "--delta-base-offset")
        await git.run(*packing, stdin=listed.out, env=aside, config=_PACKING, into=out, most=2 * limits.packed)
    command = ("unpack-objects", "-q") if _count(draft, 0) < _FEW else ("index-pack", "--stdin")
    with draft.open("rb", buffering=0) as stream:
        await git.run(*command, stdin=stream, config=("core.fsyncMethod=batch",))


async def _absent(git: Git, names: Iterable[str]) -> set[str]:
    """Those of the objects that are not in the repository."""
    asked = "".join(f"{name}\n" for name in names).encode()
    if not asked:
        return set()
    lines = (await git("cat-file", "--batch-check=%(objectname)", stdin=asked)).splitlines()
    return {line.removesuffix(" missing") for line in lines if line.endswith(" missing")}


def _refused(git: Git, command: Sequence[str], ran: Ran, commit: str) -> SkepError:
    if ran.code < 0 or _OURS.search(ran.err):
        return git.failure(command, ran)
    said = " ".join(line.strip() for line in ran.err.splitlines() if line.strip())[-300:]
    return Invalid(f"The bundle of commit {commit} is refused by git: {said}", "Have it made again, and see who made it.")


def _header(file: Path, commit: str) -> tuple[list[str], int]:
    """What a bundle builds on, and where its pack begins. Raises Invalid if it is not one of that commit alone."""
    with file.open("rb") as opened:
        text, found, _ = opened.read(_HEADER).partition(b"\n\n")
    lines = text.removeprefix(_MAGIC).split(b"\n")
    pattern = re.compile(rb"-([0-9a-f]{40}) [^\n]*")
    needs = [match[1].decode() for line in lines[:-1] if (match := pattern.fullmatch(line))]
    if not found or not text.startswith(_MAGIC) or len(needs) != len(lines) - 1 or len(needs) > NEEDS:
        raise Invalid(f"The bundle of commit {commit} is none, or is damaged.", "Have it made again.")
    if lines[-1] != f"{commit} {_head(commit)}".encode():
        raise Invalid(f"The bundle is not of commit {commit}.", "Have it made again, and see who made it.")
    return needs, len(text) + 2


def _head(commit: str) -> str:
    """What the commit is called in its bundle. Git wants a name there."""
    return f"refs/skep/in/{commit}"


def _count(file: Path, start: int) -> int:
    """The number of objects in the pack at that byte of a file."""
    with file.open("rb") as opened:
        opened.seek(start + 8)
        return int.from_bytes(opened.read(4))
