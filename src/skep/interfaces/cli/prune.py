"""`prune`: sessions that ended long ago go into archives."""

from __future__ import annotations

import click

from skep.interfaces.cli import exits, place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option
from skep.interfaces.cli.words import clock, count, one_line


@command(
    "prune",
    ("skep prune --older 30d --dry-run", "what would go, and what stays and why"),
    ("skep prune", 'what ended longer ago than `keep` in [store] of skep.toml says, such as "30d"'),
)
@click.option("--older", metavar="AGE", default="", help="Ended longer ago than this, such as 30d; otherwise `keep` in [store].")
@click.option("--dry-run", "dry", is_flag=True, help="Only say what would go.")
@json_option
def prune(older: str, dry: bool, as_json: bool) -> int:
    """Remove sessions that ended long ago, each once it lies in an archive that was read again. `skep restore` brings one back.

    What goes: log, outputs, refs, recordings, homes of clients. An archive lies where backups do; no later backup pushes it out.
    A session stays if work of it is merged nowhere, if somebody is needed in it, or if it belongs to a fleet. Ends with 1 if one
    could not be archived or removed.
    """
    return place.go(_prune(older, dry, as_json))


async def _prune(older: str, dry: bool, as_json: bool) -> int:
    from skep.runtime.requests import Prune

    async with place.hive() as hive:
        found = await hive.call(Prune(older=older, dry=dry))
    out = Out()
    if as_json:
        out.json(document(dry=dry, sessions=found))
    else:
        for one in found:
            if one.trouble:
                how = f"gone; {one.path}; but not all of it went" if one.gone else "still here"
                said, style = f"{how}: {one_line(one.trouble, 400)}", "red"
            elif one.kept:
                said, style = f"stays: {one_line(one.kept, 400)}", ""
            else:
                said, style = f"gone; {one.path}, {count(one.bytes, 'byte')}" if one.gone else "would go", "green"
            out.line((f"{one_line(one.name, 40)}  ", "bold"), f"ended {clock(one.ended)}  ", (said, style))
        if not found:
            out.line("no session ended that long ago")
    return exits.FAILED if any(one.trouble for one in found) else 0
