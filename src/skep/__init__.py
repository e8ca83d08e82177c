"""Skep: an orchestrator for AI agents. `skep.open` is the way in; `skep.Task` says what is to be done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skep.app import Handle, Session, Skep, open
    from skep.core.model import AgentSpec, Foreach, Limits, Plan, Resources, Retries, Task, Vote
    from skep.errors import Bug, Conflict, Denied, Exhausted, Invalid, NotFound, SkepError, Unavailable
    from skep.runtime.views import Result, SessionView, TaskView

__version__ = "0.1.0"
#: Public name -> where it lives; loaded when first used, so that `import skep` costs little.
_HOMES = {
    "skep.app": ("Handle", "Session", "Skep", "open"),
    "skep.core.model": ("AgentSpec", "Foreach", "Limits", "Plan", "Resources", "Retries", "Task", "Vote"),
    "skep.errors": ("Bug", "Conflict", "Denied", "Exhausted", "Invalid", "NotFound", "SkepError", "Unavailable"),
    "skep.runtime.views": ("Result", "SessionView", "TaskView"),
}
__all__ = [
    "AgentSpec",
    "Bug",
    "Conflict",
    "Denied",
    "Exhausted",
    "Foreach",
    "Handle",
    "Invalid",
    "Limits",
    "NotFound",
    "Plan",
    "Resources",
    "Result",
    "Retries",
    "Session",
    "SessionView",
    "Skep",
    "SkepError",
    "Task",
    "TaskView",
    "Unavailable",
    "Vote",
    "__version__",
    "open",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(home), name)
            return value
    raise AttributeError(f"module 'skep' has no attribute '{name}'")
