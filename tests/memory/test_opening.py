"""The memory that the settings name."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep.config import MemoryConfig
from skep.errors import Invalid
from skep.memory.draft import Draft
from skep.memory.opening import open_bank
from skep.store.blobs import FileBlobs


async def test_markdown_files_lie_where_the_settings_say(tmp_path: Path) -> None:
    for config, files in (
        (MemoryConfig(store="markdown"), tmp_path / "state" / "notes"),
        (MemoryConfig(store="markdown", folder=str(tmp_path / "elsewhere")), tmp_path / "elsewhere"),
    ):
        bank = await open_bank(config, tmp_path / "state", lambda: 1, FileBlobs(tmp_path / "blobs"))
        await bank.store(Draft(namespace="n", key="k", value=1))
        await bank.close()
        assert len(list(files.rglob("*/*.md"))) == 1


async def test_a_folder_that_may_be_anywhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="from where"):
        await open_bank(MemoryConfig(store="markdown", folder="notes"), tmp_path, lambda: 1, FileBlobs(tmp_path / "blobs"))
