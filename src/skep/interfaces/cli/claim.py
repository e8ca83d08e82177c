"""`claim`: a task taken by hand, for agents that were started outside of Skep."""

from __future__ import annotations

import asyncio
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

import click

from skep.errors import Conflict, Invalid
from skep.interfaces.cli import picture, place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option, session_option
from skep.interfaces.cli.words import clock, one_line

if TYPE_CHECKING:
    from skep.app import Skep
    from skep.runtime.views import ClaimView

#: How long the process in the background waits for the first claim, and between two looks whether it is needed, seconds.
FIRST, LOOK = 20.0, 0.25
#: Seconds of the longest lease.
MOST = 86_400
How = Literal["done", "fail", "release"]


@command(
    "claim",
    ("skep claim api", "take it: where to work, what to do, how to settle it"),
    ("skep claim api --done --nonce N", "verify and merge what the worktree holds"),
    ("skep claim api --fail -m 'no such API' --nonce N", "it failed, and why"),
    ("skep claim api --nonce N --lease 2h", "hold it longer"),
    ("skep claim api --release --nonce N", "give it back; the work is kept"),
)
@click.argument("task")
@click.option("--done", "how", flag_value="done", help="Your work is done: verify and merge it, as of any agent.")
@click.option("--fail", "how", flag_value="fail", help="It failed; -m says why, and the next attempt reads it.")
@click.option("--release", "how", flag_value="release", help="Give it back; what the worktree holds is kept, no try is counted.")
@click.option("--nonce", default="", metavar="N", help="What your claim is known by: `skep claim TASK` printed it.")
@click.option("-m", "--message", default="", help="With --done the result, with --fail the reason.")
@click.option("--lease", default="", metavar="TIME", help="How long it is yours unless renewed, such as 45m; else half an hour.")
@click.option("--background", is_flag=True, hidden=True)
@session_option
@json_option
def claim(task: str, how: How | None, nonce: str, message: str, lease: str, background: bool, session: str, as_json: bool) -> int:
    """Take TASK, which has a prompt and is ready, by hand: for an agent of yours that Skep did not start.

    It gets a worktree like any attempt, and is judged like any: outputs, protected paths, verify, merge. Nothing else of the
    session is begun for it. Work in the folder that is printed, commit nothing, then say --done. A claim that is not renewed in
    time (--nonce N) returns: what it left is kept, and somebody else may have the task.
    """
    if background:
        return place.go(_hold(session))
    if how and not nonce:
        raise click.UsageError(f"--{how} needs the --nonce that `skep claim {quote(task)}` printed.")
    if message and how not in ("done", "fail"):
        raise click.UsageError("-m goes with --done or --fail.")
    return place.go(_claim(task, how, nonce, message, _seconds(lease), session, as_json))


def _seconds(text: str) -> float:
    from skep.workflow.kinds import duration

    found = duration(f"{text}s" if text.isdecimal() else text) if text else 0.0
    if text and not 0 < found <= MOST:
        raise Invalid(f"--lease '{one_line(text, 40)}' is no such time", "Write such as 45m, 2h, or seconds; a day at most.")
    return found


async def _claim(task: str, how: How | None, nonce: str, message: str, lease: float, name: str, as_json: bool) -> int:
    if how is None and not nonce:
        await _somebody_holds(name, task)
    async with place.session(name) as session:
        out = Out()
        if how is None:
            taken = await session.claim(task, nonce, lease)
            out.json(document(**_plain(taken))) if as_json else _show(taken, out, renewed=bool(nonce))
            return 0
        view = await session.settle(task, nonce, how, message)
        bad = how == "done" and view.state not in ("done", "needs-you")
        if as_json:
            import msgspec

            out.json(document(session=session.name, task=msgspec.to_builtins(view)))
        else:
            said = f": {picture.why(view)}" if view.cause or view.detail else ""
            out.line((out.mark(view.state), ""), f" {one_line(task, 60)} is {view.state}{said}")
        return int(bad)


def _plain(taken: ClaimView) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(taken)
    return found


async def _somebody_holds(name: str, task: str) -> None:
    """A claim must outlive this command: if nobody carries sessions out here, a process in the background does, for as long."""
    from skep.interfaces.cli.background import start

    async with place.hive() as hive:
        session, alone = await hive.find(name), hive.owner
        view = await session.task(task)
        if view.state not in ("ready", "running"):  # running: by an owner that died
            raise Conflict(f"task '{task}' is {view.state}, not ready", "`skep ready` shows what can be claimed, and why not.")
    if alone:
        await asyncio.to_thread(start, ["claim", "--session", session.name, "."], hive.workspace)


async def _hold(name: str) -> int:
    """In the background: owns the workspace while somebody holds a claim or works through it."""
    from skep.interfaces.cli.background import announce
    from skep.interfaces.cli.follow import interrupts

    async with interrupts() as asked, place.session(name) as session:
        announce(session.name, session.hive.workspace)
        over = asyncio.ensure_future(asked.wait(1))
        until = asyncio.get_running_loop().time() + FIRST
        while session.hive.owner and not over.done():
            needed = await _needed(session.hive)
            if not needed and asyncio.get_running_loop().time() > until:
                break
            if needed:
                until = 0.0
            await asyncio.wait([over], timeout=LOOK)
        over.cancel()
    return 0


async def _needed(hive: Skep) -> bool:
    who = await hive.who()
    return bool(who.claims or who.guests)


def _show(taken: ClaimView, out: Out, renewed: bool) -> None:
    task, nonce = quote(taken.task), taken.nonce
    if renewed:
        out.line((taken.task, "bold"), f"  is yours until {clock(taken.until)}")
        return
    out.line((taken.task, "bold"), f"  of {taken.name} is yours until {clock(taken.until)}, try {taken.attempt}")
    out.line(f"work in  {taken.path}")
    out.line(f"nonce    {nonce}")
    for name, value in taken.env.items():
        out.line(f"env      {name}={one_line(value, 300)}")
    out.line()
    for line in taken.prompt.splitlines():
        out.line(line)
    out.line()
    out.line(("next: ", "bold"), f"skep claim {task} --done --nonce {nonce}")
    out.line(f"      skep claim {task} --fail -m WHY --nonce {nonce}  |  --release  |  --lease 1h (renew)")
