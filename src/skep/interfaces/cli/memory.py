"""`memory`: what agents and people keep for later and for each other."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.core import ParameterSource

from skep.errors import Invalid, NotFound
from skep.interfaces.cli import place
from skep.interfaces.cli.memory_inside import AttemptMemory, within
from skep.interfaces.cli.moments import period
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import Command, Finite, Group, json_option
from skep.interfaces.cli.tables import table
from skep.interfaces.cli.words import clock, count, one_line

if TYPE_CHECKING:
    from msgspec import Struct

    from skep.memories import Memory
    from skep.memory import Entry
    from skep.runtime.memory_views import StatsView

#: As `skep.memory.KINDS`, `TRUSTS` and `RULES`, which are not loaded for the help.
KINDS = ("working", "episodic", "semantic", "vector")
TRUSTS = ("untrusted", "agent", "person", "observed")
RULES = ("siblings", "last", "union", "counter")


def _where(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A person means the workspace's; an attempt that names none means its session's own, or wherever it may read."""
    said = ctx.get_parameter_source(param.name or "") is not ParameterSource.DEFAULT
    return value if said or not within() else ""


namespace_option = click.option(
    "-n",
    "--namespace",
    metavar="NAME",
    default="project",
    show_default=True,
    callback=_where,
    help="Where the key is; `session/NAME` of a session.",
)


