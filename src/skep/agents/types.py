"""Agent types: what an agent that names one can do, weighs, and is taken to do well. The built-in ones are in `types.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from skep.core.model import AgentSpec, Resources
from skep.errors import Invalid

Level = Literal["low", "medium", "high", "very high"]
GB = 10**9


class AgentType(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One type.

    Args:
        category: core, coordination, specialized, or what the user calls it.
        capabilities: what such agents can do.
        cpu: cores.
        memory, storage: GB.
        speed, accuracy: how such agents work, for people.
        reliability: prior of the success rate.
    """

    category: str = "custom"
    capabilities: tuple[str, ...] = ()
    cpu: Annotated[float, Meta(ge=0)] = 0.0
    memory: Annotated[float, Meta(ge=0)] = 0.0
    storage: Annotated[float, Meta(ge=0)] = 0.0
    speed: Level = "medium"
    accuracy: Level = "medium"
    reliability: Annotated[float, Meta(ge=0, le=1)] = 0.9

    @property
    def resources(self) -> Resources:
        """Its figures as the placement counts them."""
        return Resources(cpu=self.cpu, memory=int(self.memory * GB), storage=int(self.storage * GB))


@cache
def _built_in() -> dict[str, dict[str, Any]]:
    return tomllib.loads((files("skep.agents") / "types.toml").read_text("utf-8"))


def load(own: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, AgentType]:
    """All types by name: the built-in ones, then the user's.

    Args:
        own: `[types]` of the configuration. One of a built-in name changes the fields it gives and leaves the others.

    Raises:
        Invalid: names the type and the field.
    """
    types: dict[str, AgentType] = {}
    given = own or {}
    for name in [*_built_in(), *(name for name in given if name not in _built_in())]:
        try:
            types[name] = msgspec.convert({**_built_in().get(name, {}), **given.get(name, {})}, AgentType)
        except (msgspec.ValidationError, TypeError) as error:
            raise Invalid(f"The agent type {name!r} is not right: {error}.", "Correct [types] in skep.toml.") from None
    return types


def scaled(types: Mapping[str, AgentType], has: Resources) -> tuple[dict[str, AgentType], list[str]]:
    """The types with no figure above what the machine has, and a sentence for each that had one: to be said once.

    Args:
        has: what the machine has.
    """
    most = {"cpu": has.cpu, "memory": has.memory / GB, "storage": has.storage / GB}
    units = {"cpu": "cpu", "memory": "GB memory", "storage": "GB storage"}
    fitting, said = {}, []
    for name, kind in types.items():
        less = {field: limit for field, limit in most.items() if getattr(kind, field) > limit}
        fitting[name] = replace(kind, **less)
        if less:
            parts = [f"{getattr(kind, field):g} {units[field]} to {limit:.3g}" for field, limit in less.items()]
            said.append(f"agent type {name} is scaled down to this machine: {', '.join(parts)}")
    return fitting, said


def fill(spec: AgentSpec, types: Mapping[str, AgentType]) -> AgentSpec:
    """An agent with what its type gives in the fields that it leaves empty (a reliability of 0.9 counts as empty).

    Raises:
        Invalid: there is no such type.
    """
    if not spec.type:
        return spec
    kind = types.get(spec.type)
    if kind is None:
        raise Invalid(f"The agent {spec.name} has the type {spec.type!r}, which there is none of.", f"Use {', '.join(types)}.")
    return replace(
        spec,
        capabilities=spec.capabilities or kind.capabilities,
        resources=spec.resources or kind.resources,
        reliability=kind.reliability if spec.reliability == _unset else spec.reliability,
    )


_unset = AgentSpec(name="", runtime="").reliability
