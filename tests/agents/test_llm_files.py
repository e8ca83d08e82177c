"""Files of one folder: what lies in it by any way, and nothing outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skep.agents.loop.files import Folder, Refused


def test_files_are_where_their_names_say(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a/b/c.txt", "one two")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "one two"
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "a" / "whole").symlink_to(tmp_path / "a" / "b" / "c.txt")
    folder.edit("link/b/../b/c.txt", "two", "three")
    assert folder.read("a/whole") == folder.read(f"{tmp_path}/a/b/c.txt") == "one three"
    assert folder.entries() == "a/\nlink"
    assert folder.entries("a") == "b/\nwhole"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "out/passwd", "up", "loop", "pipe", ".git/config", "dir"])
def test_what_leads_out_or_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "up").symlink_to("../outside")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for use in (Folder(str(tmp_path)).read, lambda name: Folder(str(tmp_path)).write(name, "x")):
        with pytest.raises(Refused):
            use(name)
