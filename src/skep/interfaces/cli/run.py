"""`run`, `add`, `resume`: the commands that carry a session out."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec import Struct

from skep.errors import Invalid
from skep.interfaces.cli import place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option, session_argument, session_option
from skep.interfaces.cli.words import count, one_line, price

if TYPE_CHECKING:
    from skep.app import Session, Skep
    from skep.core.model import Answer, Plan
    from skep.interfaces.cli.faces import Face
    from skep.interfaces.cli.follow import Interrupts


class Way(Struct, frozen=True, kw_only=True):
    """How a session is carried out and shown."""

    as_json: bool = False
    ci: bool = False
    junit: str = ""
    background: bool = False


def _report_option(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    if not value:
        return ""
    kind, _, path = value.partition("=")
    if kind != "junit" or not path:
        raise click.BadParameter("write junit=FILE", ctx, param)
    return path


def way_options(function: Any) -> Any:
    """The options of every command that carries a session out."""
    for option in (
        click.option("--background", is_flag=True, hidden=True),
        click.option(
            "--report", "junit", metavar="junit=FILE", callback=_report_option, help="Write a JUnit report when it is over."
        ),
        click.option(
            "--ci", is_flag=True, help="No live screen, no waiting for people: what needs one ends the command with exit code 4."
        ),
        click.option("--detach", is_flag=True, help="Go on in the background; come back when the session exists."),
        json_option,
    ):
        function = option(function)
    return function


@command(
    "run",
    ("skep run feature.yaml", "carry it out, watch it live"),
    ("skep run f.yaml --input issue=412", "give a declared input"),
    ("skep run f.yaml --dry-run", "show graph and assignments, start nothing"),
    ("skep run f.yaml --rehearse", "with stand-ins for the agents, at no cost"),
    ("skep run f.yaml --select 'build+'", "build and all that depends on it"),
    ('skep run "add paging to the list"', "plan it, show the plan, ask, carry it out"),
    ("skep run f.yaml --ci --report junit=r.xml", "in a pipeline"),
)
@click.argument("file")
@click.option("-i", "--input", "inputs", multiple=True, metavar="NAME=VALUE", help="A value for an input; may be repeated.")
@click.option("--select", default="", metavar="TASKS", help="Only these; 'a+' adds what depends on a, '+a' what a needs; a,b.")
@click.option("--dry-run", is_flag=True, help="Show the graph, who would do what and why; start nothing.")
@click.option("--show-prompts", is_flag=True, help="Show what the agents would be told; start nothing.")
@click.option("--rehearse", is_flag=True, help="Carry it out with stand-ins for the agents: no model, no cost, no merge for you.")
@click.option("--script", default="", metavar="F", help="With --rehearse: what the stand-ins do, a YAML mapping TASK: COMMAND.")
@click.option("--new", is_flag=True, help="Start anew even if a session of this file is unfinished.")
@click.option("--agents", type=click.IntRange(1, 10_000), metavar="N", help="Attempts at once.")
@click.option("--planner", default="", metavar="RUNTIME", help="Who plans an objective, in place of [planner] in skep.toml.")
@click.option("--plan-only", default="", metavar="F", help="Write the plan of an objective to a new file F; start nothing of it.")
@click.option("--yes", is_flag=True, help="Carry the plan of an objective out without asking.")
@way_options
def run(
    file: str,
    inputs: tuple[str, ...],
    select: str,
    dry_run: bool,
    show_prompts: bool,
    rehearse: bool,
    script: str,
    new: bool,
    agents: int | None,
    planner: str,
    plan_only: str,
    yes: bool,
    detach: bool,
    **way: Any,
) -> int:
    """Carry out the workflow FILE. An objective in words is planned first: the plan is shown, and starts only if you say yes.

    Agents do its tasks in parallel, each in its own worktree; what they make is verified and merged into the session's
    branch. Your own branch and uncommitted files are not touched: `skep merge` brings the work there. Ctrl-C stops it and
    keeps all work; `skep resume` goes on, also after a crash.
    """
    path = Path(file)
    if any(c.isspace() for c in file) and not os.path.exists(path):
        if inputs or select or dry_run or show_prompts or rehearse:
            raise click.UsageError("--input, --select, --dry-run, --show-prompts, --rehearse: for files; --plan-only F makes one")
        return _objective(file, agents or 0, {"planner": planner, "plan-only": plan_only}, yes, detach, Way(**way))
    if planner or plan_only or yes:
        raise click.UsageError("--planner, --plan-only and --yes are for objectives; this is a file.")
    from skep.app import read_plan

    plan = read_plan(path, dict(pair(text) for text in inputs), select=select, agents=agents or 0)
    plan = _with_stand_ins(plan, rehearse, script)
    folder = Path(plan.workspace) if plan.workspace else place.workspace()
    if show_prompts or dry_run:
        return _look(plan, folder, show_prompts, bool(way["as_json"]))
    if detach:
        named = {"select": select, "agents": agents, "script": script and Path(script).resolve()}
        given = [str(path.resolve()), *(f"--input={text}" for text in inputs), *["--new"] * new, *["--rehearse"] * rehearse]
        given += [f"--{option}={value}" for option, value in named.items() if value]
        return _detach("run", given, folder, Way(**way))
    return place.go(_run(plan, folder, new, Way(**way)))


def _look(plan: Plan, folder: Path, prompts: bool, as_json: bool) -> int:
    from skep.app import may_cost
    from skep.interfaces.cli import dryrun

    if prompts:
        dryrun.show_prompts(plan, folder, Out(), as_json)
    else:
        dryrun.show(plan, folder, Out(), as_json, place.go(may_cost(plan, folder)))
    return 0


def _with_stand_ins(plan: Plan, rehearse: bool, script: str) -> Plan:
    """The plan, with stand-ins in place of its agents if it is to be rehearsed."""
    from skep.workflow import read_script, rehearsed

    if script and not rehearse:
        raise click.UsageError("--script says what stand-ins do; it goes with --rehearse.")
    return rehearsed(plan, read_script(Path(script)) if script else None) if rehearse else plan


def _objective(objective: str, agents: int, named: dict[str, str], yes: bool, detach: bool, way: Way) -> int:
    """Plans an objective, and carries the plan out if a person says so."""
    from skep.interfaces.cli.plan import carry_out, planning

    folder = place.workspace()
    plan = planning(objective, folder, named["planner"])
    if detach:
        given = [f"--{option}={value}" for option, value in named.items() if value]
        given += ["--yes"] * yes + ([f"--agents={agents}"] if agents else [])
        return _detach("run", [objective, *given], folder, way)
    if agents:
        plan = msgspec.structs.replace(plan, limits=msgspec.structs.replace(plan.limits, agents=agents))
    return place.go(carry_out(plan, folder, yes, named["plan-only"], way))


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE. Raises Invalid."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Invalid(f"--input '{one_line(text, 60)}' has no value", "Write --input NAME=VALUE.")
    return name, value


async def _run(plan: Plan, folder: Path, new: bool, way: Way) -> int:
    from skep.interfaces.cli.follow import interrupts

    async with interrupts() as asked, place.hive(folder, found=False) as hive:
        session = await hive.start(plan, new=new)
        return await carry(hive, session, 0, way, asked)


@command(
    "add",
    ("skep add --run 'make test'", "a command"),
    ("skep add --run ./fix.sh --needs plan", "after another task"),
)
@click.argument("prompt", required=False)
@click.option("--run", "line", metavar="CMD", help="A command, run by bash.")
@click.option("--id", "name", default="", metavar="ID", help="The task's id; otherwise one is given.")
@click.option("--title", default="", help="What it is for.")
@click.option("--agent", default="", metavar="A", help="The agent that is to do it.")
@click.option("--needs", multiple=True, metavar="TASK", help="A task that comes first; may be repeated.")
@click.option("--phase", default="", metavar="P", help="The phase it belongs to, if the session has phases.")
@click.option("--verify", metavar="CMD", help="A command that must succeed on its result.")
@click.option("--retries", type=click.IntRange(0, 100), default=0, metavar="N", help="Further tries if it fails.")
@session_option
@way_options
def add(
    prompt: str | None,
    line: str | None,
    name: str,
    title: str,
    agent: str,
    needs: tuple[str, ...],
    phase: str,
    verify: str | None,
    retries: int,
    session: str,
    detach: bool,
    **way: Any,
) -> int:
    """Add a task: a PROMPT for an agent, or a command.

    While a session is at work the task joins it, and the command returns at once. Otherwise a new session carries it out.
    """
    if (prompt is None) == (line is None):
        raise click.UsageError("Give either a PROMPT or --run CMD.")
    from skep.core.model import Task

    task = Task(
        id=name, run=line, prompt=prompt, objective=title, agent=agent, needs=needs, verify=verify, retries=retries, phase=phase
    )
    if detach:
        given = [prompt] if prompt is not None else [f"--run={line}"]
        given += [f"--phase={phase}"] if phase else []
        given += [f"--needs={need}" for need in needs] + [f"--retries={retries}"]
        named = {"id": name, "title": title, "agent": agent, "verify": verify, "session": session}
        given += [f"--{option}={value}" for option, value in named.items() if value]
        return _detach("add", given, place.workspace(), Way(**way))
    return place.go(_add(task, session, Way(**way)))


async def _add(task: Any, name: str, way: Way) -> int:
    from skep.core.model import Plan
    from skep.interfaces.cli.follow import interrupts

    async with interrupts() as asked, place.hive(found=False) as hive:
        briefs = await hive.sessions()
        live = next((brief for brief in reversed(briefs) if brief.live and name in ("", brief.name, brief.session)), None)
        if live is not None:
            session = await hive.find(live.session)
            handle = await session.submit(task)
            out = Out()
            if way.as_json:
                out.json(document(session=live.name, task=handle.id))
            else:
                out.line(f"task {handle.id} joined {live.name}")
            return 0
        if name:
            session = await hive.find(name)
            after = (await session.status(tasks=False)).seq
            await session.submit(task)
            await session.resume()
            return await carry(hive, session, after, way, asked)
        return await carry(hive, await hive.start(Plan(name="task", tasks=(task,))), 0, way, asked)


@command(
    "resume",
    ("skep resume", "the newest session"),
    ("skep resume feature-7", "this one"),
    ("skep resume --decide push=skip", "answer what a crash left open, then go on"),
    ("skep resume --file f.yaml", "with the file as it is now; what is unchanged and done stays"),
)
@session_argument
@click.option(
    "--decide", multiple=True, metavar="TASK=ANSWER", help="Answer a task's question: rerun, skip, merge, approve or reject."
)
@click.option("--file", default="", metavar="F", help="Go on with this version of the workflow file.")
@click.option("-i", "--input", "inputs", multiple=True, metavar="NAME=VALUE", help="With --file: a value for an input.")
@way_options
def resume(name: str, decide: tuple[str, ...], file: str, inputs: tuple[str, ...], detach: bool, **way: Any) -> int:
    """Go on with a session that was stopped, killed or paused.

    No task that is done runs again; what was interrupted starts afresh, and no try is counted for it.
    """
    decided = [_decision(text) for text in decide]
    if detach:
        given = ([name] if name else []) + [f"--decide={text}" for text in decide]
        given += [f"--file={Path(file).resolve()}"] * bool(file) + [f"--input={text}" for text in inputs]
        return _detach("resume", given, place.workspace(), Way(**way))
    plan = None
    if file:
        from skep.app import read_plan

        plan = read_plan(Path(file), dict(pair(text) for text in inputs))
    return place.go(_resume(name, decided, plan, Way(**way)))


def _decision(text: str) -> tuple[str, Answer]:
    task, _, said = text.rpartition("=")
    known: tuple[Answer, ...] = ("approve", "reject", "rerun", "skip", "merge")
    for answer in known:
        if task and said == answer:
            return task, answer
    raise Invalid(f"--decide '{one_line(text, 60)}' is no answer", f"Write TASK=ANSWER, with one of {', '.join(known)}.")


async def _resume(name: str, decided: list[tuple[str, Answer]], plan: Plan | None, way: Way) -> int:
    from skep.interfaces.cli.follow import interrupts

    async with interrupts() as asked, place.hive() as hive:
        session = await hive.find(name)
        after = (await session.status(tasks=False)).seq
        for task, answer in decided:
            await session.answer(task, answer)
        if plan is None:
            await session.resume()
        else:
            revised = await hive.revise(plan, name)
            after = after if revised.name == session.name else 0
            session = revised
        return await carry(hive, session, after, way, asked)


async def carry(hive: Skep, session: Session, after: int, way: Way, asked: Interrupts, stay: bool = True) -> int:
    """Follows a session that is being carried out to its end, shows it, and returns the exit code.

    Args:
        after: number of the last event that is not to be shown.
        stay: whether this process stays while a person is needed, or others work through it.
    """
    from skep.interfaces.cli.exits import NEEDS_YOU, exit_code
    from skep.interfaces.cli.follow import Following, stay_for_guests

    view = await session.status()
    if way.background:
        from skep.interfaces.cli.background import announce

        announce(view.name, hive.workspace)
    out = Out(on_broken=asked.more)
    watched = out.terminal and not way.ci and not way.as_json
    face = face_for(out, watched, way.as_json)
    face.begin(msgspec.structs.replace(view, estimate=session.estimate))
    if session.estimate is not None:
        face.note(price(session.estimate, view.limits.cost_usd))
    for note in session.notes:
        face.note(note)
    following = Following(session, face, asked, stay=watched and stay, refuses=way.ci)
    view = await following.run(after)
    code = exit_code(view, asked.count > 0, following.refused)
    if code == NEEDS_YOU and following.refused:
        face.note(
            f"{count(following.refused, 'action')} refused, as nobody is asked with --ci; allow them by `rules`, or go on with "
            f"somebody there: skep retry TASK, then skep resume {quote(view.name)}"
        )
    if way.junit:
        from skep.interfaces.cli.junit import write

        write(view, Path(way.junit))
    face.end(view, code)
    if asked.count > 1 and hive.owner:
        os._exit(code)  # the keeper kills what still runs as soon as this process is gone
    if stay:
        await stay_for_guests(hive, face, asked)
    return code


def face_for(out: Out, watched: bool, as_json: bool) -> Face:
    """How a session is shown: as JSON, on a live screen if somebody watches, otherwise line by line."""
    from skep.interfaces.cli.faces import Json, Lines

    if as_json:
        return Json(out)
    if watched:
        from skep.interfaces.cli.screen import Screen

        return Screen(out)
    return Lines(out)


def _detach(name: str, given: list[str], folder: Path, way: Way) -> int:
    from skep.interfaces.cli.background import start

    options = ["--ci"] * way.ci + ([f"--report=junit={Path(way.junit).resolve()}"] if way.junit else [])
    begun = start([name, *options, *_separated(given)], folder)
    out = Out()
    if way.as_json:
        out.json(document(**begun))
    else:
        out.line(f"{begun['session']} goes on in the background (process {begun['pid']})")
        out.line("next: skep status --watch  |  skep logs TASK -f  |  skep stop")
    return 0


def _separated(given: list[str]) -> list[str]:
    """Options first, then what could be taken for one."""
    options = [text for text in given if text.startswith("--")]
    return [*options, "--", *(text for text in given if not text.startswith("--"))]
