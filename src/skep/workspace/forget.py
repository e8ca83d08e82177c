"""Decides which refs of a session can go: those whose commits something else still holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from skep.workspace.command import Git
from skep.workspace.place import Place
from skep.workspace.refs import ABOUT, BASE, LANDED, MAIN, Refs

_FORMAT = "%(refname) %(objecttype) %(objectname) %(*objecttype) %(*objectname)"


async def forget(place: Place, refs: Refs, session: str, keep: Collection[str], whole: bool = False) -> list[str]:
    """Removes a session's refs but for those in `keep` and those that alone hold work.

    Work is held by any ref that is no ref of this session (branches, tags, what was pushed), by a ref that stays, and by a
    landing whose commit is still held. `base` and `merge/...` are no work: they follow from the others.

    Args:
        whole: all or nothing: if one is not to be removed, none is.

    Returns:
        The refs that were not removed because nothing else holds their commits.
    """
    at = await refs.all(session)
    if not at and not await refs.about(session):
        return []
    refused = await unmerged(place, refs, session, keep)
    if refused and whole:
        return refused
    staying = {*keep, *refused} & at.keys()
    if staying:
        staying |= {name for name in at if name == BASE or name.startswith(f"{LANDED}/")} | {ABOUT}
    gone = [name for name in (*at, ABOUT) if name not in staying]
    await refs.change([f"delete {refs.name(session, name)}" for name in gone])
    return refused


async def unmerged(place: Place, refs: Refs, session: str, keep: Collection[str] = ()) -> list[str]:
    """The refs of a session whose work nothing else holds, but for those in `keep`; see `forget`."""
    at = await refs.all(session)
    work = {name: commit for name, commit in at.items() if name not in keep and not _follows(name)}
    safe = await _elsewhere(place.git, refs.below(session))
    safe |= {commit for name, commit in at.items() if name in keep}
    safe |= await _landed(place, at, safe)
    refused = []
    if MAIN in work and work[MAIN] in await _unheld(place.git, {work[MAIN]}, safe):
        refused.append(MAIN)
        safe.add(work.pop(MAIN))
    unheld = await _unheld(place.git, set(work.values()), safe)
    return refused + sorted(name for name, commit in work.items() if commit in unheld)


def _follows(name: str) -> bool:
    return name == BASE or name.startswith(("merge/", f"{LANDED}/"))


async def _elsewhere(git: Git, own: str) -> set[str]:
    """The commits of all refs that do not begin with `own`."""
    found = set()
    for line in (await git("for-each-ref", f"--format={_FORMAT}")).splitlines():
        name, kind, commit, *tagged = line.split(" ")
        if name.startswith(own):
            continue
        if kind == "commit":
            found.add(commit)
        elif tagged[0] == "commit":
            found.add(tagged[1])
    return found


async def _landed(place: Place, at: Mapping[str, str], safe: set[str]) -> set[str]:
    """The commit up to which the session has landed, if what it became is still held; a copy's is in the folder."""
    tip, became = at.get(f"{LANDED}/tip"), at.get(f"{LANDED}/commit")
    if tip is None or became is None:
        return set()
    return {tip} if place.kind == "copy" or not await _unheld(place.git, {became}, safe) else set()


async def _unheld(git: Git, commits: set[str], safe: set[str]) -> set[str]:
    """Those of the commits that cannot be reached from the safe ones."""
    if not commits:
        return set()
    lines = "\n".join([*sorted(commits), *(f"^{commit}" for commit in sorted(safe))])
    beyond = set((await git("rev-list", "--stdin", stdin=f"{lines}\n".encode())).splitlines())
    return commits & beyond
