"""Where tasks work and how their work comes together: worktrees, merges, conflicts, landing. Until then the user's stay alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import skep
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository, fingerprint, tree, write

#: A line of its own for each of two tasks that edit the same file.
EDIT = "echo mine-$SKEP_TASK-$SKEP_ATTEMPT > a.txt"


async def test_the_users_files_index_branch_and_reflog_stay_alone_until_the_merge(repo: Repository) -> None:
    repo.write({"a.txt": "dirty\n", "untracked.txt": "mine\n", "staged.txt": "staged\n", "noise.log": "ignored\n"})
    repo("add", "staged.txt")
    before = repo.fingerprint()
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        results = await session.gather(
            await session.submit_many(
                [
                    skep.Task(
                        run="echo new > new.txt; git add -A; git checkout -q --detach; rm src/app.py", verify="test -e new.txt"
                    ),
                    skep.Task(run="echo x > b.txt; git reset -q --hard; git clean -qfdx; exit 1"),
                    skep.Task(run="cat noise.log"),
                    skep.Task(run="cat untracked.txt"),
                    skep.Task(run="echo shared > s.txt", mode="shared"),
                ]
            )
        )
        assert [result.state for result in results] == ["done", "failed", "failed", "failed", "done"]
        assert repo.fingerprint() == before
        (repo.top / "a.txt").write_text("one\n")
        landed = await session.merge()
        assert repo("rev-parse", "HEAD") == landed.commit
        assert {"new.txt", "s.txt"} <= repo.files("HEAD")
        assert not (repo.top / "src/app.py").exists()
        assert (repo.top / "untracked.txt").read_text() == "mine\n"
        assert repo("status", "--porcelain") == "A  staged.txt\n?? untracked.txt"


async def test_a_merge_that_would_overwrite_uncommitted_work_is_refused_whole(repo: Repository, session: skep.Session) -> None:
    assert (await (await session.submit(skep.Task(run="echo theirs > a.txt; echo x > other.txt"))).result()).ok
    repo.write({"a.txt": "mine\n"})
    before = repo.fingerprint()
    with pytest.raises(skep.Conflict, match=r"a\.txt"):
        await session.merge()
    assert repo.fingerprint() == before


async def test_a_session_that_merged_nothing_says_so(session: skep.Session) -> None:
    assert (await (await session.submit(skep.Task(run="true"))).result()).ok
    with pytest.raises(skep.Conflict, match="merged nothing"):
        await session.merge()


async def test_each_attempt_has_a_worktree_of_its_own_of_which_nothing_stays(
    repo: Repository, session: skep.Session, tmp_path: Path
) -> None:
    handles = await session.submit_many(skep.Task(run="pwd; touch $SKEP_TASK", retries=1) for _ in range(4))
    places = {str(result.value) for result in await session.gather(handles)}
    assert len(places) == 4
    await session.settled()
    assert list((repo.top / ".skep" / "worktrees").iterdir()) == []
    assert [path for path in (repo.top / ".skep" / "attempts").rglob("*") if path.name != "nothing.json" and path.is_file()] == []
    assert repo("worktree", "list").count("\n") == 0


async def test_dependents_see_what_their_needs_made_and_every_commit_is_an_ancestor_of_the_tip(
    repo: Repository, session: skep.Session
) -> None:
    await session.submit_many(
        [
            skep.Task(id="a", run="echo a > made-a"),
            skep.Task(id="b", run="echo b > made-b"),
            skep.Task(id="c", run="cat made-a made-b; echo c > made-c", needs=("a", "b")),
        ]
    )
    a, b, c = await session.results(["a", "b", "c"])
    assert c.value == "a\nb"
    view = await session.status()
    for result in (a, b, c):
        assert repo("merge-base", "--is-ancestor", result.commit, view.tip) == ""
    for task in view.tasks:
        parents = repo("log", "-1", "--format=%P", task.merged).split()
        assert parents[1] == task.commit
        assert f"Skep-Task: {task.id}" in repo("log", "-1", "--format=%B", task.commit)
        assert "Skep <skep@localhost>" in repo("log", "-1", "--format=%cn <%ce>", task.commit)


async def test_a_conflict_sends_the_task_round_once_on_the_new_tip_and_then_asks(
    repo: Repository, session: skep.Session, gate: Gate
) -> None:
    both = [skep.Task(id=name, run=f"{gate.PASS}; {EDIT}", env=gate.env) for name in ("x", "y")]
    await session.submit_many(both)
    await gate.begun(2)
    gate.go(2)
    (again,) = await gate.begun()  # the one that came second
    gate.go()
    first, second = await session.results(["x" if again == "y" else "y", again])
    assert (first.state, first.attempts, second.state, second.attempts) == ("done", 1, "done", 2)
    assert repo.show("refs/skep/bench/main", "a.txt") == f"mine-{again}-2"
    kept = repo("for-each-ref", "--format=%(refname)", "refs/skep/bench/task").splitlines()
    assert len(kept) == 3


async def test_what_conflicts_twice_needs_a_person_and_can_be_done_again(
    repo: Repository, session: skep.Session, gate: Gate
) -> None:
    await session.submit_many(skep.Task(id=name, run=f"{gate.PASS}; {EDIT}", env=gate.env) for name in ("x", "y"))
    await gate.begun(2)
    gate.go(2)
    (again,) = await gate.begun()
    await session.submit(skep.Task(id="between", run="echo between > a.txt"))
    assert (await session.results(["between"]))[0].ok
    gate.go()
    view = await session.settled()
    asking = next(task for task in view.tasks if task.id == again)
    assert (asking.state, asking.question, asking.cause) == ("needs-you", "conflict", "conflict")
    assert "a.txt" in asking.detail
    assert view.idle == f"needs you: {again}"
    assert repo.show("refs/skep/bench/main", "a.txt") == "between"
    await session.answer(again, "rerun")
    await gate.begun()
    gate.go()
    assert (await session.results([again]))[0].attempts == 3
    assert repo.show("refs/skep/bench/main", "a.txt") == f"mine-{again}-3"


async def test_on_conflict_ask_asks_at_once(session: skep.Session, gate: Gate) -> None:
    await session.submit_many(
        skep.Task(id=name, run=f"{gate.PASS}; {EDIT}", env=gate.env, on_conflict="ask") for name in ("x", "y")
    )
    await gate.begun(2)
    gate.go(2)
    view = await session.settled()
    assert sorted(task.state for task in view.tasks) == ["done", "needs-you"]


async def test_merge_never_keeps_the_commit_and_leaves_the_branch(repo: Repository, session: skep.Session) -> None:
    result = await (await session.submit(skep.Task(id="a", run="touch kept", merge="never"))).result()
    view = await session.status()
    assert result.ok
    assert view.tip == view.base
    assert repo("rev-parse", "refs/skep/bench/task/a/1") == result.commit
    assert "kept" in await session.diff("a")


async def test_shared_tasks_work_one_after_the_other_in_one_folder(session: skep.Session, gate: Gate) -> None:
    handles = await session.submit_many(
        skep.Task(run=f"{gate.PASS}; pwd; touch made-$SKEP_TASK", env=gate.env, mode="shared") for _ in range(3)
    )
    for number in range(3):
        (begun,) = await gate.begun()
        running = [task.id for task in (await session.status()).tasks if task.pid]
        assert running == [begun]
        gate.go()
        assert (await handles[number].result()).ok
    assert len({str(result.value) for result in await session.gather(handles)}) == 1


async def test_interrupted_work_is_kept_under_a_ref_and_no_try_is_counted(
    repo: Repository, session: skep.Session, gate: Gate
) -> None:
    await session.submit_many(
        [
            skep.Task(id="own", run=f"echo half > work; {gate.PASS}; cat work", env=gate.env),
            skep.Task(id="shared", run=f"echo half > work; {gate.PASS}", env=gate.env, mode="shared"),
        ]
    )
    await gate.begun(2)
    assert await session.stop("enough") == 2
    view = await session.status()
    assert (view.state, view.why) == ("paused", "enough")
    for task in view.tasks:
        assert (task.state, task.attempts) == ("ready", 1)
        assert repo.show(f"refs/skep/bench/wip/{task.id}/1", "work") == "half"
        assert task.wip == repo("rev-parse", f"refs/skep/bench/wip/{task.id}/1")
    await session.resume()
    await gate.begun(2)
    gate.go(2)
    assert [result.state for result in await session.results(["own", "shared"])] == ["done", "done"]


async def test_open_gives_the_live_folder_or_a_fresh_one_that_stays(session: skep.Session, gate: Gate) -> None:
    await session.submit(skep.Task(id="a", run=f"pwd; echo 1 > made; {gate.PASS}", env=gate.env))
    await gate.begun()
    live = Path(await session.open("a"))
    assert (live / "made").read_text() == "1\n"
    gate.go()
    (result,) = await session.results(["a"])
    assert result.value == str(live)
    kept = Path(await session.open("a"))
    assert kept != live
    assert (kept / "made").read_text() == "1\n"


async def test_a_folder_without_git_works_on_copies_and_the_merge_copies_back(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    write(folder, {"a.txt": "one\n", "sub/b.txt": "two\n", "gone.txt": "x\n"})
    async with skep.open(folder) as hive:
        session = await hive.session("bench")
        before = fingerprint(folder)
        result = await (
            await session.submit(
                skep.Task(run="echo changed > a.txt; rm gone.txt; echo new > sub/new.txt; pwd", verify="test ! -e gone.txt")
            )
        ).result()
        assert result.ok, result
        assert Path(str(result.value)).is_relative_to(folder / ".skep")
        assert fingerprint(folder) == before
        assert (await session.status()).kind == "copy"
        await session.merge()
    found = tree(folder)
    assert set(found) == {"a.txt", "sub/b.txt", "sub/new.txt"}
    assert (folder / "a.txt").read_text() == "changed\n"


async def test_a_subfolder_of_a_repository_is_where_tasks_start(repo: Repository) -> None:
    async with skep.open(repo.top / "src") as hive:
        session = await hive.session("bench")
        result = await (await session.submit(skep.Task(run="pwd; ls; echo y > new.py", protect=("app.py",)))).result()
        assert result.ok, result
        assert str(result.value).splitlines()[1:] == ["app.py"]
        await session.merge()
    assert (repo.top / "src" / "new.py").exists()


async def test_the_state_folder_is_never_part_of_anything(repo: Repository, session: skep.Session) -> None:
    result = await (await session.submit(skep.Task(run="git status --porcelain --ignored; ls -a; touch x"))).result()
    assert result.ok
    assert ".skep" not in str(result.value)
    assert not [path for path in repo.files("refs/skep/bench/main") if ".skep" in path]


async def test_the_shared_worktree_keeps_what_git_ignores_and_nothing_else(session: skep.Session) -> None:
    first = skep.Task(
        id="first", run="mkdir -p cache.log deep; echo 1 > cache.log/x; echo 2 > deep/y.log; echo s > s.txt; pwd", mode="shared"
    )
    failing = skep.Task(id="failing", needs=("first",), run="echo half > half.txt; rm a.txt; exit 1", mode="shared")
    last = skep.Task(
        id="last",
        needs=("failing",),
        condition="always()",
        run="cat cache.log/x deep/y.log s.txt a.txt; ls half.txt 2>/dev/null || echo no half; pwd",
        mode="shared",
    )
    one, _, three = await session.gather(await session.submit_many([first, failing, last]))
    assert one.ok
    assert three.value == f"1\n2\ns\none\nno half\n{one.value}"


async def test_nothing_that_is_kept_leaves_the_shared_worktree_by_a_symlink(session: skep.Session, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    first = skep.Task(id="first", run="mkdir sub; echo 1 > sub/y.log", mode="shared")
    second = skep.Task(id="second", needs=("first",), run=f"ln -s {tmp_path}/outside sub2; mv sub2 sub3; mv sub3 sub")
    third = skep.Task(id="third", needs=("second",), run="ls sub/", mode="shared")
    results = await session.gather(await session.submit_many([first, second, third]))
    assert [result.ok for result in results] == [True, True, True]
    assert list((tmp_path / "outside").iterdir()) == []