class Memories(Group):
    """Commands about memory, some of which live in files of their own."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Finds a command."""
        self._load()
        return super().get_command(ctx, name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, in the order of their use."""
        self._load()
        return list(self.commands)

    def _load(self) -> None:
        from skep.interfaces.cli import memory_conflicts, memory_consolidate, memory_files, memory_look

        for module in (memory_look, memory_conflicts, memory_consolidate, memory_files):
            for found in module.COMMANDS:
                self.add_command(found)


@click.group("memory", cls=Memories)
def memory() -> None:
    """What agents and people keep for later and for each other: facts, episodes, notes; found by key, words and meaning.

    What you store has trust `person`: no agent replaces it. Agents use the same commands inside their attempts, as far as their
    session may.
    """


@asynccontextmanager
async def bank(found: bool = True) -> AsyncIterator[Memory]:
    """The memory of the workspace; inside an attempt what of it the attempt may use.

    Args:
        found: whether there must be one already: merely looking makes none.

    Raises:
        NotFound: nothing was ever kept here.
    """
    from skep.config import STATE

    if within():
        yield cast("Memory", AttemptMemory())
        return
    folder = place.workspace()
    if found and not (folder / STATE).is_dir():
        raise NotFound(f"nothing was ever kept in {folder}", "`skep memory store KEY VALUE` keeps something.")
    async with place.hive(folder, found=False) as opened:
        yield opened.memory


def value_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The ways to give a value: as an argument, from standard input, from a file; as text or as JSON."""
    for option in (
        click.argument("text", metavar="[VALUE]", required=False),
        click.option("--file", type=click.Path(path_type=Path), metavar="FILE", help="Take the value from a file."),
        click.option("--json-value", "parse", is_flag=True, help="The value is JSON, not text."),
    ):
        function = option(function)
    return function


def value_of(text: str | None, file: Path | None, parse: bool) -> Any:
    """The value that is meant. Raises Invalid for what cannot be read."""
    from skep.memory.limits import MAX_VALUE

    if (text is None) == (file is None):
        raise click.UsageError("Give a VALUE, `-` for standard input, or --file.")
    if file is not None or text == "-":
        try:
            if file is None:
                data = sys.stdin.buffer.read(MAX_VALUE + 1)
            else:
                with file.open("rb") as source:
                    data = source.read(MAX_VALUE + 1)
        except OSError as error:
            raise Invalid(
                f"{file or 'standard input'} cannot be read: {error.strerror}", "Name a file that you may read."
            ) from None
        if len(data) > MAX_VALUE:
            raise Invalid(f"the value has more than {MAX_VALUE} bytes", "Keep where the file is, instead of what is in it.")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise Invalid("the value is not UTF-8 text", "Keep where the file is, or its bytes as base64.") from None
    return _parsed("--json-value", text or "") if parse else text


def _numbers(given: Any) -> bool:
    """Whether something is a list of at least one number."""
    return isinstance(given, list) and bool(given) and all(type(one) in (int, float) for one in given)


def _parsed(option: str, text: str) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise click.UsageError(f"{option} is no JSON: {one_line(str(error))}.") from None


@memory.command(
    "store",
    cls=Command,
    examples=(
        ("skep memory store build.command 'make -j2' --tag build", "for all sessions of this workspace"),
        ("skep memory store limits '{\"cpu\": 2}' --json-value", "any JSON"),
        ("git log -1 | skep memory store last-release -", "from standard input"),
        ("skep memory store todo 'ask Ann' --kind working --ttl 2h", "gone after two hours"),
    ),
)
@click.argument("key")
@value_options
@namespace_option
@click.option("--kind", type=click.Choice(KINDS), default="semantic", show_default=True, help="What kind of thing it is.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="To find it by; may be repeated.")
@click.option("--metadata", metavar="JSON", default="", help="An object with what else is known of it.")
@click.option("--ttl", metavar="TIME", default="", help="Gone after this, such as 30m or 7d.")
@click.option(
    "--rule", type=click.Choice(RULES), default="siblings", show_default=True, help="What to make of values written at once."
)
@click.option("--vector", metavar="JSON", default="", help="Of what it means, for kind `vector`: a list of numbers.")
@click.option("--expect", type=click.IntRange(0), metavar="N", help="Only in place of this version; 0 = of nothing.")
@click.option("--replicated", is_flag=True, help="Wait until the other machines have it, too.")
@json_option
def store(key: str, text: str | None, file: Path | None, parse: bool, namespace: str, as_json: bool, **about: Any) -> None:
    """Keep VALUE under KEY, in place of what was there. VALUE `-` is read from standard input."""
    value = value_of(text, file, parse)
    vector = _parsed("--vector", about["vector"]) if about["vector"] else None
    metadata = _parsed("--metadata", about["metadata"]) if about["metadata"] else {}
    if vector is not None and not _numbers(vector):
        raise click.UsageError("--vector must be a list of numbers, such as [0.1, -0.7].")
    if not isinstance(metadata, dict):
        raise click.UsageError('--metadata must be an object, such as {"source": "wiki"}.')
    rest = {"kind": about["kind"], "tags": about["tags"], "rule": about["rule"], "expect": about["expect"]}
    rest["replicated"] = about["replicated"]

    async def work() -> Entry:
        async with bank(found=False) as there:
            ttl = period("--ttl", about["ttl"])
            return await there.store(key, value, namespace=namespace, metadata=metadata, ttl=ttl, vector=vector, **rest)

    _told(place.go(work()), "stored", as_json)


@memory.command(
    "add",
    cls=Command,
    examples=(("skep memory add deploys", "one more"), ("skep memory add budget -5", "less")),
    context_settings={"ignore_unknown_options": True},  # -5 is an amount, and no option
)
@click.argument("key")
@click.argument("amount", type=Finite(), default=1.0)
@namespace_option
@json_option
def add(key: str, amount: float, namespace: str, as_json: bool) -> None:
    """Add to the counter KEY, which begins at 0. What is added elsewhere at the same time counts too."""

    async def work() -> Entry:
        async with bank(found=False) as there:
            return await there.add(key, int(amount) if amount.is_integer() else amount, namespace=namespace)

    made = place.go(work())
    _told(made, f"is {made.value}", as_json)


def _told(made: Entry, what: str, as_json: bool) -> None:
    out = Out()
    if as_json:
        out.json(document(entry=fields(made)))
    else:
        out.line((name_of(made), "bold"), f": {what}, version {made.version}")


@memory.command(
    "get",
    cls=Command,
    examples=(
        ("skep memory get build.command", "the value alone"),
        ("skep memory get limits --json | jq .entry.trust", "all that is known of it"),
    ),
)
@click.argument("key")
@namespace_option
@json_option
def get(key: str, namespace: str, as_json: bool) -> None:
    """Print what is kept under KEY: a text as it is, anything else as JSON."""

    async def work() -> Entry:
        async with bank() as there:
            return await there.get(key, namespace=namespace)

    found, out = place.go(work()), Out()
    if as_json:
        out.json(document(entry=fields(found)))
    elif isinstance(found.value, str):
        show_text(found.value, out)
    else:
        out.json(found.value)
    if found.siblings and not as_json:
        click.echo(f"note: the newest of {found.siblings + 1} values; `skep memory conflicts {key}` shows all", err=True)


def show_text(text: str, out: Out) -> None:
    """To people without what could steer their terminal; to programs as it is, to the last byte."""
    if out.terminal:
        out.line(text)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()


@memory.command("delete", cls=Command, examples=(("skep memory delete build.command", "it says what was there"),))
@click.argument("key")
@namespace_option
@click.option("--expect", type=click.IntRange(1), metavar="N", help="Only if this version is there.")
@json_option
def delete(key: str, namespace: str, expect: int | None, as_json: bool) -> None:
    """Delete KEY, and say what was there."""

    async def work() -> Entry:
        async with bank() as there:
            return await there.delete(key, namespace=namespace, expect=expect)

    gone, out = place.go(work()), Out()
    if as_json:
        out.json(document(deleted=fields(gone)))
    else:
        out.line((name_of(gone), "bold"), f": deleted; {about(gone)}: {shown(gone)}")


@memory.command("stats", cls=Command, examples=(("skep memory stats", "entries and bytes by namespace and kind"),))
@json_option
def stats(as_json: bool) -> None:
    """Show how much is kept, by namespace and kind, and how cache, index and replication stand."""

    async def work() -> StatsView:
        async with bank() as there:
            return await there.stats()

    found, out = place.go(work()), Out()
    if as_json:
        out.json(document(**fields(found)))
        return
    rows = [(one.namespace, one.kind, f"{one.entries:,}", f"{one.bytes:,}") for one in found.shelves]
    table(("namespace", "kind", "entries", "bytes"), rows, out)
    total, size = sum(one.entries for one in found.shelves), sum(one.bytes for one in found.shelves)
    out.line(f"{count(total, 'entry', 'entries')}, {count(size, 'byte')} in {found.store}; {count(found.deleted, 'deleted key')}")
    if found.conflicts:
        out.line((f"{count(found.conflicts, 'key')} with several values: `skep memory conflicts`", "yellow"))
    for path, why in found.unreadable.items():
        out.line((f"{path} cannot be read, its key is as it was before: {why}", "yellow"))
    lag = f"{count(found.behind, 'change')} behind" if found.behind else "up to date"
    out.line(f"index: {lag}, embedder {found.embedder}" + (f"; {found.trouble}" if found.trouble else ""))
    out.line(f"cache: {found.cached:,} of {count(found.cache, 'byte')}; replication: {found.replication}")


def fields(record: Struct) -> dict[str, Any]:
    """A record with all its fields, also those that are as they mostly are: scripts ask for them by name."""
    return {name: _full(getattr(record, name)) for name in record.__struct_fields__}


def _full(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_full(one) for one in value]
    return fields(value) if hasattr(value, "__struct_fields__") else value


def name_of(entry: Entry) -> str:
    """Where an entry is."""
    return one_line(f"{entry.namespace} {entry.key}", 120)


def about(entry: Entry) -> str:
    """Who wrote an entry, and when."""
    by = f"{entry.agent} in {entry.session}" if entry.session else entry.agent or ("a person" if entry.trust == "person" else "-")
    return one_line(f"version {entry.version}, {entry.trust}, by {by}, {clock(entry.updated)}")


def shown(entry: Entry, limit: int = 60) -> str:
    """A value on one line."""
    import msgspec

    if entry.blob:
        return f"({entry.size:,} bytes)"
    text = entry.value if isinstance(entry.value, str) else msgspec.json.encode(entry.value).decode()
    return one_line(text, limit)
