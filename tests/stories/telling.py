"""Golden conversations with the core: what is said, and what comes of it.

A story is a text file of parts, parted by blank lines. A part is what is said, a line `----`, and what the core makes of it:

    submit
      build run=make retries=1
      test run=pytest needs=build
    ----
    = build test
    tasks.submitted tasks=build,test
    task.assigned build n=1 agent=shell-1 node=here slot=0 base=root
    build ready -> running
    owes start build 1

`= ...` is the answer and `! ...` a refusal; then the events, what became of the tasks without an event of their own, and what is
owed from now on (`owes`) or no longer (`done with`). The form is that of the data-driven tests of etcd's raft; `SKEP_REWRITE=1`
writes what comes of it into the files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.apply import apply, replay
from skep.core.decide import decide
from skep.core.model import AgentSpec, Attempt, Limits, Output, Plan, Resources, Task
from skep.core.state import State
from skep.errors import SkepError
from tests.simulation.invariants import broken

BEGIN = 1_700_000_000_000
RULE = "----"
#: Text in quotes and JSON in braces may hold spaces.
WORD = re.compile(r"""(?:[^\s"{]|"[^"]*"|\{(?:[^{}]|\{[^{}]*\})*\})+""")
#: Fields that say nothing to a reader.
SILENT = frozenset({"at", "nonce", "score", "plan", "capacity", "specs", "labels", "by", "born", "counted", "outputs"})


class Story:
    """One session, spoken to in the words of a story."""

    def __init__(self) -> None:
        self.state = State().rebuild()
        self.log: list[ev.Event] = []
        self.now = BEGIN
        self.turns = 0
        self.boots = 0
        #: Every attempt there was: stale reports need their nonces.
        self.nonces: dict[tuple[str, int], str] = {}

    def say(self, said: str) -> list[str]:
        """What comes of one part."""
        first, *rest = said.splitlines()
        verb, *words = WORD.findall(first)
        before = {name: entry.state for name, entry in self.state.entries.items()}
        owed = list(self.state.due.owed)
        begun = len(self.log)
        method: Callable[[list[str], list[str]], list[str]] = getattr(self, "do_" + verb.replace("-", "_"))
        lines = method(words, [line.strip() for line in rest])
        told = self.log[begun:]
        lines += [shown(event) for event in told]
        lines += self._moves(before, {getattr(event, "task", "") for event in told})
        now = list(self.state.due.owed)
        lines += ["done with " + " ".join(map(str, key)) for key in owed if key not in now]
        lines += ["owes " + " ".join(map(str, key)) for key in now if key not in owed]
        assert broken(self.state, settled=True) == []
        return lines or ["(nothing)"]

    def _moves(self, before: Mapping[str, str], named: set[str]) -> list[str]:
        lines = []
        for name, entry in self.state.entries.items():
            was = before.get(name, "new")
            if entry.state != was and (name not in named or was == "new"):
                lines.append(f"{name} {was} -> {entry.state}")
        return lines

    def tell(self, *given: inp.Input) -> list[str]:
        """One turn, with its answers."""
        self.turns += 1
        decision = decide(self.state, given, self.now, self.turns.to_bytes(16, "big"))
        self.log += decision.events
        for event in decision.events:
            if isinstance(event, ev.TaskAssigned):
                self.nonces[event.task, event.n] = event.nonce
        return [answered(answer) for answer in decision.answers if answer is not None]

    def do_open(self, words: list[str], rest: list[str]) -> list[str]:
        """`open [limit=3] [time=60] [slots=8]`, then an agent a line: `name runtime=... count=...`; a shell without any."""
        given = fields(words)
        specs = tuple(defined(line, AgentSpec, "name") for line in rest) or (AgentSpec(name="shell", runtime="shell", count=2),)
        plan = Plan(name="story", agents=specs, limits=Limits(given.get("limit", 3), float(given.get("time", 0))))
        self.slots = given.get("slots", 8)
        self.tell(inp.OpenSession(at=0, session="story-1", plan=plan, base="root", kind="git"))
        return self.do_restart([], [])

    def do_restart(self, words: list[str], rest: list[str]) -> list[str]:
        """The owner died; another one is there."""
        self.boots += 1
        capacity = Resources(cpu=4.0, memory=8 << 30, storage=1 << 40)
        return self.tell(inp.JoinNode(at=0, node="here", boot=str(self.boots), capacity=capacity, slots=self.slots))

    def do_submit(self, words: list[str], rest: list[str]) -> list[str]:
        """`submit [key=...]`, then a task a line: `id field=value ...`, or `- ...` without an id."""
        tasks = tuple(defined(line, Task, "id") for line in rest)
        return self.tell(inp.Submit(at=0, tasks=tasks, **fields(words)))

    def do_change(self, words: list[str], rest: list[str]) -> list[str]:
        """`change [keep=a,b]`, then the new tasks, a line each."""
        tasks = tuple(defined(line, Task, "id") for line in rest)
        keep = tuple(str(fields(words).get("keep", "")).split(",")) if words else ()
        return self.tell(inp.ChangePlan(at=0, plan=msgspec.structs.replace(self.state.plan, tasks=tasks), keep=keep))

    def named(self, words: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The attempt that a report is of (`build`, or `build/1` for an earlier one), and its other fields."""
        task, _, number = words[0].partition("/")
        attempt = self.state.entries[task].attempt or Attempt(n=1, nonce="?", agent="", node="", slot=0, started=0)
        n = int(number) if number else attempt.n
        given = fields(words[1:])
        if "outputs" in given:
            texts = {name: msgspec.json.encode(value).decode() for name, value in given["outputs"].items()}
            given["outputs"] = {name: Output("0" * 64, len(text), text) for name, text in texts.items()}
        if "until" in given:
            given["until"] = self.now + given["until"] * 1_000
        return {"at": 0, "task": task, "n": n, "nonce": self.nonces.get((task, n), "?")}, given

    def do_spawned(self, words: list[str], rest: list[str]) -> list[str]:
        """`spawned build`"""
        name, given = self.named(words)
        return self.tell(inp.Spawned(**name, pid=given.get("pid", 100), born=1))

    def do_worked(self, words: list[str], rest: list[str]) -> list[str]:
        """`worked build commit=c1`: now it is verified."""
        name, given = self.named(words)
        return self.tell(inp.Worked(**name, **given))

    def do_ok(self, words: list[str], rest: list[str]) -> list[str]:
        """`ok build [commit=c1] [gone=false]`"""
        name, given = self.named(words)
        return self.tell(inp.Ended(**name, outcome="ok", **given))

    def do_failed(self, words: list[str], rest: list[str]) -> list[str]:
        """`failed build [cause=exit] [feedback="..."]`"""
        name, given = self.named(words)
        return self.tell(inp.Ended(**name, outcome="failed", **{"cause": "exit", **given}))

    def do_interrupted(self, words: list[str], rest: list[str]) -> list[str]:
        """`interrupted build [cause=infrastructure] [until=60]`"""
        name, given = self.named(words)
        return self.tell(inp.Ended(**name, outcome="interrupted", **given))

    def do_gone(self, words: list[str], rest: list[str]) -> list[str]:
        """`gone build [wip=c2]`"""
        name, given = self.named(words)
        return self.tell(inp.Gone(**name, **given))

    def do_merged(self, words: list[str], rest: list[str]) -> list[str]:
        """`merged m1 m2`: the branch holds the lowest of the stack under way, as these commits."""
        return self.merge(words)

    def do_refused(self, words: list[str], rest: list[str]) -> list[str]:
        """`refused conflict|verify-failed|infrastructure [m1 m2 ...] [feedback="..."]`: the one above what was merged."""
        commits = [word for word in words[1:] if "=" not in word]
        return self.merge(commits, cause=words[0], **{"detail": "no", **fields(words[1 + len(commits) :])})

    def merge(self, commits: list[str], **why: Any) -> list[str]:
        """A report on the stack that is being merged."""
        assert self.state.intent is not None
        return self.tell(inp.MergeEnded(at=0, intent=self.state.intent, commits=tuple(commits), **why))

    def do_cancel(self, words: list[str], rest: list[str]) -> list[str]:
        """`cancel build,test [subtree=true]`"""
        return self.tell(inp.Cancel(at=0, tasks=tuple(words[0].split(",")), **fields(words[1:])))

    def do_retry(self, words: list[str], rest: list[str]) -> list[str]:
        """`retry build [comment="..."] [agent=...]`"""
        return self.tell(inp.Retry(at=0, task=words[0], **fields(words[1:])))

    def do_answer(self, words: list[str], rest: list[str]) -> list[str]:
        """`answer build approve [comment="..."]`"""
        said: Any = words[1]
        return self.tell(inp.Say(at=0, task=words[0], answer=said, **fields(words[2:])))

    def do_pause(self, words: list[str], rest: list[str]) -> list[str]:
        """`pause [stop=true]`"""
        return self.tell(inp.Pause(at=0, **fields(words)))

    def do_resume(self, words: list[str], rest: list[str]) -> list[str]:
        """`resume`"""
        return self.tell(inp.Resume(at=0))

    def do_close(self, words: list[str], rest: list[str]) -> list[str]:
        """`close`"""
        return self.tell(inp.Close(at=0))

    def do_wait(self, words: list[str], rest: list[str]) -> list[str]:
        """`wait 10`: so many seconds pass."""
        self.now += int(float(words[0]) * 1_000)
        return self.tell(inp.Tick(at=0))

    def do_fork(self, words: list[str], rest: list[str]) -> list[str]:
        """`fork other`: the log goes on under that name, with an owner of its own."""
        event = ev.SessionForked(self.now, words[0], self.state.session, self.state.seq)
        apply(self.state, event)
        self.log.append(event)
        return self.do_restart([], [])

    def do_reload(self, words: list[str], rest: list[str]) -> list[str]:
        """`reload`: the state comes from a snapshot, and is the one that a replay gives."""
        replayed = State()
        replay(replayed, self.log)
        loaded = State.load(self.state.save())
        assert replayed.digest() == loaded.digest() == self.state.digest()
        self.state = loaded.rebuild()
        return self.tell()

    def do_look(self, words: list[str], rest: list[str]) -> list[str]:
        """`look build ...`: how tasks stand."""
        lines = []
        for name in words:
            entry = self.state.entries[name]
            told: dict[str, object] = {
                "attempts": entry.attempts,
                "failures": entry.failures,
                "interruptions": entry.interruptions,
            }
            told |= {"question": entry.question, "cause": entry.cause, "feedback": entry.feedback, "merged": entry.merged}
            lines.append(f"{name} is {entry.state} " + " ".join(f"{key}={spelt(value)}" for key, value in told.items() if value))
        return lines


def fields(words: list[str]) -> dict[str, Any]:
    """`name=value` words; a value is JSON if it can be, and text otherwise."""
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            found[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            found[name] = value
    return found


def defined(line: str, kind: type[Any], key: str) -> Any:
    """A task or an agent from a line."""
    name, *words = WORD.findall(line)
    given = {key: "" if name == "-" else name, **fields(words)}
    for several in ("needs", "locks", "capabilities", "candidates"):
        if isinstance(given.get(several), str):
            given[several] = given[several].split(",")
    if isinstance(given.get("deadline"), int):
        given["deadline"] = BEGIN + given["deadline"] * 1_000
    return msgspec.convert(given, kind)


def answered(answer: Any) -> str:
    """An answer, or a refusal with what to do about it."""
    if isinstance(answer, SkepError):
        return f"! {type(answer).__name__}: {answer.message}" + (f" ({answer.fix})" if answer.fix else "")
    return "= " + (" ".join(map(str, answer)) if isinstance(answer, tuple) else str(answer))


def shown(event: ev.Event) -> str:
    """An event in a line: its public name, then every field that says something."""
    words = [str(type(event).__struct_config__.tag)]
    for field in msgspec.structs.fields(type(event)):
        value = getattr(event, field.name)
        if field.name == "task":
            words.insert(1, value)
        elif field.name in ("tasks", "children", "voters"):
            words.append(f"{field.name}=" + ",".join(task.id for task in value))
        elif field.name in ("ballot", "result") and isinstance(value, msgspec.Struct):
            # Only what is said of it: what is left out is as always.
            words += [f"{name}={spelt(said)}" for name, said in msgspec.to_builtins(value).items() if name != "at"]
        elif isinstance(value, Task):
            words.append(f"{field.name}={value.id}")
        elif field.name == "intent":
            words += [f"base={value.base}", *(f"{one.task}={one.commit}" for one in value.stack)]
        elif field.name == "until":
            words += [f"until=+{(value - event.at) / 1000:g}s"] if value else []
        elif field.name not in SILENT and value not in (field.default, None, "", ()):
            words.append(f"{field.name}={spelt(value)}")
    return " ".join(words)


def spelt(value: Any) -> str:
    """A value as a story writes it."""
    if isinstance(value, dict | list | tuple):
        return msgspec.json.encode(value).decode()
    return f'"{value}"' if isinstance(value, str) and " " in value else str(value)


def retold(text: str) -> str:
    """The story with what comes of it in place of what it says."""
    story, parts = Story(), []
    for part in text.strip().split("\n\n"):
        said = part.partition(f"\n{RULE}")[0]
        spoken = "\n".join(line for line in said.splitlines() if not line.startswith("#"))
        parts.append("\n".join([said, RULE, *story.say(spoken)]) if spoken else said)
    return "\n\n".join(parts) + "\n"


def stories(folder: Path) -> list[Path]:
    """The files of a folder that tell a story."""
    return sorted(folder.glob("*.story"))
