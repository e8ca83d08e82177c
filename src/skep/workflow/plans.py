"""A workflow file becomes a plan: read, checked as a whole, completed. Nothing is started and nothing but files is looked at."""

from __future__ import annotations

import hashlib
import os.path
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from skep.core.confinement import Confinement
from skep.core.model import AgentSpec, Limits, Plan, Task, Vote
from skep.core.phase import gate_of, linked
from skep.core.references import nearest
from skep.core.rules import ToolRule
from skep.core.terms import MemoryGrant, Notify, Proposals, Service
from skep.core.topology import Shape
from skep.errors import Invalid, NotFound
from skep.workflow import check
from skep.workflow.check import Draft, Known
from skep.workflow.infer import complete
from skep.workflow.problems import Problems
from skep.workflow.schema import WORKFLOW
from skep.workflow.yamltree import MAX_BYTES, Map, Mark, compose, decode

#: Reads a file; raises Invalid or NotFound.
Read = Callable[[Path], bytes]
#: Text in all prompt files of one workflow, bytes; text of one input, characters.
MAX_PROMPTS = 16 * 1024 * 1024
MAX_INPUT = 65_536
#: Bytes of a name that is made from a file's; a session's name is this and a number.
MAX_NAME_BYTES = 180


def read_file(path: Path) -> bytes:
    """The bytes of a file, at most one more than a workflow or prompt file may have.

    Raises:
        NotFound: there is no such file.
        Invalid: it cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise Invalid(f"{path} is not a file", "Name a workflow file.")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", "Check the path, or start with `skep init`.") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise Invalid(f"{path} cannot be read: {why}", "Name a file that you may read.") from None


def load(path: Path, inputs: Mapping[str, str], *, now: int, read: Read = read_file, known: Known | None = None) -> Plan:
    """Reads and checks a workflow file.

    Args:
        path: of the file; messages name it as it is given here.
        inputs: what the user gave for the declared inputs.
        now: wall-clock milliseconds; deadlines that are durations count from here.
        read: reads the file and the prompt files that it names.
        known: runtimes and agent types that exist.

    Raises:
        Invalid: everything that is wrong with it, one line each, `file:line:column: what`.
        NotFound: there is no such file.
    """
    return parse(read(path), str(path), inputs, now=now, file=Path(os.path.abspath(path)), read=read, known=known)


def parse(
    data: bytes | str,
    source: str,
    inputs: Mapping[str, str],
    *,
    now: int,
    file: Path | None = None,
    read: Read = read_file,
    known: Known | None = None,
) -> Plan:
    """Checks a workflow that is at hand. As `load`, with:

    Args:
        data: the text.
        source: what messages call it.
        file: where it came from, absolute; None = from nowhere, then paths in it resolve from the current folder.
    """
    problems = Problems(source)
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(raw) > MAX_BYTES:
        problems.add(Mark(1, 1), f"the file is larger than {MAX_BYTES} bytes")
    text = decode(raw, problems) if not problems else None
    root = compose(text, problems) if text is not None else None
    values = WORKFLOW.read(root, "", problems) if root is not None else None
    if not isinstance(root, Map) or not isinstance(values, dict):
        problems.check()
        raise Invalid(f"{source} is no workflow file")
    given = _inputs(_written(values, root, "inputs"), root, inputs, problems)
    drafts = _checked(values, root, file, read, known or Known(), problems)
    problems.check()
    gates = tuple(_gate(name, spec) for name, spec in values.get("phases", {}).items())
    environment = values.get("environment", {})
    folder, shape = file.parent if file is not None else Path(), values.get("topology", "")
    voters = {vote["by"] for draft in drafts.values() if isinstance(vote := draft.values.get("vote"), dict)}
    voters |= {gate.vote.by for gate in gates if gate.vote is not None}
    return Plan(
        name=values.get("name") or name_of(file.stem if file is not None else source),
        objective=values.get("objective", ""),
        inputs=given,
        limits=msgspec.convert(values.get("limits", {}), Limits),
        agents=tuple(agent(name, spec, name in voters) for name, spec in values.get("agents", {}).items()),
        tasks=linked((*(_task(draft, now) for draft in drafts.values()), *gates), {}),
        verify=values.get("verify"),
        setup=_commands(environment.get("setup", ())),
        services=tuple(Service(name=name, **one) for name, one in environment.get("services", {}).items()),
        rules=msgspec.convert(values.get("rules", ()), tuple[ToolRule, ...]),
        sandbox=_confined(values["sandbox"]) if "sandbox" in values else None,
        memory=_memory(values["memory"]) if "memory" in values else None,
        proposals=_proposals(values.get("proposals", {})),
        notify=tuple(msgspec.convert(one, Notify) for one in values.get("notify", ())),
        topology=msgspec.convert(shape if isinstance(shape, dict) else {"kind": shape}, Shape),
        source=str(file) if file is not None else "",
        fingerprint=hashlib.sha256(raw).hexdigest(),
        workspace=os.path.normpath(folder / values["workspace"]) if "workspace" in values else "",
    )


def _checked(
    values: dict[str, Any], root: Map, file: Path | None, read: Read, known: Known, problems: Problems
) -> dict[str, Draft]:
    """The tasks, with prompts read from their files, after every check."""
    specs = _written(values, root, "agents")
    if isinstance(node := root.entries.get("agents"), Map):
        check.agents(specs, node, known, problems)
    tasks, node = _written(values, root, "tasks"), root.entries.get("tasks")
    drafts = check.drafts(tasks, node, values.get("defaults", {})) if isinstance(node, Map) else {}
    _read_prompts(drafts, file, read, problems)
    check.tasks(drafts, {**known.agents, **specs}, _written(values, root, "inputs"), problems)
    if isinstance(node := root.entries.get("phases"), Map):
        check.phases(_written(values, root, "phases"), node, drafts, {**known.agents, **specs}, problems)
    else:
        check.no_phases(drafts, problems)
    return drafts


def _written(values: Mapping[str, Any], root: Map, key: str) -> dict[str, Any]:
    """All that is declared under a key, also what could not be read: nobody is to hear that it is not there."""
    node = root.entries.get(key)
    return {name: values.get(key, {}).get(name, {}) for name in node.entries} if isinstance(node, Map) else {}


def _read_prompts(drafts: Mapping[str, Draft], file: Path | None, read: Read, problems: Problems) -> None:
    """Puts the text of prompt files in the place of their names."""
    texts: dict[str, str | None] = {}
    total = 0
    for draft in drafts.values():
        prompt = draft.values.get("prompt")
        if not isinstance(prompt, dict):
            continue
        name = prompt.get("file", "")
        if name and name not in texts:
            data = _prompt(draft, name, file, read, problems)
            total += len(data)
            own = Problems(name)
            texts[name] = decode(data, own)
            if own:
                problems.add(draft.at("prompt", "file"), f"{name} is not UTF-8")
        if total > MAX_PROMPTS:
            problems.add(draft.at("prompt", "file"), f"the prompt files together are larger than {MAX_PROMPTS} bytes")
            return
        draft.values["prompt"] = texts.get(name) or ""


def _prompt(draft: Draft, name: str, file: Path | None, read: Read, problems: Problems) -> bytes:
    path = (file.parent if file is not None else Path()) / name
    try:
        data = read(path)
    except (Invalid, NotFound) as error:
        problems.add(draft.at("prompt", "file"), error.message)
        return b""
    if len(data) > MAX_BYTES:
        problems.add(draft.at("prompt", "file"), f"{name} is larger than {MAX_BYTES} bytes")
        return b""
    if not data.strip():
        problems.add(draft.at("prompt", "file"), f"{name} is empty")
    return data


def _inputs(declared: Mapping[str, Any], root: Map, given: Mapping[str, str], problems: Problems) -> dict[str, str]:
    """The value of every declared input."""
    place = root.entries.get("inputs", root)
    for name in given:
        if name not in declared:
            hint = nearest(name, declared) or (
                f"; declared are {', '.join(declared)}" if declared else "; the file declares none"
            )
            problems.add(place, f"an input {name[:60]!r} was given, which is not declared{hint}")
        elif len(given[name]) > MAX_INPUT:
            problems.add(place, f"input {name!r} is longer than {MAX_INPUT} characters")
        elif re.search("[\0\ud800-\udfff]", given[name]):
            problems.add(place, f"input {name!r} is not text")
    values = {}
    for name, spec in declared.items():
        inner = place.entries[name] if isinstance(place, Map) else place
        if spec.get("required") and "default" in spec:
            problems.add(inner, f"input {name!r} is required, so its default would never be used")
        elif spec.get("required") and name not in given:
            about = f" ({spec['description']})" if spec.get("description") else ""
            problems.add(inner, f"input {name!r}{about} is required; give it with --input {name}=...")
        values[name] = given.get(name, spec.get("default", ""))
    return values


def _task(draft: Draft, now: int) -> Task:
    values = {key: value for key, value in draft.values.items() if key not in ("with", "deadline", "setup")}
    if deadline := draft.values.get("deadline"):
        at = deadline.timestamp() if isinstance(deadline, datetime) else now / 1000 + deadline
        values["deadline"] = int(at * 1000)
    values["setup"] = _commands(draft.values.get("setup", ()))
    if isinstance(values.get("candidates"), int):
        values["candidates"] = ("",) * values["candidates"]
    return complete(msgspec.convert({**values, "id": draft.id, "options": draft.values.get("with", {})}, Task))


def _gate(name: str, spec: Mapping[str, Any]) -> Task:
    """The gate of a phase, which is a task."""
    gate = spec.get("gate", {})
    return Task(
        id=gate_of(name),
        phase=name,
        gate=True,
        objective=spec.get("objective", ""),
        type="gate",
        run=gate.get("verify"),
        vote=msgspec.convert(gate["vote"], Vote) if "vote" in gate else None,
        approve="after" if gate.get("approve") else "",
        timeout=gate.get("timeout", 0.0),
        mode="isolated" if "verify" in gate else "none",
        merge="never",
    )


def agent(name: str, spec: dict[str, Any], votes: bool) -> AgentSpec:
    """Agents are as many as there is work for, voters as many as there are to be votes."""
    confined = {"sandbox": _confined(spec["sandbox"])} if "sandbox" in spec else {}
    granted = {"memory": _memory(spec["memory"])} if "memory" in spec else {}
    return msgspec.convert({"name": name, "count": int(votes), **spec, **confined, **granted}, AgentSpec)


def _confined(value: Any) -> Confinement:
    """`on` or `off` alone stands for the mode."""
    return msgspec.convert({"mode": value} if isinstance(value, str) else value, Confinement)


def _memory(value: Any) -> MemoryGrant:
    """`on` or `off` alone stands for the mode."""
    return msgspec.convert({"mode": value} if isinstance(value, str) else value, MemoryGrant)


def _proposals(value: Any) -> Proposals:
    """The rule alone stands for all of it."""
    return msgspec.convert({"rule": value} if isinstance(value, str) else value, Proposals)


def _commands(value: Any) -> Any:
    """One command alone stands for a list of it."""
    return (value,) if isinstance(value, str) else value


def name_of(stem: str) -> str:
    """A session's name made from a file's: its letters and digits, whatever script they are of."""
    kept = (c if c in "_-" or unicodedata.category(c)[0] in "LNM" else "-" for c in unicodedata.normalize("NFC", stem))
    name = re.sub("-+", "-", "".join(kept))[:63].encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip("-_")
    return name if name[:1].isalnum() else "workflow"
