"""What must hold after any torture: by the notes of the clients, the effects of the tasks, the log, the repository and /proc."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from skep.core import events as ev
from skep.core.apply import replay
from skep.core.model import TERMINAL, Entry
from skep.core.retry import MAX_INTERRUPTIONS
from skep.core.state import State, unpack
from skep.runtime.copies import events_until
from skep.store.sqlite import SqliteLog
from tests.runtime.traces import left_behind
from tests.simulation.invariants import broken
from tests.torture.load import tasks_of
from tests.workspace.repository import git

SESSION = "load"


class Effects:
    """What one task left: when its attempts began and ended (ns), in the order in which they were written."""

    def __init__(self, path: Path) -> None:
        self.begins: list[tuple[int, int]] = []
        self.ends: list[tuple[int, int]] = []
        for line in path.read_text().splitlines() if path.exists() else ():
            what, attempt, at = line.split()
            (self.begins if what == "begin" else self.ends).append((int(attempt), int(at)))


async def check(folder: Path, notes: list[Path], effects: Path, calls: bool = False) -> list[str]:
    """Everything that is wrong, in words. Nothing may work on the workspace meanwhile.

    Args:
        folder: the workspace, a git repository.
        notes: of the clients.
        effects: the folder of the tasks' own notes.
        calls: as the load was told.
    """
    log = await SqliteLog.open(folder / ".skep")
    try:
        await log.verify(SESSION)
        told = Told(await events_until(log, SESSION, ""), {name: unpack(blob) async for name, blob in log.archive(SESSION)})
    finally:
        await log.close()
    wanted = [task.id for key in accepted(notes) for task in tasks_of(key, str(effects), calls)]
    return [*judged(told, wanted, effects), *_repository(folder, told.state, told.events), *left(folder)]


class Told:
    """What a log tells: its events, the state after them, and all tasks that ever were in it.

    Args:
        events: all of them.
        archived: tasks that have left the state.
    """

    def __init__(self, events: list[ev.Event], archived: dict[str, Entry]) -> None:
        self.events = events
        self.state = State()
        replay(self.state, events)
        self.state.rebuild()
        self.entries = archived | self.state.entries


def judged(told: Told, wanted: Iterable[str], effects: Path) -> list[str]:
    """What is wrong with a session that has come to rest, by its log and by what its tasks left.

    Args:
        wanted: names of the tasks that were accepted.
        effects: the folder of the tasks' own notes.
    """
    state, entries = told.state, told.entries
    found = broken(state, settled=True)
    if state.running or state.locks or state.intent is not None or state.merge_queue:
        found.append(f"not everything was given back: {state.running} running, locks {state.locks}, merging {state.intent}")
    for task in wanted:
        if task not in entries:
            found.append(f"{task} was accepted and is lost")
        elif entries[task].state not in TERMINAL:
            found.append(f"{task} was accepted and did not end: it is {entries[task].state}")
    done: Counter[str] = Counter()
    decided: dict[str, int] = {}
    interrupted: Counter[str] = Counter()
    starts: dict[str, set[int]] = defaultdict(set)
    let_go: dict[str, set[int]] = defaultdict(set)
    for event in told.events:
        if isinstance(event, ev.AttemptSpawned):
            let_go[event.task].add(event.n)
        if isinstance(event, ev.TaskAssigned):
            if event.n in starts[event.task]:
                found.append(f"{event.task} had two attempts {event.n}")
            starts[event.task].add(event.n)
            if done[event.task]:
                found.append(f"{event.task} was done and was started again")
        elif isinstance(event, ev.AttemptEnded):
            interrupted[event.task] += event.outcome == "interrupted" and event.counted
            if event.outcome == "ok":
                decided[event.task] = event.n
                done[event.task] += event.then == "done"
        elif isinstance(event, ev.Merged):
            done[event.task] += 1
    for name, entry in entries.items():
        found += _task(name, entry.state, done[name], interrupted[name])
        began = {attempt for attempt, _ in Effects(effects / name).begins}
        if entry.task.call is None and not began <= let_go[name]:
            found.append(f"{name} began attempts whose processes were never recorded: {sorted(began - let_go[name])}")
        found += _effects(name, entry.task.call is not None, entry.state, decided.get(name, 0), starts[name], effects)
        for need in entry.task.needs:
            first = min((at for _, at in Effects(effects / name).begins), default=0)
            ended = max((at for _, at in Effects(effects / need).ends), default=0)
            if first and first < ended:
                found.append(f"{name} began before {need} had ended")
    return found


def accepted(notes: list[Path]) -> list[str]:
    """Keys of the calls that were answered with yes."""
    return [line.split(" ", 1)[1] for path in notes for line in path.read_text().splitlines() if line.startswith("ok ")]


def _task(name: str, state: str, done: int, interrupted: int) -> list[str]:
    if done > 1:
        return [f"{name} has {done} results"]
    if (state == "done") != (done == 1):
        return [f"{name} is {state} with {done} results"]
    if state == "gave-up" and interrupted < MAX_INTERRUPTIONS:
        return [f"{name} gave up after {interrupted} interruptions"]
    if state not in ("done", "gave-up", "skipped"):
        return [f"{name} is {state}: nothing of it could fail"]
    return []


def _effects(name: str, call: bool, state: str, decided: int, starts: set[int], folder: Path) -> list[str]:
    left = Effects(folder / name)
    if call:
        few = state == "done" and not left.ends
        return (
            [f"{name} began {len(left.begins)} times in {len(starts)} attempts"] if len(left.begins) > len(starts) or few else []
        )
    found = []
    times = Counter(attempt for attempt, _ in left.begins)
    if any(count > 1 for count in times.values()):
        found.append(f"an attempt of {name} began more than once: {dict(times)}")
    if not times.keys() <= starts:
        found.append(f"{name} began attempts that nobody decided: {sorted(times.keys() - starts)}")
    if state == "done" and decided not in {attempt for attempt, _ in left.ends}:
        found.append(f"{name} is done by attempt {decided}, which did not end")
    if decided and max(times, default=0) > decided and state == "done":
        found.append(f"{name} was done by attempt {decided} and began {max(times)}")
    return found


def _repository(folder: Path, state: State, events: list[ev.Event]) -> list[str]:
    if not state.base:
        return []
    found = []
    tip = git(folder, "rev-parse", f"refs/skep/{SESSION}/main")
    if tip != state.tip:
        found.append(f"the branch is at {tip}, the log says {state.tip}")
    ancestors = set(git(folder, "rev-list", tip).splitlines())
    files = set(git(folder, "ls-tree", "--name-only", tip).splitlines())
    for event in events:
        if isinstance(event, ev.Merged):
            if event.commit not in ancestors:
                found.append(f"the merge of {event.task} is not in the branch")
            if f"file-{event.task}" not in files:
                found.append(f"what {event.task} made is not in the branch")
    broken_objects = git(folder, "fsck", "--connectivity-only", "--no-dangling", "--no-progress", ok=False)
    return [*found, *broken_objects.splitlines()]


def left(folder: Path) -> list[str]:
    """What a workspace still has of attempts that are over."""
    state = folder / ".skep"
    found = [f"left running: {line}" for line in left_behind(folder)]
    trees = list((state / "worktrees").iterdir())
    if len(trees) > 1:  # the session's own may stay
        found.append(f"{len(trees)} worktrees are left")
    found += [f"left: {path}" for path in (state / "attempts").glob("*/*")]
    found += [f"left: {path}" for path in (state / "git" / "scratch").glob("*")]
    return found
