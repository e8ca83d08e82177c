"""A workflow file as a plan, and what would come of the plan: read, looked at, nothing started. Part of the door, `skep.app`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from skep import config as configuration
from skep import workflow
from skep.core.model import Plan
from skep.runtime import briefing, node, plans
from skep.runtime.plans import Step
from skep.runtime.typed import path as path_of


def read_plan(path: str | Path, inputs: Mapping[str, str] | None = None, *, select: str = "", agents: int = 0) -> Plan:
    """Reads and checks a workflow file; nothing is started.

    Args:
        inputs: values for the inputs that the file declares.
        select: the part of its tasks to take, as in `skep.workflow.select`; empty = all.
        agents: attempts at once, in place of the file's own limit; 0 = the file's.

    Raises:
        Invalid: everything that is wrong with it, with line and column.
        NotFound: there is no such file.
    """
    plan = workflow.load(path_of(path, "path"), inputs or {}, now=time.time_ns() // 1_000_000)
    if select:
        plan = workflow.select(plan, select)
    if agents:
        plan = msgspec.structs.replace(plan, limits=msgspec.structs.replace(plan.limits, agents=agents))
    return plan


def planning(objective: str, workspace: str | Path = ".", runtime: str = "") -> Plan:
    """The plan of a session that plans an objective by the configured planner; nothing is started.

    Args:
        runtime: of the planner, in place of the configured one (and then its model and settings are the runtime's own).

    Raises:
        Invalid: no planner is configured, or what is configured is not right.
    """
    planner = configuration.load(path_of(workspace, "workspace").expanduser().resolve()).planner
    if runtime and runtime != planner.runtime:
        planner = msgspec.structs.replace(planner, runtime=runtime, model="", options={})
    return workflow.planning(objective, planner)


def preview(plan: Plan, workspace: str | Path = ".", config: configuration.Config | None = None) -> list[Step]:
    """What carrying out a plan in a workspace would begin with, task by task, and why. Touches nothing.

    Raises:
        Invalid, Conflict, Exhausted: it can never work there; with the reason.
    """
    folder = path_of(workspace, "workspace").expanduser().resolve()
    return plans.preview(plans.complete(plan, config or configuration.load(folder)), node.Here().join(folder, node.SystemClock()))


def prompts(plan: Plan, workspace: str | Path = ".", config: configuration.Config | None = None) -> dict[str, str]:
    """What the agent of each prompt of a plan would be told at first, by task, as far as that is known now. Starts nothing.

    Raises:
        Invalid: a template of the user's own is not right.
    """
    folder = path_of(workspace, "workspace").expanduser().resolve()
    own = (config or configuration.load(folder)).prompts.folder
    return briefing.rehearse(plan, folder / own if own else None)


def foretold(plan: Plan, workspace: str | Path = ".") -> str:
    """How a plan's programs would be confined: `confined (bubblewrap)`, `unconfined`, or both with the agents' names."""
    folder = path_of(workspace, "workspace").expanduser().resolve()
    return plans.foretold(plan, configuration.load(folder))
