"""`session`: create, list, show, checkpoint, restore, fork, pause, close, export, import, drop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skep.interfaces.cli import place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import Command, Group, json_option, session_argument, session_option
from skep.interfaces.cli.words import Line, clock, count, one_line, short

if TYPE_CHECKING:
    from skep.runtime.views import SessionView


@click.group("session", cls=Group)
def session() -> None:
    """Create, list, show, checkpoint, restore, fork, pause, close, export, import and drop sessions.

    `skep resume` goes on with one, `skep stop` interrupts it.
    """


def _tell(out: Out, as_json: bool, view: SessionView, text: str) -> None:
    if as_json:
        out.json(document(session=view.name, state=view.state, seq=view.seq))
    else:
        out.line(text)


@session.command("create", cls=Command, examples=(("skep session create bench --agents 4", "an empty one, to add tasks to"),))
@click.argument("name")
@click.option("--file", metavar="FILE", help="With the tasks and agents of this workflow file; nothing starts yet.")
@click.option("-i", "--input", "inputs", multiple=True, metavar="NAME=VALUE", help="A value for an input of the file.")
@click.option("--agents", type=click.IntRange(1, 10_000), metavar="N", help="Attempts at once.")
@json_option
def create(name: str, file: str | None, inputs: tuple[str, ...], agents: int | None, as_json: bool) -> None:
    """Make a session of this NAME without starting anything; `skep add -s NAME` and `skep resume NAME` go on with it."""
    from skep.app import read_plan
    from skep.core.model import Limits, Plan
    from skep.interfaces.cli.run import pair
    from skep.runtime.requests import Create

    given = dict(pair(text) for text in inputs)
    plan = read_plan(file, given, agents=agents or 0) if file else Plan(name=name, limits=Limits(agents=agents or 0))

    async def work() -> None:
        async with place.hive(found=False) as hive:
            view = await hive.call(Create(plan=plan, name=name, new=True, start=False, by=hive.by))
            _tell(Out(), as_json, view, f"made {view.name}; next: skep resume {view.name}")

    place.go(work())


@session.command("list", cls=Command, examples=(("skep session list", "all of this workspace, oldest first"),))
@json_option
def list_(as_json: bool) -> None:
    """List the sessions of this workspace."""

    async def work() -> None:
        async with place.hive() as hive:
            briefs = await hive.sessions()
        out = Out()
        if as_json:
            out.json(document(sessions=briefs))
            return
        wide = max((len(one_line(brief.name, 40)) for brief in briefs), default=0)
        for brief in briefs:
            live = "at work" if brief.live else ""
            done = f"{brief.done:,}/{brief.tasks:,} done"
            name = f"{one_line(brief.name, 40):{wide}}"
            out.line(
                (name, "bold"), f"  {brief.state:9}  {done:14}  {clock(brief.opened):16}  {live}  {one_line(brief.objective, 60)}"
            )

    place.go(work())


@session.command(
    "show",
    cls=Command,
    examples=(
        ("skep session show feature-7", "all there is to know"),
        ("skep session show --events --json", "its events as JSON lines"),
    ),
)
@session_argument
@click.option("--events", is_flag=True, help="All its events instead.")
@json_option
def show(name: str, events: bool, as_json: bool) -> None:
    """Show a session whole: its tasks, branch, checkpoints; or all its events so far."""
    from skep.interfaces.cli.faces import Json, now
    from skep.interfaces.cli.replay import Numbered
    from skep.interfaces.cli.report import report

    async def work() -> None:
        out = Out()
        async with place.session(name) as found:
            view = await found.status()
            if events:
                face = Json(out) if as_json else Numbered(out)
                async for number, event in found.follow(after=0):
                    face.event(number, event)
                    if number >= view.seq:
                        break
                return
        if as_json:
            out.json(view)
            return
        out.lines(report(view, out.mark, now()))
        out.lines(_facts(view))

    place.go(work())


def _facts(view: SessionView) -> list[Line]:
    facts = {
        "objective": view.objective,
        "file": view.source,
        "forked from": view.origin,
        "opened": clock(view.opened),
        "workspace": view.kind,
        "branch": view.branch,
        "base": short(view.base),
        "tip": short(view.tip),
        "agents": str(view.agents),
        "events": str(view.seq),
        "checkpoints": ", ".join(f"{name} at {number}" for name, number in view.checkpoints.items()),
    }
    return [[(f"{name}: ", "bold"), (one_line(value), "")] for name, value in facts.items() if value]


@session.command("checkpoint", cls=Command, examples=(("skep session checkpoint before-db", "name this point"),))
@click.argument("label")
@session_option
@json_option
def checkpoint(label: str, session: str, as_json: bool) -> None:
    """Name this point of a session, to fork from it or go back to it."""

    async def work() -> None:
        async with place.session(session) as found:
            number = await found.checkpoint(label)
            out = Out()
            if as_json:
                out.json(document(session=found.name, checkpoint=label, seq=number))
            else:
                out.line(f"checkpoint '{label}' of {found.name} at event {number}")

    place.go(work())


at_option = click.option("--at", metavar="POINT", help="A checkpoint, or the number of an event.")


@session.command(
    "restore", cls=Command, examples=(("skep session restore --at before-db", "go on from there, under the same name"),)
)
@session_argument
@at_option
@json_option
def restore(name: str, at: str | None, as_json: bool) -> None:
    """Go back to a checkpoint (or event number). The session of now stays, under another name; nothing is lost."""
    if not at:
        raise click.UsageError("Say where to go back to: --at POINT.")

    async def work() -> None:
        async with place.session(name) as found:
            view = await (await found.restore(at)).status(tasks=False)
            _tell(Out(), as_json, view, f"{view.name} goes on from '{at}'; next: skep resume {view.name}")

    place.go(work())


@session.command("fork", cls=Command, examples=(("skep session fork feature-7 --at before-db", "a second one from there"),))
@session_argument
@at_option
@json_option
def fork(name: str, at: str | None, as_json: bool) -> None:
    """Make a new session that goes on from a checkpoint (or event number, or now) of another."""

    async def work() -> None:
        async with place.session(name) as found:
            view = await (await found.fork(at or "")).status(tasks=False)
            _tell(Out(), as_json, view, f"made {view.name}; next: skep resume {view.name}")

    place.go(work())


@session.command("pause", cls=Command, examples=(("skep session pause", "start nothing new"),))
@session_argument
@json_option
def pause(name: str, as_json: bool) -> None:
    """Start nothing new; what runs goes on to its end. `skep resume` goes on."""

    async def work() -> None:
        async with place.session(name) as found:
            await found.pause()
            view = await found.status(tasks=False)
            running = view.counts.get("running", 0)
            _tell(Out(), as_json, view, f"paused {view.name}" + (f"; {count(running, 'task')} still running" if running else ""))

    place.go(work())


@session.command("close", cls=Command, examples=(("skep session close feature-7", "end it for good"),))
@click.argument("name", metavar="SESSION")
@json_option
def close(name: str, as_json: bool) -> None:
    """End a session for good. Open tasks are cancelled; its log, its commits and its work stay."""

    async def work() -> None:
        async with place.session(name) as found:
            await found.close()
            view = await found.status(tasks=False)
            _tell(Out(), as_json, view, f"closed {view.name}")

    place.go(work())


@session.command("export", cls=Command, examples=(("skep session export feature-7 f7.skep", "log and commits in a file"),))
@click.argument("name", metavar="SESSION")
@click.argument("file")
@json_option
def export(name: str, file: str, as_json: bool) -> None:
    """Write a session whole into FILE: log, results, commits."""

    async def work() -> None:
        async with place.session(name) as found:
            size = await found.export(file)
            out = Out()
            if as_json:
                out.json(document(session=found.name, file=file, bytes=size))
            else:
                out.line(f"{found.name} is in {file}, {count(size, 'byte')}")

    place.go(work())


@session.command("import", cls=Command, examples=(("skep session import f7.skep", "it starts nothing"),))
@click.argument("file")
@json_option
def import_(file: str, as_json: bool) -> None:
    """Make a session from an exported FILE. It is paused; nothing of it starts before you say `skep resume`."""

    async def work() -> None:
        async with place.hive(found=False) as hive:
            view = await (await hive.load(file)).status(tasks=False)
            _tell(Out(), as_json, view, f"made {view.name}; next: skep resume {view.name}")

    place.go(work())


@session.command("drop", cls=Command, examples=(("skep session drop old-3", "what a deleted .skep left in the repository"),))
@click.argument("name", metavar="SESSION")
@click.option("--unmerged", is_flag=True, help="Also work that nothing else holds. It is lost.")
@json_option
def drop(name: str, unmerged: bool, as_json: bool) -> None:
    """Remove the refs of a session whose state folder was deleted. Work that was merged nowhere is refused, not dropped."""

    async def work() -> None:
        async with place.hive(found=False) as hive:
            lost = await hive.drop(name, unmerged)
            out = Out()
            if as_json:
                out.json(document(session=name, lost=lost))
            else:
                out.line(f"dropped {name}" + (f"; lost: {', '.join(lost)}" if lost else "; all its work is held elsewhere"))

    place.go(work())
