"""What an attempt may see and do: the user's words (settings, session, agent) become paths and numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from skep.config import SandboxConfig
from skep.core.confinement import Confinement
from skep.core.model import AgentSpec, Plan, Task
from skep.core.placement import INPROCESS, kind_of
from skep.errors import Invalid
from skep.runtime.grants import needs
from skep.security import PROPERTIES, Bounds, Limits
from skep.security.tools import inside, outermost, tools
from skep.workspace import Around

#: Name of a client -> where it keeps its credentials in the user's home.
CREDENTIALS: dict[str, tuple[str, ...]] = {
    "aws": (".aws",),
    "claude": (".claude", ".claude.json"),
    "codex": (".codex",),
    "gcloud": (".config/gcloud",),
    "gemini": (".gemini",),
    "gh": (".config/gh",),
    "opencode": (".local/share/opencode", ".config/opencode"),
}


def of_agent(config: SandboxConfig, plan: Plan, spec: AgentSpec) -> Confinement:
    """How an agent is confined: by the settings, the session, what its runtime needs, and its own words."""
    return settled(config, plan.sandbox, needs(spec), spec.sandbox)


def settled(config: SandboxConfig, *said: Confinement | None) -> Confinement:
    """What holds: lists add up; of everything else the last that says something counts.

    Args:
        said: by the session, then by the agent.

    Raises:
        Invalid: there is no such property, or no such client.
    """
    total = msgspec.convert(msgspec.to_builtins(config), Confinement)
    for one in said:
        given = msgspec.to_builtins(one) if one is not None else {}
        for name, value in given.items():
            merged = (*getattr(total, name), *value) if isinstance(value, list | tuple) else value
            total = msgspec.structs.replace(total, **{name: merged})
    for known, names, what in ((PROPERTIES, total.require, "property"), (CREDENTIALS, total.credentials, "client")):
        if strange := [name for name in names if name not in known]:
            raise Invalid(f"The sandbox knows no {what} '{strange[0]}'.", f"Known are {', '.join(known)}.")
    return total


def at_work(config: SandboxConfig, plan: Plan, specs: Iterable[AgentSpec], tasks: Iterable[Task]) -> dict[str, Confinement]:
    """How each agent is confined that starts programs for these tasks, by its name. Raises Invalid as `settled`.

    Args:
        specs: the agents, the built-in ones among them: these count if there is a task of their kind.
    """
    kinds = {kind_of(task) for task in tasks}
    idle = {name for name, kind in (("shell", "run"), ("python", "call")) if kind not in kinds}
    used = [spec for spec in specs if spec.runtime != INPROCESS and spec.name not in idle]
    return {spec.name: of_agent(config, plan, spec) for spec in used}


def bounds(
    said: Confinement, folder: Path, state: Path, env: Mapping[str, str], around: Around, own: Sequence[str], home: str
) -> Bounds:
    """The bounds of one attempt.

    Args:
        said: what holds, from `settled`.
        folder: the workspace, from which relative paths are.
        state: the state folder: never seen but for what is named.
        env: of the attempt.
        around: the worktree, or the workspace where there is none, and what git needs.
        own: further folders of the attempt's own.
        home: the folder that becomes HOME; empty = one in memory.
    """
    user = env.get("HOME", "")
    read = [*_paths(said.read, folder, user), f"{state}/attempts/nothing.json"]
    write = [*_paths(said.write, folder, user), *own]
    write += [f"{user}/{path}" for name in said.credentials for path in CREDENTIALS[name]]
    read += around.read
    write += around.write
    kept = tuple(_real(write))
    seen = tuple(path for path in outermost({*_real(read), *tools(env)}) if not any(inside(path, other) for other in kept))
    place = os.path.realpath(state)
    hidden = (place,) if os.path.isdir(place) and any(inside(place, path) for path in (*seen, *kept)) else ()
    return Bounds(
        write=kept,
        own=tuple(_real([*around.write, *own, *([home] if home else ())])),
        read=seen,
        instead=around.instead,
        hidden=hidden,
        home=home,
        limits=Limits(
            cpu=said.cpu,
            memory=said.memory or _memory(),
            processes=said.processes,
            disk=said.disk,
            disk_total=said.disk_total,
        ),
    )


def _paths(given: Sequence[str], folder: Path, user: str) -> Iterator[str]:
    for path in given:
        yield os.path.join(folder, user + path[1:] if path == "~" or path.startswith("~/") else path)


def _real(paths: Sequence[str]) -> Iterator[str]:
    """Without symbolic links, those that are there, none twice and none within another."""
    yield from outermost({os.path.realpath(path) for path in paths if os.path.exists(path)})


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4
