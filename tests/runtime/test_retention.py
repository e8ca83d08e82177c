"""Sessions that ended long ago go, once an archive has all of them; whatever else is the matter, they stay."""

from __future__ import annotations

import asyncio
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import skep
from skep import config
from skep.core.model import Plan
from skep.runtime import copies
from skep.runtime import requests as rq
from skep.runtime.backups import ARCHIVE, Backups
from skep.runtime.checkup import checkup
from skep.runtime.collect import collect
from skep.runtime.kept import PruneView
from skep.runtime.node import SystemClock
from skep.runtime.retention import GOING, MARK, TURN
from skep.runtime.schedule import last
from skep.runtime.shared import CHORES, OWNERS
from skep.wiring import assemble
from tests import servers
from tests.runtime.ages import ahead
from tests.workspace.repository import Repository

MAKE = skep.Task(id="make", run="echo kept > $SKEP_OUT/o; echo x > x", outputs={"o": "o"})


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "redis":
        server = servers.redis_server()
        server.tell("FLUSHALL")
        monkeypatch.setenv("SKEP_STORE_URL", server.url)
    return str(request.param)


@pytest.fixture
def much_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Puts the clock forward."""
    return lambda: monkeypatch.setattr(SystemClock, "now", ahead)


async def ended(repo: Repository, name: str = "bench", merge: bool = True) -> None:
    """A session that did something, landed unless it is not to, and ended with its owner."""
    async with skep.open(repo.top) as hive:
        session = await hive.session(name)
        await session.submit(msgspec.structs.replace(MAKE, run=f"{MAKE.run}; echo {name} > {name}.txt"))
        assert (await session.results(["make"]))[0].ok
        if merge:
            await session.merge()


async def prune(hive: skep.Skep, dry: bool = False, older: str = "30d") -> list[PruneView]:
    return await hive.call(rq.Prune(older=older, dry=dry))


def archives(repo: Repository) -> list[Path]:
    return sorted((repo.top / ".skep" / "backups").glob(f"*/*{ARCHIVE}.skep"))


def left(repo: Repository) -> list[str]:
    """What the repository and the state folder still have of any session."""
    state = repo.top / ".skep"
    found = [*(state / "transcripts").glob("*"), *(state / "homes").glob("*/*"), *(state / "worktrees").glob("*")]
    return [path.name for path in found] + repo("for-each-ref", "--format=%(refname)", "refs/skep/").split()


async def collected(repo: Repository) -> int:
    """What nobody names any more is removed from the blobs; says how many."""
    parts = await assemble(repo.top, config.load(repo.top))
    try:
        return await collect(parts)
    finally:
        await parts.close()


async def comes_back(repo: Repository) -> None:
    """The session can be restored with all it had, and goes on."""
    async with skep.open(repo.top) as hive:
        restored = await hive.restore("bench")
        view = await restored.status()
        assert (view.name, view.state, [task.state for task in view.tasks]) == ("bench", "completed", ["done"])
        assert view.tasks[0].outputs["o"].text == "kept\n"
        assert repo.show("refs/skep/bench-1/main", "x") == "x"
        await restored.resume()
        await restored.submit(skep.Task(id="on", run="cat x"))
        assert (await restored.results(["on"]))[0].value == "x"


async def test_what_ended_long_ago_goes_into_an_archive_and_comes_back(
    store: str, repo: Repository, much_later: Callable[[], None]
) -> None:
    await ended(repo)
    assert left(repo)
    much_later()
    async with skep.open(repo.top) as hive:
        (would,) = await prune(hive, dry=True)
        assert (would.name, would.gone, would.kept, would.trouble) == ("bench", False, "", "")
        assert (len(await hive.sessions()), archives(repo)) == (1, [])
        (view,) = await prune(hive)
        assert (view.gone, view.kept, view.trouble) == (True, "", "")
        assert [Path(view.path)] == archives(repo)
        assert view.bytes == archives(repo)[0].stat().st_size
        assert await hive.sessions() == []
        assert await prune(hive) == []
        assert [one.trouble for one in await hive.backups()] == [""]
    assert left(repo) == []
    if store == "sqlite":  # a Redis keeps its own time
        assert await collected(repo) == 1
    await comes_back(repo)


async def test_a_name_that_an_archive_has_is_not_given_again(repo: Repository, much_later: Callable[[], None]) -> None:
    async with skep.open(repo.top) as hive:
        session = await hive.start(Plan(name="plan", tasks=(MAKE,)))
        assert (await session.settled()).name == "plan-1"
        await session.merge()
    much_later()
    async with skep.open(repo.top) as hive:
        assert [view.gone for view in await prune(hive)] == [True]
        assert (await hive.start(Plan(name="plan"))).name == "plan-2"


async def test_scheduled_backups_push_no_archive_out(repo: Repository, much_later: Callable[[], None]) -> None:
    await ended(repo)
    much_later()
    async with skep.open(repo.top) as hive:
        await prune(hive)
        (archive,) = archives(repo)
        session = await hive.session("bench")
        for n in range(3):
            await session.submit(skep.Task(id=f"n{n}", run="true", mode="none"))
            await session.results([f"n{n}"])
            await hive.backup("bench", keep=1)
        assert len(list(archive.parent.iterdir())) == 2
        assert archive.exists()


async def test_what_is_not_to_go_stays_and_says_why(repo: Repository, much_later: Callable[[], None]) -> None:
    await ended(repo, "unmerged", merge=False)
    await ended(repo, "looked-at")
    async with skep.open(repo.top) as hive:
        opened = await hive.call(rq.OpenTask(session="looked-at", task="make"))
        paused = await hive.session("paused")
        await paused.pause()
        await paused.submit(skep.Task(id="t", run="true"))
    await ended(repo, "at-work")
    await ended(repo, "goes")
    async with skep.open(repo.top) as hive:
        assert await prune(hive) == [], "all of it is young"
        await (await hive.find("at-work")).resume()
        much_later()
        told = {view.name: (view.gone, view.kept, view.trouble) for view in await prune(hive)}
        assert {name: gone for name, (gone, _, _) in told.items()} == {
            "unmerged": False,
            "looked-at": False,
            "at-work": False,
            "goes": True,
        }
        assert "nothing else holds its work: main" in told["unmerged"][1]
        assert opened in told["looked-at"][1]
        assert "carried out here" in told["at-work"][1]
        shutil.rmtree(opened)
        await (await hive.find("unmerged")).merge()
        assert {view.name for view in await prune(hive) if view.gone} == {"looked-at"}, "what was merged just now is young"
    with pytest.raises(skep.Invalid, match="nothing says how long"):
        async with skep.open(repo.top) as hive:
            await prune(hive, older="")


async def test_a_session_of_a_fleet_stays(repo: Repository, much_later: Callable[[], None]) -> None:
    from skep.core.fleet import Fleet, Swarm

    async with skep.open(repo.top) as hive:
        await hive.call(rq.FormFleet(fleet=Fleet(name="farm", swarms=(Swarm(name="a", session="farm-a", slots=1),))))
        session = await hive.find("farm-a")
        await session.resume()
        await session.submit(skep.Task(id="t", run="true", mode="none"))
        assert (await session.results(["t"]))[0].ok
    much_later()
    async with skep.open(repo.top) as hive:
        assert [(view.name, view.kept) for view in await prune(hive)] == [("farm-a", "it is of fleet farm")]


def spoilt(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [spoilt, cut, emptied])
async def test_a_session_stays_whose_archive_cannot_be_read(
    store: str, repo: Repository, much_later: Callable[[], None], monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    await ended(repo)
    save = copies.save

    async def damaged(parts: Any, session: str, name: str, path: Path, seq: int) -> Any:
        written = await save(parts, session, name, path, seq)
        damage(path)
        return written

    much_later()
    async with skep.open(repo.top) as hive:
        with monkeypatch.context() as patch:
            patch.setattr(copies, "save", damaged)
            (view,) = await prune(hive)
        assert view.trouble
        assert not view.gone
        assert len(await hive.sessions()) == 1
        (view,) = await prune(hive)
        assert view.gone
    await comes_back(repo)


async def test_an_archive_that_lacks_something_of_the_store_does_not_do(
    repo: Repository, much_later: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealed, whole, readable, and of an earlier state: only the comparison with the store finds that out."""
    save, lacks = copies.save, dict[str, Any]()

    async def less(parts: Any, session: str, name: str, path: Path, seq: int) -> Any:
        """Writes it without what is named, as a defect of ours would."""
        kept = lacks["what"](parts)
        with monkeypatch.context() as patch:
            for holder, attribute, value in kept:
                patch.setattr(holder, attribute, value)
            return await save(parts, session, name, path, seq)

    def log(parts: Any) -> list[tuple[Any, str, Any]]:
        read = parts.log.read

        async def shorter(session: str, after: int = 0, limit: int = 1000) -> Any:
            return (await read(session, after=after, limit=limit))[:-1]

        return [(parts.log, "read", shorter)]

    def refs(parts: Any) -> list[tuple[Any, str, Any]]:
        every = parts.workspace._refs.all

        async def fewer(session: str) -> dict[str, str]:
            return {name: commit for name, commit in (await every(session)).items() if not name.startswith("task/")}

        return [(parts.workspace._refs, "all", fewer)]

    def outputs(parts: Any) -> list[tuple[Any, str, Any]]:
        async def gone(digest: str) -> bytes:
            raise skep.NotFound("lost")

        return [(parts.blobs, "get", gone)]

    await ended(repo)
    much_later()
    monkeypatch.setattr(copies, "save", less)
    async with skep.open(repo.top) as hive:
        for what, why in ((log, "lacks the log"), (refs, "commits are not those"), (outputs, "lacks 1 outputs")):
            lacks["what"] = what
            (view,) = await prune(hive)
            assert why in view.trouble
            assert (view.gone, len(await hive.sessions())) == (False, 1)
            for path in archives(repo):
                path.unlink()
        lacks["what"] = lambda parts: []
        assert [view.gone for view in await prune(hive)] == [True]


