"""What the table cannot say: whether the parts of a file fit together. Agents, needs, names looked up, keys that contradict.

Works on drafts (what was read of a task, with the defaults put in), so that everything wrong is found, not only the first of it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from msgspec import Struct

from skep.agents import RUNTIMES, wrong_options
from skep.core import conditions, references
from skep.core.consensus import threshold_of
from skep.core.placement import BUILT_IN
from skep.errors import Invalid
from skep.workflow.problems import Place, Problems
from skep.workflow.schema import TASK
from skep.workflow.yamltree import Map, Node, Seq

WORK = TASK.exactly_one
#: Runtimes that are planned: named apart from those that nobody has heard of.
PLANNED = ("wasm",)
#: Keys that mean nothing without a worktree.
OF_WORKTREES = ("verify", "protect", "setup", "merge", "on_conflict")


class Known(Struct, frozen=True):
    """What exists beside the file.

    Args:
        runtimes: names of the runtimes that are there.
        types: names of agent types; None = any name is taken.
        agents: kinds of agents, as the file would declare them.
    """

    runtimes: tuple[str, ...] = RUNTIMES
    types: tuple[str, ...] | None = None
    agents: Mapping[str, Mapping[str, Any]] = {}


class Draft(Struct, frozen=True):
    """A task as far as it could be read: its values with the defaults put in, and where they stand."""

    id: str
    node: Map
    values: dict[str, Any]

    @property
    def work(self) -> str:
        """`run`, `call` or `prompt`, or empty when it has none of them or several."""
        given = [key for key in WORK if key in self.node.entries]
        return given[0] if len(given) == 1 else ""

    @property
    def mode(self) -> str:
        """Where it works, said or not."""
        return str(self.values.get("mode") or default_mode(self.work))

    def at(self, key: str, index: int | str | None = None) -> Place:
        """Where a key's value stands, or an item of it; the task itself for what came from the defaults."""
        node: Node = self.node.entries.get(key, self.node)
        if isinstance(node, Seq) and isinstance(index, int) and index < len(node.items):
            return node.items[index]
        if isinstance(node, Map) and isinstance(index, str) and index in node.entries:
            return node.entries[index]
        return node


def default_mode(work: str) -> str:
    """Where a task works that does not say it."""
    return "none" if work == "call" else "isolated"


def drafts(tasks: Mapping[str, Any], node: Map, defaults: Mapping[str, Any]) -> dict[str, Draft]:
    """The tasks with the defaults put in where they apply."""
    result = {}
    for name, own in tasks.items():
        inner = node.entries[name]
        inner = inner if isinstance(inner, Map) else Map(inner.line, inner.column, {}, {}, inner.size, inner.height)
        result[name] = Draft(name, inner, _with_defaults(own, defaults, Draft(name, inner, own)))
    return result


def _with_defaults(own: Mapping[str, Any], defaults: Mapping[str, Any], draft: Draft) -> dict[str, Any]:
    mode = own.get("mode") or (defaults.get("mode") or default_mode(draft.work))
    left_out: set[str] = set()
    if mode == "none":
        left_out.update(OF_WORKTREES)
    if draft.work != "run":
        left_out.add("exit_codes")
    if draft.work != "prompt":
        left_out.add("agent")
    values = {key: value for key, value in defaults.items() if key not in left_out}
    for key, value in own.items():
        merged = TASK.fields[key].merged and isinstance(values.get(key), dict)
        values[key] = {**values[key], **value} if merged else value
    return values


def agents(specs: Mapping[str, Any], node: Map, known: Known, problems: Problems) -> None:
    """Runtimes and types exist."""
    for name, values in specs.items():
        inner = node.entries[name]
        place = inner.entries if isinstance(inner, Map) else {}
        runtime = values.get("runtime", "")
        if runtime in PLANNED and runtime not in known.runtimes:
            problems.add(place["runtime"], f"runtime {runtime!r} is not available yet; there are {', '.join(known.runtimes)}")
        elif runtime and runtime not in known.runtimes:
            hint = references.nearest(runtime, known.runtimes) or f"; there are {', '.join(known.runtimes)}"
            problems.add(place["runtime"], f"there is no runtime {runtime!r}{hint}")
        if why := wrong_options(runtime, values.get("with", {})):
            problems.add(place.get("with", inner), f"agent {name!r}: {why}")
        kind = values.get("type", "")
        if kind and known.types is not None and kind not in known.types:
            hint = references.nearest(kind, known.types) or f"; there are {', '.join(known.types)}"
            problems.add(place["type"], f"there is no agent type {kind!r}{hint}")


