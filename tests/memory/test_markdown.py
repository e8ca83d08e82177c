"""Memory in Markdown files: the contract, and what people do to files."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skep.disk.durable import UNFINISHED
from skep.errors import Conflict, Invalid, NotFound, Unavailable
from skep.memory import Change, Entry, Filter, Record, Search
from skep.memory import markdown as module
from skep.memory.bank import Bank
from skep.memory.draft import Draft
from skep.memory.limits import RUN
from skep.memory.markdown import MarkdownStore
from skep.memory.pages import README, Pages
from skep.memory.records import digest, join, written
from skep.memory.search.embedders import embedder_named
from skep.memory.search.index import Index
from skep.memory.sqlite import SqliteStore
from skep.memory.trust import Author
from tests.contracts.memory import ODD, MemoryContract, after, entry, fresh, gone
from tests.memory.homes import MarkdownHome


class TestMarkdownStore(MemoryContract):
    home = MarkdownHome
    may_lack = frozenset({"private"})


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked through each time."""
    monkeypatch.setattr(module, "AGAIN", 0.0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[MarkdownStore]:
    store = await MarkdownStore.open(tmp_path)
    yield store
    await store.close()


def path(folder: Path, key: str = "k", namespace: str = "n") -> Path:
    return Pages(folder / "notes").path(namespace, key)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


async def kept(store: MarkdownStore, key: str = "k", value: Any = "HERE", **rest: Any) -> Record:
    record = written(None, entry(key, value, **rest))
    await store.commit([Change(record)])
    return record


async def one(store: MarkdownStore, key: str = "k") -> Entry:
    record = await store.get("n", key)
    assert record is not None
    (found,) = record.entries
    return found


def leftovers(folder: Path) -> list[Path]:
    return [found for found in (folder / "notes").rglob(".*") if found.exists()]


# What is written


async def test_a_key_is_one_file_that_people_can_read(store: MarkdownStore, tmp_path: Path) -> None:
    await kept(store, "style", {"tabs": False}, trust="agent", agent="coder-1", tags=("code",), updated=1_700_000_000_000)
    text = path(tmp_path, "style").read_text()
    assert text.startswith("# style\n\n- id: `")
    for line in ('- trust: `"agent"`', '- agent: `"coder-1"`', '- tags: `["code"]`', '- updated: `"2023-11-14T22:13:20.000Z"`'):
        assert f"{line}\n" in text
    assert '```json\n{\n  "tabs": false\n}\n```\n' in text
    assert sorted(found.name for found in (tmp_path / "notes").iterdir()) == sorted([README, path(tmp_path).parent.name])


async def test_no_name_leads_out_of_the_folder(store: MarkdownStore, tmp_path: Path) -> None:
    before = {found.name for found in tmp_path.iterdir()}
    for name in ODD:
        await store.commit([fresh(name, namespace=name)])
    assert {found.name for found in tmp_path.iterdir()} == before
    files = [found for found in (tmp_path / "notes").rglob("*") if found.is_file() and found.name != README]
    assert len(files) == len([name for name in ODD if "@" not in name])
    for found in files:
        assert len(found.relative_to(tmp_path / "notes").parts) == 2
        assert set(found.stem + found.parent.name) <= set("0123456789abcdef")
        assert stat.S_IMODE(found.stat().st_mode) == 0o600


async def test_git_sees_one_small_change_for_one_change(store: MarkdownStore, tmp_path: Path) -> None:
    def git(*command: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@x")
        return subprocess.run(
            ["git", "-C", str(tmp_path / "notes"), *who, *command], capture_output=True, check=True, text=True
        ).stdout

    git("init", "-q")
    records = [await kept(store, f"k{number}", {"a": number, "b": ["x"] * 5}) for number in range(5)]
    git("add", "-A")
    git("commit", "-qm", "all")
    await store.commit([Change(written(records[2], entry("k2", {"a": 99, "b": ["x"] * 5})), digest(records[2]))])
    assert git("diff", "--numstat").split() == ["3", "3", str(path(tmp_path, "k2").relative_to(tmp_path / "notes"))]
    assert git("status", "--porcelain").count("\n") == 1


async def test_values_beside_each_other_and_deleted_keys_have_their_texts(store: MarkdownStore, tmp_path: Path) -> None:
    both = join(written(None, entry("k", "one", writer="a")), written(None, entry("k", "two", writer="b")))
    await store.commit([Change(both)])
    text = path(tmp_path).read_text()
    assert text.count("## Value") == 2
    await store.commit([gone(both)])
    assert "\nDeleted.\n" in path(tmp_path).read_text()
    await store.close()
    again = await MarkdownStore.open(tmp_path)
    assert await again.get("n", "k") is not None
    assert again.trouble == {}
    await again.close()


# What hands do


async def test_an_edit_is_a_new_value_that_is_not_trusted_whatever_it_says(store: MarkdownStore, tmp_path: Path) -> None:
    old = await kept(store, trust="observed", agent="skep", task="t", tags=("a",), created=5, updated=5)
    edit(path(tmp_path), '"HERE"', '"by hand"')
    edit(path(tmp_path), '["a"]', '["a", "b"]')
    found = await one(store)
    assert (found.value, found.tags, found.trust, found.agent, found.task) == ("by hand", ("a", "b"), "untrusted", "", "")
    assert found.stamp > old.entries[0].stamp
    assert (found.version, found.created) == (2, 5)
    assert found.updated > 5
    assert '"untrusted"' in path(tmp_path).read_text()
    record = await store.get("n", "k")
    assert record is not None
    assert record.clock["w"] == old.clock["w"]
    assert join(record, old) == record
    assert await one(store) == found


async def test_what_stands_where_a_text_was_prepared_is_not_followed(store: MarkdownStore, tmp_path: Path) -> None:
    await kept(store)
    file = path(tmp_path)
    os.mkfifo(file.with_name(f"{UNFINISHED}{file.stem}-0"))
    file.with_name(f"{UNFINISHED}{file.stem}-1").symlink_to(tmp_path / "elsewhere")
    bank = Bank(store, lambda: 1_700_000_000_000)
    async with asyncio.timeout(20):
        await bank.store(Draft(namespace="n", key="k", value="newer"), Author(trust="observed"))
    assert (await one(store)).value == "newer"
    assert list(file.parent.glob(f"{UNFINISHED}*")) == []
    assert not (tmp_path / "elsewhere").exists()


async def test_no_edit_passes_for_what_a_consolidation_wrote(store: MarkdownStore, tmp_path: Path) -> None:
    await kept(store, metadata={RUN: 7, "merged": 2, "more": 1})
    edit(path(tmp_path), '"HERE"', '"by hand"')
    assert (await one(store)).metadata == {"merged": 2, "more": 1}, "else to undo it would take the edit back"


async def test_a_new_file_is_taken_in_and_not_trusted(store: MarkdownStore, tmp_path: Path) -> None:
    await kept(store, "k", trust="person")
    place = (await store.heads())["n"]
    other = path(tmp_path, "other")
    shutil.copy(path(tmp_path), other)
    edit(other, "# k", "# other")
    edit(other, '- key: `"k"`', '- key: `"other"`')
    ((_, record),) = await store.changes("n", place)
    assert (record.key, record.entries[0].trust) == ("other", "untrusted")
    assert store.trouble == {}


@pytest.mark.parametrize("claim", ["trust", "blob", "alias", "writer", "counts", "rule"])
async def test_what_a_header_claims_is_not_believed(store: MarkdownStore, tmp_path: Path, claim: str) -> None:
    old = await kept(store)
    claims: dict[str, str] = {
        "trust": '- trust: `"observed"`', "blob": f'- blob: `"{"0" * 64}"`\n- size: `5`', "alias": '- alias: `"secret"`',
        "writer": f'- writer: `"{store.writer}"`', "counts": '- counts: `{"w": [1, 5]}`', "rule": '- rule: `"counter"`',
    }  # fmt: skip
    lines = path(tmp_path).read_text().split("\n")
    kept_lines = [line for line in lines if not line.startswith(f"- {claim}:")]
    kept_lines.insert(kept_lines.index("## Value") + 2, claims[claim])
    path(tmp_path).write_text("\n".join(kept_lines))
    found = await one(store)
    assert (found.trust, found.blob, found.size, found.alias, found.rule) == ("untrusted", "", 0, "", "siblings")
    assert found.counts == {}
    assert found.writer == f"{store.writer}.hand"
    assert found.stamp > old.entries[0].stamp


async def test_a_clock_that_a_header_claims_is_not_believed(store: MarkdownStore, tmp_path: Path) -> None:
    old = await kept(store)
    edit(path(tmp_path), f'{{"w": {old.clock["w"]}}}', f'{{"w": {2**62}}}')
    record = await store.get("n", "k")
    assert record == old


async def test_a_bank_lets_an_agent_replace_what_hands_wrote_and_what_it_reads_is_not_trusted(
    store: MarkdownStore, tmp_path: Path
) -> None:
    bank, agent = Bank(store, lambda: 1_700_000_000_000), Author(trust="agent", agent="a")
    await bank.store(Draft(namespace="n", key="k", value="HERE"))
    assert (await bank.get("k", namespace="n")).trust == "person"
    edit(path(tmp_path), '"HERE"', '"by hand"')
    found = await bank.get("k", namespace="n")
    assert (found.value, found.trust) == ("by hand", "untrusted")
    edit(path(tmp_path), '"by hand"', '"again"')
    await bank.store(Draft(namespace="n", key="k", value="new"), agent)
    assert (await bank.get("k", namespace="n")).value == "new"
    record = await store.get("n", "k")
    assert record is not None
    assert len(record.entries) == 1


async def test_what_hands_wrote_is_found(store: MarkdownStore, tmp_path: Path) -> None:
    bank = Bank(store, lambda: 1_700_000_000_000, finder=await Index.open(None, embedder_named("hashed")))
    await bank.start()
    await bank.store(Draft(namespace="n", key="k", value="HERE"))
    await bank.search(Search(text="HERE", mode="words", filter=Filter(namespaces=("n",)), wait=True))
    edit(path(tmp_path), '"HERE"', '"a heron"')
    found = await bank.search(Search(text="heron", mode="words", filter=Filter(namespaces=("n",)), wait=True))
    assert [(hit.entry.key, hit.entry.trust) for hit in found.hits] == [("k", "untrusted")]
    await bank.close()


async def test_a_commit_does_not_replace_an_edit_that_its_caller_did_not_see(store: MarkdownStore, tmp_path: Path) -> None:
    old = await kept(store)
    edit(path(tmp_path), '"HERE"', '"by hand"')
    with pytest.raises(Conflict):
        await store.commit([fresh("other"), after(old)])
    assert (await one(store)).value == "by hand"
    assert await store.get("n", "other") is None
    assert not path(tmp_path, "other").exists()
    assert leftovers(tmp_path) == []


async def test_a_file_that_was_removed_is_a_key_that_was_deleted(store: MarkdownStore, tmp_path: Path) -> None:
    bank = Bank(store, lambda: 1_700_000_000_000)
    first = await kept(store)
    await kept(store, "other")
    path(tmp_path).unlink()
    with pytest.raises(NotFound):
        await bank.get("k", namespace="n")
    record = await store.get("n", "k")
    assert record is not None
    assert join(record, first) == record
    assert (await one(store, "other")).value == "HERE"


async def test_a_person_settles_what_lies_side_by_side_by_removing_a_value(store: MarkdownStore, tmp_path: Path) -> None:
    mine, other = entry("k", "mine", writer="a", trust="person"), entry("k", "other", writer="b")
    await store.commit([Change(join(written(None, mine), written(None, other)))])
    text = path(tmp_path).read_text()
    path(tmp_path).write_text(text[: text.rindex("## Value")])
    record = await store.get("n", "k")
    assert record is not None
    assert record.entries == (mine,)
    assert join(record, written(None, other)) == record


async def test_other_spaces_change_nothing(store: MarkdownStore, tmp_path: Path) -> None:
    old = await kept(store)
    file = path(tmp_path)
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert await store.get("n", "k") == old
    await store.commit([after(old, "next")])
    assert (await one(store)).value == "next"
    assert "next" in file.read_text()


@pytest.mark.parametrize(
    "spoil", [b"", b"\xff\xfe", b"# k\n", b"---\nkey: !!python/object/apply:os.system [x]\n---\n", b"cut"], ids=repr
)
async def test_a_file_that_cannot_be_read_is_told_and_not_overwritten(store: MarkdownStore, tmp_path: Path, spoil: bytes) -> None:
    old = await kept(store)
    await kept(store, "other")
    file = path(tmp_path)
    spoilt = file.read_bytes()[:-20] if spoil == b"cut" else spoil
    whole = file.read_bytes()
    file.write_bytes(spoilt)
    with pytest.raises(Invalid, match="was edited and cannot be read"):
        await store.get("n", "k")
    with pytest.raises(Invalid, match="cannot be read"):
        await store.commit([fresh("another"), after(old)])
    assert file.read_bytes() == spoilt
    assert await store.get("n", "another") is None
    assert [record.key for record in await store.page("n")] == ["k", "other"]
    assert list(store.trouble) == [str(file)]
    await store.close()
    again = await MarkdownStore.open(tmp_path)
    assert list(again.trouble) == [str(file)]
    file.write_bytes(whole)
    assert await again.get("n", "k") == old
    assert again.trouble == {}
    await again.close()


async def test_files_that_are_not_where_they_say_are_told(store: MarkdownStore, tmp_path: Path) -> None:
    await kept(store)
    strange = path(tmp_path).with_name("notes.md")
    shutil.copy(path(tmp_path), strange)
    swapped = path(tmp_path, "other")
    shutil.copy(path(tmp_path), swapped)
    assert [record.key for record in await store.page("n")] == ["k"]
    assert set(store.trouble) == {str(strange), str(swapped)}
    with pytest.raises(Invalid, match="another key"):
        await store.get("n", "other")
    strange.unlink()
    swapped.unlink()
    assert await store.get("n", "other") is None


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
async def test_what_is_no_file_is_not_followed(store: MarkdownStore, tmp_path: Path, kind: str) -> None:
    old = await kept(store)
    (tmp_path / "secret").write_bytes(path(tmp_path).read_bytes().replace(b'"HERE"', b'"secret"'))
    path(tmp_path).unlink()
    if kind == "link":
        path(tmp_path).symlink_to(tmp_path / "secret")
    elif kind == "folder":
        path(tmp_path).mkdir()
    else:
        os.mkfifo(path(tmp_path))
    with pytest.raises(Invalid, match="is no file"):
        await store.get("n", "k")
    assert await store.page("n") == [old]
    assert len(store.trouble) == 1


@pytest.mark.parametrize("value", ["[" * 200 + "]" * 200, str(2**70), "1" * 400], ids=["deep", "large", "larger"])
async def test_an_edit_that_no_bank_would_keep_is_told(store: MarkdownStore, tmp_path: Path, value: str) -> None:
    await kept(store)
    edit(path(tmp_path), '"HERE"', value)
    with pytest.raises(Invalid, match="cannot be read"):
        await store.get("n", "k")


# Files and what Skep knows


async def test_files_without_what_skep_knows_of_them_are_taken_in_and_not_trusted(tmp_path: Path) -> None:
    store = await MarkdownStore.open(tmp_path / "a")
    await kept(store, trust="observed")
    deleted = await kept(store, "gone")
    await store.commit([gone(deleted)])
    await store.close()
    (tmp_path / "b").mkdir()
    shutil.copytree(tmp_path / "a" / "notes", tmp_path / "b" / "notes")
    store = await MarkdownStore.open(tmp_path / "b")
    found = await one(store)
    assert (found.value, found.trust, found.writer) == ("HERE", "untrusted", f"{store.writer}.hand")
    assert store.trouble == {}
    await store.close()


async def test_what_lay_in_sqlite_is_written_to_files_and_the_other_way(tmp_path: Path) -> None:
    sqlite = await SqliteStore.open(tmp_path)
    records = [fresh(f"k{number}").record for number in range(5)]
    await sqlite.commit([Change(record) for record in records])
    await sqlite.close()
    store = await MarkdownStore.open(tmp_path)
    assert await store.page("n") == records
    assert len(list(path(tmp_path).parent.iterdir())) == 5
    await store.close()
    sqlite = await SqliteStore.open(tmp_path)
    assert await sqlite.page("n") == records
    await sqlite.close()


async def test_files_that_are_all_gone_are_written_anew(tmp_path: Path) -> None:
    store = await MarkdownStore.open(tmp_path)
    old = await kept(store)
    await store.close()
    shutil.rmtree(tmp_path / "notes")
    store = await MarkdownStore.open(tmp_path)
    assert await store.get("n", "k") == old
    assert path(tmp_path).exists()
    await store.close()


async def test_what_skep_keeps_for_itself_has_no_file_and_none_can_be_made(store: MarkdownStore, tmp_path: Path) -> None:
    await store.commit([fresh("k"), fresh("k", namespace="n@1")])
    assert len(list((tmp_path / "notes").rglob("*/*.md"))) == 1
    forged = path(tmp_path, namespace="n@2")
    forged.parent.mkdir()
    shutil.copy(path(tmp_path), forged)
    edit(forged, '- namespace: `"n"`', '- namespace: `"n@2"`')
    assert set(await store.heads()) == {"n", "n@1"}
    assert list(store.trouble) == [str(forged)]
    assert await store.get("n@2", "k") is None
    await store.drop("n@1")
    assert set(await store.heads()) == {"n"}


async def test_a_second_process_is_refused(store: MarkdownStore, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="another process works with the memory"):
        await MarkdownStore.open(tmp_path)


async def test_edits_while_it_was_closed_are_found_when_it_is_opened(tmp_path: Path) -> None:
    store = await MarkdownStore.open(tmp_path)
    for key in ("k", "gone", "same"):
        await kept(store, key, trust="person")
    head = (await store.heads())["n"]
    await store.close()
    edit(path(tmp_path), '"HERE"', '"by hand"')
    path(tmp_path, "gone").unlink()
    store = await MarkdownStore.open(tmp_path)
    changes = await store.changes("n", head)
    assert sorted((record.key, [one.value for one in record.entries]) for _, record in changes) == [
        ("gone", []),
        ("k", ["by hand"]),
    ]
    assert (await one(store, "same")).trust == "person"
    await store.close()


@pytest.mark.parametrize("hand", [True, False])
async def test_what_was_left_undone_is_done_when_it_is_opened_unless_somebody_edited_the_file_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hand: bool
) -> None:
    store = await MarkdownStore.open(tmp_path)
    old = await kept(store)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store._pages, "finish", full)
        with pytest.raises(Unavailable, match="No space left"):
            await store.commit([after(old, "next")])
    await store.close()
    assert "HERE" in path(tmp_path).read_text()
    assert len(leftovers(tmp_path)) == 1
    if hand:
        edit(path(tmp_path), '"HERE"', '"by hand"')
    store = await MarkdownStore.open(tmp_path)
    assert (await one(store)).value == ("by hand" if hand else "next")
    assert leftovers(tmp_path) == []
    await store.close()


