"""`init`, `config`, `schema`, `completion`, `version`."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

import click
import yaml

from skep import __version__
from skep.errors import Conflict, Denied, Invalid
from skep.interfaces.cli import place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option
from skep.interfaces.cli.words import one_line

#: Name -> what it shows; each is a file in `templates`.
TEMPLATES = {
    "hello": "two tasks at once, one that needs both; works anywhere",
    "checks": "checks of a repository, each in a clean worktree",
    "feature": "plan, code and tests at once, a gate, a review",
    "bugfix": "show a fault, mend it, accept only what passes",
    "review": "from three sides at once, and a summary",
    "research": "facts and doubts at once, then an answer that meets both",
    "migration": "one task per file, by a rule, in phases",
}
#: Runtime -> the line that declares the agent of a template which has one. The shell's is no agent that understands: it writes
#: what it was told into notes/, so that the whole workflow can be seen at work before anybody is paid.
AGENTS = {
    "claude": "{runtime: claude, type: coder, with: {permissions: edits}}",
    "codex": "{runtime: codex, type: coder}",
    "gemini": "{runtime: gemini, type: coder}",
    "opencode": "{runtime: opencode, type: coder}",
    "llm": '{runtime: llm, type: coder, model: "openai:gpt-5.2", with: {permissions: edits}}',
    "shell": (
        "{runtime: shell, with: {run: 'mkdir -p notes; "
        """cp "$SKEP_PROMPT" "notes/$(printf %s "$SKEP_TASK" | tr -c A-Za-z0-9._- _).md"'}}"""
    ),
}
#: Where these lines stand in a template.
_AGENT, _RUNTIMES = '"@AGENT@"', "#@RUNTIMES@"


@command(
    "init",
    ("skep init", "a first workflow.yaml that works"),
    ("skep init --template feature f.yaml", "for agents, the client that is found here"),
    ("skep init --template bugfix --runtime shell", "without any model"),
)
@click.argument("file", default="workflow.yaml")
@click.option("--template", type=click.Choice(list(TEMPLATES)), default="hello", help="Which example.")
@click.option(
    "--runtime", type=click.Choice(list(AGENTS)), help="Who works in it.  [default: the first client on the PATH, else shell]"
)
@click.option("--list", "listed", is_flag=True, help="Say what examples there are; write nothing.")
@json_option
def init(file: str, template: str, runtime: str | None, listed: bool, as_json: bool) -> None:
    """Write an example workflow to FILE (workflow.yaml). A file that is there is never overwritten."""
    if listed:
        if as_json:
            Out().json(document(templates=TEMPLATES))
        else:
            for name, about in TEMPLATES.items():
                Out().line((f"{name:9}", "bold"), f"  {about}")
        return
    if file in TEMPLATES:
        raise Invalid(f"'{file}' is a template, not a file to write", f"skep init --template {file}")
    text, worker = filled((files("skep.interfaces.cli") / "templates" / f"{template}.yaml").read_text(encoding="utf-8"), runtime)
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
        out.json(document(file=str(path), template=template, runtime=worker))
        return
    out.line(f"wrote {path} ({template}: {TEMPLATES[template]})")
    if worker == "shell":
        out.line("its agent is a shell command that only writes down what it was told; its line at the top names others")
    elif worker:
        out.line(f"its agent is {worker}; one line at the top says so")
    given = _given(text)
    out.line(f"next: skep run {path}{given} --dry-run   see what it would do")
    out.line(f"      skep run {path}{given}             carry it out")


def filled(text: str, runtime: str | None) -> tuple[str, str]:
    """A template with its agent, and the runtime of that; empty if it needs none.

    Args:
        runtime: one of `AGENTS`; None = the first client on the PATH, the shell without any.
    """
    if _AGENT not in text:
        if runtime is not None:
            raise Invalid(
                "this template has no agent that could have a runtime", "Leave --runtime out, or take another template."
            )
        return text, ""
    chosen = runtime or next((name for name in AGENTS if name not in ("llm", "shell") and shutil.which(name)), "shell")
    others = "\n  ".join(f"# worker: {line}" for name, line in AGENTS.items() if name != chosen)
    return text.replace(_RUNTIMES, others).replace(_AGENT, AGENTS[chosen]), chosen


def _given(text: str) -> str:
    """The inputs that a workflow asks for, as options."""
    declared = yaml.safe_load(text).get("inputs", {})
    return "".join(f' --input {name}="..."' for name, one in declared.items() if one.get("required"))


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
