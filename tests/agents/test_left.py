"""What programs left is read without being led astray."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skep.agents import left


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own" / "inner").mkdir(parents=True)
    (tmp_path / "own" / "inner" / "file").write_text("0123456789")
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "file").write_text("a secret")
    return tmp_path / "own"


def test_a_plain_file_is_read_to_its_bound(folder: Path) -> None:
    assert left.read(folder, "inner/file", 10) == b"0123456789"
    assert left.read(folder, "inner/file", 3, cut="begin") == b"789"
    assert left.read(folder, "inner/file", 3, cut="end") == b"012"
    with pytest.raises(OSError, match="larger than 9 bytes"):
        left.read(folder, "inner/file", 9)


def test_links_and_what_is_no_file_are_refused_at_once(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent / "private" / "file")
    (folder / "way").symlink_to(folder.parent / "private")
    os.mkfifo(folder / "pipe")
    (folder / "endless").symlink_to("/dev/zero")
    for name in ("link", "way/file", "pipe", "endless", "inner", "absent", "inner/file/x"):
        with pytest.raises(OSError, match=r"Errno|no plain file"):
            left.read(folder, name, 100)
