"""`debug`: a bundle for a bug report, with secrets taken out. Nothing is sent anywhere."""

from __future__ import annotations

import fnmatch
import json
import os
import platform
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skep.errors import Conflict, Denied
from skep.interfaces.cli import place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option, session_argument

if TYPE_CHECKING:
    from skep.app import Session

#: Names of variables whose values are taken for secrets, in any case.
SECRET = ("*key*", "*token*", "*secret*", "*passw*", "*credential*", "*auth*", "*cookie*", "*private*", "*_pat", "*dsn*")
#: Where in the log names are the users' own.
NAMED = ("env", "inputs", "args", "with", "options", "metadata")
#: A value shorter than this is in too many places to be taken out.
SHORT = 4
REDACTED = "[redacted]"
#: Lines of a recording's end, and recordings, that go in.
LINES, RECORDINGS = 200, 200
CONTENTS = {
    "events.jsonl": "the session's log, an event a line, with commands and prompts of its tasks",
    "session.json": "the session as it stands",
    "settings.json": "every setting, and where it comes from",
    "versions.json": "versions of Skep, Python and the system",
    "doctor.json": "what `skep doctor` finds",
    "transcripts/": f"the last {LINES} lines that tasks printed",
}


@command("debug", ("skep debug", "of the newest session"), ("skep debug feature-7 -o report.zip", "into this file"))
@session_argument
@click.option("-o", "--output", metavar="FILE", default="", help="Where to write it; a file that is there is never overwritten.")
@json_option
def debug(name: str, output: str, as_json: bool) -> None:
    """Write a bundle for a bug report: a zip file with the session's log, settings, versions, findings and ends of recordings.

    Taken out of all of it are values whose names look secret, of your environment and of the session (`env`, inputs, options),
    and all declared `secrets`, as far as they are set here. What agents printed may hold others: look before you hand it on.
    Nothing is sent anywhere.
    """

    async def work() -> tuple[str, dict[str, str], int]:
        async with place.session(name) as found:
            return found.name, *await gathered(found, os.environ)

    session, members, taken = place.go(work())
    path = Path(output or f"{session}.debug.zip")
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, text in members.items():
                archive.writestr(member, text)
    except FileExistsError:
        raise Conflict(f"{path} is there already", "Name another file with -o.") from None
    except OSError as error:
        raise Denied(f"cannot write {path}: {error.strerror}", "Name a file that you can write with -o.") from None
    out = Out()
    if as_json:
        out.json(document(session=session, file=str(path), members=list(members), redacted=taken))
        return
    out.line(f"the bundle of {session} is in {path}; nothing was sent anywhere")
    for member, about in CONTENTS.items():
        out.line(f"  {member:15}", f" {about}")
    out.line(f"{taken} values were taken out as secret; what agents printed may hold others: look before you hand it on")


async def gathered(session: Session, environment: Mapping[str, str]) -> tuple[dict[str, str], int]:
    """The members of a bundle, secrets taken out, and how many values were looked for."""
    import msgspec

    from skep import __version__
    from skep.app import checkup
    from skep.config import STATE, TRANSCRIPTS, settings
    from skep.store.codec import public
    from skep.terminals.transcript import Recording
    from skep.terminals.transcript import place as recorded

    view, workspace = await session.status(), session.hive.workspace
    events: list[Any] = []
    async for number, event in session.follow():
        events.append({"seq": number, **public(event)})
        if number >= view.seq:
            break
    python = f"{platform.python_implementation()} {sys.version.split()[0]}"
    versions = {"skep": __version__, "python": python, "system": platform.platform()}
    whole: dict[str, Any] = {
        "session.json": msgspec.to_builtins(view),
        "settings.json": msgspec.to_builtins(settings(workspace)),
        "versions.json": versions,
        "doctor.json": msgspec.to_builtins(await checkup(workspace)),
    }
    values = secret_values(events, environment)
    members = {name: json.dumps(redacted(part, values), indent=1) for name, part in whole.items()}
    members["events.jsonl"] = "".join(json.dumps(redacted(event, values)) + "\n" for event in events)
    attempted = [(task.id, task.attempts) for task in view.tasks if task.attempts]
    for number, (task, attempt) in enumerate(attempted[-RECORDINGS:]):
        for part in ("", "verify", "merge"):
            tail = Recording(recorded(workspace / STATE / TRANSCRIPTS, view.session, task, attempt, part)).tail(LINES)
            if tail:
                text = f"{task}, attempt {attempt}, {part or 'agent'}\n\n" + "\n".join(tail) + "\n"
                members[f"transcripts/{number}-{part or 'agent'}.txt"] = redacted(text, values)
    return members, len(values)


def secret_values(events: Iterable[Any], environment: Mapping[str, str]) -> list[str]:
    """What must not be in a bundle: longest first, so that no part of one is left."""
    declared: set[str] = set()
    found: set[str] = set()

    def look(part: Any, named: bool = False) -> None:
        if isinstance(part, dict):
            declared.update(name for name in part.get("secrets") or () if isinstance(name, str))
            for name, inner in part.items():
                if named and isinstance(inner, str) and looks_secret(name):
                    found.add(inner)
                look(inner, named or name in NAMED)
        elif isinstance(part, list | tuple):
            for inner in part:
                look(inner, named)

    look(list(events))
    found |= {value for name, value in environment.items() if name in declared or looks_secret(name)}
    return sorted((value for value in found if len(value) >= SHORT), key=len, reverse=True)


def looks_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret, by its name."""
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in SECRET) and name != "SKEP_TASK_KEY"


def redacted(part: Any, values: Iterable[str]) -> Any:
    """The same without the values, also in the keys of objects. A value that was encoded, or broken into lines, is not seen."""
    if isinstance(part, str):
        for value in values:
            part = part.replace(value, REDACTED)
        return part
    if isinstance(part, dict):
        return {redacted(name, values): redacted(inner, values) for name, inner in part.items()}
    return [redacted(inner, values) for inner in part] if isinstance(part, list | tuple) else part
