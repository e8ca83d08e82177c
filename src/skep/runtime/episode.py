"""What is kept of an attempt: what it tried, what Skep saw of how it ended, and, apart from that, what was said. Pure.

An episode is made of a session's events alone, so it is the same whoever makes it, and has a key of its own: to make it twice is
to make it once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from skep.agents.brief import shortened
from skep.core import events as ev
from skep.core.model import AgentSpec, Cost, Task
from skep.core.placement import kind_of
from skep.memory.draft import Draft

#: How the keys of episodes begin.
EPISODES = "episode/"
#: Seconds for which an episode is kept: 90 days. What lasts is made of several, by consolidating.
KEPT = 90 * 86_400
#: Characters of what was said, of a title, of a part of a key that stands there as it is; files that are named, and characters of
#: each. All in all an episode stands in its record: what lay aside would be in no prompt and make no fact.
MAX_SAID, MAX_TITLE, MAX_PART, MAX_FILES, MAX_FILE = 2_000, 200, 100, 50, 150


class Tried(Struct):
    """One attempt, as far as its events are known. `seq`: number of its first event."""

    seq: int
    agent: str = ""
    base: str = ""
    at: int = 0
    model: str = ""
    cost: Cost | None = None
    result: Any = None
    exit_code: int | None = None
    commit: str = ""


def episodes_of(plan: str, task: str) -> str:
    """How the keys of all attempts at a task begin, in all sessions of a workflow of that name."""
    return f"{EPISODES}{_part(plan)}/{_part(task)}/"


def key_of(plan: str, task: str, session: str, n: int) -> str:
    """The key of an attempt."""
    return f"{episodes_of(plan, task)}{_part(session)}/{n}"


def worth(task: Task, outcome: str) -> bool:
    """Whether an attempt is kept: of prompts all, of commands and callables those that failed; never a vote, nor a gate."""
    return not task.ballot and not task.gate and (kind_of(task) == "prompt" or outcome == "failed")


def gather(known: dict[tuple[str, int], Tried], number: int, event: ev.Event) -> Tried | None:
    """Takes an event of a session in, in their order; returns the attempt if that is how it ended.

    Args:
        known: attempts under way, by task and number.
        number: of the event.
    """
    if isinstance(event, ev.TaskAssigned):
        known[event.task, event.n] = Tried(number, event.agent, event.base, event.at)
    elif isinstance(event, ev.AttemptSpent) and (tried := known.get((event.task, event.n))) is not None:
        tried.cost = tried.cost or Cost()
        tried.cost.add(event.cost)
        tried.model = event.model or tried.model
    elif isinstance(event, ev.AttemptWorked) and (tried := known.get((event.task, event.n))) is not None:
        tried.result, tried.exit_code, tried.commit = event.result, event.exit_code, event.commit
    elif isinstance(event, ev.AttemptEnded):
        return known.pop((event.task, event.n), None) or Tried(number, at=event.at)
    return None


def draft(
    namespace: str,
    plan: str,
    session: str,
    task: Task,
    spec: AgentSpec | None,
    tried: Tried,
    ended: ev.AttemptEnded,
    files: Sequence[str],
) -> Draft:
    """The episode of an attempt that ended.

    Args:
        spec: the kind of its agent, if that is still known.
        files: what it changed.
    """
    cost = tried.cost or Cost()
    about = {
        "task": task.id,
        "title": task.objective[:MAX_TITLE],
        "work": _first_line(task),
        "digest": hashlib.sha256(_work(task).encode()).hexdigest()[:16],
        "agent": tried.agent,
        "runtime": spec.runtime if spec is not None else "",
        "model": tried.model or (spec.model if spec is not None else ""),
        "attempt": ended.n,
    }
    judged = "failed" if ended.cause == "verify-failed" else "passed" if ended.outcome == "ok" else ""
    seen = {
        "outcome": ended.outcome,
        "cause": ended.cause,
        "exit_code": ended.exit_code if ended.exit_code is not None else tried.exit_code,
        "verify": judged if task.verify is not None else "",
        "files": [name if len(name) <= MAX_FILE else f"{name[:MAX_FILE]}..." for name in files[:MAX_FILES]],
        "seconds": round((ended.at - tried.at) / 1000, 1),
        "usd": round(cost.usd, 6),
        "tokens": cost.tokens,
    }
    result = ended.result if ended.result is not None else tried.result
    said = {"result": _said(result), "last": _said(ended.feedback or ended.detail) if ended.outcome != "ok" else ""}
    return Draft(
        namespace=namespace,
        key=key_of(plan, task.id, session, ended.n),
        value={"tried": _filled(about), "observed": _filled(seen), "said": _filled(said)},
        kind="episodic",
        tags=("episode", ended.outcome),
        metadata={"plan": plan, "attempt": ended.n},
        ttl=KEPT,
        rule="last",
    )


def _filled(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in ("", None, [])}


def _work(task: Task) -> str:
    if task.prompt is not None:
        return task.prompt
    if task.call is not None:
        return task.call
    return task.run if isinstance(task.run, str) else " ".join(task.run or ())


def _first_line(task: Task) -> str:
    return next((line.strip() for line in _work(task).splitlines() if line.strip()), "")[:MAX_TITLE]


def _said(value: Any) -> str:
    if value in (None, "", [], {}):
        return ""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return shortened(text.encode(errors="replace").decode(), MAX_SAID)


def _part(name: str) -> str:
    """A name as a part of a key: as it is or, where it is long or has signs that mean something there, with a digest."""
    if len(name) <= MAX_PART and name.isprintable() and "/" not in name and name == name.strip():
        return name
    plain = "".join(sign for sign in name if sign.isprintable() and sign != "/").strip()[: MAX_PART // 2]
    return f"{plain}~{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:16]}"