async def test_a_drop_takes_the_files_too_also_if_it_was_cut_short(tmp_path: Path) -> None:
    store = await MarkdownStore.open(tmp_path)
    await kept(store)
    other = fresh("k", namespace="other")
    await store.commit([other])
    await store.drop("n")
    assert not path(tmp_path).parent.exists()
    await kept(store)
    await store.close()
    folder = path(tmp_path).parent
    folder.rename(folder.with_name(f".dropped-{folder.name}"))
    store = await MarkdownStore.open(tmp_path)
    assert list(await store.heads()) == ["other"]
    assert await store.get("other", "k") == other.record
    assert leftovers(tmp_path) == []
    await store.close()


async def test_what_hands_do_while_much_is_written_is_not_lost(store: MarkdownStore, tmp_path: Path) -> None:
    """Each value that stood in the file was seen by somebody: whoever wrote after it had it as the one to replace."""
    bank = Bank(store, lambda: 1_700_000_000_000)
    await bank.store(Draft(namespace="n", key="k", value="HERE"))

    async def write() -> None:
        for number in range(20):
            await bank.store(Draft(namespace="n", key=f"other{number}", value=number))

    async def hand() -> None:
        for number in range(10):
            edit(path(tmp_path), (await one(store)).value, f"by hand {number}")
            assert (await one(store)).value == f"by hand {number}"

    await asyncio.gather(write(), hand())
    assert (await one(store)).version == 11
    assert len(await store.page("n")) == 21
