"""A session as a JUnit report, for the pages that pipelines make of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from xml.etree import ElementTree

from skep.core.model import TERMINAL
from skep.errors import Invalid
from skep.interfaces.cli import asks
from skep.interfaces.cli.words import clean
from skep.runtime.views import SessionView, TaskView

#: Failures of the task itself; whatever else went wrong is an error in JUnit's words.
FAILURES = ("exit", "verify-failed", "no-changes", "protected", "timed-out", "rejected", "conflict")


def write(view: SessionView, path: Path) -> None:
    """Writes the report, whole or not at all. Raises Invalid if that is impossible."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(ElementTree.tostring(suite(view), encoding="utf-8", xml_declaration=True))
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise Invalid(f"cannot write the report {path}: {error.strerror}", "Name a file in a folder that exists.") from None


def suite(view: SessionView) -> ElementTree.Element:
    """The session as a suite: done is passed, skipped and cancelled are skipped, what waits for somebody is an error."""
    cases = [_case(view.name, task) for task in view.tasks]
    found = ElementTree.Element("testsuite", name=clean(view.name), tests=str(len(cases)))
    for kind, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        found.set(attribute, str(sum(case.find(kind) is not None for case in cases)))
    found.set("time", f"{sum(float(case.get('time', '0')) for case in cases):.3f}")
    found.set("timestamp", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(view.opened / 1000)))
    found.extend(cases)
    return found


def _case(session: str, task: TaskView) -> ElementTree.Element:
    seconds = task.took(task.ended) / 1000 if task.ended else 0.0
    case = ElementTree.Element("testcase", name=clean(task.id), classname=clean(session), time=f"{seconds:.3f}")
    why = clean(f"{task.cause}: {task.detail}" if task.detail else task.cause)
    if task.state == "done":
        return case
    if task.state in ("skipped", "cancelled"):
        ElementTree.SubElement(case, "skipped", message=why)
    elif task.state in TERMINAL and task.cause in FAILURES:
        ElementTree.SubElement(case, "failure", type=task.cause, message=why)
    else:
        asked = f"needs you: {asks.words(task.question)}" if task.state == "needs-you" else f"{task.state}: {why}"
        ElementTree.SubElement(case, "error", type=task.cause or task.state, message=asked)
    return case
