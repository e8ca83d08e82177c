"""The merge protocol: the intent is in the log; build, verify, move the branch, report. Each step may be repeated.

A stack is verified at its top. If that fails twice, the lowest candidate with which it fails twice is searched for: what lies
below it lands, it alone is refused, and what lies above it is not spoken of: that waits for the next stack.

What the merge would change is held against what the task protects, here again: whoever carried it out may not be one to believe.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from skep.core import inputs as inp
from skep.core.commands import Merge, Stacked
from skep.core.intent import Candidate, MergeIntent
from skep.core.model import Cause
from skep.errors import SkepError
from skep.runtime.trespass import Repository, trespasses, unresolved
from skep.workspace import Built


class Refusal(Struct, frozen=True):
    """Why a candidate is not merged: for people, and for its next attempt."""

    cause: Cause = ""
    detail: str = ""
    feedback: str = ""


#: Judges a merge commit of which this candidate is the topmost; None = it is good.
Verify = Callable[[Candidate, str], Awaitable[Refusal | None]]


class Branch(Repository, Protocol):
    """What the protocol uses of the port `Workspace`."""

    async def have(self, session: str, *commits: str) -> None:
        """See the port."""

    async def build(
        self, session: str, base: str, candidate: Candidate, at: int, message: str, trailers: Mapping[str, str]
    ) -> Built:
        """See the port."""

    async def tip(self, session: str) -> str:
        """See the port."""

    async def advance(self, session: str, new: str, old: str) -> str:
        """See the port."""


async def land(branch: Branch, session: str, command: Merge, verify: Verify) -> inp.MergeEnded:
    """Brings a stack to the session's branch as far as it is good, and says how far that is.

    Args:
        branch: where the session's branch is kept.
        session: its name.
        command: the stack, and what its tasks say of it.
        verify: judges a prefix of the stack.
    """
    try:
        commits, refusal = await _landed(branch, session, command, verify)
    except SkepError as error:
        commits, refusal = [], Refusal("infrastructure", error.message)
    except OSError as error:
        commits, refusal = [], Refusal("infrastructure", f"{command.tasks[0].title}: {error}")
    why = refusal or Refusal()
    return inp.MergeEnded(
        at=0,
        intent=command.intent,
        commits=tuple(commits),
        cause=why.cause,
        detail=why.detail,
        feedback=why.feedback or why.detail,
    )


async def _landed(branch: Branch, session: str, command: Merge, verify: Verify) -> tuple[Sequence[str], Refusal | None]:
    """The commits that are on the branch now, and why the next one is not."""
    intent = command.intent
    commits, conflict = await _build(branch, session, command)
    tip = await branch.tip(session)
    if tip in commits:
        # An owner that died here had found these good; of the others it knew more than is left.
        # It may have died before that was durable.
        await _advance(branch, session, tip, intent.base)
        landed = commits.index(tip) + 1
        return commits[:landed], conflict if landed == len(commits) else None
    if tip != intent.base:
        return [], _foreign(tip, intent)
    good, refusal = await _judge(intent, commits, verify)
    if good:
        tip = await _advance(branch, session, commits[good - 1], intent.base)
        if tip != commits[good - 1]:
            return [], _foreign(tip, intent)
    return commits[:good], refusal or conflict


async def _advance(branch: Branch, session: str, new: str, old: str) -> str:
    """Moves the branch; returns where it is. If that may not last, it goes back: it must be where the log says."""
    try:
        return await branch.advance(session, new, old)
    except (SkepError, OSError):
        with contextlib.suppress(SkepError, OSError):
            await branch.advance(session, old, new)
        if await branch.tip(session) == new:
            return new
        raise


async def _build(branch: Branch, session: str, command: Merge) -> tuple[list[str], Refusal | None]:
    """The merges of the stack, each upon the one before, up to the first that cannot be built, or does what none may."""
    commits = list[str]()
    for candidate, task in zip(command.intent.stack, command.tasks, strict=True):
        base = commits[-1] if commits else command.intent.base
        try:
            built = await _built(branch, session, command.intent.at, base, candidate, task)
        except SkepError as error:  # its commit is not to be had: that is nobody else's affair
            built = Refusal("infrastructure", error.message)
        except OSError as error:
            built = Refusal("infrastructure", f"{task.title}: {error}")
        if isinstance(built, Refusal):
            return commits, built
        commits.append(built)
    return commits, None


async def _built(branch: Branch, session: str, at: int, base: str, candidate: Candidate, task: Stacked) -> str | Refusal:
    trailers = {"Skep-Session": session, "Skep-Task": candidate.task, "Skep-Attempt": str(candidate.attempt)}
    built = await branch.build(session, base, candidate, at, f"Merge {task.title}", trailers)
    if built.conflicts:
        why = f"conflicts in {', '.join(built.conflicts[:10])}"
        return Refusal("conflict", why, f"{why}\n{built.detail}")
    if why := await trespasses(branch, base, built.commit, task.protect):
        return Refusal("protected", why)
    if task.resolves is not None:
        await branch.have(session, *task.resolves)
        if why := await unresolved(branch, *task.resolves, candidate.commit):
            return Refusal("conflict", why, f"{why}: take those lines out")
    return built.commit


async def _judge(intent: MergeIntent, commits: Sequence[str], verify: Verify) -> tuple[int, Refusal | None]:
    """How many commits are good, from the lowest, and why the next one is not."""

    async def fails(height: int) -> Refusal | None:
        return await verify(intent.stack[height - 1], commits[height - 1])

    good, top = 0, len(commits)
    if not top:
        return 0, None
    whole = await fails(top)
    if whole is not None and whole.cause == "verify-failed":
        whole = await fails(top)
    if whole is None:
        return top, None
    bad, refusal = top, whole
    # What could not be judged is asked about: nobody has failed.
    while refusal.cause == "verify-failed":
        if bad - good > 1:
            middle = (good + bad) // 2
            if (found := await fails(middle)) is None:
                good = middle
            else:
                bad, refusal = middle, found
        elif bad == top:
            break
        elif (found := await fails(bad)) is None:
            # The check was unsteady, and nobody is accused on account of one run: the culprit lies above.
            good, bad, refusal = bad, top, whole
        else:
            return good, found
    return good, refusal


def _foreign(tip: str, intent: MergeIntent) -> Refusal:
    why = f"the session's branch is at {tip[:12]}, where Skep did not put it (expected {intent.base[:12]})"
    return Refusal("infrastructure", why)
