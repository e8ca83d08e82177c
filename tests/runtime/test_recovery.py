"""The owner dies, in this way or that: what it had in hand is ended, kept, counted, and done once by whoever comes next."""

from __future__ import annotations

import os
import signal

import skep
from skep.core.events import AttemptEnded
from tests.runtime.actors import actor
from tests.runtime.gates import Gate
from tests.runtime.traces import left_behind
from tests.workspace.repository import Repository


def program(gate: Gate, **more: object) -> str:
    """Submits a task that waits at the gate, and waits for it."""
    return f"""
        session = await hive.session("bench")
        await session.submit(skep.Task(id="a", run="echo half > work; " + {gate.PASS!r}, env={gate.env!r}, **{more!r}))
        await session.settled()
    """


async def outcomes(session: skep.Session) -> list[AttemptEnded]:
    """How every attempt of the session ended, so far."""
    last, found = (await session.status(tasks=False)).seq, []
    async for number, event in session.follow():
        if isinstance(event, AttemptEnded):
            found.append(event)
        if number >= last:
            break
    return found


async def test_after_a_kill_the_work_is_kept_the_attempt_is_not_counted_and_nothing_is_left(repo: Repository, gate: Gate) -> None:
    code = f"""
        session = await hive.session("bench")
        for name, mode in (("a", "isolated"), ("s", "shared"), ("n", "none")):
            await session.submit(skep.Task(id=name, mode=mode, run="echo half > work; " + {gate.PASS!r}, env={gate.env!r}))
        await session.settled()
    """
    async with actor(repo.top, code) as first:
        await gate.begun(3)
        await first.kill()
    async with skep.open(repo.top) as hive:
        found = await hive.find("bench")
        view = await found.status()
        assert (view.state, view.live) == ("active", False)
        assert view.idle == "nobody carries it out; go on with `skep resume`"
        assert {task.state for task in view.tasks} == {"running"}
        session = await hive.session("bench")
        await gate.begun(3)
        assert repo.show("refs/skep/bench/wip/a/1", "work") == "half"
        assert repo.show("refs/skep/bench/wip/s/1", "work") == "half"
        gate.go(3)
        results = await session.results(["a", "s", "n"])
        assert [(result.state, result.attempts) for result in results] == [("done", 2)] * 3
        first_ended = [event for event in await outcomes(session) if event.n == 1]
        assert {(event.outcome, event.cause, event.counted) for event in first_ended} == {("interrupted", "interrupted", True)}
        await session.settled()
        trees = {path.name for path in (repo.top / ".skep" / "worktrees").iterdir()}
        assert len(trees) == 1  # the session's own
    assert left_behind(repo.top) == []


async def test_a_task_that_kills_its_owner_gives_up_in_the_end(repo: Repository) -> None:
    code = """
        import os
        session = await hive.session("bench")
        if not (await session.status()).tasks:
            await session.submit(skep.Task(id="killer", run=f"kill -9 {os.getppid()} $OWNER", env={"OWNER": ""}, mode="none"))
        say("owner", os.getpid())
        await session.settled()
        say("state", (await session.task("killer")).state)
    """
    # The task finds its owner by the lock: it holds the owner's number.
    code = code.replace('f"kill -9 {os.getppid()} $OWNER", env={"OWNER": ""}', '"kill -9 $(cat $SKEP_HOME/owner.lock)"')
    states = []
    for _ in range(8):
        async with actor(repo.top, code) as owner:
            await owner.process.wait()
            if owner.process.returncode == 0:
                states.append(await owner.said("state"))
                break
    assert states == ["gave-up"]
    async with skep.open(repo.top) as hive:
        task = await (await hive.find("bench")).task("killer")
        assert (task.state, task.attempts, task.cause) == ("gave-up", 5, "interrupted")
        assert "died" in task.detail


async def test_a_task_that_must_not_run_twice_asks_after_a_crash(repo: Repository, gate: Gate) -> None:
    for answer, state, ran in (("rerun", "done", 2), ("skip", "skipped", 1)):
        name = f"bench-{answer}"
        code = (
            program(gate, recovery="ask")
            .replace('"bench"', repr(name))
            .replace("echo half", "echo ran >> $SKEP_WORKSPACE/../ran-$SKEP_SESSION; echo half")
        )
        async with actor(repo.top, code) as first:
            await gate.begun()
            await first.kill()
        async with skep.open(repo.top) as hive:
            session = await hive.session(name)
            view = await session.settled()
            assert (view.tasks[0].state, view.tasks[0].question) == ("needs-you", "rerun")
            await session.answer("a", answer)  # type: ignore[arg-type]  # keyword arguments of many kinds
            if answer == "rerun":
                await gate.begun()
                gate.go()
            (result,) = await session.results(["a"])
            assert result.state == state
        assert (repo.top.parent / f"ran-{name}").read_text().count("ran") == ran


