"""What a confined program must reach of git beside its working tree, and no more: nothing that the user's git would act on.

The repository can be read, but for its configuration, which may hold tokens: a copy of the harmless part stands in its place.
What can be written is git's folder of this one working tree: its HEAD, its index, and `objects`, where new objects go. So an
attempt can commit; it cannot move a branch, change hooks or settings, or damage objects that are there. `capture` takes its
objects over.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from skep.workspace import Around
from skep.workspace.command import EMAIL, NAME
from skep.workspace.place import Place
from skep.workspace.worktrees import Worktrees

#: Settings that programs in a working tree need to read its files as they are.
_HARMLESS = re.compile(
    r"core\.(abbrev|autocrlf|bare|eol|filemode|ignorecase|longpaths|precomposeunicode|repositoryformatversion|safecrlf|symlinks)"
    r"|(branch|diff|extensions|filter|i18n|index|init|merge|rebase|submodule)\..*|user\.(name|email)|lfs\.repositoryformatversion"
)


class Surroundings:
    """What programs reach of one workspace's repository."""

    def __init__(self, place: Place, trees: Worktrees) -> None:
        self._place, self._trees = place, trees
        self._stamp = (0, 0, 0)
        self._identity: dict[str, str] | None = None

    async def of(self, path: str) -> Around:
        """See `Workspace.around`."""
        place = self._place
        common = Path(os.path.realpath(place.common))
        instead = {str(common / "config"): str(await self._config())}
        if not path:
            return Around(read=(str(place.top),), instead=instead, env=await self._who())
        root = self._trees.root(path)
        entry = self._trees.entry(root)
        objects = entry / "objects"
        await asyncio.to_thread(objects.mkdir, exist_ok=True)
        store = common / "objects"
        env = {"GIT_OBJECT_DIRECTORY": str(objects), "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(store)}
        return Around(
            write=(str(root), str(entry)),
            read=(str(common), *await asyncio.to_thread(_borrowed, store)),
            # What leads from here to the repository stays: Skep's git comes this way too.
            instead={**instead, str(entry / "commondir"): str(entry / "commondir")},
            env=env | await self._who(),
        )

    async def _config(self) -> Path:
        """The harmless part of the repository's settings, in a file of its own; made anew when they change."""
        source, made = self._place.common / "config", self._place.state / "git" / "config"
        found = source.stat()
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        if stamp != self._stamp or not made.exists():
            listed = await self._place.git.run("config", "--file", str(source), "--list", "-z")
            lines = [_setting(*os.fsdecode(name).partition("\n")) for name in listed.names]
            draft = made.with_name("config.draft")
            draft.write_text("".join(lines), errors="surrogateescape")
            draft.replace(made)
            self._stamp = stamp
        return made

    async def _who(self) -> dict[str, str]:
        """Who commits in a working tree: the user, whose own settings are not seen there; Skep if they have no name."""
        if self._identity is None:
            who = {}
            for what, otherwise in (("name", NAME), ("email", EMAIL)):
                ran = await self._place.user.run("config", f"user.{what}", ok=())
                for role in ("AUTHOR", "COMMITTER"):
                    who[f"GIT_{role}_{what.upper()}"] = ran.text or otherwise
            self._identity = who
        return self._identity


def _setting(name: str, sign: str, value: str) -> str:
    """A setting as git writes it; nothing if it is none of the harmless ones."""
    if not _HARMLESS.fullmatch(name.casefold()):
        return ""
    section, _, rest = name.partition(".")
    middle, _, key = rest.rpartition(".")
    quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    escaped = middle.replace("\\", "\\\\").replace('"', '\\"')
    return f"[{section}" + (f' "{escaped}"' if middle else "") + f"]\n\t{key}" + (f' = "{quoted}"\n' if sign else "\n")


def _borrowed(store: Path) -> list[str]:
    """Object folders of other repositories that this one borrows from."""
    try:
        lines = (store / "info" / "alternates").read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []
    return [os.path.realpath(store / line) for line in lines if line and not line.startswith("#")]
