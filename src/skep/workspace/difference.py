"""What differs between two commits or trees, by path; a rename is a deletion and an addition."""

from __future__ import annotations

from msgspec import Struct

from skep.workspace.command import Git


class Difference(Struct, frozen=True, gc=False):
    """Path -> (mode, id) of the files that differ: as they are before, and as they are after."""

    old: dict[bytes, tuple[bytes, bytes]]
    new: dict[bytes, tuple[bytes, bytes]]

    @property
    def paths(self) -> list[bytes]:
        """Every path that differs, sorted."""
        return sorted({*self.old, *self.new})


async def difference(git: Git, before: str, after: str) -> Difference:
    """Compares two commits or trees. Raises Invalid if one is not there."""
    fields = (await git.run("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", before, after)).names
    found = Difference({}, {})
    for meta, path in zip(fields[::2], fields[1::2], strict=True):
        mode, mode_after, blob, blob_after, status = meta.removeprefix(b":").split(b" ")
        if status != b"A":
            found.old[path] = (mode, blob)
        if status != b"D":
            found.new[path] = (mode_after, blob_after)
    return found
