"""What happens in a session is told on channels and can be read by key: on every engine, after deletions, kills and outages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

import skep
from skep.config import Config, PublishConfig, load
from skep.core import inputs as inp
from skep.core.model import AgentSpec, Limits, Plan, Resources, Task
from skep.errors import Invalid
from skep.observe import keys
from skep.observe.records import Report
from skep.redis.connect import Link
from skep.runtime import publishers as looking
from skep.runtime import publishing
from skep.runtime.loop import Loop
from skep.runtime.node import SystemClock
from skep.runtime.publishers import Publishers
from skep.runtime.publishing import Means, Publisher
from skep.runtime.session import Session
from skep.store import Log, codec
from skep.store.ephemeral import EphemeralDisk, EphemeralLog
from tests import servers
from tests.servers import Server
from tests.store.engines import Engine, OnCluster, OnRedis, OnValkey

SECRET = "words of a person"
BOTH = PublishConfig(channels=True, state=True)


class Hands:
    """Ends every attempt well as soon as it begins."""

    def perform(self, session: Any, command: Any, entry: Any) -> None:
        task = command.task.id
        session.report(inp.Ended(at=0, task=task, n=command.n, nonce=command.nonce, outcome="ok", result=SECRET, detail=SECRET))

    def hand_over(self, session: Any, agent: str) -> None:
        raise AssertionError("nobody writes here")


class Scene:
    """A session with a publisher, and the Redis as others see it."""

    def __init__(self, url: str, nodes: list[Server], stack: AsyncExitStack) -> None:
        self.url, self.nodes, self._stack = url, nodes, stack
        self.log: Log = EphemeralLog(EphemeralDisk())
        self.clock = SystemClock()
        self.late = 0
        self._listening: list[Any] = []

    async def open(self, hands: Hands | None = None) -> Loop:
        loop = Loop("s", self.log, self.clock, hands or Hands())
        try:
            await loop.start()
        except Exception:
            await self.log.create("s", 1)
            await loop.start()
        self._stack.push_async_callback(loop.stop)
        plan = Plan(
            name="s", objective=SECRET, agents=(AgentSpec(name="shell", runtime="shell", count=0),), limits=Limits(agents=8)
        )
        if not loop.state.session:
            await loop.tell(inp.OpenSession(at=0, session="s", plan=plan))
        await loop.tell(inp.JoinNode(at=0, node="n", boot="b", capacity=Resources(cpu=8.0), slots=100))
        return loop

    def publishers(self, config: PublishConfig = BOTH) -> Publishers:
        made = Publishers(Link(self.url, {}), config, self.log, lambda: self.clock.now() + self.late)
        self._stack.push_async_callback(made.close)
        return made

    def listen(self) -> None:
        for node in self.nodes[:1]:
            client = self._stack.enter_context(node.client())
            listening = client.pubsub()  # type: ignore[no-untyped-call]  # redis-py's
            listening.psubscribe("*")
            assert listening.get_message(timeout=60) is not None
            self._listening.append(listening)

    def heard(self) -> list[tuple[str, dict[str, Any]]]:
        """What was told up to now, by channel: what comes before a word that each server is told to pass on in the end."""
        found = []
        for listening in self._listening:
            for node in self.nodes:
                node.tell("PUBLISH", "end", "1")
            ends = 0
            while ends < len(self.nodes):
                message = listening.get_message(timeout=60)
                if message["channel"] == b"end":
                    ends += 1
                else:
                    found.append((message["channel"].decode(), json.loads(message["data"])))
        return found

    def everything(self) -> dict[str, Any]:
        """All that can be read by key."""
        found: dict[str, Any] = {}
        for node in self.nodes:
            with node.client() as client:
                every: Callable[..., Any] = client.execute_command
                for key in every("KEYS", "*"):
                    command = {b"string": ("GET", key), b"hash": ("HGETALL", key), b"zset": ("ZRANGE", key, 0, -1)}
                    found[key.decode()] = every(*command[every("TYPE", key)])
        return found


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: a slow machine is no reason to give up."""
    monkeypatch.setattr(publishing, "DRAIN", 60.0)


