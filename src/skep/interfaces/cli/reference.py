"""The manual's page about the command line, made from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from skep.interfaces.cli.exits import EXITS
from skep.interfaces.cli.main import cli
from skep.interfaces.cli.registry import SECTIONS, Command

PLACE_PAGE = """\
A command works in the workspace that the current folder belongs to: the nearest folder, it or above, with a state folder
`.skep` or a git repository. `-C DIR` names another one. While a `skep run` is live every command works through it, also
from a second terminal; with nothing running each works alone.
"""
TERMINAL_PAGE = """\
## On the terminal

A terminal gets a live screen, a pipe one line per change; `NO_COLOR`, `TERM=dumb` and locales without UTF-8 are
respected. What agents wrote is shown without escape sequences and control characters; `attach` and `logs --play` let
colours and cursor movements through, and only `logs --raw` prints everything as it was.
"""
JSON_PAGE = """\
## JSON

`--json` prints one document on one line, in ASCII; its form is version 1, said by its field `version`. Fields may be
added within a version, never changed or removed. What is refused is a document too: `{"version": 1, "error": {"kind",
"message", "fix"}, "exit"}`.

`run`, `add`, `resume`, `status --watch`, `replay`, `session show --events` and `logs -f` print a stream, one document
a line, told apart by `type`:

| type | fields |
|---|---|
| `session` | `session`: the session when following begins, without its tasks |
| `event` | `seq`: its number in the log; `name`, such as `task.merged`; `event`: its fields |
| `note` | `text`: something that Skep itself has to say |
| `output` | `attempt`, `part` (`agent`, `verify`, `merge`), `text` (of `logs -f`) |
| `result` | `exit`: the exit code; `session`: the session at the end, with its tasks |

`status`, `session show` and `result` hold a session: `state` (`active`, `paused`, `completed`, `failed`, `closed`),
`live`, `idle` (why nothing goes on), `limit`, `counts` by state, `causes` of what is not done, `confinement`, `tip`,
`checkpoints`, and `tasks`, each with `id`, `state`, `stage`, `agent`, `attempts`, `most`, `cause`, `detail`,
`question`, `needs`, `waits`, `commit`, `merged`, `wip`, `exit_code`, `result`, `outputs`, and the times `submitted`,
`started`, `ended`, `until` in wall-clock milliseconds, 0 = not yet.
"""


def reference() -> str:
    """The whole page, in Markdown."""
    return "\n".join(_page()).rstrip() + "\n"


def _page() -> Iterator[str]:
    yield "# The command line\n"
    yield "Made from the commands themselves; `skep COMMAND --help` says the same.\n"
    yield "```\nskep [-C DIR] COMMAND ...\n```\n"
    yield PLACE_PAGE
    root = click.Context(cli, info_name="skep")
    for section, spots in SECTIONS.items():
        yield f"## {section}\n"
        for name in spots:
            found = cli.get_command(root, name)
            assert found is not None
            yield from _command(found, click.Context(found, parent=root, info_name=name), 3)
    yield "## Exit codes\n"
    yield "Where several hold: 130, 4, 3, 1.\n"
    yield "| code | meaning |\n|---|---|"
    yield from (f"| {code} | {meaning} |" for code, meaning in EXITS.items())
    yield ""
    yield JSON_PAGE
    yield TERMINAL_PAGE


def _command(found: click.Command, ctx: click.Context, depth: int) -> Iterator[str]:
    yield f"{'#' * depth} `{ctx.get_usage().removeprefix('Usage: ')}`\n"
    yield inspect.cleandoc(found.help or "") + "\n"
    options = [option for option in found.get_params(ctx) if isinstance(option, click.Option) and "--help" not in option.opts]
    rows = [record for option in options if (record := option.get_help_record(ctx))]
    if rows:
        yield "| option | |\n|---|---|"
        yield from (f"| `{_cell(option)}` | {_cell(about)} |" for option, about in rows)
        yield ""
    if isinstance(found, Command) and found.examples:
        wide = max(len(line) for line, _ in found.examples)
        yield "```sh\n" + "\n".join(f"{line:{wide}}  # {about}" for line, about in found.examples) + "\n```\n"
    if isinstance(found, click.Group):
        for name in found.list_commands(ctx):
            inner = found.get_command(ctx, name)
            assert inner is not None
            yield from _command(inner, click.Context(inner, parent=ctx, info_name=name), depth + 1)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
