"""What a person says to tasks and sessions: approve, reject, deny, cancel, retry, stop, merge, discard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from shlex import quote
from typing import TYPE_CHECKING, Any

import click
import msgspec

from skep.errors import Invalid, NotFound
from skep.interfaces.cli import place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option, session_argument, session_option
from skep.interfaces.cli.words import count, short

if TYPE_CHECKING:
    from skep.app import Session


def _say(
    name: str, as_json: bool, what: Callable[[Session], Awaitable[tuple[str, dict[str, Any]]]], onward: str = "idle"
) -> None:
    """Finds the session, does it, prints what came of it, and how to go on.

    Args:
        onward: says how to go on when nobody carries the session out (`idle`), `always`, or `never`.
    """

    async def work() -> None:
        async with place.session(name) as session:
            told, fields = await what(session)
            view = await session.status(tasks=False)
            out = Out()
            if as_json:
                out.json(document(session=view.name, live=view.live, **fields))
                return
            out.line(told)
            going = view.live and onward == "idle"
            if onward != "never" and not going and view.state in ("active", "paused"):
                out.line(f"next: skep resume {view.name}")

    place.go(work())


async def _is_asked(session: Session, name: str) -> bool:
    """Whether a name is that of something that an attempt asks, `task/number`, and not of a task."""
    task, _, number = name.rpartition("/")
    if not task or not number.isdecimal():
        return False
    try:
        await session.task(name)
    except NotFound:
        return True
    return False


@command(
    "approve",
    ("skep approve plan", "its result counts, or it may start"),
    ("skep approve api/3", "an agent may do this, once"),
    ("skep approve api/3 --always", "and the same again in this session"),
)
@click.argument("task", metavar="TASK|ID")
@click.option("--always", is_flag=True, help="Say yes to the same action for the rest of the session.")
@click.option("-m", "--message", default="", help="A comment; the task's next attempt gets to read it.")
@click.option("--choose", metavar="N", default="", help="The candidate to take, where the vote decided nothing.")
@session_option
@json_option
def approve(task: str, always: bool, message: str, choose: str, session: str, as_json: bool) -> None:
    """Say yes to what TASK asks: that it may start, that its result counts, that its work may be merged.

    Or to what an agent asks leave for, by the ID that `skep inbox` shows: it may do this, once. Where candidates were voted on
    without a decision, --choose takes one of them: `skep candidates TASK` shows them.
    """

    async def work(found: Session) -> tuple[str, dict[str, Any]]:
        if await _is_asked(found, task):
            await found.allow(task, always, message)
            return f"allowed {task}" + (" and the same from now on" if always else ""), {"ask": task, "answer": "allow"}
        if always:
            raise Invalid("--always speaks of what an agent asks leave for", "Name it by its id, as `skep inbox` shows it.")
        if choose:
            await found.answer(task, "choose", message, choose)
            return f"{task} takes candidate {choose}", {"task": task, "answer": "choose", "choice": choose}
        await found.answer(task, "approve", message)
        return f"approved {task}", {"task": task, "answer": "approve"}

    _say(session, as_json, work)


@command("reject", ("skep reject api -m 'keep the old signature'", "it goes round again with the comment"))
@click.argument("task")
@click.option("-m", "--message", required=True, help="Why; the next attempt gets to read it.")
@session_option
@json_option
def reject(task: str, message: str, session: str, as_json: bool) -> None:
    """Send the result of TASK back. It is tried again, and its next attempt reads your comment. What it merged before stays."""

    async def work(found: Session) -> tuple[str, dict[str, Any]]:
        if (await found.task(task)).state == "needs-you":
            await found.answer(task, "reject", message)
        else:
            await found.retry(task, message)
        return f"rejected {task}", {"task": task, "answer": "reject"}

    _say(session, as_json, work)


@command(
    "deny",
    ("skep deny deploy -m 'not on a Friday'", "it does not start"),
    ("skep deny api/3 -m 'use what is there'", "an agent may not do this, and reads why"),
)
@click.argument("task", metavar="TASK|ID")
@click.option("-m", "--message", default="", help="Why.")
@session_option
@json_option
def deny(task: str, message: str, session: str, as_json: bool) -> None:
    """Say no to TASK, which asks whether it may start. It is cancelled, and what needs it is skipped. Or to its proposal.

    Or to what an agent asks leave for, by the ID that `skep inbox` shows: it goes on without.
    """

    async def work(found: Session) -> tuple[str, dict[str, Any]]:
        if await _is_asked(found, task):
            await found.refuse(task, message)
            return f"denied {task}", {"ask": task, "answer": "refuse"}
        proposes = (await found.task(task)).question in ("plan", "proposal")
        await found.answer(task, "skip" if proposes else "reject", message)
        return f"denied {task}", {"task": task, "answer": "reject"}

    _say(session, as_json, work)


@command(
    "cancel",
    ("skep cancel api", "it and what cannot go on without it"),
    ("skep cancel api --subtree", "and all that depends on it"),
)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@click.option("--subtree", is_flag=True, help="Also what would run all the same, by its `if`.")
@session_option
@json_option
def cancel(tasks: tuple[str, ...], subtree: bool, session: str, as_json: bool) -> None:
    """Cancel tasks, and with them what cannot go on without them. What ran of them ends; their work is kept."""

    async def work(found: Session) -> tuple[str, dict[str, Any]]:
        fell = await found.cancel(*tasks, subtree=subtree)
        return f"cancelled {', '.join(fell)}", {"cancelled": fell}

    _say(session, as_json, work, onward="never")


@command("retry", ("skep retry test", "try it again"), ("skep retry test --with shell-2", "by another agent"))
@click.argument("task")
@click.option("-m", "--message", default="", help="A comment; the attempt gets to read it.")
@click.option("--with", "agent", default="", metavar="AGENT", help="The agent that is to do it now.")
@session_option
@json_option
def retry(task: str, message: str, agent: str, session: str, as_json: bool) -> None:
    """Send a finished TASK round again, with what was skipped for want of it. Its tries count afresh."""

    async def work(found: Session) -> tuple[str, dict[str, Any]]:
        await found.retry(task, message, agent)
        return f"{task} goes round again", {"task": task}

    _say(session, as_json, work)


@command(
    "stop",
    ("skep stop", "the newest session"),
    ("skep stop feature-7", "this one"),
    ("skep stop --task api", "the agent of one task; the others go on"),
)
@session_argument
@click.option("--task", default="", metavar="TASK", help="Interrupt this task's agent alone; the task waits for your word.")
@json_option
def stop(name: str, task: str, as_json: bool) -> None:
    """Interrupt what runs of a session and keep its work; the same as Ctrl-C where it runs.

    With --task one agent is interrupted, and the rest goes on. Its work is kept; `skep tell` leaves it a word, and with
    `skep approve TASK` it goes on, in its own conversation if its client can.
    """

    async def one(found: Session) -> tuple[str, dict[str, Any]]:
        agent = await found.interrupt(task)
        steps = f"skep tell {quote(agent)} 'TEXT'  |  skep approve {quote(task)}  |  skep deny {quote(task)}"
        return f"{agent} is interrupted, its work is kept, no try counted\nnext: {steps}", {"task": task, "agent": agent}

    async def work(found: Session) -> tuple[str, dict[str, Any]]:
        number = await found.stop("stopped by a person")
        return f"stopped: {count(number, 'attempt')} interrupted, work kept; no try counted", {"interrupted": number}

    if task:
        _say(name, as_json, one, onward="never")
        return
    _say(name, as_json, work, onward="always")


@command(
    "merge",
    ("skep merge", "to the branch it began on"),
    ("skep merge feature-7 --branch next --squash", "as one commit on another"),
)
@session_argument
@click.option("--branch", default="", help="The branch to bring it to; otherwise the one the session began on.")
@click.option("--squash", is_flag=True, help="As one commit.")
@click.option("--pr", "pull", is_flag=True, help="To a branch skep/SESSION, pushed to origin, with a pull request by gh.")
@json_option
def merge(name: str, branch: str, squash: bool, pull: bool, as_json: bool) -> None:
    """Bring a session's merged work to your branch. If it does not merge, or would touch uncommitted files, nothing changes."""

    async def requested(found: Session) -> tuple[str, dict[str, Any]]:
        from skep.interfaces.cli.pull import ready, request

        folder, view = found.hive.workspace, await found.status(tasks=False)
        await asyncio.to_thread(ready, folder)
        landed = await found.merge(branch or f"skep/{found.name}", squash)
        address = await asyncio.to_thread(request, folder, landed.branch, view.branch, view.objective or found.name)
        return f"{landed.branch} is pushed, with a pull request: {address}", {**msgspec.to_builtins(landed), "pull": address}

    async def work(found: Session) -> tuple[str, dict[str, Any]]:
        if pull:
            return await requested(found)
        landed = await found.merge(branch, squash)
        told = f"merged {found.name}: {short(landed.commit)}" + (f" on {landed.branch}" if landed.branch else "")
        if landed.branch != landed.head:
            where = f"{landed.head} is checked out" if landed.head else "HEAD is detached"
            told += f"\n{where}, so your files did not change; next: git switch {quote(landed.branch)}"
        return told, msgspec.to_builtins(landed)

    _say(name, as_json, work, onward="never")


@command("discard", ("skep discard api", "what attempts at api left"), ("skep discard", "of all finished tasks"))
@click.argument("task", default="")
@session_option
@json_option
def discard(task: str, session: str, as_json: bool) -> None:
    """Drop work that was kept but not merged: what failed and interrupted attempts at TASK (or at any task) left."""

    async def work(found: Session) -> tuple[str, dict[str, Any]]:
        gone = await found.discard(task)
        return f"discarded {', '.join(gone)}" if gone else "there was nothing to discard", {"discarded": gone}

    _say(session, as_json, work, onward="never")
