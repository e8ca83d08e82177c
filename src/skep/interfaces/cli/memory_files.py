"""`memory export`, `import`, `backup` and `restore`: memory into files, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from skep.interfaces.cli import place
from skep.interfaces.cli.memory import bank, fields
from skep.interfaces.cli.memory_look import narrowed
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option
from skep.interfaces.cli.words import count, one_line

if TYPE_CHECKING:
    from skep.memory import Filter
    from skep.runtime.memory_views import TakenView, WrittenView

file_argument = click.argument("file", type=click.Path(path_type=Path))
dry_option = click.option("--dry-run", "dry", is_flag=True, help="Say what would come in; change nothing.")


@command(
    "export",
    ("skep memory export notes.jsonl", "all of it, a line for each key"),
    ("skep memory export build.jsonl -n project --prefix build.", "some of it"),
)
@file_argument
@narrowed
@json_option
def export(file: Path, wanted: Filter, as_json: bool) -> None:
    """Write what is kept into FILE, as lines of JSON: the first says what it is, the last seals it."""

    async def work() -> WrittenView:
        async with bank() as there:
            return await there.export(file, wanted)

    _written(place.go(work()), as_json)


@command(
    "import",
    ("skep memory import notes.jsonl --dry-run", "what would come in"),
    ("skep memory import notes.jsonl", "what was not exported here is untrusted"),
)
@file_argument
@dry_option
@json_option
def import_(file: Path, dry: bool, as_json: bool) -> None:
    """Take in FILE: what `skep memory export` wrote, or lines such as {"key": "a", "value": 1}.

    What was exported here, and not changed since, comes in as it was; anything else is untrusted. Nothing that is trusted more is
    replaced. If a line is wrong nothing comes in.
    """

    async def work() -> TakenView:
        async with bank(found=False) as there:
            return await there.load(file, dry)

    _taken(place.go(work()), as_json)


@command("backup", ("skep memory backup memory.skep", "all of it, in one file"))
@file_argument
@json_option
def backup(file: Path, as_json: bool) -> None:
    """Write all of memory into FILE, large values included. It is there whole or not at all."""

    async def work() -> WrittenView:
        async with bank() as there:
            return await there.backup(file)

    _written(place.go(work()), as_json)


@command(
    "restore",
    ("skep memory restore memory.skep", "joined with what is here: nothing is dropped"),
    ("skep memory restore memory.skep --replace", "as it was then, and nothing else"),
    ("skep memory restore memory.skep --trust", "the state folder was lost, and with it the key that sealed it"),
)
@file_argument
@dry_option
@click.option("--replace", "instead", is_flag=True, help="Memory is to hold what FILE holds, and nothing else.")
@click.option("--trust", is_flag=True, help="What was sealed elsewhere keeps the trust that it claims.")
@json_option
def restore(file: Path, dry: bool, instead: bool, trust: bool, as_json: bool) -> None:
    """Take in what `skep memory backup` wrote; all of it is read and checked before anything is changed.

    What was replaced or deleted since stays so, unless --replace is said. What was sealed with the key of another state folder is
    untrusted, unless --trust is said.
    """

    async def work() -> TakenView:
        async with bank(found=False) as there:
            return await there.restore(file, dry=dry, instead=instead, trust=trust)

    _taken(place.go(work()), as_json)


@command("sync", ("skep memory sync", "what other machines have comes now, not within half a minute"))
@json_option
def sync(as_json: bool) -> None:
    """Compare with the other machines now, and say how replication stands."""

    async def work() -> str:
        async with bank() as there:
            return await there.sync()

    told, out = place.go(work()), Out()
    if as_json:
        out.json(document(replication=told))
    else:
        out.line(told)


def _written(made: WrittenView, as_json: bool) -> None:
    out = Out()
    if as_json:
        out.json(document(**fields(made)))
        return
    out.line((made.path, "bold"), f": {count(made.keys, 'key')} of {count(made.namespaces, 'namespace')}, {made.bytes:,} bytes")
    for key in made.lost:
        out.line(("note: ", "yellow"), f"the value of {one_line(key)} had been lost before: it is not in it")


def _taken(found: TakenView, as_json: bool) -> None:
    out = Out()
    if as_json:
        out.json(document(**fields(found)))
        return
    would = "would be " if found.dry else ""
    came = f"{found.new:,} {would}new, {found.changed:,} {would}changed"
    stays = f"{found.same:,} were here already, {found.kept:,} stay as they are here"
    out.line((found.path, "bold"), f": {count(found.keys, 'key')}: {came}, {stays}")
    if not found.ours and found.keys:
        out.line(("note: ", "yellow"), "it was not sealed here: what is in it is untrusted")
    for note in found.notes:
        out.line(("note: ", "yellow"), one_line(note, 400))


COMMANDS = (sync, export, import_, backup, restore)
