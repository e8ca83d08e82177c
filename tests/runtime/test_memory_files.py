"""Memory in files: exported and taken in, backed up and restored, believed only as far as a seal goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import skep
from skep.memories import Memory
from skep.memory import Filter
from skep.memory.draft import Draft
from skep.memory.records import identity
from tests.workspace.repository import Repository

LARGE = "ä" * 200_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "memory.file"


async def fill(memory: Memory) -> None:
    """Some entries of all sorts."""
    await memory.store("fact", {"a": [1, 2.5, None, "\0\n"]}, tags=["x"], metadata={"m": 1})
    await memory.store("large", LARGE)
    await memory.store("near", "text", kind="vector", vector=[1.0, 0.5])
    await memory.add("count", 3)
    await memory.store("gone", 1)
    await memory.delete("gone")
    await memory.store("todo", "x", namespace="other", kind="working", ttl=3600)


async def all_of(memory: Memory) -> dict[str, object]:
    """Values by key, large ones too."""
    found: dict[str, object] = {}
    async for entry in memory.entries():
        found[entry.key] = (await memory.get(entry.key, namespace=entry.namespace)).value, entry.trust, entry.kind, entry.vector
    return found


@pytest.mark.parametrize("way", ["lines", "backup"])
async def test_what_was_written_here_comes_back_as_it_was(hive: skep.Skep, file: Path, way: str) -> None:
    memory = hive.memory
    await fill(memory)
    before = await all_of(memory)
    made = await (memory.export(file) if way == "lines" else memory.backup(file))
    assert made.bytes == file.stat().st_size
    assert (made.namespaces, made.lost) == (2, ())
    await memory.store("fact", "newer")
    again = await (memory.load(file) if way == "lines" else memory.restore(file))
    assert (again.ours, again.kept, again.new, again.changed) == (True, 1, 0, 0)
    assert (await memory.get("fact")).value == "newer", "what was written since stays"
    if way == "backup":
        await memory.delete("large")
        await memory.store("later", 1)
        tried = await memory.restore(file, instead=True, dry=True)
        assert (tried.new, tried.changed) == (1, 2)
        assert (await memory.get("later")).value == 1
        back = await memory.restore(file, instead=True)
        assert (back.new, back.changed) == (1, 2)
        assert await all_of(memory) == before
        again = await memory.restore(file, instead=True)
        assert (again.new, again.changed) == (0, 0), "twice is once"


@pytest.mark.parametrize("way", ["lines", "backup"])
async def test_what_was_sealed_elsewhere_is_untrusted_and_replaces_nothing(
    hive: skep.Skep, file: Path, way: str, tmp_path: Path
) -> None:
    await fill(hive.memory)
    await (hive.memory.export(file) if way == "lines" else hive.memory.backup(file))
    before = await all_of(hive.memory)
    other = Repository(tmp_path / "other")
    other.commit({"a.txt": "one\n"})
    async with skep.open(other.top) as there:
        memory = there.memory
        await memory.store("fact", "mine")
        tried = await (memory.load(file, dry=True) if way == "lines" else memory.restore(file, dry=True))
        assert (tried.dry, tried.new, tried.kept) == (True, 4, 1)
        assert list(await all_of(memory)) == ["fact"]
        came = await (memory.load(file) if way == "lines" else memory.restore(file))
        assert (came.ours, came.new, came.kept) == (False, 4, 1)
        assert (await memory.get("fact")).value == "mine"
        large = await memory.get("large")
        assert (large.value, large.trust, large.agent) == (LARGE, "untrusted", "import")
        assert (await (memory.load(file) if way == "lines" else memory.restore(file))).same == 4
        if way == "backup":
            with pytest.raises(skep.Invalid, match="sealed elsewhere"):
                await memory.restore(file, instead=True)
            await memory.restore(file, instead=True, trust=True)
            assert await all_of(memory) == before


async def test_an_exported_file_that_was_edited_brings_claims(hive: skep.Skep, file: Path) -> None:
    await hive.memory.store("rule", "ask first")
    await hive.memory.export(file)
    await hive.memory.delete("rule")
    lines = file.read_text().replace("ask first", "never ask")
    file.write_text(lines)
    came = await hive.memory.load(file)
    assert (came.ours, came.new) == (False, 1)
    assert "was changed since it was exported" in came.notes[0]
    found = await hive.memory.get("rule")
    assert (found.value, found.trust) == ("never ask", "untrusted")


async def test_only_what_a_filter_lets_through_is_exported(hive: skep.Skep, file: Path) -> None:
    await fill(hive.memory)
    made = await hive.memory.export(file, Filter(tags=("x",)))
    assert made.keys == 1
    head, record, end = (json.loads(line) for line in file.read_text().splitlines())
    assert (head["skep"], record["key"], end["keys"]) == ("memory", "fact", 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"key": "a", "value": 1}\n{"key": "b"\n', "line 2: "),
        ('{"key": "a", "value": 1}\n{"key": "b"}\n', "line 2: .*value"),
        ('{"key": "a", "value": 1}\n{"key": " b", "value": 1}\n', "line 2: ' b' is no key"),
        ('{"key": "a", "value": 1}\n\n{"key": "b", "value": 1, "trust": "observed"}\n', "line 3: .*trust"),
        ('{"key": "a", "value": 1}\n{"skep": "memory", "format": 2}\n', "line 2: .*format 2"),
        ('{"key": "a", "value": 1}\n[1]\n', "line 2: "),
        ('{"key": "a", "value": 1}\n' + "[" * 10_000, "line 2: "),
        ('{"key": "a", "value": 1}\n{"namespace":"n","key":"k","clock":{"w":9223372036854775807},"entries":[]}', "future"),
        ('{"key": "a", "value": 1}\n\xff', "line 2: "),
    ],
)
async def test_a_line_that_is_wrong_is_named_and_nothing_comes_in(hive: skep.Skep, file: Path, text: str, said: str) -> None:
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(skep.Invalid, match=said) as refused:
        await hive.memory.load(file)
    assert refused.value.fix
    assert await hive.memory.list() == []


async def test_lines_of_other_programs_come_in(hive: skep.Skep, file: Path) -> None:
    file.write_text('{"key": "a", "value": {"x": 1}, "tags": ["t"]}\n{"key": "b", "value": "v", "namespace": "n", "ttl": 60}\n')
    assert (await hive.memory.load(file)).new == 2
    assert (await hive.memory.get("a")).tags == ("t",)
    assert (await hive.memory.get("b", namespace="n")).expires > 0


async def test_a_damaged_backup_changes_nothing(hive: skep.Skep, file: Path, tmp_path: Path) -> None:
    await fill(hive.memory)
    await hive.memory.backup(file)
    await hive.memory.delete("fact")
    whole, good = file.read_bytes(), await hive.memory.restore(file, instead=True, dry=True)
    refused = 0
    for place in range(0, len(whole), max(1, len(whole) // 40)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:  # a byte that nobody reads, such as one of a time in the zip file, does no harm
            assert await hive.memory.restore(file, instead=True, dry=True) == good
        except skep.Invalid:
            refused += 1
    assert refused > 20
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(skep.Invalid):
        await hive.memory.restore(file)
    with pytest.raises(skep.NotFound):
        await hive.memory.restore(tmp_path / "none")
    with pytest.raises(skep.NotFound):
        await hive.memory.get("fact")
    session = await hive.session("bench")
    await session.export(file)
    with pytest.raises(skep.Invalid, match="holds no memory"):
        await hive.memory.restore(file)
    with pytest.raises(skep.Invalid, match="cannot write"):
        await hive.memory.backup(tmp_path / "no" / "folder")
    with pytest.raises(skep.Invalid, match="cannot write"):
        await hive.memory.export(tmp_path / "no" / "folder")


@pytest.mark.parametrize("wrong", [{"rule": "counter", "value": "text"}, {"blob": "x", "tags": [" bad "]}])
async def test_what_a_strangers_record_claims_is_checked_before_anything_comes_in(
    hive: skep.Skep, file: Path, wrong: dict[str, object]
) -> None:
    value = {"id": identity("n", "b"), "namespace": "n", "key": "b", "value": 1, "writer": "w", "stamp": 5, **wrong}
    record = {"namespace": "n", "key": "b", "clock": {"w": 5}, "entries": [value]}
    file.write_text('{"key": "a", "value": 1}\n' + json.dumps(record) + "\n")
    with pytest.raises(skep.Invalid, match="line 2: "):
        await hive.memory.load(file)
    assert await hive.memory.list() == []


async def test_a_strangers_entry_that_is_to_live_for_ever_lives_as_long_as_any_may(hive: skep.Skep, file: Path) -> None:
    value = {"id": identity("n", "b"), "namespace": "n", "key": "b", "value": 1, "writer": "w", "stamp": 5, "expires": 2**52}
    file.write_text(json.dumps({"namespace": "n", "key": "b", "clock": {"w": 5}, "entries": [value]}))
    assert (await hive.memory.load(file)).new == 1


async def test_large_values_that_are_none_are_found_before_anything_of_a_backup_comes_in(
    hive: skep.Skep, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Repository(tmp_path / "other")
    other.commit({"a.txt": "one\n"})
    async with skep.open(other.top) as there:
        with monkeypatch.context() as evil:
            evil.setattr(Draft, "check", lambda draft, rules: b"\x91" * 100_000)
            await there.memory.store("large", "x")
        await there.memory.store("a", 1)
        await there.memory.backup(file)
        with pytest.raises(skep.Invalid, match="damaged"):
            await there.memory.get("large")
    with pytest.raises(skep.Invalid, match="damaged"):
        await hive.memory.restore(file)
    assert await hive.memory.list() == []