async def test_a_session_that_goes_on_while_it_is_archived_stays(
    store: str, repo: Repository, much_later: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    await ended(repo)
    archive = Backups.archive
    much_later()

    async def meanwhile(self: Backups, session: str, head: Any) -> Any:
        made = await archive(self, session, head)
        monkeypatch.setattr(Backups, "archive", archive)
        await (await hive.find("bench")).submit(skep.Task(id="more", run="true", mode="none"))
        return made

    monkeypatch.setattr(Backups, "archive", meanwhile)
    async with skep.open(repo.top) as hive:
        (view,) = await prune(hive)
        assert "goes on" in view.trouble
        session = await hive.find("bench")
        await session.resume()
        assert (await session.results(["more"]))[0].ok
        assert repo.show("refs/skep/bench/main", "x") == "x"
    async with skep.open(repo.top) as hive:
        assert not (repo.top / ".skep" / GOING).exists()


async def buried(hive: skep.Skep) -> None:
    """The leases of processes that were killed are over, where there are leases."""
    sessions = hive.door._sessions
    assert sessions is not None
    if (shared := sessions._parts.shared) is not None:
        for name, lease in (await shared.leases.held(OWNERS)).items():
            if name != shared.owner:
                await shared.leases.release(f"{OWNERS}/{name}", lease.holder)


POINTS = (
    "Packing.keep",
    "Packing.keep+",
    "Names.forget",
    "Names.forget+",
    "Git.abandon",
    "Git.abandon+",
    "retention.erase",
    "retention.erase+",
    "retention._forget",
    "retention._forget+",
)


@pytest.mark.parametrize("point", POINTS)
async def test_kill_9_between_the_steps_loses_nothing(
    store: str, repo: Repository, much_later: Callable[[], None], point: str
) -> None:
    await ended(repo)
    root = Path(__file__).parents[2]
    driver = "tests.runtime.drivers.killed_prune"
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", driver, repo.top, point, cwd=root)
    assert await process.wait() == -9
    much_later()
    async with skep.open(repo.top) as hive:
        await buried(hive)
        assert not (repo.top / ".skep" / GOING).exists()
        there = len(await hive.sessions())
        assert there == (POINTS.index(point) < POINTS.index("Names.forget+"))
        if there:
            assert repo.show("refs/skep/bench/main", "x") == "x"
            (task,) = (await (await hive.find("bench")).status()).tasks
            assert (task.state, task.outputs["o"].text) == ("done", "kept\n")
        else:
            assert left(repo) == []
        assert [view.gone for view in await prune(hive)] == [True] * there
        assert len(archives(repo)) == 1
    assert left(repo) == []
    await comes_back(repo)


async def test_of_processes_that_share_a_store_one_prunes_at_a_time(
    repo: Repository, much_later: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers.redis_server()
    server.tell("FLUSHALL")
    monkeypatch.setenv("SKEP_STORE_URL", server.url)
    await ended(repo)
    much_later()
    async with skep.open(repo.top) as hive:
        sessions = hive.door._sessions
        assert sessions is not None
        shared = sessions._parts.shared
        assert shared is not None
        assert await shared.leases.hold(f"{CHORES}/{MARK}", "another", TURN)
        assert await shared.leases.hold(f"{OWNERS}/another", "another", TURN)
        (view,) = await prune(hive)
        assert "another process prunes" in view.trouble
        await shared.leases.release(f"{OWNERS}/another", "another")
        assert [view.gone for view in await prune(hive)] == [True]
        assert MARK not in await shared.leases.held(CHORES)


async def test_what_another_process_has_open_is_for_that_one(
    repo: Repository, tmp_path: Path, much_later: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers.redis_server()
    server.tell("FLUSHALL")
    monkeypatch.setenv("SKEP_STORE_URL", server.url)
    await ended(repo)
    clone = Repository(tmp_path / "clone")
    clone.commit({"b.txt": "other\n"})
    (clone.top / ".skep").mkdir(mode=0o700)
    shutil.copy(repo.top / ".skep" / "key", clone.top / ".skep" / "key")
    async with skep.open(clone.top) as other:
        async with skep.open(repo.top) as hive:
            await (await hive.find("bench")).resume()
            much_later()
            (view,) = await prune(other)
            assert "another process has it open" in view.kept
        (view,) = await prune(other)
        assert "not in this repository" in view.kept


async def test_it_is_done_daily_where_the_settings_say_so(
    repo: Repository, much_later: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    await ended(repo)
    await ended(repo, "unmerged", merge=False)
    (repo.top / "skep.toml").write_text('[store]\nkeep = "30d"\n')
    much_later()
    async with skep.open(repo.top) as hive:
        session = await hive.session("today")
        for _ in range(200):  # each task gives the loop another turn
            await session.submit(skep.Task(run="true", mode="none"))
            await session.settled()
            if last(repo.top / ".skep" / MARK) is not None:
                break
        told = last(repo.top / ".skep" / MARK)
        assert told is not None
        assert told.failed == {}
        assert [brief.name for brief in await hive.sessions()] == ["unmerged", "today"]
        (finding,) = [one for one in checkup(repo.top) if one.name == "retention"]
        assert finding.state == "ok"
        assert "1 in archives" in finding.text
    (repo.top / ".skep" / MARK).write_bytes(msgspec.json.encode({"at": told.at, "failed": {"bench": "the disk is full"}}))
    (finding,) = [one for one in checkup(repo.top) if one.name == "retention"]
    assert (finding.state, "bench: the disk is full" in finding.text) == ("error", True)


async def test_an_archive_made_by_somebody_else_does_not_pass(repo: Repository, much_later: Callable[[], None]) -> None:
    """One of the right name that lies there already is looked at like a fresh one."""
    await ended(repo)
    much_later()
    async with skep.open(repo.top) as hive:
        (made,) = await hive.backup("bench")
        path = Path(made.path)
        planted = path.with_name(path.name.replace(".skep", f"{ARCHIVE}.skep"))
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(planted, "w") as target:
            for name in source.namelist():
                target.writestr(name, b"" if name == "commits" else source.read(name))
        (view,) = await prune(hive)
        assert view.gone
        assert Path(view.path) != planted
    async with skep.open(repo.top) as hive:
        assert (await (await hive.restore("bench", view.path)).status()).state == "completed"


async def test_what_was_published_of_it_goes_too(repo: Repository, much_later: Callable[[], None]) -> None:
    server = servers.redis_server()
    server.tell("FLUSHALL")
    (repo.top / "skep.toml").write_text(f'[publish]\nstate = true\nurl = "{server.url}"\n')
    await ended(repo)
    assert b"swarm:bench:published" in server.tell("KEYS", "swarm:*")
    much_later()
    async with skep.open(repo.top) as hive:
        (view,) = await prune(hive)
    assert (view.gone, view.trouble) == (True, "")
    assert server.tell("KEYS", "swarm:*") == []