@pytest.fixture(params=[OnRedis, OnValkey, OnCluster])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    kind: type[Engine] = request.param
    engine = kind(tmp_path)
    async with AsyncExitStack() as stack:
        yield Scene(engine.url, engine.nodes, stack)


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[Scene]:
    """On one engine alone."""
    engine = OnValkey(tmp_path)
    async with AsyncExitStack() as stack:
        yield Scene(engine.url, engine.nodes, stack)


def submit(*names: str, **more: Any) -> inp.Submit:
    return inp.Submit(at=0, tasks=tuple(Task(id=name, run=SECRET, objective=SECRET, **more) for name in names))


async def done(loop: Loop, count: int) -> None:
    await loop.until(lambda state: True if state.counts.get("done", 0) >= count else None)


def without_time(shown: dict[str, Any]) -> dict[str, Any]:
    """Without what tells when it was published, and at which event it was looked at."""
    found: dict[str, Any] = {}
    for key, value in shown.items():
        if isinstance(value, bytes):
            value = {
                name: one for name, one in json.loads(value).items() if name not in ("sequence", "at", "told", "lag", "behind")
            }
        found[key] = value
    return found


async def test_what_happens_is_told_in_order_and_can_be_read(scene: Scene) -> None:
    loop = await scene.open()
    scene.listen()
    publishers = scene.publishers()
    publishers.begin(loop)
    await loop.tell(submit("a"))
    await loop.tell(submit("b/{x}", needs=("a",)))
    await done(loop, 2)
    await publishers.publisher("s").drain()
    heard = scene.heard()
    assert SECRET not in str(heard)
    assert len({message["id"] for _, message in heard}) == len(heard)
    by_channel = [(channel, message["payload"]) for channel, message in heard]
    assigned = [payload["task"] for channel, payload in by_channel if channel == "tasks:status"]
    results = [(payload["task"], payload["state"]) for channel, payload in by_channel if channel == "tasks:results"]
    assert assigned == ["a", "b/{x}"]
    assert results == [("a", "done"), ("b/{x}", "done")]
    for channel in {channel for channel, _ in heard}:
        places = [message["id"].split(":")[1:] for name, message in heard if name == channel]
        assert places == sorted(places, key=lambda place: (int(place[0]), int(place[1])))
    shown = scene.everything()
    assert SECRET not in str(shown)
    assert json.loads(shown["task:s/b/%7Bx%7D:state"])["state"] == "done"
    assert json.loads(shown["swarm:s:state"])["status"] == "completed"
    assert shown["swarm:s:agents"][b"shell-1"] == b"idle"
    assert [json.loads(step)["event"] for step in shown["task:s/a:history"]] == [
        "tasks.submitted",
        "task.assigned",
        "attempt.ended",
    ]
    report = msgspec.json.decode(shown["swarm:s:published"], type=Report)
    assert (report.sequence, report.behind, report.told) == (loop.head.seq, 0, len(heard))


async def test_what_was_deleted_is_written_again_and_nothing_is_told_twice(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "LOOK", 10_000)
    loop = await scene.open()
    publishers = scene.publishers()
    publishers.look_every = 3600
    scene.listen()
    publishers.begin(loop)
    await loop.tell(submit(*(f"x{n}" for n in range(30))))
    await loop.tell(submit("late", needs=("x1",), approve="before"))
    await loop.until(lambda state: True if state.entries["late"].state == "needs-you" else None)
    publisher = publishers.publisher("s")
    await publisher.drain()
    before = without_time(scene.everything())
    assert before["swarm:s:tasks"].keys() == {b"late", b":sequence"}
    for node in scene.nodes:
        node.tell("FLUSHALL")
    await publishers.look_after(publisher)
    await publishers.publisher("s").drain()
    assert without_time(scene.everything()) == before
    lost = (
        "task:s/x1:history",
        "task:s/late:state",
        "task:s/x2:config",
        "agent:s/shell-1:tasks",
        "swarm:s:agents",
        "swarm:s:config",
    )
    for key in (*lost, "swarm:s:tasks"):
        await publishers._means.board.call("UNLINK", key)
        for _ in range(2):  # what is found first may have all published again
            await publishers.look_after(publishers.publisher("s"))
            await publishers.publisher("s").drain()
    assert without_time(scene.everything()) == before
    ids = [message["id"] for _, message in scene.heard()]
    assert {int(one.split(":")[1]) for one in ids} == set(range(1, loop.head.seq + 1))
    assert len(set(ids)) == len(ids)


