"""What an agent sees that resolves a conflict: a worktree with both sides in it, and what they were about."""

from __future__ import annotations

from msgspec.structs import replace

from skep.agents.brief import MAX_PIECE, fenced
from skep.core.model import Entry
from skep.core.state import State
from skep.errors import NotFound
from skep.runtime.ballots import the_task
from skep.runtime.environment import Told
from skep.workspace import Clash, Workspace


async def put_before(workspace: Workspace, state: State, made: Entry, told: Told) -> Told:
    """What the agent is told, with the two sides put below it, and what its worktree is to hold.

    Raises:
        NotFound: the task whose work does not merge is not there any more.
        Unavailable, Invalid: git cannot merge the two at all.
    """
    parent = state.entries.get(made.task.parent)
    if parent is None:
        raise NotFound(f"the task '{made.task.parent}', whose conflict this resolves, is gone")
    task = the_task(state, parent)
    await workspace.have(state.session, made.base, made.task.resolves)
    clash = await workspace.clash(made.base, made.task.resolves)
    about = _about(clash, made.base, made.task.resolves)
    said = f"{told.prompt}\n\n# The task whose work does not merge\n\n{task}\n\n{about}\n"
    return replace(told, prompt=said, tree=clash.tree)


def _about(clash: Clash, ours: str, theirs: str) -> str:
    if not clash.paths:
        return "# What conflicts\n\nNothing any more: by now git merges the two by itself. See that the result is right."
    since = "\n".join(clash.since) or "(no commit of it changed these files under their present names)"
    paths = "\n".join(clash.paths)
    return f"""# What was merged meanwhile

Titles of what changed the same files:

{fenced(since, MAX_PIECE)}

# What conflicts

These files, from the top of the repository:

{fenced(paths, MAX_PIECE)}

In git's words:

{fenced(clash.detail, MAX_PIECE)}

There {ours} is what is merged so far, and {theirs} the work that does not merge.
Text has both sides between conflict markers. Of what git cannot mix (a binary file, a file that one side deleted, two names
or kinds of one file) the folder holds what git says was left: leave there what is right. Each side as it was:

    git show {ours}:PATH
    git show {theirs}:PATH"""
