"""`init`, `config`, `schema`, `completion`, `version`."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import click

from skep import __version__
from skep.errors import Conflict, Denied
from skep.interfaces.cli import place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option
from skep.interfaces.cli.words import one_line

#: Name -> what it shows; each is a file in `templates`.
TEMPLATES = {
    "hello": "two tasks at once, one that needs both; works anywhere",
    "checks": "checks of a repository, each in a clean worktree",
    "bugfix": "show a failure, mend it, accept only what passes",
}


@command("init", ("skep init", "a first workflow.yaml that works"), ("skep init --template bugfix fix.yaml", "another one"))
@click.argument("file", default="workflow.yaml")
@click.option("--template", type=click.Choice(list(TEMPLATES)), default="hello", help="Which example.")
@click.option("--list", "listed", is_flag=True, help="Say what examples there are; write nothing.")
@json_option
def init(file: str, template: str, listed: bool, as_json: bool) -> None:
    """Write an example workflow to FILE (workflow.yaml). A file that is there is never overwritten."""
    if listed:
        if as_json:
            Out().json(document(templates=TEMPLATES))
        else:
            for name, about in TEMPLATES.items():
                Out().line((f"{name:8}", "bold"), f"  {about}")
        return
    text = (files("skep.interfaces.cli") / "templates" / f"{template}.yaml").read_text(encoding="utf-8")
    path = Path(file)
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise Conflict(f"{path} is there already", "Name another file: `skep init FILE`.") from None
    except OSError as error:
        raise Denied(f"cannot write {path}: {error.strerror}", "Name a file in a folder that you can write to.") from None
    out = Out()
    if as_json:
        out.json(document(file=str(path), template=template))
        return
    out.line(f"wrote {path} ({template}: {TEMPLATES[template]})")
    out.line(f"next: skep run {path} --dry-run   see what it would do")
    out.line(f"      skep run {path}             carry it out")


@command("config", ("skep config", "every setting in force"))
@json_option
def config(as_json: bool) -> None:
    """Show every setting, its value, and where it comes from: a default, skep.toml, or the environment."""
    from skep.config import settings

    folder = place.workspace()
    found = settings(folder)
    out = Out()
    if as_json:
        out.json(document(workspace=str(folder), settings=found))
        return
    out.line((f"workspace {folder}", "bold"))
    names, values = max(len(one.name) for one in found), max(len(_value(one.value)) for one in found)
    for one in found:
        out.line(f"{one.name:{names}} = {_value(one.value):{min(values, 40)}}  ", (f"# {one.source}", "dim"))


def _value(value: object) -> str:
    return one_line(json.dumps(value), 80)


@command("schema", ("skep schema > skep.schema.json", "for editors that check YAML"))
def schema() -> None:
    """Print the JSON Schema of workflow files."""
    from skep.workflow import json_schema

    Out().write(json.dumps(json_schema(), indent=2) + "\n")


@command(
    "completion",
    ('eval "$(skep completion bash)"', "in ~/.bashrc"),
    ('eval "$(skep completion zsh)"', "in ~/.zshrc"),
    ("skep completion fish | source", "in config.fish"),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a SHELL."""
    from click.shell_completion import get_completion_class

    from skep.interfaces.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None, "click knows every shell of the choice"
    Out().write(kind(cli, {}, "skep", "_SKEP_COMPLETE").source() + "\n")


@command("version", ("skep version", "which Skep this is"))
@json_option
def version(as_json: bool) -> None:
    """Print the version."""
    if as_json:
        Out().json(document(skep=__version__))
    else:
        Out().line(f"skep {__version__}")