def takes_prompts(spec: Mapping[str, Any]) -> bool:
    """Whether agents of this kind carry prompts out."""
    return spec.get("runtime") not in BUILT_IN.values() or "run" in spec.get("with", {})


def tasks(all_drafts: Mapping[str, Draft], specs: Mapping[str, Any], inputs: Mapping[str, Any], problems: Problems) -> None:
    """Every task on its own, then all of them together."""
    graph = {draft.id: _needs(draft, all_drafts, problems) for draft in all_drafts.values()}
    before = _before(graph, all_drafts, problems)
    for draft in all_drafts.values():
        _agent(draft, specs, problems)
        _candidates(draft, specs, problems)
        _vote(draft, specs, problems)
        _contradictions(draft, problems)
        _Names(draft, all_drafts, before, inputs, problems).check()


def _needs(draft: Draft, all_drafts: Mapping[str, Draft], problems: Problems) -> list[str]:
    found = []
    for index, need in enumerate(draft.values.get("needs", ())):
        if need == draft.id:
            problems.add(draft.at("needs", index), f"task {draft.id!r} needs itself")
        elif need not in all_drafts:
            hint = references.nearest(need, all_drafts)
            problems.add(draft.at("needs", index), f"task {draft.id!r} needs {need!r}, which is no task of this file{hint}")
        else:
            found.append(need)
    return found


class _Before(Struct, frozen=True):
    """Which tasks come before which, as bits: task number n is bit n."""

    number: dict[str, int]
    bits: dict[str, int]

    def holds(self, earlier: str, later: str) -> bool:
        """Whether `later` needs `earlier`, directly or not."""
        return bool(self.bits[later] >> self.number[earlier] & 1)


def _before(graph: Mapping[str, list[str]], all_drafts: Mapping[str, Draft], problems: Problems) -> _Before | None:
    """The order of the tasks, or None when there is a circle: it is shown, and nothing else can be said about the order."""
    number = {name: index for index, name in enumerate(graph)}
    bits: dict[str, int] = {}
    try:
        for name in TopologicalSorter(graph).static_order():
            bits[name] = 0
            for need in graph[name]:
                bits[name] |= bits[need] | 1 << number[need]
    except CycleError as error:
        circle = list(reversed(error.args[1]))[1:]
        first = circle.index(min(circle, key=number.__getitem__))
        circle = circle[first:] + circle[:first]
        shown = " -> ".join([*circle[:20], *(["..."] if len(circle) > 20 else []), circle[0]])
        problems.add(all_drafts[circle[0]].at("needs"), f"tasks need each other in a circle: {shown}")
        return None
    return _Before(number, bits)


def _agent(draft: Draft, specs: Mapping[str, Any], problems: Problems) -> None:
    name = draft.values.get("agent", "")
    if name:
        _fits(draft, name, draft.work, specs, draft.at("agent"), problems)
    elif draft.work == "prompt" and not any(takes_prompts(spec) for spec in specs.values()):
        problems.add(draft.at("prompt"), f"task {draft.id!r} has a prompt, and no agent in `agents` takes prompts")
    elif draft.values.get("on_conflict") == "task" and not any(takes_prompts(spec) for spec in specs.values()):
        problems.add(
            draft.at("on_conflict"),
            f"task {draft.id!r} has `on_conflict: task`, and no agent in `agents` takes prompts to resolve a conflict",
        )


def _fits(draft: Draft, name: str, work: str, specs: Mapping[str, Any], place: Place, problems: Problems) -> None:
    """An agent that a task names is there and can do such work."""
    spec = specs.get(name)
    if spec is None and name in BUILT_IN.values():
        spec = {"runtime": name}
    if spec is None:
        hint = references.nearest(name, [*specs, *BUILT_IN.values()])
        problems.add(place, f"task {draft.id!r}: no agent is called {name!r}{hint}")
    elif work in BUILT_IN and spec.get("runtime", BUILT_IN[work]) != BUILT_IN[work]:
        problems.add(place, f"task {draft.id!r}: `{work}` needs an agent with runtime {BUILT_IN[work]!r}, or none")
    elif work == "prompt" and not takes_prompts(spec):
        problems.add(place, f"task {draft.id!r}: agent {name!r} takes no prompts; a shell agent does with `with: {{run: ...}}`")


