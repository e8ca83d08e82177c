"""When work counts: outputs, verification in a clean checkout, protected paths, changes where changes are due."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import skep
from skep.store import Blobs
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository


def blobs(hive: skep.Skep) -> Blobs:
    sessions = hive.door._sessions
    assert sessions is not None
    return sessions._parts.blobs


async def test_outputs_are_kept_as_artifacts_and_never_committed(hive: skep.Skep, session: skep.Session) -> None:
    task = skep.Task(
        id="make",
        run='echo short > "$SKEP_OUT/a"; mkdir "$SKEP_OUT/sub"; head -c 300000 /dev/zero > "$SKEP_OUT/sub/big"; touch committed',
        outputs={"a": "a", "big": "sub/big"},
    )
    result = await (await session.submit(task)).result()
    assert result.ok, result
    assert (result.outputs["a"].text, result.outputs["a"].size) == ("short\n", 6)
    assert (result.outputs["big"].text, result.outputs["big"].size) == (None, 300_000)
    assert result.outputs["big"].digest == hashlib.sha256(bytes(300_000)).hexdigest()
    assert await blobs(hive).get(result.outputs["big"].digest) == bytes(300_000)
    assert (await session.diff("make", stat=True)).split()[:4] == ["committed", "|", "0", "1"]


@pytest.mark.parametrize(
    "left", ["true", "mkdir $SKEP_OUT/f", "ln -s /etc/passwd $SKEP_OUT/f", "mkfifo $SKEP_OUT/f", "ln -s $SKEP_OUT/g $SKEP_OUT/f"]
)
async def test_a_declared_output_that_is_no_file_fails_the_attempt(session: skep.Session, left: str) -> None:
    result = await (await session.submit(skep.Task(run=left, outputs={"f": "f"}, mode="none"))).result()
    assert (result.state, result.cause, result.outputs) == ("failed", "error", {})
    assert "f" in result.detail


async def test_an_output_may_not_lie_outside(session: skep.Session) -> None:
    result = await (await session.submit(skep.Task(run="echo x > a", outputs={"f": "../../a"}, mode="none"))).result()
    assert (result.state, result.outputs) == ("failed", {})


async def test_verification_sees_the_commit_and_nothing_else(session: skep.Session, repo: Repository, tmp_path: Path) -> None:
    repo.write({"a.txt": "uncommitted\n", "untracked": "x"})
    verify = f"""
        test "$(cat a.txt)" = changed; test ! -e ignored.log; test ! -e untracked; test -e new
        pwd > {tmp_path}/verified-in; echo spoiled > a.txt; echo litter > litter
    """
    run = f"echo changed > a.txt; touch new ignored.log; pwd > {tmp_path}/worked-in"
    result = await (await session.submit(skep.Task(run=run, verify=verify))).result()
    assert result.ok, result
    verified, worked = (Path((tmp_path / name).read_text().strip()) for name in ("verified-in", "worked-in"))
    assert len({verified, worked, repo.top}) == 3
    assert not verified.exists()
    assert not worked.exists()
    assert repo.files("refs/skep/bench/main") == {".gitignore", "a.txt", "new", "src/app.py"}
    assert repo.show("refs/skep/bench/main", "a.txt") == "changed"
    assert (repo.top / "a.txt").read_text() == "uncommitted\n"


async def test_a_verification_that_takes_too_long_fails_the_attempt(session: skep.Session) -> None:
    result = await (await session.submit(skep.Task(run="touch x", verify="sleep 300", timeout=1.0))).result()
    assert (result.state, result.cause) == ("failed", "verify-failed")
    assert "took more than 1 s" in result.detail


async def test_a_task_without_a_worktree_is_verified_where_it_ran(session: skep.Session) -> None:
    good, bad = await session.gather(
        await session.submit_many(
            [
                skep.Task(run="echo 1 > f", verify="test -e f", mode="none"),
                skep.Task(run="echo 1 > f", verify="echo wrong; test -e g", mode="none"),
            ]
        )
    )
    assert good.ok
    assert (bad.state, bad.cause) == ("failed", "verify-failed")
    assert bad.detail.endswith("wrong")


async def test_protected_paths_may_not_change(session: skep.Session, repo: Repository) -> None:
    repo.commit({"tests/test_a.py": "assert 1\n", "tests/deep/b.py": "", "other/tests.txt": ""})
    tasks = {
        "rm -r tests": False,
        "echo > tests/deep/b.py": False,
        "touch tests/new.py": False,
        "git mv tests/test_a.py moved.py": False,
        "chmod +x tests/test_a.py": False,
        "echo x > other/tests.txt; touch free": True,
    }
    handles = await session.submit_many(skep.Task(run=run, protect=("tests/**",), merge="never") for run in tasks)
    results = await session.gather(handles)
    assert [result.ok for result in results] == list(tasks.values()), results
    for result in results[:-1]:
        assert result.cause == "protected"
        assert "tests/" in result.detail
    assert len(repo("for-each-ref", "refs/skep/bench/task").splitlines()) == 6
    assert await session.discard() == [f"task/t{n}/1" for n in range(1, 6)]
    assert await session.discard("t6") == ["task/t6/1"]


async def test_what_was_rejected_for_its_paths_is_told_to_the_next_attempt(session: skep.Session) -> None:
    run = 'case "$SKEP_FEEDBACK" in *src/app.py*) touch fine;; *) echo x > src/app.py;; esac'
    result = await (await session.submit(skep.Task(run=run, protect=("src/*.py",), retries=1))).result()
    assert (result.state, result.attempts) == ("done", 2)


async def test_a_prompt_that_changes_nothing_did_not_do_it_unless_it_has_outputs(hive: skep.Skep) -> None:
    agents = (skep.AgentSpec(name="idle", runtime="shell", count=3, options={"run": "echo said > $SKEP_OUT/o"}),)
    plan = skep.Plan(
        name="p",
        agents=agents,
        tasks=(
            skep.Task(id="nothing", prompt="x", retries=1),
            skep.Task(id="output", prompt="x", outputs={"o": "o"}),
            skep.Task(id="nowhere", prompt="x", mode="none"),
        ),
    )
    nothing, output, nowhere = await (await hive.start(plan)).results(["nothing", "output", "nowhere"])
    assert (nothing.state, nothing.cause, nothing.attempts) == ("failed", "no-changes", 2)
    assert (output.state, nowhere.state) == ("done", "done")


async def test_changes_that_the_agent_committed_itself_count(session: skep.Session, repo: Repository) -> None:
    run = 'git -c user.name=A -c user.email=a@b commit -q --allow-empty -m own; echo 1 > one; git add one; \
           git -c user.name=A -c user.email=a@b commit -qm "by hand"; echo 2 > two'
    result = await (await session.submit(skep.Task(run=run))).result()
    assert result.ok, result
    assert {"one", "two"} <= repo.files("refs/skep/bench/main")


async def test_a_failing_setup_is_no_attempt_of_the_agents(hive: skep.Skep, tmp_path: Path) -> None:
    flag = tmp_path / "ready"
    plan = skep.Plan(
        name="p",
        setup=(f"test -e {flag} || {{ touch {flag}; echo no network; exit 6; }}", "touch prepared"),
        tasks=(skep.Task(id="a", run="test -e prepared; touch done; echo $SKEP_ATTEMPT"),),
    )
    session = await hive.start(plan)
    (result,) = await session.results(["a"])
    assert (result.state, result.value, result.attempts) == ("done", "2", 2)
    ended = [event async for event in events_until(session, "Merged") if type(event).__name__ == "AttemptEnded"]
    first = ended[0]
    assert (first.outcome, first.cause) == ("interrupted", "infrastructure")
    assert "no network" in first.detail


async def events_until(session: skep.Session, name: str):  # type: ignore[no-untyped-def]  # an async generator of the test alone
    async for _, event in session.follow():
        yield event
        if type(event).__name__ == name:
            return


async def test_the_merged_tip_is_verified_before_the_branch_moves(hive: skep.Skep, repo: Repository) -> None:
    plan = skep.Plan(
        name="p",
        verify='git rev-parse -q --verify refs/skep/p-1/main > /dev/null; test "$(cat one two 2>/dev/null | tr -d "\\n")" != 12',
        tasks=(
            skep.Task(id="one", run="echo 1 > one"),
            skep.Task(id="two", run='echo 2 > two; test -z "$SKEP_FEEDBACK" || echo 3 > two', needs=("gate",), retries=1),
            skep.Task(id="gate", run="true", mode="none"),
        ),
    )
    session = await hive.start(plan)
    one, two = await session.results(["one", "two"])
    assert (one.state, two.state) == ("done", "done")
    assert max(one.attempts, two.attempts) <= 2
    view = await session.status(tasks=False)
    assert repo("rev-parse", "refs/skep/p-1/main") == view.tip
    assert repo.show(view.tip, "two") in ("2", "3")
    assert repo.show(view.tip, "one") + repo.show(view.tip, "two") != "12"


async def test_a_merge_whose_tip_fails_its_verification_is_not_made(hive: skep.Skep, repo: Repository) -> None:
    plan = skep.Plan(name="p", verify="test ! -e bad || { echo it is bad; exit 3; }", tasks=(skep.Task(id="a", run="touch bad"),))
    session = await hive.start(plan)
    (result,) = await session.results(["a"])
    assert (result.state, result.cause) == ("failed", "verify-failed")
    assert "it is bad" in result.detail
    view = await session.status()
    assert view.tip == view.base == repo("rev-parse", "refs/skep/p-1/main")
    assert repo.files(view.tasks[0].wip) == {".gitignore", "a.txt", "bad", "src/app.py"}


async def test_verifications_run_side_by_side_in_folders_of_their_own(session: skep.Session, gate: Gate) -> None:
    handles = await session.submit_many(
        skep.Task(run=f"touch f{n}", verify=f"test -e f{n}; {gate.PASS}", env=gate.env, merge="never") for n in range(3)
    )
    assert sorted(await gate.begun(3)) == ["t1", "t2", "t3"]
    gate.go(3)
    assert [result.state for result in await session.gather(handles)] == ["done"] * 3
