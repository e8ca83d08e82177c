"""Writes `docs/reference/*` from the code: `python docs/generate.py`, or `--check` to see whether they are up to date."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import get_args

import msgspec

from skep import config, workflow
from skep.core import events
from skep.core.envelope import Message
from skep.core.fleet import Route
from skep.core.health import Health, Resize
from skep.core.placement import PROFILES
from skep.core.transitions import TRANSITIONS
from skep.interfaces.cli import reference as cli
from skep.memory import Entry, Found, Hit
from skep.observe import reference as observed
from skep.runtime import choice, kept, mail, memory_views, swarms, views
from skep.runtime.ready import Readiness
from skep.terminals.pool import Latency, Stats
from skep.workflow import fleet

CHOICE = (choice.ChoiceView, choice.CandidateView, choice.BallotView, choice.VoteView, mail.MailView, Message)
REMEMBERED = (
    Entry,
    Found,
    Hit,
    memory_views.StatsView,
    memory_views.ShelfView,
    memory_views.WrittenView,
    memory_views.TakenView,
    memory_views.ConsolidatedView,
    memory_views.StepView,
    memory_views.UndoneView,
)
FOLDER = Path(__file__).parent / "reference"


def first_line(thing: object) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def table(kind: type[msgspec.Struct]) -> str:
    """The fields of a record."""
    rows = ["| field | type | when left out |", "|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        known = not field.required and field.default is not msgspec.NODEFAULT
        default = f"`{msgspec.to_builtins(field.default)!r}`" if known else ""
        shown = str(field.type).replace("typing.", "").replace("<class '", "").replace("'>", "").replace("|", "\\|")
        rows.append(f"| `{field.encode_name}` | {shown.split('skep.')[-1] if shown.startswith('skep.') else shown} | {default} |")
    return "\n".join(rows)


def event_reference() -> str:
    """Every event by its public name."""
    parts = [
        "# Events",
        "",
        "What a session's log holds, and what `--json` streams show: one object a line, with `seq` (its number in the log),",
        "`event` (the name below) and the fields. `at` is wall-clock milliseconds. Fields are only ever added.",
    ]
    for kind in get_args(events.Event):
        parts += ["", f"## `{kind.__struct_config__.tag}`", "", first_line(kind), "", table(kind)]
    return "\n".join(parts) + "\n"


def state_reference() -> str:
    """The states of a task and what may follow."""
    parts = ["# States of a task", "", "The one table that every move goes through (`skep.core.transitions`).", ""]
    parts += ["| from | to |", "|---|---|"]
    parts += [f"| {state} | {', '.join(sorted(after))} |" for state, after in TRANSITIONS.items()]
    parts += ["", "`expanded` (its items, or its candidates and voters, are under way) and `merging` are shown as `running`.", ""]
    parts += ["## Placement profiles", "", "| factor | " + " | ".join(PROFILES) + " |", "|---|" + "---|" * len(PROFILES)]
    factors = dict.fromkeys(name for weights in PROFILES.values() for name in weights)
    parts += [f"| {name} | " + " | ".join(str(w.get(name, "-")) for w in PROFILES.values()) + " |" for name in factors]
    return "\n".join(parts) + "\n"


def setting_reference() -> str:
    """Every setting of `skep.toml`."""
    about = f"`{config.FILE}` in the workspace; `skep config` shows what is in force and where it comes from."
    parts = ["# Settings", "", about, ""]
    parts += [first_line(config.Config), "", table(config.Config)]
    for name, kind in (
        ("placement", config.PlacementConfig),
        ("environment", config.EnvironmentConfig),
        ("terminals", config.TerminalsConfig),
        ("store", config.StoreConfig),
        ("backup", config.BackupConfig),
        ("publish", config.PublishConfig),
        ("memory", config.MemoryConfig),
    ):
        parts += ["", f"## [{name}]", "", first_line(kind), "", table(kind)]
    return "\n".join(parts) + "\n"


def view_reference() -> str:
    """The records that `--json` prints."""
    about = f"Version {views.VERSION}. What commands print with `--json`; fields are only ever added within a version."
    parts = ["# JSON", "", about]
    for kind in (
        views.SessionView,
        views.TaskView,
        views.AskView,
        views.Need,
        views.Result,
        views.Brief,
        kept.BackupView,
        kept.PruneView,
        swarms.FleetView,
        swarms.SwarmView,
        Health,
        Resize,
        Route,
        Readiness,
        Stats,
        Latency,
        *CHOICE,
        *REMEMBERED,
    ):
        parts += ["", f"## {kind.__name__}", "", first_line(kind), "", table(kind)]
    return "\n".join(parts) + "\n"


PAGES = {
    "workflow.md": workflow.reference,
    "fleet.md": fleet.reference,
    "commands.md": cli.reference,
    "events.md": event_reference,
    "states.md": state_reference,
    "settings.md": setting_reference,
    "json.md": view_reference,
    "channels.md": observed.page,
    "channels.schema.json": observed.schemas,
}


def main() -> int:
    """Writes the pages, or, with `--check`, names those that are out of date and returns 1."""
    stale = []
    FOLDER.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        text, path = make(), FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv:
        print(f"out of date: {', '.join(stale)}; run `make docs`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
