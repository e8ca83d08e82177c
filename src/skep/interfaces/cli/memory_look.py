"""`memory search`, `query` and `list`: finding what was kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal

import click

from skep.interfaces.cli import place
from skep.interfaces.cli.memory import KINDS, TRUSTS, bank, fields, shown
from skep.interfaces.cli.moments import moment
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option
from skep.interfaces.cli.tables import table
from skep.interfaces.cli.words import clock, count, one_line

if TYPE_CHECKING:
    from skep.memory import Entry, Filter, Found

COLUMNS = ("namespace", "key", "kind", "trust", "updated", "by", "value")


def narrowed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command about entries that a filter lets through; the function gets it as `wanted`."""

    @click.option("-n", "--namespace", "namespaces", multiple=True, metavar="NAME", help="Only there; may be repeated.")
    @click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="Only this kind; may be repeated.")
    @click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only with this tag; may be repeated.")
    @click.option("--agent", default="", metavar="A", help="Only what this agent wrote.")
    @click.option("--task", default="", metavar="T", help="Only what was written for this task.")
    @click.option("--since", default="", metavar="TIME", help="Not older than this, such as 2h or 2026-11-21T18:30.")
    @click.option("--until", default="", metavar="TIME", help="Not newer than this.")
    @click.option("--trust", type=click.Choice(TRUSTS), default=TRUSTS[0], help="Trusted so far at least.")
    @click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin so.")
    @wraps(function)
    def with_filter(since: str, until: str, **given: Any) -> Any:
        from skep.memory import Filter

        names = ("namespaces", "kinds", "tags", "agent", "task", "trust", "prefix")
        wanted = Filter(
            since=moment("--since", since), until=moment("--until", until), **{name: given.pop(name) for name in names}
        )
        return function(wanted=wanted, **given)

    return with_filter


@command(
    "search",
    ("skep memory search 'why does the build hang'", "best first, with why each was found"),
    ("skep memory search redis --kind episodic --since 7d", "only what happened in a week"),
    ("skep memory search pool --mode words", "by words alone"),
)
@click.argument("text")
@click.option("--mode", type=click.Choice(("words", "meaning", "both")), default="both", show_default=True, help="What counts.")
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True, metavar="N", help="So many at most.")
@click.option("--wait", is_flag=True, help="Until what was stored before can be found.")
@narrowed
@json_option
def search(text: str, mode: Literal["words", "meaning", "both"], limit: int, wait: bool, wanted: Filter, as_json: bool) -> None:
    """Find what fits TEXT best: an exact key first, then by words and by meaning, in all namespaces unless some are named."""

    async def work() -> Found:
        async with bank() as there:
            return await there.search(text, wanted, mode=mode, limit=limit, wait=wait)

    found, out = place.go(work()), Out()
    if as_json:
        out.json(document(**fields(found)))
        return
    rows = [
        (hit.entry.namespace, hit.entry.key, hit.entry.trust, "; ".join(hit.why), shown(hit.entry, 400)) for hit in found.hits
    ]
    table(("namespace", "key", "trust", "why", "value"), rows, out)
    notes = [] if rows else ["nothing was found"]
    notes += [f"embedder: {found.embedder}"] if found.embedder else []
    notes += [found.note] if found.note else []
    notes += [f"{count(found.behind, 'change')} cannot be found yet; --wait waits for them"] if found.behind else []
    for note in notes:
        if out.terminal:
            out.line((one_line(note, 400), "dim"))
        else:
            click.echo(one_line(note, 400), err=True)


@command("list", ("skep memory list", "all keys"), ("skep memory list -n project --prefix build.", "some of them"))
@click.option("-n", "--namespace", "namespaces", multiple=True, metavar="NAME", help="Only there; may be repeated.")
@click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin so.")
@click.option("--limit", type=click.IntRange(1), default=1_000, show_default=True, metavar="N", help="So many at most.")
@json_option
def list_(namespaces: tuple[str, ...], prefix: str, limit: int, as_json: bool) -> None:
    """List what is kept, by namespace and key."""
    from skep.memory import Filter

    _listed(Filter(namespaces=namespaces, prefix=prefix), limit, as_json)


@command(
    "query",
    ("skep memory query --kind episodic --task build --since 2h", "what happened to a task lately"),
    ("skep memory query --tag build --trust person --json", "for scripts, whole entries"),
)
@narrowed
@click.option("--limit", type=click.IntRange(1), default=1_000, show_default=True, metavar="N", help="So many at most.")
@json_option
def query(wanted: Filter, limit: int, as_json: bool) -> None:
    """List the entries for which all that is said holds, by namespace and key."""
    _listed(wanted, limit, as_json)


def _listed(wanted: Filter, limit: int, as_json: bool) -> None:
    async def work() -> list[Entry]:
        found: list[Entry] = []
        async with bank() as there:
            async for entry in there.entries(wanted):
                if len(found) > limit:
                    break
                found.append(entry)
        return found

    found, out = place.go(work()), Out()
    more, found = len(found) > limit, found[:limit]
    if as_json:
        out.json(document(entries=[fields(entry) for entry in found], more=more))
        return
    head: tuple[str, ...] = COLUMNS
    rows = [row(entry) for entry in found]
    if out.terminal and not any(entry.agent for entry in found):  # whose they are, their trust says; values get the room
        by = COLUMNS.index("by")
        head, rows = _without(by, head), [_without(by, cells) for cells in rows]
    table(head, rows, out)
    if not found:
        click.echo("nothing is kept there", err=not out.terminal)
    if more:
        click.echo(f"there is more than these {limit}; --limit shows more, --prefix and others less", err=not out.terminal)


def _without(number: int, cells: tuple[str, ...]) -> tuple[str, ...]:
    return cells[:number] + cells[number + 1 :]


def row(entry: Entry) -> tuple[str, ...]:
    """An entry as a row of COLUMNS."""
    by = entry.agent or ("a person" if entry.trust == "person" else "-")
    return (entry.namespace, entry.key, entry.kind, entry.trust, clock(entry.updated), by, shown(entry, 400))


COMMANDS = (search, query, list_)
