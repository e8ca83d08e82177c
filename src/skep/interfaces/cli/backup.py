"""`backup` and `restore`: sessions into files, and back under their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skep.interfaces.cli import exits, place
from skep.interfaces.cli.moments import moment
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option, session_option
from skep.interfaces.cli.words import clock, count, one_line

if TYPE_CHECKING:
    from skep.runtime.kept import BackupView

#: Instead of a session's name: list. A session that is called so is named by -s.
LIST = "list"


@command(
    "backup",
    ("skep backup feature-7", "into .skep/backups"),
    ("skep backup --all --to /mnt/backups --keep 24", "all sessions, 24 of each stay"),
    ("skep backup list", "what there is, each read whole and checked"),
)
@click.argument("name", metavar="[SESSION|list]", default="")
@session_option
@click.option("--all", "everything", is_flag=True, help="Every session of this workspace.")
@click.option("--to", metavar="FOLDER", default="", help="Where they lie; otherwise where [backup] in skep.toml says.")
@click.option("--keep", type=click.IntRange(1, 10_000), metavar="N", help="Remove all but the newest N of each session.")
@json_option
def backup(name: str, session: str, everything: bool, to: str, keep: int | None, as_json: bool) -> int:
    """Back up a session (the newest one without a name), or all: each into one file, with its log, outputs and commits.

    It may be at work: the file holds it as it is at one event. A file is there whole or not at all. Ends with 1 if there is no
    backup of one of them, or, for `list`, if one is damaged.
    """
    listing = name == LIST and not session
    if name and session and not listing and name != session:
        raise click.UsageError(f"Two sessions are named: '{name}', and '{session}' by -s.")
    if everything and (name or session):
        raise click.UsageError("Name a session, or say --all.")
    return place.go(_list(to, as_json) if listing else _back_up(session or name, everything, to, keep or 0, as_json))


async def _back_up(name: str, everything: bool, to: str, keep: int, as_json: bool) -> int:
    async with place.hive() as hive:
        made = await hive.backup(name, everything, to, keep)
    out = Out()
    if as_json:
        out.json(document(backups=made))
    else:
        for one in made:
            said = f"no backup: {one_line(one.trouble)}" if one.trouble else f"{one.path}, {count(one.bytes, 'byte')}{_lost(one)}"
            out.line((f"{one_line(one.name, 40)}: ", "bold"), (said, "red" if one.trouble else ""))
    return exits.FAILED if any(one.trouble for one in made) else 0


def _lost(one: BackupView) -> str:
    return f"; {count(len(one.lost), 'output')} had been lost before" if one.lost else ""


async def _list(folder: str, as_json: bool) -> int:
    async with place.hive(found=not folder) as hive:
        found = await hive.backups(folder=folder)
    out = Out()
    if as_json:
        out.json(document(backups=found))
    else:
        for one in found:
            seal = "" if one.ours else "sealed by another store  "
            state = (f"damaged: {one_line(one.trouble)}", "red") if one.trouble else ("good", "green")
            about = f"{clock(one.at)}  {one.events:,} events  {one.bytes:,} bytes  {seal}"
            out.line((f"{one_line(one.name or one.session, 40)}  ", "bold"), about, state, f"  {one.path}")
        if not found:
            out.line("no backups there; `skep backup --all` makes some")
    return exits.FAILED if any(one.trouble for one in found) else 0


@command(
    "restore",
    ("skep restore feature-7", "from the newest good backup"),
    ("skep restore feature-7 --at 2026-11-21T18:30", "as it was then"),
    ("skep restore feature-7 --from /mnt/backups", "also in an empty workspace"),
)
@click.argument("name", metavar="SESSION")
@click.option("--from", "source", metavar="FILE", default="", help="A backup, or a folder of them.")
@click.option("--at", "until", metavar="TIME", default="", help="As it was at this time, such as 2026-11-21T18:30 (local time).")
@json_option
def restore(name: str, source: str, until: str, as_json: bool) -> None:
    """Make a session, paused, from a backup. It takes over the name; the session that had it stays, under another one.

    Nothing is overwritten. The newest good backup is taken; damaged ones are named and skipped. The fleets are in the backup of
    `.system`: restore it after their sessions, where no fleet was formed yet.
    """
    from skep.core.fleet import SYSTEM

    at = moment("--at", until)

    async def work() -> None:
        async with place.hive(found=not source) as hive:
            made = await hive.restore(name, source, at)
            view = await made.status(tasks=False)
        out = Out()
        if as_json:
            out.json(document(session=view.name, state=view.state, seq=view.seq, notes=made.notes))
            return
        for note in made.notes:
            out.line(("note: ", "yellow"), one_line(note, 400))
        if view.name == SYSTEM:
            out.line("the fleets are there as in the backup; next: skep fleet status")
        else:
            out.line(f"{view.name} goes on from its backup; next: skep resume {view.name}")

    place.go(work())
