"""`status`, `ready`, `diff`, `open`, `explain`: how things stand, without changing anything."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import click

from skep.config import STATE
from skep.errors import Conflict
from skep.interfaces.cli import place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option, session_argument, session_option
from skep.interfaces.cli.words import Line, clock, one_line

if TYPE_CHECKING:
    from skep.core.placement import Explanation

#: Lines of `status` without --all.
MOST = 40


@command(
    "status",
    ("skep status", "the newest session"),
    ("skep status feature-7 --watch", "follow it"),
    ("skep status --json | jq .idle", "for scripts"),
)
@session_argument
@click.option("--watch", is_flag=True, help="Follow it until nothing goes on; leaving does not stop it.")
@click.option("--all", "everything", is_flag=True, help="List every task.")
@json_option
def status(name: str, watch: bool, everything: bool, as_json: bool) -> None:
    """Show where a session stands, whether it runs or not. Always ends with 0 when it could be shown.

    With --json `terminals` says how long commands take here; it is null while nobody carries a session out. `backups` says when
    the last ones by schedule were and which failed; it is null if there were none.
    """
    place.go(_watch(name, as_json) if watch else _status(name, everything, as_json))


async def _status(name: str, everything: bool, as_json: bool) -> None:
    from skep.interfaces.cli import picture
    from skep.interfaces.cli.faces import now
    from skep.interfaces.cli.report import report
    from skep.runtime.backups import MARK
    from skep.runtime.schedule import last

    async with place.session(name) as session:
        view = await session.status()
        owner = None if session.hive.owner else await session.hive.who()
    saved = last(place.workspace() / STATE / MARK)
    out = Out()
    if as_json:
        import msgspec

        told = {"terminals": owner.terminals if owner else None, "backups": saved}
        out.json(msgspec.to_builtins(view) | msgspec.to_builtins(told))
    elif view.state in ("completed", "failed", "closed"):
        out.lines(report(view, out.mark, now()))
    else:
        most = len(view.tasks) + 8 if everything else MOST
        lines: list[Line] = [picture.header(view, now())]
        lines += picture.phase_lines(view, out.mark)
        lines += picture.question_lines(view, out.mark, now())
        lines += picture.task_lines(view, out.mark, now(), most, out.size[0])
        if view.idle:
            lines.append([("idle: ", "bold"), (one_line(view.idle), "")])
        if view.untold:
            lines.append([("notify: ", "yellow"), (one_line(view.untold), "")])
        if view.unpublished:
            lines.append([("publish: ", "yellow"), (one_line(view.unpublished), "")])
        if view.unread:
            lines.append([("letters: ", "yellow"), (one_line(view.unread, 400), "")])
        if saved is not None and saved.failed:
            why = saved.failed.get(view.name) or next(iter(saved.failed.values()))
            lines.append([("backups: ", "yellow"), (one_line(f"failed at {clock(saved.at)}: {why}"), "")])
        out.lines(lines)


async def _watch(name: str, as_json: bool) -> None:
    from skep.interfaces.cli.exits import exit_code
    from skep.interfaces.cli.follow import Following, interrupts
    from skep.interfaces.cli.run import face_for

    async with interrupts() as asked, place.session(name) as session:
        view = await session.status()
        out = Out(on_broken=asked.more)
        face = face_for(out, out.terminal and not as_json, as_json)
        face.begin(view)
        view = await Following(session, face, asked, stay=out.terminal, ours=False).run(view.seq)
        face.end(view, exit_code(view))


@command("diff", ("skep diff", "the whole session"), ("skep diff api --stat", "what one task changed, in short"))
@click.argument("task", default="")
@click.option("--stat", is_flag=True, help="Only files and numbers of lines.")
@session_option
@json_option
def diff(task: str, stat: bool, session: str, as_json: bool) -> None:
    """Show what TASK's newest work changes, merged or not; without TASK what the session's branch holds."""

    async def work() -> None:
        async with place.session(session) as found:
            out = Out()
            if as_json:
                out.json(document(session=found.name, task=task, diff=await found.diff(task, stat=stat)))
                return
            text = await found.diff(task, stat=stat)
            if not text:
                out.line("no changes")
            for line in text.splitlines():
                out.line((line, _diff_style(line)))

    place.go(work())


def _diff_style(line: str) -> str:
    if line.startswith(("diff ", "index ", "--- ", "+++ ")):
        return "bold"
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")


@command(
    "open",
    ("cd $(skep open api)", "go there"),
    ("skep open api --shell", "try it in a shell"),
    ("skep open api --editor", "look at it in $EDITOR"),
)
@click.argument("task")
@click.option("--shell", "use", flag_value="shell", help="Open a shell there.")
@click.option("--editor", "use", flag_value="editor", help="Open $EDITOR there.")
@session_option
@json_option
def open_(task: str, use: str | None, session: str, as_json: bool) -> int:
    """Print a folder with TASK's newest work: its attempt's own while one runs, otherwise a fresh worktree."""

    async def work() -> str:
        async with place.session(session) as found:
            return await found.open(task)

    path = place.go(work())
    if use is None:
        out = Out()
        if as_json:
            out.json(document(task=task, path=path))
        else:
            out.line(path)
        return 0
    program = os.environ.get("SHELL", "/bin/sh") if use == "shell" else os.environ.get("EDITOR", "")
    if not program:
        raise Conflict("EDITOR is not set", "Set it, or use `skep open` without --editor and go there.")
    line = [program] if use == "shell" else [*program.split(), "."]
    try:
        return subprocess.run(line, cwd=path, check=False).returncode
    except OSError as error:
        raise Conflict(f"cannot start {program}: {error.strerror}", "Mend SHELL or EDITOR.") from None


@command(
    "ready", ("skep ready", "what could be taken now"), ("skep ready --json | jq '.tasks[]|select(.ready).id'", "for scripts")
)
@session_argument
@json_option
def ready(name: str, as_json: bool) -> None:
    """Show which tasks nothing but an agent is missing for, first in line first, and why the other open ones wait.

    Always ends with 0 when it could be shown.
    """

    async def work() -> None:
        async with place.session(name) as found:
            tasks = await found.ready()
            out = Out()
            if as_json:
                out.json(document(session=found.name, tasks=tasks))
                return
            wide = max((len(one_line(task.id, 40)) for task in tasks), default=0)
            for task in tasks:
                mark = (out.mark("running" if task.ready else "waiting"), "cyan" if task.ready else "")
                word = "ready" if task.ready else task.state
                out.line(mark, (f" {one_line(task.id, 40):{wide}}  ", "bold"), f"{word:9}  {task.why}")
            if not tasks:
                out.line(f"{found.name} has no open task")

    place.go(work())


@command("explain", ("skep explain api", "which agent, and the numbers that decide"))
@click.argument("task")
@session_option
@json_option
def explain(task: str, session: str, as_json: bool) -> None:
    """Say which agent TASK would go to now, each factor of the score, and who would come next."""

    async def work() -> None:
        async with place.session(session) as found:
            view = await found.task(task)
            said = await found.explain(task)
            out = Out()
            if as_json:
                out.json(document(session=found.name, task=task, state=view.state, agent=view.agent, explanation=said))
                return
            out.line((task, "bold"), f"  {view.state}" + (f", last by {view.agent}" if view.agent else ""))
            out.lines(explanation_lines(said))

    place.go(work())


def explanation_lines(said: Explanation | None) -> list[Line]:
    """An explanation, for people."""
    if said is None:
        return [[("no agent is free for it now", "")]]
    lines: list[Line] = [
        [(f"-> {said.target}  {said.score:.3f}", "bold"), (f"  by {said.method}: {'; '.join(said.reasons)}", "")]
    ]
    lines += [[(f"   {name:13} {said.weights[name]:.2f} x {value:.2f}", "dim")] for name, value in said.factors.items()]
    lines += [[(f"   else {other.agent}  {other.score:.3f}", "")] for other in said.alternatives]
    return lines
