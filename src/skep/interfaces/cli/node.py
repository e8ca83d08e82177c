"""`node`: machines that carry out what others begin, over a store that they share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from pathlib import Path
from typing import Any

import click
import msgspec

from skep.errors import Invalid
from skep.interfaces.cli import exits, place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import Command, Finite, Group, json_option, redis_option
from skep.runtime.node import SHARED_SLOTS

key_option = click.option("--key", default="", metavar="FILE", help="The store's key; otherwise `key` of the state folder.")


@click.group("node", cls=Group)
def node() -> None:
    """Machines that work together over one Redis."""


@node.command(
    "join",
    cls=Command,
    examples=(
        ("skep node join --redis redis://db:6379 --key hive.key", "carry out attempts here"),
        ("skep node join --redis URL --labels gpu,zone=eu --slots 8", "for tasks that ask for these labels, 8 at once"),
        ("skep node join --redis URL --invite east.invite", "without the store's key: as the node that was invited"),
    ),
)
@click.option("--name", default="", metavar="N", help="The node's name; otherwise the machine's, with the folder's mark.")
@click.option("--labels", default="", metavar="L", help="What tasks may ask for in `constraints`: gpu,zone=eu.")
@click.option(
    "--slots", type=click.IntRange(1, 10_000), default=SHARED_SLOTS, metavar="N", help="Attempts at once; otherwise 16."
)
@click.option("--cpu", type=Finite(min=0.0), default=0.0, metavar="C", help="Cores that it gives; otherwise all.")
@click.option("--memory", default="", metavar="M", help="Memory that it gives, such as 32GB; otherwise all.")
@click.option("--folder", default="", metavar="DIR", help="Where it works and keeps its state; otherwise in your state folder.")
@click.option("--no-lead", is_flag=True, help="Carry out attempts only; never go on with a session whose writer is gone.")
@click.option("--invite", "invitation", default="", metavar="FILE", help="Join with an invitation, in place of the store's key.")
@redis_option
@key_option
@json_option
def join(
    name: str,
    labels: str,
    slots: int,
    cpu: float,
    memory: str,
    folder: str,
    no_lead: bool,
    invitation: str,
    key: str,
    as_json: bool,
) -> int:
    """Carry out, on this machine, attempts of the sessions that others began over the same store.

    It works until Ctrl-C, or until `skep node drain` or `leave`. It needs nothing of the user's files: sessions bring along
    what they work on, and what is made goes back the same way. Clients must be installed and logged in here.

    With an invitation it checks all that it is told, and can say nothing but what became of its own attempts: it never leads.
    """
    from skep.config import STATE
    from skep.nodes import invited_as
    from skep.runtime.node import Here, Role, named

    config = _config(key, invitation)
    if config.store.invite:
        name = name or invited_as(config.store.invite)
    where = Path(folder).expanduser() if folder else _home(name or "node")
    with contextlib.suppress(FileExistsError):
        where.mkdir(parents=True, mode=0o700)
    where = where.resolve()
    gives = bytes_of(memory)
    here = Here(name=name or named(where / STATE), slots=slots, cpu=cpu, memory=gives, labels=labels_of(labels))
    role = Role(here=here, serves=True, leads=not no_lead, hosted=True, say=lambda words: click.echo(words, err=True))
    return place.go(_join(where, config, role, as_json))


async def _join(where: Path, config: Any, role: Any, as_json: bool) -> int:
    from skep import nodes
    from skep.config import redacted

    out = Out()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with nodes.join(where, config, role) as hive:
        if not hive.owner:
            raise Invalid(f"another process works as a node in {where}", "Give this one another --name or --folder.")
        shown = redacted(config.store.url)
        if as_json:
            out.json(document(node=role.here.name, store=shown))
        else:
            out.line(f"node {role.here.name} works for the sessions of {shown}; Ctrl-C ends it")
        waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(hive.door.parted())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
        if parted := waits[1].done() and not waits[1].cancelled():
            waits[1].result()  # another process may have taken its name
    if not as_json:
        out.line(f"node {role.here.name} left" + (", as it was told" if parted else ""))
    return exits.INTERRUPTED if stop.is_set() else 0


@node.command(
    "invite",
    cls=Command,
    examples=(("skep node invite east --redis URL", "then, on that machine: skep node join --invite east.invite"),),
)
@click.argument("name")
@click.option("--out", default="", metavar="FILE", help="The file to write; otherwise NAME.invite.")
@redis_option
@key_option
def invite(name: str, out: str, key: str) -> int:
    """Write a file with which a node joins under this name without the store's key.

    The file is as good as that node: send it on a safe way. It cannot be taken back; whoever has it is that node until the
    store has another key.
    """
    from skep import nodes

    config, path = _config(key), Path(out or f"{name}.invite")
    place.go(nodes.invite(place.workspace(), config, name, path.expanduser().absolute()))
    Out().line(f"wrote {path}; on that machine: skep node join --redis URL --invite {path.name}")
    return 0


@node.command("list", cls=Command, examples=(("skep node list --redis URL", "who is there, and what they do"),))
@redis_option
@key_option
@json_option
def list_(key: str, as_json: bool) -> int:
    """Show the nodes that are there."""
    from skep import nodes

    found = place.go(nodes.nodes(place.workspace(), _config(key)))
    out = Out()
    if as_json:
        out.json(document(nodes=found))
        return 0
    rows = [
        (
            one.name,
            one.host,
            f"{one.running}/{one.slots}",
            str(one.sessions),
            ", ".join(f"{k}={v}" if v != YES else k for k, v in one.labels.items()),
            f"{one.told}s" if one.told else "leads too" if one.leads else "",
        )
        for one in found
    ]
    if not rows:
        out.line("no node is there; `skep node join` makes this machine one")
        return 0
    rows.insert(0, ("node", "host", "at work", "sessions", "labels", ""))
    wide = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        out.line("  ".join(f"{cell:{width}}" for cell, width in zip(row, wide, strict=True)).rstrip())
    return 0


@node.command("drain", cls=Command, examples=(("skep node drain east", "let it finish what it has, then leave"),))
@click.argument("name")
@redis_option
@key_option
def drain(name: str, key: str) -> int:
    """Have a node take nothing more, and leave when what it has is done."""
    return _tell(name, key, "drain", f"node {name} takes nothing more, and leaves when it is done")


@node.command("leave", cls=Command, examples=(("skep node leave east", "others get what it has at once"),))
@click.argument("name")
@redis_option
@key_option
def leave(name: str, key: str) -> int:
    """Have a node leave at once: what runs there is interrupted, and others do it again."""
    return _tell(name, key, "leave", f"node {name} leaves; what ran there is done by others")


def _tell(name: str, key: str, word: Any, said: str) -> int:
    from skep import nodes

    place.go(nodes.tell_node(place.workspace(), _config(key), name, word))
    Out().line(said)
    return 0


def bytes_of(text: str) -> int:
    """The bytes of a --memory; 0 for an empty one. Raises UsageError."""
    from skep.workflow.kinds import size_of

    size = size_of(text) if text else 0
    if size < 0:
        raise click.UsageError(f"--memory is '{text}': give it as 32GB, 512MiB or a number of bytes")
    return size


#: The value of a label that has none.
YES = "true"


def labels_of(text: str) -> dict[str, str]:
    """Labels, with commas between: a name, or name=value. Raises UsageError."""
    found = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, _, value = part.partition("=")
        if not re.fullmatch(r"[\w.-]+", name):
            raise click.UsageError(f"'{part}' is no label: give names, or name=value, with commas between")
        found[name] = value or YES
    return found


def _home(name: str) -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "skep" / "nodes" / re.sub(r"[^\w.-]", "-", name)


def _config(key: str, invitation: str = "") -> Any:
    """The workspace's settings; the store's must be shared. `key`, or `invitation`, replaces the file that they name."""
    from skep.config import load

    config = load(place.workspace())
    if not config.store.url:
        raise Invalid("no store is named that several machines could share", "Say --redis URL, or set [store] url in skep.toml.")
    if key and invitation:
        raise click.UsageError("--key and --invite: whoever has the key needs no invitation")
    store = config.store
    if key or invitation:
        given = str(Path(key or invitation).expanduser().resolve())
        store = msgspec.structs.replace(store, key=given if key else "", invite=given if invitation else "")
    elif store.invite:  # named from the workspace, and the node works elsewhere
        store = msgspec.structs.replace(store, invite=str(place.workspace() / store.invite))
    return msgspec.structs.replace(config, store=store)
