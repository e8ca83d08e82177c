"""`skep memory`, as a person types it, and as scripts read it."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from skep.runtime.checkup import remembered
from skep.runtime.memory_views import StatsView
from tests.interfaces.cli.conftest import Skep


def test_what_is_kept_by_one_command_is_there_for_the_next(skep: Skep, tmp_path: Path) -> None:
    assert skep("memory", "get", "k").code == 2
    assert not (tmp_path / "work" / ".skep").exists(), "merely looking makes no state folder"
    kept = skep("memory", "store", "build.command", "make -j2", "--tag", "build")
    assert (kept.code, kept.out) == (0, "project build.command: stored, version 1\n")
    assert skep("memory", "get", "build.command").out == "make -j2", "the value alone"
    entry = json.loads(skep("memory", "get", "build.command", "--json").out)["entry"]
    assert (entry["value"], entry["trust"], entry["kind"], entry["tags"]) == ("make -j2", "person", "semantic", ["build"])
    assert skep("memory", "store", "build.command", "make", "--expect", "7").code == 1
    assert "version 2" in skep("memory", "store", "build.command", "make", "--expect", "1").out
    gone = skep("memory", "delete", "build.command")
    assert gone.out.startswith("project build.command: deleted; version 2, person, by a person, ")
    assert gone.out.endswith(": make\n")
    missing = skep("memory", "get", "build.command")
    assert (missing.code, "no 'build.command' in 'project'" in missing.err) == (2, True)


@pytest.mark.parametrize("text", ["", "ä\n\n", "a\0b", "\x1b]0;x\x07", "```\n# x\n```", '{"a": 1}', "  x  "])
def test_a_text_comes_back_to_the_last_byte(skep: Skep, text: str, tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_bytes(text.encode())
    assert skep("memory", "store", "k", "--file", str(file)).code == 0
    assert skep("memory", "get", "k").out == text


def test_a_value_is_json_if_it_is_said(skep: Skep, monkeypatch: pytest.MonkeyPatch) -> None:
    assert skep("memory", "store", "k", '{"cpu": [1, 2.5, null]}', "--json-value").code == 0
    assert json.loads(skep("memory", "get", "k").out) == {"cpu": [1, 2.5, None]}
    stdin: Any = io.TextIOWrapper(io.BytesIO(b"from a pipe\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert skep("memory", "store", "k", "-").code == 0
    assert skep("memory", "get", "k").out == "from a pipe\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("store", "k"), "Give a VALUE"),
        (("store", "k", "v", "--file", "f"), "Give a VALUE"),
        (("store", "k", "--file", "none"), "none cannot be read"),
        (("store", "k", "{", "--json-value"), "--json-value is no JSON"),
        (("store", "k", "[" * 5_000, "--json-value"), "--json-value is no JSON"),
        (("store", "k", "[" * 200 + "]" * 200, "--json-value"), "nested deeper than 100"),
        (("store", "k", "v", "--ttl", "soon"), "--ttl 'soon' is no time"),
        (("store", "k", "v", "--kind", "old"), "'old' is not one of"),
        (("store", " k", "v"), "is no key"),
        (("store", "k", "\udcff"), "Unicode"),
        (("store", "../k", "v", "-n", "a@b"), "is no namespace"),
        (("store", "k", "v", "--metadata", "3"), "--metadata must be an object"),
        (("store", "k", "v", "--rule", "counter"), "is a counter"),
        (("store", "k", "1", "--json-value", "--vector", '"x"'), "vector"),
        (("store", "k", "v", "--kind", "vector", "--vector", "[1, true]"), "--vector must be a list of numbers"),
        (("store", "k", "v", "--kind", "vector", "--vector", "[]"), "--vector must be a list of numbers"),
        (("store", "k", "v", "--vector", "[1, 2]"), "of kind 'semantic'"),
        (("store", "k", "v", "--metadata", "[]"), "--metadata must be an object"),
        (("add", "k", "nan"), "not a finite number"),
        (("add", "k", "much"), "'much' is not a valid number"),
        (("restore", "a.txt"), "`skep memory backup` make"),
        (("restore", "none"), "there is no file"),
        (("search", "x", "--since", "yesterday"), "--since 'yesterday' is no time"),
        (("search", " "), "nothing to search for"),
        (("resolve", "k", "v", "--take", "1"), "not both"),
        (("nonsense",), "No such command 'nonsense'"),
    ],
)
def test_bad_input_is_one_message_and_changes_nothing(skep: Skep, words: tuple[str, ...], said: str) -> None:
    skep("memory", "store", "there", "v")
    refused = skep("memory", *words)
    assert (refused.code, said in refused.err, "Traceback" in refused.err) == (2, True, False), refused.err
    assert [one["key"] for one in json.loads(skep("memory", "list", "--json").out)["entries"]] == ["there"]


def test_entries_are_found_by_what_they_are_and_by_what_is_in_them(skep: Skep) -> None:
    skep("memory", "store", "redis.pool", "the pool of connections hangs at 16", "--tag", "redis", "--kind", "episodic")
    skep("memory", "store", "build.command", "make -j2", "--tag", "build")
    skep("memory", "store", "note", "buy bread", "-n", "home", "--kind", "working", "--ttl", "2h")
    assert [line.split("\t")[:2] for line in skep("memory", "list").out.splitlines()] == [
        ["home", "note"],
        ["project", "build.command"],
        ["project", "redis.pool"],
    ]

    def keys(*words: str) -> list[str]:
        return [entry["key"] for entry in json.loads(skep("memory", "query", *words, "--json").out)["entries"]]

    assert keys("--kind", "episodic") == ["redis.pool"]
    assert keys("--tag", "build") == ["build.command"]
    assert keys("--prefix", "build.") == ["build.command"]
    assert keys("-n", "home") == ["note"]
    assert keys("--since", "1h") == ["note", "build.command", "redis.pool"]
    assert keys("--until", "1h") == []
    assert keys("--trust", "observed") == []
    found = skep("memory", "search", "why does the connection pool hang", "--wait")
    assert found.out.splitlines()[0].startswith("project\tredis.pool\tperson\twords: ")
    assert "embedder: hashed" in found.err
    whole = json.loads(skep("memory", "search", "build.command", "--wait", "--json").out)
    assert (whole["hits"][0]["entry"]["key"], whole["hits"][0]["why"][0]) == ("build.command", "its key")
    assert (whole["embedder"], whole["behind"]) == ("hashed", 0)
    cut = skep("memory", "list", "--limit", "2")
    assert (len(cut.out.splitlines()), "more than these 2" in cut.err) == (2, True)


def test_what_is_added_is_counted_and_the_statistics_tell(skep: Skep) -> None:
    assert skep("memory", "add", "deploys").out == "project deploys: is 1, version 1\n"
    assert skep("memory", "add", "deploys", "4").out == "project deploys: is 5, version 2\n"
    assert skep("memory", "add", "deploys", "2.5").out == "project deploys: is 7.5, version 3\n"
    assert skep("memory", "add", "deploys", "-7.5").out == "project deploys: is 0, version 4\n"
    skep("memory", "store", "a", "x", "-n", "n", "--kind", "episodic")
    skep("memory", "delete", "a", "-n", "n")
    told = json.loads(skep("memory", "stats", "--json").out)
    assert [(one["namespace"], one["kind"], one["entries"]) for one in told["shelves"]] == [("project", "semantic", 1)]
    assert (told["deleted"], told["conflicts"], told["store"]) == (1, 0, "sqlite")
    assert "1 entry, " in skep("memory", "stats").out


def test_the_doctor_tells_of_memory(skep: Skep) -> None:
    skep("memory", "store", "a", "x")
    found = {one["name"]: one for one in json.loads(skep("doctor", "--json").out)["findings"]}["memory"]
    assert (found["state"], found["fix"]) == ("ok", "")
    assert re.fullmatch(
        r"1 entry in sqlite; index (up to date|1 change behind), embedder hashed; replication: none", found["text"]
    )


def test_the_doctor_warns_of_what_waits_for_somebody() -> None:
    told = StatsView(store="markdown", embedder="hashed", shelves=[], conflicts=2, behind=3)
    found = remembered(told)
    assert (found.state, "2 keys with several values" in found.text, "3 changes behind" in found.text) == ("warning", True, True)
    assert "skep memory resolve" in found.fix
    found = remembered(replace(told, trouble="the disk is full"))
    assert (found.state, found.text.endswith("the disk is full"), "index.db" in found.fix) == ("warning", True, True)


def test_a_file_that_was_edited_so_that_it_cannot_be_read_is_told_by_name(skep: Skep, tmp_path: Path) -> None:
    (tmp_path / "work" / "skep.toml").write_text('[memory]\nstore = "markdown"\n')
    skep("memory", "store", "style", "tabs")
    assert json.loads(skep("memory", "stats", "--json").out)["unreadable"] == {}
    (file,) = (tmp_path / "work" / ".skep" / "memory" / "notes").glob("*/*.md")
    text = file.read_text()
    file.write_text("nonsense")
    assert f"{file} cannot be read, its key is as it was before: " in skep("memory", "stats").out
    warned = {one["name"]: one for one in json.loads(skep("doctor", "--json").out)["findings"]}["memory"]
    assert (warned["state"], str(file) in warned["text"]) == ("warning", True)
    file.write_text(text)
    assert json.loads(skep("memory", "stats", "--json").out)["unreadable"] == {}
    assert skep("memory", "get", "style").out == "tabs"


def test_a_key_with_one_value_has_nothing_to_decide(skep: Skep) -> None:
    skep("memory", "store", "k", "v")
    assert skep("memory", "conflicts").out == "no key has several values\n"
    refused = skep("memory", "resolve", "k", "w")
    assert (refused.code, "has one value" in refused.err) == (1, True)
    assert skep("memory", "get", "k").out == "v"


def test_what_says_the_same_becomes_one_and_that_can_be_undone(skep: Skep) -> None:
    for key in ("a", "b"):
        skep("memory", "store", key, "Indent with four spaces, never tabs.")
    would = skep("memory", "consolidate", "--dry-run").out.splitlines()
    assert would[:2] == ["merge a, b: the same text", "project: 1 key would be merged, 0 facts would be learned, 0 expired"]
    assert "real embedder" in would[2]
    told = json.loads(skep("memory", "consolidate", "--json").out)["consolidated"]
    assert (told["merged"], told["dry"], told["steps"][0]["keys"]) == (1, False, ["a", "b"])
    assert skep("memory", "get", "b").out == "Indent with four spaces, never tabs."
    assert [line.split("\t")[1] for line in skep("memory", "list").out.splitlines()] == ["a"]
    assert skep("memory", "consolidate").out.startswith("project: 0 keys merged")
    assert skep("memory", "consolidate", "--undo").out == "project: 2 keys as before\n"
    assert skep("memory", "consolidate", "--undo").code == 2
    assert skep("memory", "consolidate", "--undo", "--dry-run").code == 2


def test_there_is_nothing_to_sync_with_where_nothing_is_shared(skep: Skep) -> None:
    skep("memory", "store", "k", "v")
    refused = skep("memory", "sync")
    assert (refused.code, "memory is not replicated here" in refused.err) == (1, True)
