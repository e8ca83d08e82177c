"""How the room that an attempt takes on the disk is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skep.runtime import room
from skep.runtime.room import ENTRY, Many, Room, measure


def test_a_file_with_two_names_counts_once_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "big").write_bytes(os.urandom(1 << 20))
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "one").write_bytes(os.urandom(1 << 18))
    before, _ = measure([str(folder)])
    assert 1 << 18 <= before < 1 << 19
    os.link(folder / "one", folder / "two")
    assert measure([str(folder)])[0] == before
    os.symlink(tmp_path / "away", folder / "link")
    assert measure([str(folder)])[0] < 1 << 19


def test_files_without_content_take_room_too_and_what_is_too_much_ends_the_look(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / str(number)).touch()
    assert measure([str(tmp_path)])[0] == 100 * ENTRY
    assert measure([str(tmp_path)], 10 * ENTRY)[0] == 11 * ENTRY
    assert measure([str(tmp_path / "nothing")]) == (0, frozenset())


def test_a_look_at_a_few_gives_up_where_there_are_more(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for number in range(9):
        (tmp_path / "below" / str(number)).touch()
    assert measure([str(tmp_path)], None, 10) == measure([str(tmp_path)])
    folders = Room([str(tmp_path)], 1 << 10)
    folders.begin(10)
    (tmp_path / "new").touch()
    with pytest.raises(Many):
        folders.look(10)
    assert folders.why == ""
    folders.look()
    assert "1,024 bytes" in folders.why


def test_what_was_there_at_the_beginning_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(os.urandom(1 << 20))
    folders = Room([str(tmp_path)], 1 << 16)
    folders.begin()
    folders.look()
    assert folders.why == ""
    (tmp_path / "new").write_bytes(os.urandom(1 << 17))
    folders.look()
    assert "65,536 bytes" in folders.why


def test_a_path_too_long_to_be_read_hides_nothing_for_two_looks(tmp_path: Path) -> None:
    folders = Room([str(tmp_path)], 1 << 30)
    folders.begin()
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=here)
        deeper = os.open("x" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    folders.look()
    assert folders.why == ""
    folders.look()
    assert "is shut" in folders.why


def test_a_folder_that_is_shut_for_a_moment_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [(0, frozenset[str]()), (0, frozenset({"/a"})), (0, frozenset({"/b"})), (0, frozenset({"/b"}))]
    monkeypatch.setattr(room, "measure", lambda *given: looks.pop(0))
    folders = Room([str(tmp_path)], 1)
    folders.begin()
    said = []
    while looks:
        folders.look()
        said.append(bool(folders.why))
    assert said == [False, False, True]
