"""The owner dies between any two steps of a merge: there is one merge, with the id it would have had anyway, and one event.

So it is with a stack: whatever the step, what is good is merged once, only the culprit goes back, and nobody else is counted.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import skep
from skep.core.events import Merged, MergeFailed, MergeStarted
from tests.runtime.actors import actor
from tests.runtime.gates import Gate, gates
from tests.runtime.traces import left_behind
from tests.torture.amounts import amount
from tests.workspace.crashing import WRAPPER
from tests.workspace.repository import Repository

#: What is carried out: two tasks that merge one after the other, each verified as merged.
WORK = """
task = skep.Task(id="b", run="echo b > b")
plan = skep.Plan(name="p", verify="test -e b", tasks=(task, skep.Task(id="c", run="echo c > c", needs=("b",))))
session = await hive.start(plan)
say("settled", (await session.settled()).counts)
"""
#: Five tasks that wait at a gate until the session is paused, so that they are merged as one stack; `c` spoils it the first time.
NAMES = "abcde"
STACK = """
work = {wait!r} + "; touch $SKEP_TASK; test $SKEP_TASK$SKEP_ATTEMPT != c1 || touch bad"
tasks = tuple(skep.Task(id=name, run=work, env={env}, retries=1) for name in "abcde")
session = await hive.start(skep.Plan(name="p", verify="test ! -e bad", tasks=tasks, limits=skep.Limits(agents=5)))
await hear()
await session.pause()
say("paused")
await session.settled()
await session.resume()
say("settled", (await session.settled()).counts)
"""
#: Dies before or after one of the steps of a merge, when it is taken for the n-th time.
DYING = """
import itertools, os
from skep.workspace.git import GitWorkspace
from skep.runtime.loop import Loop
from skep.core import events as ev, inputs as inp
step, when, nth = {point!r}.split()

def die(at):
    if at == when:
        os._exit(7)

def around(kind, name, matters):
    original, calls = getattr(kind, name), itertools.count(1)
    async def patched(self, *args, **more):
        if not matters(*args, **more) or next(calls) != int(nth):
            return await original(self, *args, **more)
        die("before")
        answer = await original(self, *args, **more)
        die("after")
        return answer
    setattr(kind, name, patched)

if step in ("build", "advance"):
    around(GitWorkspace, step, lambda *args, **more: True)
elif step == "checkout":
    around(GitWorkspace, "checkout", lambda session, name, *rest, **more: name.startswith("merge/"))
elif step == "intent":
    around(Loop, "_append", lambda events, leaving, taken: any(isinstance(e, ev.MergeStarted) for e in events))
else:
    around(Loop, "_append", lambda events, leaving, taken: any(isinstance(e, ev.Merged) for e in events))
