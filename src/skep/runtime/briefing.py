"""What an agent is told about its attempt: gathered from session, git and worktree; `skep.agents.brief` makes the text of it."""

from __future__ import annotations

import asyncio
import os
import shlex
from pathlib import Path

from msgspec.structs import replace

from skep.agents import left
from skep.agents.brief import MAX_INSTRUCTIONS, Brief, compose, fenced, role_of
from skep.core.commands import StartAttempt
from skep.core.messages import talks
from skep.core.model import Plan, Task
from skep.core.phase import GATE
from skep.core.terms import Command
from skep.runtime.environment import Told
from skep.workspace import Workspace

#: The project's instructions for agents.
INSTRUCTIONS = "AGENTS.md"
#: Characters of what git says about work that is gone on with.
MAX_STAT = 4_000


async def brief(workspace: Workspace, command: StartAttempt, told: Told, cwd: str, out: str, reads: bool) -> Brief:
    """All that one attempt's agent is told.

    Args:
        cwd, out: its folders.
        reads: whether its client reads the project's instructions by itself.
    """
    task = command.task
    return Brief(
        objective=told.objective,
        task=told.prompt,
        folder=cwd,
        needs={name: facets for name, facets in told.needs.items() if f"needs.{name}." not in (task.prompt or "")},
        outputs=task.outputs,
        out=out,
        verify=line(task.verify),
        worktree=task.mode != "none",
        feedback=command.feedback,
        resumed=await _resumed(workspace, command),
        instructions="" if reads else await _instructed(cwd),
        memory=told.memory,
    )


def rehearsed(objective: str, task: Task) -> Brief:
    """What is known of it before anything has begun."""
    return Brief(
        objective=objective,
        task=task.prompt or "",
        folder="(its worktree)",
        outputs=task.outputs,
        out="$SKEP_OUT",
        verify=line(task.verify),
        worktree=task.mode != "none",
        needs={name: {"result": f"(what {name} says at its end)"} for name in task.needs if not name.startswith(GATE)},
    )


def rehearse(plan: Plan, own: Path | None) -> dict[str, str]:
    """What the agent of each prompt of a plan would be told at first, as far as that is known now.

    Args:
        own: the user's folder of templates, if there is one.

    Raises:
        Invalid: a template of the user's is not right.
    """
    types = {spec.name: spec.type for spec in plan.agents}
    talk = "(which agent it is, and whom it may write to by which tools)" if talks(plan, plan.agents) else ""
    return {
        task.id: compose(role_of(types.get(task.agent, "")), replace(rehearsed(plan.objective, task), talk=talk), own)
        for task in plan.tasks
        if task.prompt is not None
    }


def line(command: Command | None) -> str:
    """A command as one would type it."""
    if command is None:
        return ""
    return command if isinstance(command, str) else shlex.join(command)


async def _instructed(cwd: str) -> str:
    there = os.path.lexists(os.path.join(cwd, INSTRUCTIONS))
    return await asyncio.to_thread(instructions, Path(cwd)) if there else ""


def instructions(folder: Path) -> str:
    """The project's instructions for agents; nothing if there are none, or if the file is a link that leads out of the folder."""
    real = folder.resolve()
    try:
        path = (folder / INSTRUCTIONS).resolve().relative_to(real)
        return left.read(real, path, 4 * MAX_INSTRUCTIONS, cut="end").decode(errors="replace")
    except (OSError, ValueError, RuntimeError):  # it leads out, or round in a circle
        return ""


async def _resumed(workspace: Workspace, command: StartAttempt) -> str:
    if command.base == command.origin:
        return "Nothing of your earlier work is left: the folder is as it was at the beginning." if command.conversation else ""
    stat = await workspace.diff(command.origin, command.base, stat=True)
    return f"Your earlier work on this is in the folder. What it changed, by `git diff --stat`:\n\n{fenced(stat, MAX_STAT)}"
