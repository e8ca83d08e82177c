"""The entry point `skep`: finds the command, and turns whatever goes wrong into one message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from skep import __version__
from skep.errors import Bug, SkepError
from skep.interfaces.cli import exits
from skep.interfaces.cli.registry import Root, redis_option
from skep.interfaces.cli.words import clean


class Place:
    """Where the command line works; what goes wrong after the command has ended is told there, too."""

    workspace: str | None = None


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"skep {__version__}")
        ctx.exit()


def _print_skill(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.resources import files

        click.echo((files("skep.interfaces.cli") / "templates" / "SKILL.md").read_text(encoding="utf-8"), nl=False)
        ctx.exit()


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Skep carries out graphs of tasks by agents in parallel, each in its own git worktree, checks and merges their work, "
    "and can be killed and resumed at any moment.",
)
@click.option("-C", "--workspace", metavar="DIR", help="Work in this folder instead of the current one's workspace.")
@redis_option
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version.")
@click.option(
    "--skill",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_skill,
    help="Print a SKILL.md that teaches an agent to hand work to Skep.",
)
@click.pass_context
def cli(ctx: click.Context, workspace: str | None) -> None:
    """`ctx.obj` holds the folder named by -C, if any."""
    ctx.obj.workspace = workspace


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Runs a command line and ends the process.

    Args:
        args: without the program's name; otherwise the process's own.
    """
    given = list(sys.argv[1:] if args is None else args)
    as_json = "--json" in given
    _stand_in()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code, place = exits.BUG, Place()
    try:
        outcome = cli.main(given, prog_name="skep", standalone_mode=False, obj=place)
        code = outcome if isinstance(outcome, int) else 0
    except click.ClickException as error:
        code = exits.BAD_INPUT
        _usage(error, as_json)
    except (click.Abort, KeyboardInterrupt):
        code = exits.INTERRUPTED
    except Bug as error:
        _bug(error, as_json, place)
    except SkepError as error:
        code = error.exit_code
        _refusal(type(error).__name__, error.message, error.fix, code, as_json)
    except (BrokenPipeError, SystemExit) as error:  # click makes the one into the other; completion ends with 0 in the same way
        code = exits.UNREAD
        if isinstance(error, SystemExit) and not error.code:
            code = 0
        else:
            from skep.interfaces.cli.out import silence

            silence(sys.stdout)
    except Exception as error:  # whatever else it is, the user gets a line and a file, not a traceback
        _bug(error, as_json, place)
    _leave(code)


def _stand_in() -> None:
    """Gives the standard streams that the caller closed a place to go: a file opened later must not become one of them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _leave(code: int) -> NoReturn:
    try:
        sys.stdout.flush()
    except OSError:
        from skep.interfaces.cli.out import silence

        silence(sys.stdout)
    sys.exit(code)


def _usage(error: click.ClickException, as_json: bool) -> None:
    ctx = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return
    fix = ""
    if isinstance(ctx, click.Context):
        usage = " ".join(ctx.get_usage().removeprefix("Usage: ").split())
        fix = f"{usage}; `{ctx.command_path} --help` says more."
    _refusal("Invalid", error.format_message(), fix, exits.BAD_INPUT, as_json)


def _refusal(kind: str, message: str, fix: str, code: int, as_json: bool) -> None:
    """Says what was wrong: to people on standard error, to scripts as the one document on standard output."""
    if as_json:
        from skep.interfaces.cli.out import Out, document

        Out(on_broken=lambda: None).json(document(error={"kind": kind, "message": message, "fix": fix}, exit=code))
        return
    click.echo(f"error: {clean(message)}", err=True)
    if fix:
        click.echo(f"  Fix: {clean(fix)}", err=True)


def _bug(error: BaseException, as_json: bool, place: Place) -> None:
    """One line for people, the traceback in a file: never on the screen, unless it can be kept nowhere."""
    import traceback

    story = (
        f"skep {__version__}, Python {sys.version.split()[0]}\n{' '.join(sys.argv)}\n{''.join(traceback.format_exception(error))}"
    )
    told = f"this is a bug in Skep: {type(error).__name__}: {error}".removesuffix(": ")
    try:
        from skep.interfaces.cli.place import folder_of

        folder = folder_of(place.workspace).joinpath(".skep")
        path = folder / f"bug-{os.getpid()}.txt"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(story)
        fix = f"Report it with the file {path}; nothing that was recorded is lost, `skep status` shows it."
    except (OSError, SkepError):
        fix = "Report it with these lines; nothing that was recorded is lost, `skep status` shows it."
        click.echo(clean(story), err=True)
    _refusal("Bug", told, fix, exits.BUG, as_json)