def _candidates(draft: Draft, specs: Mapping[str, Any], problems: Problems) -> None:
    """Candidates can do the work apart from each other, and who votes on them can vote."""
    own = draft.node.entries
    if "vote" in own and "candidates" not in own:
        problems.add(draft.at("vote"), f"task {draft.id!r} has a vote and no `candidates` to choose from")
    named = draft.values.get("candidates")
    for index, name in enumerate(named if isinstance(named, tuple) else ()):
        _fits(draft, name, draft.work, specs, draft.at("candidates", index), problems)
    if "candidates" in own and ("foreach" in own or draft.values.get("mode") == "shared"):
        what = "`foreach`" if "foreach" in own else "`mode: shared`"
        problems.add(draft.at("candidates"), f"task {draft.id!r}: candidates work apart, which does not go with {what}")


def _vote(draft: Draft, specs: Mapping[str, Any], problems: Problems) -> None:
    """Who votes can vote, and the votes can come to a decision."""
    vote = draft.values.get("vote")
    if not isinstance(vote, dict) or "by" not in vote:
        return
    place, by = draft.at("vote", "by"), vote["by"]
    _fits(draft, by, "prompt", specs, place, problems)
    if by in specs and specs[by].get("count") == 0:
        problems.add(place, f"task {draft.id!r}: agent {by!r} is to vote, so its `count` must be a number of voters, not 0")
    for elector in vote.get("weights", {}):
        count = specs.get(by, {}).get("count", 1)
        if elector not in (f"{by}-{seat}" for seat in range(1, count + 1)):
            problems.add(place, f"task {draft.id!r}: {elector!r} is no voter; those are {by}-1 to {by}-{count}")
    try:
        threshold_of(vote.get("rule", "quorum"), vote.get("threshold", ""))
    except Invalid as error:
        problems.add(draft.at("vote"), f"task {draft.id!r}: {_said(error)}")


def no_phases(all_drafts: Mapping[str, Draft], problems: Problems) -> None:
    """Nothing belongs to a phase in a file that has none."""
    for draft in all_drafts.values():
        if "phase" in draft.node.entries:
            problems.add(draft.at("phase"), f"task {draft.id!r} has a phase, and the file declares no `phases`")


def phases(
    declared: Mapping[str, Any], node: Map, all_drafts: Mapping[str, Draft], specs: Mapping[str, Any], problems: Problems
) -> None:
    """Every task is of a phase, needs nothing of a later one, and every phase has tasks and a gate that makes sense."""
    order = {name: number for number, name in enumerate(node.entries)}
    used: set[str] = set()
    for draft in all_drafts.values():
        own = draft.values.get("phase", "")
        used.add(own)
        if not own and "phase" not in draft.node.entries:
            problems.add(draft.node, f"task {draft.id!r} does not say its `phase`, one of {', '.join(order)}")
        elif own and own not in order:
            hint = references.nearest(own, order) or f"; there are {', '.join(order)}"
            problems.add(draft.at("phase"), f"task {draft.id!r}: there is no phase {own!r}{hint}")
        for index, need in enumerate(draft.values.get("needs", ())):
            other = all_drafts[need].values.get("phase", "") if need in all_drafts else ""
            if order.get(other, 0) > order.get(own, len(order)):
                problems.add(
                    draft.at("needs", index),
                    f"task {draft.id!r} of phase {own!r} needs {need!r}, which is of a later one, {other!r}",
                )
    for name in order:
        if name not in used:
            problems.add(node.keys[name], f"phase {name!r} has no task")
        inner = node.entries[name]
        gate = inner.entries.get("gate") if isinstance(inner, Map) else None
        if isinstance(gate, Map):
            values = declared.get(name, {}).get("gate", {})
            draft = Draft(f"gate:{name}", gate, values)
            _vote(draft, specs, problems)
            if "vote" in gate.entries and "verify" in gate.entries:
                problems.add(draft.at("vote"), f"the gate of phase {name!r} has both a command and a vote; make two phases of it")