async def test_a_new_publisher_goes_on_where_the_last_one_was(plain: Scene) -> None:
    loop = await plain.open()
    plain.listen()
    first = plain.publishers()
    first.begin(loop)
    await loop.tell(submit("a"))
    await done(loop, 1)
    await first.close()
    await loop.tell(submit("b"))
    await done(loop, 2)
    second = plain.publishers()
    second.begin(loop)
    await second.publisher("s").drain()
    ids = [message["id"] for _, message in plain.heard()]
    assert len(set(ids)) == len(ids)
    assert {int(one.split(":")[1]) for one in ids} == set(range(1, loop.head.seq + 1))


async def test_what_is_told_too_late_is_dropped_and_counted_and_can_be_read(plain: Scene) -> None:
    loop = await plain.open()
    plain.listen()
    await loop.tell(submit("a"))
    await done(loop, 1)
    plain.late = 301_000
    publishers = plain.publishers()
    publishers.begin(loop)
    await publishers.publisher("s").drain()
    report = publishers.publisher("s").report
    assert (report.told, plain.heard()) == (0, [])
    assert report.expired > 5
    assert "task:s/a:results" in plain.everything()


async def test_what_others_put_in_its_place_does_not_keep_what_was_published(scene: Scene) -> None:
    published, link = scene.publishers(), Link(scene.url, {})
    await link.call("SET", "swarm:s:agents", "no hash")
    await link.call("HSET", "swarm:s:tasks", b"\xff", "no task")
    await link.close()
    await published.forget("s")
    assert scene.everything() == {}


async def test_only_what_is_switched_on_is_published(plain: Scene) -> None:
    loop = await plain.open()
    plain.listen()
    told, read = plain.publishers(PublishConfig(channels=True)), plain.publishers(PublishConfig(state=True))
    told.begin(loop)
    await told.publisher("s").drain()
    assert list(plain.everything()) == ["swarm:s:published"]
    assert plain.heard() != []
    await told.close()  # one process would write the position of the other
    plain.nodes[0].tell("FLUSHALL")
    read.begin(loop)
    await read.publisher("s").drain()
    assert len(plain.everything()) > 5
    assert plain.heard() == []


async def test_of_a_session_that_is_gone_nothing_is_left_to_read(scene: Scene) -> None:
    loop, published = await scene.open(), scene.publishers()
    published.begin(loop)
    await loop.tell(inp.Submit(at=0, tasks=(Task(id="a", run="true"), Task(id="b", run="true", approve="before"))))
    await loop.until(
        lambda state: True if state.entries["b"].state == "needs-you" and state.entries["a"].state == "done" else None
    )
    await published.publisher("s").drain()
    assert {"swarm:s:published", "swarm:s:tasks"} < scene.everything().keys()
    await published.forget("s")
    left = scene.everything()
    assert {name for name in left if not name.startswith("task:s/a:")} == set(), "what is finished goes when its time is over"
    await published.forget("s")


async def test_finished_tasks_go_after_their_time_and_one_that_goes_round_again_stays(plain: Scene) -> None:
    loop = await plain.open()
    publishers = plain.publishers(PublishConfig(state=True, keep=1000))
    publishers.begin(loop)
    await loop.tell(submit("a", "b"))
    await done(loop, 2)
    await publishers.publisher("s").drain()
    left = {key: plain.nodes[0].tell("PTTL", key) for key in keys.all_of_task("s", "a")}
    assert all(0 < one <= 1_000_000 for one in left.values()), left
    assert plain.nodes[0].tell("PTTL", "swarm:s:state") == -1
    await loop.tell(inp.Close(at=0))
    await publishers.publisher("s").drain()
    assert 0 < plain.nodes[0].tell("PTTL", "swarm:s:state") <= 1_000_000


async def test_a_redis_that_is_away_stops_nothing_and_is_caught_up_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "PAUSE", 0.05)
    server = Server(servers.valkey_binary())
    try:
        async with AsyncExitStack() as stack:
            scene = Scene(server.url, [server], stack)
            loop = await scene.open()
            publishers = scene.publishers()
            server.kill()
            publishers.begin(loop)
            await loop.tell(submit("a"))
            await done(loop, 1)
            publisher = publishers.publisher("s")
            await publisher.drain()
            assert f"{loop.head.seq} events behind: the store at" in publishers.trouble("s")
            server.start()
            while publisher.behind:
                await publisher.stepped()
            assert publishers.trouble("s") == ""
            assert json.loads(scene.everything()["task:s/a:state"])["state"] == "done"
    finally:
        server.remove()


