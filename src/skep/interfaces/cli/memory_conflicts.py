"""`memory conflicts` and `resolve`: values that were written at the same time, and deciding between them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skep.errors import Conflict
from skep.interfaces.cli import place
from skep.interfaces.cli.memory import about, bank, fields, name_of, namespace_option, shown, value_of, value_options
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option
from skep.interfaces.cli.words import count

if TYPE_CHECKING:
    from skep.memory import Entry


def version_of(entry: Entry) -> str:
    """What a value of a key is named by: who wrote it and when."""
    return f"{entry.writer}:{entry.stamp}"


@command(
    "conflicts",
    ("skep memory conflicts", "the keys that have several values"),
    ("skep memory conflicts build.command", "the values of one"),
)
@click.argument("key", required=False)
@click.option("-n", "--namespace", metavar="NAME", help="Only there; otherwise everywhere, and of a KEY in `project`.")
@json_option
def conflicts(key: str | None, namespace: str | None, as_json: bool) -> None:
    """List the keys that were written at several places at the same time, or the values of KEY."""

    async def work() -> list[Entry]:
        async with bank() as there:
            if key is not None:
                return list(await there.siblings(key, namespace=namespace or "project"))
            return await there.conflicts(*([namespace] if namespace else []))

    found, out = place.go(work()), Out()
    if as_json:
        shown_as = "conflicts" if key is None else "values"
        out.json(document(**{shown_as: [fields(entry) for entry in found]}))
    elif key is None:
        for entry in found:
            out.line(
                (name_of(entry), "bold"), f": {count(entry.siblings + 1, 'value')}, the newest {about(entry)}: {shown(entry)}"
            )
        if not found:
            out.line("no key has several values")
    else:
        for entry in found:
            out.line((version_of(entry), "bold"), f"  {about(entry)}: {shown(entry, 400)}")


@command(
    "resolve",
    ("skep memory resolve build.command --take 5f2a:118", "one of the values that `skep memory conflicts` shows"),
    ("skep memory resolve build.command 'make -j4'", "another value"),
)
@click.argument("key")
@value_options
@namespace_option
@click.option(
    "--take", metavar="VERSION", help="The value that stays, as `skep memory conflicts KEY` names it; its beginning will do."
)
@json_option
def resolve(key: str, text: str | None, file: Path | None, parse: bool, namespace: str, take: str | None, as_json: bool) -> None:
    """Decide between the values of KEY: one of them stays, or VALUE takes the place of all."""
    if take is not None and (text is not None or file is not None):
        raise click.UsageError("Say --take, or give a value; not both.")
    value = None if take is not None else value_of(text, file, parse)

    async def work() -> Entry:
        async with bank() as there:
            found = await there.siblings(key, namespace=namespace)
            if len(found) < 2:
                raise Conflict(
                    f"'{key}' in '{namespace}' has one value", "There is nothing to decide; `skep memory store` replaces it."
                )
            if take is None:
                newest = max(found, key=lambda entry: entry.stamp)
                keep: dict[str, Any] = {name: getattr(newest, name) for name in ("kind", "tags", "metadata", "rule")}
                expect = max(entry.version for entry in found)
                return await there.store(key, value, namespace=namespace, expect=expect, **keep)
            named = [entry for entry in found if version_of(entry).startswith(take)]
            if len(named) != 1:
                fix = f"There are {', '.join(version_of(entry) for entry in found[:5])}."
                raise Conflict(f"{count(len(named), 'value')} of '{key}' in '{namespace}' begin with '{take[:80]}'", fix)
            return await there.settle(named[0])

    kept, out = place.go(work()), Out()
    if as_json:
        out.json(document(entry=fields(kept)))
    else:
        out.line((name_of(kept), "bold"), f": {shown(kept)}, version {kept.version}")


COMMANDS = (conflicts, resolve)