def _contradictions(draft: Draft, problems: Problems) -> None:
    """Keys that mean nothing beside others. Defaults that do not apply are left out already, so these are the task's own."""
    own, work = draft.node.entries, draft.work
    if "args" in own and work and work != "call":
        problems.add(draft.at("args"), f"task {draft.id!r}: `args` go with `call`, not with `{work}`")
    if "exit_codes" in own and work and work != "run":
        problems.add(draft.at("exit_codes"), f"task {draft.id!r}: `exit_codes` go with `run`, not with `{work}`")
    if draft.mode == "none":
        for key in OF_WORKTREES:
            if key in own:
                problems.add(
                    draft.at(key), f"task {draft.id!r}: `{key}` means nothing without a worktree; give it `mode: isolated`"
                )
    for name in draft.values.get("secrets", ()):
        if name in draft.values.get("env", {}):
            problems.add(draft.at("env", name), f"task {draft.id!r}: {name} is both in `env` and in `secrets`")
    files: dict[str, str] = {}
    for name, path in draft.values.get("outputs", {}).items():
        other = files.setdefault(posixpath.normpath(path), name)
        if other != name:
            problems.add(
                draft.at("outputs", name), f"task {draft.id!r}: the outputs {other!r} and {name!r} are one file, {path!r}"
            )


class _Names:
    """The names that one task looks up: in its prompt, its `if`, its `foreach`."""

    def __init__(
        self,
        draft: Draft,
        all_drafts: Mapping[str, Draft],
        before: _Before | None,
        inputs: Mapping[str, Any],
        problems: Problems,
    ) -> None:
        self.draft = draft
        self.drafts = all_drafts
        self.before = before
        self.inputs = inputs
        self.problems = problems

    def check(self) -> None:
        prompt = self.draft.values.get("prompt")
        if isinstance(prompt, str):
            self.prompt(prompt)
        if "if" in self.draft.values:
            self.condition(self.draft.values["if"])
        if "in" in self.draft.values.get("foreach", {}):
            self.source(self.draft.values["foreach"]["in"])

    def add(self, key: str, message: str, inner: str | None = None) -> None:
        self.problems.add(self.draft.at(key, inner), f"task {self.draft.id!r}: {key}: {message}")

    def prompt(self, text: str) -> None:
        try:
            found = references.find(text)
        except Invalid as error:
            self.add("prompt", _said(error))
            return
        for reference in found:
            line = text.count("\n", 0, reference.start) + 1
            if wrong := self.wrong(reference.path):
                self.add("prompt", f"line {line} of it: {wrong}")

    def condition(self, text: str) -> None:
        try:
            condition = conditions.parse(text)
        except Invalid as error:
            self.add("if", _said(error))
            return
        for path in conditions.paths(condition):
            if path[0] == "item":
                self.add("if", "it is judged before there are items, so there is no 'item' in it")
            elif wrong := self.wrong(path):
                self.add("if", wrong)

    def source(self, text: str) -> None:
        try:
            path = references.parse_path(text)
        except Invalid as error:
            self.add("foreach", _said(error), "in")
            return
        if path[0] == "item" or (path[0] == "needs" and path[2] not in ("result", "outputs")):
            self.add("foreach", f"{text!r} is no list; write needs.TASK.outputs.NAME, needs.TASK.result or inputs.NAME", "in")
        elif wrong := self.wrong(path):
            self.add("foreach", wrong, "in")

    def wrong(self, path: references.Path) -> str:
        """Why a path can never be there, as far as the file says, or nothing."""
        root, *rest = path
        if root == "item":
            return "" if "foreach" in self.draft.node.entries else "there is no 'item' in a task without `foreach`"
        if root == "inputs":
            return "" if rest[0] in self.inputs else f"no input {rest[0]!r} is declared{references.nearest(rest[0], self.inputs)}"
        return self.wrong_need(rest)

    def wrong_need(self, rest: list[str]) -> str:
        name, facet, *inner = rest
        if name not in self.drafts:
            return f"there is no task {name!r}{references.nearest(name, self.drafts)}"
        if self.before is not None and not self.before.holds(name, self.draft.id):
            return f"{name!r} does not come before {self.draft.id!r}; add it to `needs`"
        other = self.drafts[name]
        if facet != "outputs" or not inner or "foreach" in other.node.entries:
            return ""
        outputs = other.node.entries.get("outputs")
        declared = outputs.entries if isinstance(outputs, Map) else {}
        if inner[0] not in declared:
            return f"task {name!r} has no output {inner[0]!r}{references.nearest(inner[0], declared)}"
        return f"output {inner[0]!r} is text and has no {'.'.join(inner[1:])!r}" if inner[1:] else ""


def _said(error: Invalid) -> str:
    """An error of the core on one line."""
    return error.message if not error.fix or error.message.endswith("?") else f"{error.message}. {error.fix}"
