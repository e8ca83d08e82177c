"""Fleet files: YAML to a checked `Fleet`, by the same loader and with the same errors as workflow files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from skep.core.fleet import MAX_SWARMS, Fleet, Swarm
from skep.core.model import AgentSpec
from skep.core.placement import BUILT_IN
from skep.core.references import nearest
from skep.core.terms import Placement
from skep.errors import Invalid
from skep.workflow import check
from skep.workflow.check import Known
from skep.workflow.kinds import Choice, Duration, ListOf, MapOf, Number, Size, Text
from skep.workflow.plans import Read, agent, name_of, read_file
from skep.workflow.problems import Problems
from skep.workflow.record import Field, Record
from skep.workflow.schema import AGENT
from skep.workflow.words import LABEL, NAME, WORDS
from skep.workflow.yamltree import MAX_BYTES, Map, Mark, compose, decode

_NODE = Text("the name of a node", r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FACTORS = ("availability", "expertise", "workload", "performance", "affinity", "cost", "history")

SWARM = Record(
    "Swarm",
    "One session of the fleet, called `FLEET.SWARM`, and what it must have.",
    {
        "slots": Field(Number(1, 10_000), "Attempts at once.", required=True),
        "labels": Field(
            MapOf(LABEL, Text(most=200)), "Labels, with their values, that its nodes must carry; its tasks go to no others."
        ),
        "runtimes": Field(
            ListOf(NAME, most=50),
            "What carries its tasks out. One without an agent in `agents` gets one of its name.",
            "`shell`, `python`, and those of its agents",
        ),
        "agents": Field(MapOf(NAME, AGENT, most=200), "Kinds of agents, as in a workflow file."),
        "cpu": Field(Number(0, 100_000, whole=False), "Cores that each slot has on its node.", "not reserved"),
        "memory": Field(Size(), "Memory that each slot has on its node.", "not reserved"),
    },
)

PLACEMENT = Record(
    "Placement",
    "How swarms are ranked for a task.",
    {
        "profile": Field(Choice(("balanced", "routing")), "The weights of the factors.", "`balanced`"),
        "weights": Field(
            MapOf(Text("a factor", "|".join(_FACTORS)), Number(0, 1_000_000, whole=False)),
            "Replace the profile's: " + ", ".join(f"`{name}`" for name in _FACTORS) + ".",
        ),
    },
)

FLEET = Record(
    "Fleet file",
    "Keys that begin with `x-` are ignored: a place for anchors.",
    {
        "version": Field(Number(1, 1), "The format: 1.", required=True),
        "name": Field(NAME, "The fleet's name.", "the file's name"),
        "objective": Field(WORDS, "What it is for, for people."),
        "swarms": Field(MapOf(NAME, SWARM, least=1, most=MAX_SWARMS), "The swarms by name.", required=True),
        "placement": Field(PLACEMENT, "How swarms are ranked for a task."),
        "queue": Field(Duration(), "A ready task that waits for longer makes the fleet degraded.", "10m"),
        "nodes": Field(ListOf(_NODE), "Nodes that are to be there: one that is not makes the fleet degraded."),
    },
    ignored="x-",
)


def load(path: Path, *, read: Read = read_file, known: Known | None = None) -> Fleet:
    """Reads and checks a fleet file.

    Args:
        path: of the file; messages name it as it is given here.
        known: runtimes and agent types that exist.

    Raises:
        Invalid: everything that is wrong with it, one line each, `file:line:column: what`.
        NotFound: there is no such file.
    """
    return parse(read(path), str(path), name_of(path.stem), known=known)


def parse(data: bytes, source: str, name: str = "fleet", known: Known | None = None) -> Fleet:
    """Checks a fleet file that is at hand. As `load`, with:

    Args:
        data: the text.
        source: what messages call it.
        name: the fleet's, if the file does not say one.
    """
    problems = Problems(source)
    if len(data) > MAX_BYTES:
        problems.add(Mark(1, 1), f"the file is larger than {MAX_BYTES} bytes")
    text = decode(data, problems) if not problems else None
    root = compose(text, problems) if text is not None else None
    values = FLEET.read(root, "", problems) if root is not None else None
    if not isinstance(root, Map) or not isinstance(values, dict):
        problems.check()
        raise Invalid(f"{source} is no fleet file")
    node = root.entries.get("swarms")
    for key, spec in values.get("swarms", {}).items():
        inner = node.entries[key] if isinstance(node, Map) else None
        if isinstance(inner, Map) and isinstance(spec, dict):
            _check(key, spec, inner, known or Known(), problems)
    problems.check()
    called = values.get("name") or name
    return Fleet(
        name=called,
        swarms=tuple(_swarm(called, key, spec) for key, spec in values["swarms"].items()),
        placement=msgspec.convert(values.get("placement", {}), Placement),
        queue=values.get("queue", 600.0),
        nodes=values.get("nodes", ()),
    )


def _check(key: str, spec: Mapping[str, Any], node: Map, known: Known, problems: Problems) -> None:
    """Runtimes and types exist, and a swarm with runtimes has no agents of others."""
    if isinstance(inner := node.entries.get("agents"), Map):
        check.agents(spec.get("agents", {}), inner, known, problems)
    runtimes = spec.get("runtimes", ())
    for runtime in runtimes:
        if runtime not in known.runtimes:
            hint = nearest(runtime, known.runtimes) or f"; there are {', '.join(known.runtimes)}"
            problems.add(node.entries["runtimes"], f"swarm {key!r}: there is no runtime {runtime!r}{hint}")
    for name, one in spec.get("agents", {}).items():
        if runtimes and one.get("runtime") not in runtimes:
            problems.add(node.entries["agents"], f"swarm {key!r}: agent {name!r} has a runtime that is not in its `runtimes`")


def _swarm(fleet: str, name: str, spec: Mapping[str, Any]) -> Swarm:
    agents = [agent(key, one, False) for key, one in spec.get("agents", {}).items()]
    served = {one.runtime for one in agents} | set(BUILT_IN.values())
    agents += [AgentSpec(name=one, runtime=one, count=0) for one in spec.get("runtimes", ()) if one not in served]
    return Swarm(
        name=name,
        session=f"{fleet}.{name}",
        slots=spec["slots"],
        labels=spec.get("labels", {}),
        runtimes=spec.get("runtimes", ()),
        agents=tuple(agents),
        cpu=float(spec.get("cpu", 0.0)),
        memory=spec.get("memory", 0),
    )


def reference() -> str:
    """The manual's reference of the fleet file, in Markdown."""
    lines: list[str] = []
    for record in (FLEET, SWARM, PLACEMENT):
        lines += ["", f"## {record.title}", "", record.about, "", "| key | takes | what it is for | when not given |"]
        lines.append("|---|---|---|---|")
        for key, one in record.fields.items():
            default = "**required**" if one.required else one.default
            cells = (f"`{key}`", one.kind.words, one.about, default)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    head = ["# Fleet file reference", "", "Made from the same table as the checker. Agents: [Workflow file](workflow.md#agent)."]
    return "\n".join([*head, *lines]) + "\n"