async def test_a_former_writer_publishes_no_more(plain: Scene) -> None:
    loop = await plain.open()
    publishers = plain.publishers()
    publishers.begin(loop)
    await publishers.publisher("s").drain()
    later = msgspec.json.encode(Report(session="s", sequence=99, epoch=loop.head.epoch + 1))
    plain.nodes[0].tell("SET", "swarm:s:published", later)
    await loop.tell(submit("a"))
    await done(loop, 1)
    await publishers.publisher("s").drain()
    assert plain.nodes[0].tell("GET", "swarm:s:published") == later
    assert "a later writer" in publishers.trouble("s")


async def test_a_publisher_can_be_ended_at_any_moment(plain: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "DRAIN", 0.0)
    loop = await plain.open()
    await loop.tell(submit("a"))
    await done(loop, 1)
    publishers = plain.publishers()
    for turns in range(60):
        plain.nodes[0].tell("FLUSHALL")
        publishers.begin(loop)
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await publishers.end("s")


async def test_whoever_waits_for_a_publisher_waits_for_what_it_publishes_again(plain: Scene) -> None:
    loop = await plain.open()
    publishers = plain.publishers()
    publishers.look_every = 3600
    publishers.begin(loop)
    publisher = publishers.publisher("s")
    await publisher.drain()
    plain.nodes[0].tell("FLUSHALL")
    await publishers.look_after(publisher)
    assert publishers.publisher("s") is publisher
    assert publisher.behind
    await publisher.drain()
    assert (publisher.behind, publisher.over) == (0, False)
    assert "swarm:s:state" in plain.everything()


async def test_what_breaks_publishing_is_said_and_nobody_waits_for_it(plain: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(event: Any) -> tuple[str, ...]:
        raise ValueError("a mistake")

    loop = await plain.open()
    monkeypatch.setattr(keys, "tasks_of", broken)
    publishers = plain.publishers()
    publishers.begin(loop)
    await publishers.publisher("s").drain()
    assert "ValueError: a mistake" in publishers.trouble("s")


async def test_every_event_of_the_log_is_in_the_histories(plain: Scene) -> None:
    loop = await plain.open()
    publishers = plain.publishers(PublishConfig(state=True))
    await loop.tell(submit(*(f"x{n}" for n in range(500))))
    await done(loop, 500)
    publishers.begin(loop)
    await publishers.publisher("s").drain()
    steps = {
        json.loads(step)["sequence"] for key, value in plain.everything().items() if key.endswith(":history") for step in value
    }
    appends = await plain.log.read("s")
    named = {
        number
        for append in appends
        for number, event in enumerate(codec.decode(append.blob), append.first)
        if keys.tasks_of(event)
    }
    assert steps == named


def test_there_must_be_a_redis_to_publish_to(tmp_path: Path) -> None:
    assert Config().publish == PublishConfig(channels=False, state=False)
    (tmp_path / "skep.toml").write_text("[publish]\nchannels = true\n")
    with pytest.raises(Invalid, match="no Redis to publish to"):
        load(tmp_path, {})
    assert load(tmp_path, {"SKEP_STORE_URL": "redis://h"}).publish.channels
    (tmp_path / "skep.toml").write_text("[publish]\nchannels = true\nurl = 'http://h'\n")
    with pytest.raises(Invalid, match=r"publish\.url"):
        load(tmp_path, {})


async def test_the_status_says_what_is_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Publisher] = []

    class Seen(Publisher):
        def __init__(self, session: Session, means: Means) -> None:
            super().__init__(session, means)
            made.append(self)

    monkeypatch.setattr(looking, "Publisher", Seen)
    config = Config(publish=PublishConfig(state=True, url=f"redis://127.0.0.1:{servers.free_port()}"))
    async with skep.open(tmp_path, config) as hive:
        session = await hive.session("s")
        await made[-1].drain()
        assert "events behind: the store at" in (await session.status()).unpublished