"""
STEPS = ("intent", "build", "checkout", "advance", "event")
POINTS = [f"{step} {when} 1" for step in STEPS for when in ("before", "after")]
#: Of a stack also: its last build, its further verifications, what becomes of those above the culprit.
STACK_POINTS = [*POINTS]
STACK_POINTS += [f"build {when} 5" for when in ("before", "after")]
STACK_POINTS += [f"checkout {when} {nth}" for nth in (2, 3, 4) for when in ("before", "after")]
STACK_POINTS += [f"{step} {when} 2" for step in ("intent", "advance", "event") for when in ("before", "after")]


async def one_merge_each(repo: Repository) -> None:
    """Goes on with the session, and looks at what came of it."""
    async with skep.open(repo.top) as hive:
        if not await hive.sessions():
            return  # it died before anybody was told of the session
        session = await hive.find("p-1")
        await session.resume()
        results = await session.results(["b", "c"])
        assert [result.state for result in results] == ["done", "done"], results
        view = await session.settled()
        merged: dict[str, list[str]] = {}
        started = 0
        async for number, event in session.follow():
            if isinstance(event, Merged):
                merged.setdefault(event.task, []).append(event.commit)
            started += isinstance(event, MergeStarted)
            if number >= view.seq:
                break
        assert {task: len(commits) for task, commits in merged.items()} == {"b": 1, "c": 1}
        assert started == 2
    built = repo("for-each-ref", "--format=%(refname) %(objectname)", "refs/skep/p-1/merge").splitlines()
    assert {line.split("/")[4]: line.split()[1] for line in built} == {task: commits[0] for task, commits in merged.items()}
    assert len(built) == 2
    assert repo("rev-parse", "refs/skep/p-1/main") == merged["c"][0] == view.tip
    assert repo("log", "--merges", "--format=%s", view.tip).splitlines() == ["Merge c", "Merge b"]
    assert repo.files(view.tip) == {"a.txt", "b", "c"}
    assert list((repo.top / ".skep" / "worktrees").iterdir()) == []
    assert repo("worktree", "list").count("\n") == 0
    assert left_behind(repo.top) == []


@pytest.mark.parametrize("point", POINTS)
async def test_dying_at_a_step_of_a_merge(repo: Repository, point: str) -> None:
    async with actor(repo.top, DYING.format(point=point) + WORK) as owner:
        assert await owner.process.wait() == 7, await owner.complaints()
    await one_merge_each(repo)


@pytest.mark.parametrize("point", STACK_POINTS)
async def test_dying_at_a_step_of_a_stack_with_a_culprit(repo: Repository, tmp_path: Path, point: str) -> None:
    with gates(tmp_path) as make:
        gate = make()
        work = STACK.format(wait=Gate.PASS, env=gate.env)
        async with actor(repo.top, DYING.format(point=point) + work) as owner:
            await gate.begun(5)
            owner.tell()
            await owner.said("paused")
            gate.go(6)
            assert await owner.process.wait() == 7, await owner.complaints()
        gate.go(2)
        await only_the_culprit_went_back(repo)


async def only_the_culprit_went_back(repo: Repository) -> None:
    """Goes on with the session: everybody is merged once, and only `c` was refused, once."""
    async with skep.open(repo.top) as hive:
        session = await hive.find("p-1")
        await session.resume()
        results = await session.results(list(NAMES))
        assert [result.state for result in results] == ["done"] * 5, results
        view = await session.settled()
        merged: list[tuple[str, str]] = []
        refused = []
        async for number, event in session.follow():
            if isinstance(event, Merged):
                merged.append((event.task, event.commit))
            elif isinstance(event, MergeFailed):
                refused.append((event.task, event.cause))
            if number >= view.seq:
                break
    assert refused == [("c", "verify-failed")]
    assert sorted(task for task, _ in merged) == list(NAMES)
    first = repo("rev-list", "--first-parent", "--reverse", "refs/skep/p-1/main").splitlines()
    assert first[1:] == [commit for _, commit in merged]
    assert repo.files("refs/skep/p-1/main") == {"a.txt", *NAMES}
    assert repo("log", "--format=%H", "refs/skep/p-1/main", "--", "bad") == ""
    assert list((repo.top / ".skep" / "worktrees").iterdir()) == []
    assert left_behind(repo.top) == []


async def test_dying_at_any_git_command(repo: Repository, tmp_path: Path) -> None:
    git = shutil.which("git")
    commands = await commands_of(repo, tmp_path / "all", git)
    wanted = amount("merge-crashes")
    step = max(1, commands // wanted)
    for nth in range(1, commands + 1, step):
        again = Repository(tmp_path / f"work-{nth}")
        again.commit({"a.txt": "one\n"})
        async with actor(again.top, WORK, env=wrapped(tmp_path / f"bin-{nth}", git, nth)) as owner:
            await owner.process.wait()
        await one_merge_each(again)


def wrapped(folder: Path, git: str | None, crash: int) -> dict[str, str]:
    """An environment in which the git command of this number kills its caller instead (0: none does)."""
    folder.mkdir()
    (folder / "count").write_text("0\n")
    (folder / "git").write_text(WRAPPER.format(count=folder / "count", crash=crash, git=git))
    (folder / "git").chmod(0o755)
    return {"PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin"}


async def commands_of(repo: Repository, folder: Path, git: str | None) -> int:
    """How many git commands the work takes."""
    async with actor(repo.top, WORK, env=wrapped(folder, git, 0)) as owner:
        assert await owner.said("settled") == {"done": 2}
        assert await owner.ended() == 0
    return int((folder / "count").read_text())