async def test_a_verification_that_was_cut_off_is_done_again_without_a_new_attempt(repo: Repository, gate: Gate) -> None:
    code = f"""
        session = await hive.session("bench")
        await session.submit(skep.Task(id="a", run="echo $SKEP_ATTEMPT > work", verify={gate.PASS!r}, env={gate.env!r}))
        await session.settled()
    """
    async with actor(repo.top, code) as first:
        await gate.begun()
        await first.kill()
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        await gate.begun()
        gate.go()
        (result,) = await session.results(["a"])
        assert (result.state, result.attempts) == ("done", 1)
    assert repo.show("refs/skep/bench/main", "work") == "1"


async def test_a_merge_that_was_cut_off_in_its_verification_is_made_once(repo: Repository, gate: Gate) -> None:
    code = f"""
        task = skep.Task(id="a", run="touch made")
        plan = skep.Plan(name="p", verify="export GATE={gate.folder}; " + {gate.PASS!r}, tasks=(task,))
        session = await hive.start(plan)
        await session.settled()
    """
    async with actor(repo.top, code) as first:
        await gate.begun()
        await first.kill()
    async with skep.open(repo.top) as hive:
        session = await hive.find("p-1")
        await session.resume()
        await gate.begun()
        gate.go()
        (result,) = await session.results(["a"])
        view = await session.status()
        assert (result.state, result.attempts, view.tip) == ("done", 1, repo("rev-parse", "refs/skep/p-1/main"))
        assert repo("log", "--merges", "--format=%s", view.tip).count("Merge a") == 1


async def test_what_strays_from_its_group_is_ended_as_well_when_the_owner_is_killed(repo: Repository, gate: Gate) -> None:
    stray = "(trap '' TERM HUP INT; setsid bash -c 'trap \"\" TERM; echo stray > $GATE/begun; read -r _ < $GATE/never' &) ; "
    code = program(gate).replace('"echo half > work; "', repr(stray))
    async with actor(repo.top, code) as first:
        await gate.begun(2)
        assert len(left_behind(repo.top)) >= 3
        await first.kill()
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        await gate.begun(2)
        assert sum("bash\0-c\0trap" in line for line in left_behind(repo.top)) == 1  # that of the second attempt
        await session.cancel("a")
        await session.settled()
        assert not [line for line in left_behind(repo.top) if "bash" in line]


async def test_what_even_the_keeper_did_not_survive_to_end_is_ended_before_anything_begins(repo: Repository, gate: Gate) -> None:
    stray = "(setsid bash -c 'echo stray > $GATE/begun; read -r _ < $GATE/never' &) ; "
    code = program(gate).replace('"echo half > work; "', repr(stray))
    async with actor(repo.top, code) as first:
        await gate.begun(2)
        (keeper,) = [line for line in left_behind(repo.top) if "keeper" in line]
        first.send(signal.SIGSTOP)  # so that it starts no other keeper meanwhile
        os.kill(int(keeper.split(":")[0]), signal.SIGKILL)
        await first.kill()
        assert [line for line in left_behind(repo.top) if "never" in line]
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        await gate.begun(2)
        assert sum("bash\0-c\0echo stray" in line for line in left_behind(repo.top)) == 1
        gate.go()
        assert (await session.results(["a"]))[0].ok


async def test_stopped_by_a_person_is_no_interruption_however_often(repo: Repository, gate: Gate) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        await session.submit(skep.Task(id="a", run=gate.PASS, env=gate.env, mode="none"))
        for _ in range(7):
            await gate.begun()
            assert await session.stop() == 1
            await session.resume()
        await gate.begun()
        gate.go()
        (result,) = await session.results(["a"])
    assert (result.state, result.attempts) == ("done", 8)


async def test_work_that_could_not_be_kept_is_kept_by_the_next_owner(repo: Repository, gate: Gate) -> None:
    code = f"""
        from skep.workspace.git import GitWorkspace
        from skep.errors import Unavailable
        async def full(self, *args):
            raise Unavailable("the disk is full")
        GitWorkspace.capture = full
        session = await hive.session("bench")
        await session.submit(skep.Task(id="b", run="echo half > work; " + {gate.PASS!r}, env={gate.env!r}))
        await session.submit(skep.Task(id="a", run="echo precious > work; exit 1"))
        async for number, event in session.follow():
            if type(event).__name__ == "AttemptEnded":
                say("ended", event.cause)
    """
    async with actor(repo.top, code) as first:
        assert await first.said("ended") == "infrastructure"
        await gate.begun()
        await first.kill()
    async with skep.open(repo.top) as hive:
        await hive.session("bench")
        await gate.begun()
        kept = repo("for-each-ref", "--format=%(refname)", "refs/skep/bench/wip").splitlines()
        works = {repo.show(ref, "work") for ref in kept}
        assert works == {"precious", "half"}
        gate.go()
