"""The commands, by section: where each lives and what it does in a line. A command is imported only when it is used."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, NamedTuple

import click

from skep.interfaces.cli.exits import EXITS


class Spot(NamedTuple):
    """Where a command lives: module of this package, attribute, and its line in `skep --help`."""

    module: str
    attribute: str
    summary: str


SECTIONS: dict[str, dict[str, Spot]] = {
    "Run": {
        "run": Spot("run", "run", "Carry out a workflow file, or plan an objective and carry that out."),
        "add": Spot("run", "add", "Add a task to the session at work, or start a new one."),
        "resume": Spot("run", "resume", "Go on with a session that was stopped, killed or paused."),
        "claim": Spot("claim", "claim", "Take a ready task by hand, for an agent that you started yourself."),
        "stop": Spot("people", "stop", "Interrupt what runs; keep its work."),
    },
    "Look": {
        "status": Spot("look", "status", "Show where a session stands."),
        "ready": Spot("look", "ready", "Show what could be taken now, and why the rest waits."),
        "logs": Spot("logs", "logs", "Print what a task's agent printed."),
        "attach": Spot("logs", "attach", "Watch a running task's terminal."),
        "diff": Spot("look", "diff", "Show what a task, or the whole session, changed."),
        "messages": Spot("mail", "messages", "Show the messages that wait for agents."),
        "candidates": Spot("candidates", "candidates", "Show a task's candidates and the vote on them."),
        "open": Spot("look", "open_", "Get a folder with a task's work, to look at or try."),
        "cost": Spot("cost", "cost", "Show what a session has spent."),
        "ask": Spot("ask", "ask", "Ask the agent of a finished task something."),
        "explain": Spot("look", "explain", "Say why a task goes to which agent."),
        "replay": Spot("replay", "replay", "Step through all that happened in a session."),
    },
    "Decide": {
        "plan": Spot("plan", "plan", "Show the tasks that a planner, or a task, proposes."),
        "inbox": Spot("inbox", "inbox", "List everything that needs you, and how to answer it."),
        "approve": Spot("people", "approve", "Say yes to what a task or an agent asks."),
        "reject": Spot("people", "reject", "Send a task's result back, and say why."),
        "deny": Spot("people", "deny", "Say no to what a task or an agent asks."),
        "tell": Spot("mail", "tell", "Send a word to an agent."),
        "message": Spot("inside", "message", "Inside an attempt: send and read messages, hand work on, ask."),
        "cancel": Spot("people", "cancel", "Cancel tasks and what cannot go on without them."),
        "retry": Spot("people", "retry", "Send a finished task round again."),
        "merge": Spot("people", "merge", "Bring a session's work to your branch."),
        "discard": Spot("people", "discard", "Drop kept work that was not merged."),
    },
    "Sessions": {
        "session": Spot("sessions", "session", "Create, list, fork, restore, export sessions, and more."),
        "backup": Spot("backup", "backup", "Back up a session, or all; list the backups."),
        "restore": Spot("backup", "restore", "Go on from a backup, under the same name."),
        "prune": Spot("prune", "prune", "Put sessions that ended long ago into archives."),
        "receipt": Spot("receipt", "receipt", "Write a signed record of what a session did."),
        "verify-receipt": Spot("receipt", "verify_receipt", "Check such a record, offline."),
    },
    "Memory": {
        "memory": Spot("memory", "memory", "Keep things for later, and find what was kept."),
    },
    "Several machines": {
        "fleet": Spot("fleet", "fleet", "Distribute tasks among many sessions; see how they stand."),
        "node": Spot("node", "node", "Carry out attempts on this machine; list, invite, drain nodes."),
    },
    "Set up": {
        "init": Spot("setup", "init", "Write a first workflow file that works."),
        "doctor": Spot("doctor", "doctor", "Check what Skep needs here; each finding says how to mend it."),
        "redis": Spot("redis", "redis", "Run a private Redis for sessions that lie in one."),
        "debug": Spot("debug", "debug", "Write a bundle for a bug report, without secrets."),
        "sandbox": Spot("sandbox", "sandbox", "Try by hand what confined programs can see and do."),
        "config": Spot("setup", "config", "Show every setting and where its value comes from."),
        "schema": Spot("setup", "schema", "Print the JSON Schema of workflow files."),
        "completion": Spot("setup", "completion", "Print the completion script for a shell."),
        "version": Spot("setup", "version", "Print the version."),
    },
}
#: Commands of the manual that are still to come: asking for one is answered, not guessed at.
LATER = frozenset({"up", "mcp"})


class Command(click.Command):
    """A command with examples: pairs of a command line and what it is for."""

    def __init__(self, *args: Any, examples: tuple[tuple[str, str], ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the examples."""
        if self.examples:
            with formatter.section("Examples"):
                formatter.write_dl(list(self.examples), col_max=46)
        super().format_epilog(ctx, formatter)


class Group(click.Group):
    """A group of commands of this kind."""

    command_class = Command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command; an unknown one is answered with the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=self.list_commands(ctx), ctx=ctx) from None


class Root(Group):
    """`skep` itself: commands by section, each loaded when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the help."""
        return [name for spots in SECTIONS.values() for name in spots]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Loads a command."""
        if name in LATER:
            raise click.UsageError(f"`skep {name}` is not available yet.", ctx)
        for spots in SECTIONS.values():
            if spot := spots.get(name):
                found: click.Command = getattr(import_module(f"skep.interfaces.cli.{spot.module}"), spot.attribute)
                return found
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The sections, without loading any command."""
        for section, spots in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, spot.summary) for name, spot in spots.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit codes."""
        with formatter.section("Exit codes (where several hold: 130, 4, 3, 1)"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXITS.items()])


def command(name: str, *examples: tuple[str, str]) -> Callable[[Callable[..., Any]], Command]:
    """Makes a function a command with examples (command line, what it is for)."""

    def made(function: Callable[..., Any]) -> Command:
        known = click.command(name, cls=Command, examples=examples)(function)
        if not any("--redis" in option.opts for option in known.params):
            redis_option(known)
        return known

    return made


def _over(ctx: click.Context, _: click.Parameter, url: str | None) -> None:
    """From here on the store is that one. A password would be read by everybody who can list processes."""
    if url is None:
        return
    if re.match(r"[a-z+]+://[^/@]*:[^/@]+@", url):
        raise click.UsageError(
            "--redis takes no password: put it into REDIS_PASSWORD, or name a file in REDIS_PASSWORD_FILE", ctx
        )
    os.environ["SKEP_STORE_URL"] = url


class Finite(click.FloatRange):
    """A number of a range: neither `nan`, which no bound refuses, nor `inf`."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads it."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return found


redis_option = click.option(
    "--redis", metavar="URL", expose_value=False, callback=_over, help="Work over this Redis; otherwise as skep.toml says."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, version 1 (see the manual).")
session_option = click.option(
    "-s", "--session", "session", default="", metavar="NAME", help="The session; otherwise the newest one here."
)


def session_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command about one session: it is named as an argument, or by -s as elsewhere; the function gets it as `name`."""

    @session_option
    @click.argument("name", metavar="[SESSION]", default="")
    @wraps(function)
    def named(name: str, session: str, **more: Any) -> Any:
        if name and session and name != session:
            raise click.UsageError(f"Two sessions are named: '{name}', and '{session}' by -s.")
        return function(name=name or session, **more)

    return named
