"""What a task does not say about itself, but its words do: type, complexity, capabilities. A guess, and from what it is made."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import msgspec

from skep.core.model import Task
from skep.core.placement import kind_of
from skep.workflow.check import default_mode

#: Task type -> the capability it asks for (of the agent types' own list), and the beginnings of words that speak for it.
#: Of two types with as many words the earlier one is taken.
TYPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "security": ("security-analysis", ("secur", "vulnerab", "exploit", "cve", "audit", "bandit", "semgrep", "trivy")),
    "performance": (
        "performance-analysis",
        ("perform", "benchmark", "profil", "latency", "throughput", "speed", "optimi", "hyperfine"),
    ),
    "review": ("code-review", ("review", "critique", "assess", "approve", "judge")),
    "testing": ("testing", ("test", "coverage", "pytest", "tox", "jest", "unittest", "reproduc", "e2e")),
    "debugging": ("debugging", ("debug", "fix", "bug", "crash", "traceback", "regression", "broken", "fail")),
    "refactoring": ("refactoring", ("refactor", "rename", "simplif", "cleanup", "restructur", "extract", "dedup")),
    "documentation": (
        "documentation",
        ("document", "docs", "readme", "docstring", "manual", "tutorial", "changelog", "mkdocs", "sphinx"),
    ),
    "research": (
        "information-gathering",
        ("research", "investigat", "explore", "survey", "compare", "find", "summari", "gather"),
    ),
    "planning": ("analysis", ("plan", "design", "architect", "analy", "estimat", "outline", "breakdown")),
    "validation": ("validation", ("lint", "validat", "check", "ruff", "mypy", "eslint", "flake8", "format", "typecheck")),
    "coding": ("coding", ("implement", "write", "add", "build", "creat", "code", "support", "port", "migrat", "compile", "make")),
}
#: Beginnings of words that make a task hard, whatever its length.
HARD = ("architect", "migrat", "redesign", "rewrite", "concurren", "distributed", "secur", "protocol", "end-to-end", "whole")
#: Work told in at most so many words is of low complexity, in more than so many of high.
FEW, MANY = 12, 150
#: Only the beginning of a long text is looked at, characters.
LOOKED_AT = 4_000

_REFERENCE = re.compile(r"\$\{\{.*?\}\}")
_WORD = re.compile(r"[a-z0-9][a-z0-9-]*")


class Reading(NamedTuple):
    """What the words of a text say: the type and the word that tells it, a word that makes it hard, how many words there are."""

    type: str
    telling: str
    hard: str
    words: int


def complete(task: Task) -> Task:
    """The task with its mode filled in, and with type, complexity and capabilities inferred where it does not say them.

    `inferred` names each field that was, and from what. A task with `run` or `call` gets no capabilities: the built-in agents can
    do anything. Nor does one that names its agent.
    """
    kind = kind_of(task)
    changes: dict[str, object] = {}
    inferred: dict[str, str] = {}
    if not task.mode:
        changes["mode"] = default_mode(kind)
    work = read(_work(task, kind)[:LOOKED_AT])
    title = read(task.objective[:LOOKED_AT])
    guess, source = (title, "objective") if title.type else (work, kind)
    if not task.type:
        changes["type"] = guess.type or {"run": "command", "call": "function", "prompt": "general"}[kind]
        inferred["type"] = f"{guess.telling!r} in its {source}" if guess.type else f"having `{kind}` and no telling word"
    if not task.complexity:
        hard, source_of_hard = (title.hard, "objective") if title.hard else (work.hard, kind)
        by_length = "low" if work.words <= FEW else "high" if work.words > MANY else "medium"
        changes["complexity"] = "high" if hard else by_length
        inferred["complexity"] = f"{hard!r} in its {source_of_hard}" if hard else f"the {work.words} words of its {kind}"
    if kind == "prompt" and not task.capabilities and not task.agent and guess.type:
        changes["capabilities"] = (TYPES[guess.type][0],)
        inferred["capabilities"] = f"{guess.telling!r} in its {source}"
    return msgspec.structs.replace(task, **changes, inferred={**task.inferred, **inferred}) if changes else task


def _work(task: Task, kind: str) -> str:
    if kind == "prompt":
        return task.prompt or ""
    if kind == "call":
        return (task.call or "").replace("_", " ")
    return task.run if isinstance(task.run, str) else " ".join(task.run or ())


@lru_cache(maxsize=1024)
def read(text: str) -> Reading:
    """Looks at the words of a text; what it looks up elsewhere (`${{ }}`) does not count."""
    words = _WORD.findall(_REFERENCE.sub(" ", text).lower())
    most, kind, telling = 0, "", ""
    for name, (_, beginnings) in TYPES.items():
        found = [word for word in words if word.startswith(beginnings)]
        if len(found) > most:
            most, kind, telling = len(found), name, found[0]
    hard = next((word for word in words if word.startswith(HARD)), "")
    return Reading(kind, telling, hard, len(words))
