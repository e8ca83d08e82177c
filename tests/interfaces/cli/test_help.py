"""Help, the registry, and what the command line loads."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from skep.interfaces.cli.exits import EXITS
from skep.interfaces.cli.main import cli
from skep.interfaces.cli.reference import reference
from skep.interfaces.cli.registry import LATER, SECTIONS, Command, Finite
from tests.interfaces.cli.conftest import Skep

NAMES = [name for spots in SECTIONS.values() for name in spots]


def every_command() -> Iterator[tuple[str, click.Command]]:
    root = click.Context(cli, info_name="skep")
    for name in NAMES:
        command = cli.get_command(root, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", found) for inner, found in command.commands.items())


@pytest.mark.parametrize(("line", "command"), list(every_command()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_says_what_it_does_with_examples_and_describes_each_option(
    line: str, command: click.Command, skep: Skep
) -> None:
    ran = skep(*line.split(), "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: skep {line} ")
    assert inspect.cleandoc(command.help or "").split("\n")[0].endswith(".")
    for option in command.params:
        # "nan" lies within every range.
        assert not isinstance(option.type, click.types.FloatParamType) or isinstance(option.type, Finite), option.name
        assert not isinstance(option, click.Option) or option.hidden or option.help, option.name
    if isinstance(command, Command):
        assert "Examples:" in ran.out
        assert all(example.split()[:1] and "skep" in example for example, _ in command.examples)


def test_a_session_is_named_in_the_same_ways_by_every_command_about_one(skep: Skep) -> None:
    by_word = {line for line, found in every_command() if any(one.metavar == "[SESSION]" for one in found.params)}
    by_option = {line for line, found in every_command() if any("-s" in one.opts for one in found.params)}
    assert {"cost", "status", "resume", "session show"} <= by_word <= by_option
    for words in (("cost", "nobody"), ("cost", "-s", "nobody"), ("cost", "nobody", "--session", "nobody")):
        assert "there is no session" in skep(*words).err
    assert "Two sessions are named: 'a', and 'b' by -s." in skep("cost", "a", "-s", "b").err


def test_the_help_names_every_command_by_section_and_every_exit_code(skep: Skep) -> None:
    ran = skep("--help")
    assert ran.code == 0
    for section, spots in SECTIONS.items():
        assert f"\n{section}:\n" in ran.out
        for name, spot in spots.items():
            assert f"  {name} " in ran.out
            assert spot.summary in ran.out
    for code, meaning in EXITS.items():
        assert f"  {code} " in ran.out
        assert meaning in ran.out


def test_help_loads_no_command_and_none_of_the_heavy_rooms() -> None:
    watch = (
        "import sys\nfrom skep.interfaces.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('rich', 'asyncio', 'msgspec', 'yaml', 'sqlite3')"
        " or name in ('skep.app', 'skep.interfaces.cli.run')])"
    )
    ran = subprocess.run([sys.executable, "-c", watch], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", sorted(LATER))
def test_what_is_still_to_come_is_said_to_be_not_available_yet(name: str, skep: Skep) -> None:
    ran = skep(name)
    assert (ran.code, ran.out) == (2, "")
    assert f"`skep {name}` is not available yet" in ran.err
    assert name not in NAMES


@pytest.mark.parametrize(
    ("line", "nearest"), [("statsu", "status"), ("rnu x", "run"), ("session crate", "create"), ("run --dry-rn x", "--dry-run")]
)
def test_a_typo_is_answered_with_the_nearest(line: str, nearest: str, skep: Skep) -> None:
    ran = skep(*line.split())
    assert ran.code == 2
    assert nearest in ran.err.splitlines()[0]


def test_without_a_command_the_help_is_shown(skep: Skep) -> None:
    ran = skep()
    assert ran.code == 2
    assert ran.err.startswith("Usage: skep ")


def test_the_manuals_page_holds_every_command_and_option() -> None:
    page = reference()
    for line, command in every_command():
        assert f"# `skep {line} " in page, line
        for option in command.params:
            assert not isinstance(option, click.Option) or option.hidden or option.opts[-1] in page
    assert all(f"| {code} |" in page for code in EXITS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str, skep: Skep) -> None:
    ran = skep("completion", shell)
    assert ran.code == 0
    assert f"_SKEP_COMPLETE={shell}_complete" in ran.out


def test_completion_knows_the_commands(skep: Skep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_SKEP_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "skep re")
    monkeypatch.setenv("COMP_CWORD", "1")
    known = {"ready", "receipt", "redis", "resume", "replay", "reject", "restore", "retry"}
    assert {line.split(",")[1] for line in skep().out.splitlines()} == known
