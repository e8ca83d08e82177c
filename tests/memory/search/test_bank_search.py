"""The bank and its index together: what was stored is found, large values by their beginning; what is deleted is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep.memory import Filter, Search, indexing
from skep.memory.bank import Bank
from skep.memory.draft import Draft
from skep.memory.ephemeral import EphemeralStore
from skep.memory.search.hashed import Hashed
from skep.memory.search.index import Index
from skep.store.blobs import FileBlobs


async def test_what_was_stored_is_found_also_if_it_lies_in_a_blob(tmp_path: Path) -> None:
    bank = Bank(EphemeralStore(), lambda: 1_000, FileBlobs(tmp_path / "blobs"), await Index.open(tmp_path / "i.db", Hashed()))
    await bank.start()
    await bank.store(Draft(namespace="n", key="small", value="the redis pool"))
    large = await bank.store(Draft(namespace="n", key="large", value={"text": ["zebra", "x " * 100_000]}))
    assert large.blob
    found = await bank.search(Search(text="zebra", filter=Filter(namespaces=("n",)), wait=True))
    assert [(hit.entry.key, hit.why[0]) for hit in found.hits] == [("large", "words: zebra")]
    assert (found.behind, found.embedder) == (0, "hashed")
    assert [hit.entry.key for hit in (await bank.search(Search(text="pool", mode="words"))).hits] == ["small"]
    await bank.delete("small", namespace="n")
    assert not (await bank.search(Search(text="pool", mode="words", wait=True))).hits
    await bank.close()


async def test_stores_go_before_the_index_which_hurries_for_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "QUIET", 3_600.0)
    monkeypatch.setattr(indexing, "LONGEST", 3_600.0)
    bank = Bank(EphemeralStore(), lambda: 1_000, finder=await Index.open(tmp_path / "i.db", Hashed()))
    await bank.start()
    for number in range(20):
        await bank.store(Draft(namespace="n", key=f"k{number}", value="the redis pool"))
        assert await bank.behind() == (number + 1, "")
    assert (found := await bank.search(Search(text="pool", wait=True, limit=30))).behind == 0
    assert len(found.hits) == 20
    await bank.store(Draft(namespace="n", key="last", value="a zebra"))
    assert (await bank.search(Search(text="zebra"))).behind == 1
    await bank.close()
