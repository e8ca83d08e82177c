"""Files of one folder, and of nothing outside: every name is walked from the folder down, one step at a time.

A link is followed as long as it stays within, and nothing that is swapped meanwhile leads out: each step opens what is there and
refuses a link, so the check and the use are the same thing.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

#: Bytes of a file that is read or written as a whole; characters and entries that one answer holds.
MAX_FILE = 8 << 20
MAX_TEXT = 60_000
MAX_ENTRIES = 1_000
#: Steps and links that one name may take.
_STEPS, _LINKS = 200, 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Refused(Exception):
    """Why something cannot be done, for the agent to read."""


class Folder:
    """The folder. All names are relative to it, or absolute within it.

    Args:
        path: absolute.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, name: str, first: int = 1, lines: int = 2_000) -> str:
        """Text of a file, from its line `first` on. Raises Refused."""
        text = self._text(name)
        found = text.splitlines(keepends=True)
        part = "".join(found[max(0, first - 1) :][: max(1, lines)])
        shown = part[:MAX_TEXT]
        rest = len(found) - max(0, first - 1) - len(shown.splitlines())
        return shown if rest <= 0 else f"{shown}\n... {rest} more lines"

    def write(self, name: str, text: str) -> str:
        """Writes a whole file, with the folders that it needs. Raises Refused."""
        data = text.encode(errors="replace")
        if len(data) > MAX_FILE:
            raise Refused(f"{name} would have {len(data)} bytes, more than {MAX_FILE}")
        with self._opened(name, make=True) as fd:
            os.ftruncate(fd, 0)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        return f"{name} has {len(data)} bytes now"

    def edit(self, name: str, old: str, new: str, every: bool = False) -> str:
        """Puts `new` in the place of `old`, which must stand there once, or any number of times with `every`. Raises Refused."""
        text = self._text(name)
        count = text.count(old) if old else 0
        if count == 0:
            raise Refused(f"{name} does not hold that text; read it first, and give the text exactly as it stands there")
        if count > 1 and not every:
            raise Refused(f"{name} holds that text {count} times; give more of what stands around it")
        self.write(name, text.replace(old, new))
        return f"{name} is changed in {count} place{'s' * (count > 1)}"

    def entries(self, name: str = ".") -> str:
        """What is in a folder, a name on each line, `/` behind folders. Raises Refused."""
        with self._folder(name) as fd, os.scandir(fd) as found:
            names = sorted(f"{each.name}/" if each.is_dir(follow_symlinks=False) else each.name for each in found)
        more = f"\n... {len(names) - MAX_ENTRIES} more" if len(names) > MAX_ENTRIES else ""
        return "\n".join(names[:MAX_ENTRIES]) + more if names else "(nothing)"

    def inside(self, name: str) -> str:
        """The name as the programs of the attempt are given it. Raises Refused if it leads out of the folder."""
        parts = self._parts(name)
        if ".." in parts:
            raise Refused(f"{name} leads out of the folder")
        return "/".join(parts) or "."

    def _text(self, name: str) -> str:
        with self._opened(name) as fd:
            data = bytearray()
            while chunk := os.read(fd, 1 << 20):
                data += chunk
                if len(data) > MAX_FILE:
                    raise Refused(f"{name} has more than {MAX_FILE} bytes; use the shell for a part of it")
        if b"\0" in data[:8192]:
            raise Refused(f"{name} is no text")
        return data.decode(errors="replace")

    @contextlib.contextmanager
    def _opened(self, name: str, make: bool = False) -> Iterator[int]:
        """An ordinary file, open: for writing with `make`."""
        flags = (os.O_RDWR | os.O_CREAT if make else os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with self._above(name, make) as (folder, last):
            try:
                if not last or stat.S_ISDIR(_mode(folder, last)):
                    raise Refused(f"{name} is a folder")
                fd = os.open(last, flags, 0o666, dir_fd=folder)
            except OSError as error:
                raise Refused(f"{name}: {error.strerror}") from None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Refused(f"{name} is no ordinary file")
            yield fd
        except OSError as error:
            raise Refused(f"{name}: {error.strerror}") from None
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _folder(self, name: str) -> Iterator[int]:
        with self._above(name) as (folder, last):
            try:
                fd = os.open(last or ".", _FOLDER, dir_fd=folder)
            except OSError as error:
                raise Refused(f"{name}: {error.strerror}") from None
        try:
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _above(self, name: str, make: bool = False) -> Iterator[tuple[int, str]]:
        """The folder that a name is in, open, and the name's last part, which is no link; empty for the folder itself."""
        way = [os.open(self.path, _FOLDER)]
        try:
            last = self._walk(way, name, make)  # first: it changes where the way ends
            yield way[-1], last
        finally:
            for fd in way:
                os.close(fd)

    def _walk(self, way: list[int], name: str, make: bool) -> str:
        """Goes down to where the name is: `way` holds the open folders from the first on."""
        parts, links = self._parts(name), 0
        for _ in range(_STEPS):
            if not parts:
                return ""
            part = parts.pop(0)
            if part == "..":
                if len(way) == 1:
                    raise Refused(f"{name} leads out of the folder")
                os.close(way.pop())
                continue
            try:
                if stat.S_ISLNK(_mode(way[-1], part)):
                    target = os.readlink(part, dir_fd=way[-1])
                    while target.startswith("/") and len(way) > 1:
                        os.close(way.pop())
                    parts, links = self._parts(target) + parts, links + 1
                elif parts:
                    way.append(_enter(way[-1], part, make))
                elif make and part == ".git":
                    break
                else:
                    return part
            except OSError as error:
                raise Refused(f"{name}: {error.strerror}") from None
            if links > _LINKS:
                break
        raise Refused(f"{name}: it takes too many links or steps, or is git's own")

    def _parts(self, name: str) -> list[str]:
        if "\0" in name:
            raise Refused("a name must not hold a NUL")
        if name.startswith("/"):
            if name != self.path and not name.startswith(f"{self.path}/"):
                raise Refused(f"{name} leads out of the folder")
            name = name[len(self.path) :]
        return [part for part in name.split("/") if part not in ("", ".")]


def _mode(folder: int, part: str) -> int:
    try:
        return os.lstat(part, dir_fd=folder).st_mode
    except FileNotFoundError:
        return 0


def _enter(folder: int, part: str, make: bool) -> int:
    if make and part == ".git":
        raise Refused("what is in .git is git's own: use the shell and git")
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, dir_fd=folder)
    return os.open(part, _FOLDER, dir_fd=folder)
