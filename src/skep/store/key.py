"""The key of the hash chain: 32 random bytes in a file of its own beside the database, for its owner only."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skep.disk.durable import Draft, make_folder
from skep.errors import Conflict, Denied, Invalid

SIZE = 32


class Key:
    """The key of a state folder, opened. While it is open nobody else can open it: the folder has one writer.

    Args:
        path: the file.
        fresh: whether to make the key if there is none.

    Raises:
        Conflict: another process has it open.
        Denied: others than its owner may read or write the file.
        Invalid: the file is missing (and `fresh` is false) or holds no key.
    """

    def __init__(self, path: Path, fresh: bool) -> None:
        if not path.exists():
            if not fresh:
                raise Invalid(
                    f"the key of the store, {path}, is missing",
                    fix="Put it back from a backup: without it nobody can tell whether the log was changed.",
                )
            _make(path)
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self.secret = self._read(path)
        except BaseException:
            os.close(self._file)
            raise

    def _read(self, path: Path) -> bytes:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"another process works with the store in {path.parent}", fix="Wait until it is done, or end it."
            ) from None
        return _secret(self._file, path)

    def close(self) -> None:
        """Lets others open it."""
        os.close(self._file)


def shared_key(path: Path, fresh: bool) -> bytes:
    """The key of a store that several processes, on several machines, share.

    Args:
        path: the file.
        fresh: whether to make the key if there is none.

    Raises:
        Denied: others than its owner may read or write the file.
        Invalid: the file is missing (and `fresh` is false), cannot be read, or holds no key.
    """
    make_folder(path.parent)
    with _alone(path.parent):
        if fresh and not path.exists():
            _make(path)
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        fix = f"Copy the key of a machine that works with this store to {path}, mode 0600, or name it in [store] key."
        raise Invalid(f"the key of the store, {path}, is missing", fix=fix) from None
    except OSError as error:
        raise Invalid(f"the key of the store, {path}, cannot be read: {error.strerror}") from None
    try:
        return _secret(file, path)
    finally:
        os.close(file)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of all processes that make a key in a folder one goes first."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def _make(path: Path) -> None:
    with Draft(path.parent) as draft:
        draft.file.write(secrets.token_bytes(SIZE))
        draft.keep(path)


def _secret(file: int, path: Path) -> bytes:
    """The key in an open file, if nobody else may read it."""
    if os.fstat(file).st_mode & 0o077:
        raise Denied(f"the key of the store, {path}, can be read or changed by others", fix=f"Run: chmod 600 {path}")
    secret = os.read(file, SIZE + 1)
    if len(secret) != SIZE:
        raise Invalid(f"{path} holds no key: it must have {SIZE} bytes", fix="Put it back from a backup.")
    return secret
