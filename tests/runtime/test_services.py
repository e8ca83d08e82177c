"""Services: servers beside the tasks, with ports of their own, started again when they end, gone with the run."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

import skep
from skep.core import events as ev
from skep.core.model import Plan, Task
from skep.core.terms import Service
from tests.runtime.actors import actor
from tests.runtime.traces import left_behind
from tests.workspace.repository import Repository

#: Notes that it begins; answers every connection with the name of a file of the project.
SERVER = """
import os, socket, sys
with open(sys.argv[1], "a") as begun:
    print(os.getpid(), file=begun)
server = socket.create_server(("127.0.0.1", int(os.environ["SKEP_PORT_MY_DB"])))
while True:
    connection, _ = server.accept()
    with connection:
        connection.sendall(open("a.txt", "rb").read())
        if os.path.exists(sys.argv[1] + ".crash"):
            os.unlink(sys.argv[1] + ".crash")
            os._exit(7)
"""
ASK = """
import os, socket
with socket.create_connection(("127.0.0.1", int(os.environ["SKEP_PORT_MY_DB"]))) as asked:
    print(asked.makefile().read().strip())
"""


@pytest.fixture
def plan(repo: Repository, tmp_path: Path) -> Plan:
    """Two tasks, one after the other, that ask a server, and a check that does."""
    repo.commit({"server.py": SERVER, "ask.py": ASK})
    service = Service(name="my-db", run=f"exec python3 server.py {tmp_path}/begun")
    tasks = (Task(id="one", run="python3 ask.py > one.txt"), Task(id="two", run="python3 ask.py", needs=("one",)))
    return Plan(name="served", tasks=tasks, services=(service,), verify="python3 ask.py")


async def test_tasks_and_checks_reach_the_one_server_and_it_ends_with_the_run(
    repo: Repository, plan: Plan, tmp_path: Path
) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(plan)
        view = await session.settled()
        assert view.state == "completed"
        assert (await session.task("two")).result == "one"
        assert repo.show(view.tip, "one.txt") == "one"
        assert len((tmp_path / "begun").read_text().split()) == 1
    assert left_behind(tmp_path) == []
    assert "services" not in repo("worktree", "list")


async def test_one_that_ends_is_started_again(repo: Repository, plan: Plan, tmp_path: Path) -> None:
    crash = Task(id="one", run=f"touch {tmp_path}/begun.crash; python3 ask.py")
    async with skep.open(repo.top) as hive:
        session = await hive.start(replace(plan, tasks=(crash, plan.tasks[1]), verify=None))
        assert (await session.settled()).state == "completed"
        assert (await session.task("two")).result == "one"
    assert len((tmp_path / "begun").read_text().split()) >= 2


async def first_end(session: skep.Session) -> ev.AttemptEnded:
    async for _, event in session.follow():
        if isinstance(event, ev.AttemptEnded):
            return event
    raise AssertionError


async def test_one_that_does_not_come_up_is_the_environments_failure_and_no_try_counts(repo: Repository, plan: Plan) -> None:
    broken = Service(name="db", run="echo no room for a database; exit 3")
    async with skep.open(repo.top) as hive:
        session = await hive.start(replace(plan, services=(broken,)))
        ended = await first_end(session)
        assert (ended.outcome, ended.cause) == ("interrupted", "infrastructure")
        assert ended.detail == "service 'db' ended 4 times, at last with exit code 3: no room for a database"
        assert (await session.task("one")).state == "parked"


async def test_one_that_is_not_ready_in_time_says_so(repo: Repository, plan: Plan) -> None:
    slow = Service(name="db", run="echo thinking; exec sleep 100", ready="false", timeout=1.0)
    async with skep.open(repo.top) as hive:
        ended = await first_end(await hive.start(replace(plan, services=(slow,))))
        assert ended.detail == "service 'db' is not ready after 1 s: thinking"


async def test_its_own_word_says_when_it_is_ready(repo: Repository, plan: Plan, tmp_path: Path) -> None:
    service = Service(name="my-db", run=f"sleep 1; touch {tmp_path}/up; exec sleep 100", ready=f"test -f {tmp_path}/up")
    task = Task(id="one", run=f"test -f {tmp_path}/up; echo $SKEP_PORT_MY_DB")
    async with skep.open(repo.top) as hive:
        session = await hive.start(replace(plan, services=(service,), tasks=(task,), verify=None))
        assert (await session.settled()).state == "completed"
        assert 1024 < int((await session.task("one")).result) < 65536


async def test_what_needs_no_worktree_starts_none(repo: Repository, plan: Plan, tmp_path: Path) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(replace(plan, tasks=(Task(id="one", run="true", mode="none"),)))
        assert (await session.settled()).state == "completed"
    assert not (tmp_path / "begun").exists()


async def test_none_is_left_when_the_owner_is_killed(repo: Repository, plan: Plan, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "up")
    held = replace(plan, tasks=(Task(id="one", run=f"echo up > {tmp_path}/up; sleep 1000"),), verify=None)
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(held))
    code = f"""
        import msgspec
        from skep.core.model import Plan
        plan = msgspec.json.decode(open("{tmp_path}/plan.json", "rb").read(), type=Plan)
        session = await hive.start(plan)
        say("begun")
        await session.settled()
    """
    async with actor(repo.top, code) as owner:
        await owner.said("begun")
        with open(tmp_path / "up") as up:
            up.read()
        begun = int((tmp_path / "begun").read_text())
        assert Path(f"/proc/{begun}").exists()
        await owner.kill()
        async with skep.open(repo.top) as hive:  # opens once the keeper has let go
            await (await hive.find()).resume()
            assert str(begun) not in "".join(left_behind(tmp_path))
