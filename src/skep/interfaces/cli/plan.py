"""`plan`, and `run "objective"`: what an agent would have Skep do, shown before any of it starts."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click
import msgspec

from skep.errors import Conflict, Denied, Invalid, Unavailable
from skep.interfaces.cli import place
from skep.interfaces.cli.exits import INTERRUPTED, NEEDS_YOU
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option, session_option
from skep.interfaces.cli.words import one_line

if TYPE_CHECKING:
    from skep.app import Skep
    from skep.core.estimates import Estimate
    from skep.core.model import Plan
    from skep.interfaces.cli.follow import Interrupts
    from skep.interfaces.cli.run import Way

#: Coding clients that can plan, by the names of their runtimes and commands alike.
CLIENTS = ("claude", "codex", "gemini", "opencode")
#: Characters of one shown line: whoever approves a command sees all of it.
WHOLE = 100_000


@command(
    "plan",
    ("skep plan", "the plan that waits for your yes"),
    ("skep plan api", "the tasks that the task api proposes"),
    ("skep plan --file plan.yaml", "write it to a file, to edit and `skep run` it"),
)
@click.argument("task", default="")
@click.option("--file", default="", metavar="F", help="Write it to this new file instead.")
@session_option
@json_option
def plan(task: str, file: str, session: str, as_json: bool) -> None:
    """Show the tasks that TASK proposes, with every command of theirs; nothing of it starts before `skep approve`."""

    async def work() -> None:
        async with place.session(session) as found:
            proposed = await found.proposed(task)
            out = Out()
            if file:
                write(proposed, Path(file))
                out.line(f"wrote {file}")
            elif as_json:
                cost = await _may_cost(found.hive, proposed)
                told = {"session": found.name, "fingerprint": proposed.fingerprint, "estimate": cost if cost.tasks else None}
                out.json(document(**told, plan=msgspec.to_builtins(proposed)))
            else:
                show(proposed, found.hive.workspace, out, await _may_cost(found.hive, proposed))

    place.go(work())


def write(proposed: Plan, path: Path) -> None:
    """Writes what is proposed as a workflow file. Raises Conflict if there is one already."""
    from skep.workflow import written

    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(written(_alone(proposed)))
    except FileExistsError:
        raise Conflict(f"{path} is there already", "Name another file.") from None
    except OSError as error:
        raise Denied(f"cannot write {path}: {error.strerror}", "Name a file in a folder that you can write to.") from None


def show(proposed: Plan, folder: Path, out: Out, cost: Estimate) -> None:
    """Prints the graph of what is proposed and what it may cost, then everything that would be run or told."""
    from skep.interfaces.cli import dryrun

    dryrun.show(_alone(proposed), folder, out, False, cost)
    for task in proposed.tasks:
        out.line((task.id, "bold"))
        for line in _does(task):
            out.line(f"  {line}")
    if proposed.verify is not None:
        out.line(("every merge", "bold"))
        for line in _command("verify", proposed.verify):
            out.line(f"  {line}")


async def _may_cost(hive: Skep, proposed: Plan) -> Estimate:
    from skep.runtime.requests import Foretell

    return await hive.call(Foretell(plan=_alone(proposed)))


def _alone(proposed: Plan) -> Plan:
    """What is proposed, without the needs that the session has already."""
    replace, own = msgspec.structs.replace, {task.id for task in proposed.tasks}
    return replace(
        proposed,
        tasks=tuple(replace(task, needs=tuple(need for need in task.needs if need in own)) for task in proposed.tasks),
    )


def _does(task: Any) -> Iterator[str]:
    for name, value in (("run", task.run), *(("setup", one) for one in task.setup), ("verify", task.verify)):
        if value is not None:
            yield from _command(name, value)
    if task.gate and task.vote is not None:
        yield f"vote of {task.vote.by}"
    if task.gate and task.approve:
        yield "a person's yes"
    if task.prompt is not None:
        yield from _command(f"prompt for {task.agent or 'the best agent'}", task.prompt)


def _command(name: str, value: str | tuple[str, ...]) -> Iterator[str]:
    lines = value.splitlines() if isinstance(value, str) else [" ".join(quote(word) for word in value)]
    for number, line in enumerate(lines):
        yield f"{name}: {one_line(line, WHOLE)}" if number == 0 else f"    {one_line(line, WHOLE)}"


def planning(objective: str, folder: Path, planner: str) -> Plan:
    """The session that plans an objective. Raises Unavailable, with the clients that are here, if nobody is there to plan."""
    from skep import app

    try:
        return app.planning(objective, folder, planner)
    except Invalid as error:
        if "no planner" not in error.message:
            raise
    here = [name for name in CLIENTS if shutil.which(name)]
    first = here[0] if here else "claude"
    found = f"found here: {', '.join(here)}" if here else "none of the clients that Skep knows is on the PATH"
    raise Unavailable(
        f"there is no file '{one_line(objective, 60)}', and no planner is configured that could make tasks of an objective",
        f'`skep run --planner {first} "..."`, or in skep.toml: [planner] runtime = "{first}" ({found}). '
        "Without a model: `skep init --template feature`, or bugfix, review, research, migration: they run with any runtime, the "
        "shell too; `skep init --list` shows all.",
    )


async def carry_out(plan: Plan, folder: Path, yes: bool, only: str, way: Way) -> int:
    """Plans an objective, shows the plan, and carries it out once a person said yes. Returns the exit code.

    Args:
        yes: whether the yes was given beforehand.
        only: the file to write the plan to, then end; empty = carry it out.
    """
    from skep.interfaces.cli.follow import interrupts
    from skep.interfaces.cli.run import carry

    async with interrupts() as asked, place.hive(folder, found=False) as hive:
        session = await hive.start(plan, new=True)
        code = await carry(hive, session, 0, way, asked, stay=False)
        view = await session.status()
        if code != NEEDS_YOU or not view.counts.get("needs-you"):
            return code
        after = view.seq
        proposed, out = await session.proposed(), Out()
        if only:
            write(proposed, Path(only))
            await session.close()
            out.line(*([] if way.as_json else [f"wrote {only}; next: edit it, then skep run {quote(only)}"]))
            return 0
        if not way.as_json:
            show(proposed, folder, out, await _may_cost(hive, proposed))
        if not yes and not (out.terminal and sys.stdin.isatty() and not way.ci and not way.as_json):
            return NEEDS_YOU
        if not yes and not await _said_yes(out, asked):
            return INTERRUPTED if asked.count else NEEDS_YOU
        await session.answer("plan", "approve", fingerprint=proposed.fingerprint)
        return await carry(hive, session, after, way, asked)


async def _said_yes(out: Out, asked: Interrupts) -> bool:
    """Asks on the terminal; Ctrl-C is no answer."""
    out.line(("carry this out? [y/N]", "bold"))
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def heard() -> None:
        if not line.done():
            line.set_result(sys.stdin.readline())

    loop.add_reader(sys.stdin, heard)
    interrupted: asyncio.Future[Any] = asyncio.ensure_future(asked.wait(1))
    try:
        await asyncio.wait({line, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        return line.done() and line.result().strip().lower() in ("y", "yes")
    finally:
        loop.remove_reader(sys.stdin)
        interrupted.cancel()
