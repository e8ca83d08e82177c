"""What attempts print on one machine, seen from another: over a real Redis, in folders of their own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from msgspec.structs import replace

import skep
from skep import nodes
from skep.config import Config, SandboxConfig, StoreConfig
from skep.core.model import Plan, Task
from skep.errors import Invalid, NotFound
from skep.redis.connect import Link
from skep.runtime import onlookers, recorder
from skep.runtime import requests as rq
from skep.runtime.kept import RecordingView
from skep.runtime.node import Here, Role
from skep.runtime.parcel import Parcel
from skep.runtime.recorder import fetched
from skep.store import Recorded
from skep.store.ephemeral import EphemeralBlobs, EphemeralDisk
from skep.store.invitation import invited
from skep.store.redis.keys import of_session
from skep.store.redis.recordings import RedisRecordings
from skep.terminals.transcript import Recording
from tests import servers
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository

LEADER = Role(here=Here(name="leader", slots=0))


class Hive:
    """A leader that carries nothing out, nodes that do, and whoever looks on."""

    def __init__(self, tmp_path: Path, stack: AsyncExitStack, repo: Repository, url: str) -> None:
        self.tmp_path, self.stack, self.repo = tmp_path, stack, repo
        store = StoreConfig(url=url, key=str(tmp_path / "key"))
        self.config = Config(store=store, sandbox=SandboxConfig(mode="off"))

    async def lead(self) -> skep.Skep:
        return await self.stack.enter_async_context(nodes.join(self.repo.top, self.config, LEADER))

    def node(self, name: str, **store: object) -> contextlib.AbstractAsyncContextManager[skep.Skep]:
        """A node that has nothing of the user."""
        folder = self.tmp_path / f"machine-{name}"
        folder.mkdir()
        config = replace(self.config, store=replace(self.config.store, **store))
        return nodes.join(folder, config, Role(here=Here(name=name, slots=8), serves=True, hosted=True))

    async def look_on(self) -> skep.Skep:
        """Somebody in an empty folder."""
        folder = self.tmp_path / "elsewhere"
        folder.mkdir()
        return await self.stack.enter_async_context(nodes.join(folder, self.config, Role(here=Here(name="face", slots=0))))


@pytest.fixture
async def clustered(tmp_path: Path, repo: Repository) -> AsyncIterator[Hive]:
    for server in servers.cluster().nodes:
        server.tell("FLUSHALL")
    async with AsyncExitStack() as stack:
        yield Hive(tmp_path, stack, repo, servers.cluster().url)


@pytest.fixture
async def hive(tmp_path: Path, repo: Repository) -> AsyncIterator[Hive]:
    servers.valkey_server().tell("FLUSHALL")
    async with AsyncExitStack() as stack:
        yield Hive(tmp_path, stack, repo, servers.valkey_server().url)


async def listed(face: skep.Skep, session: skep.Session, task: str) -> list[RecordingView]:
    return await face.call(rq.Recordings(session=session.name, task=task))


async def arrived(face: skep.Skep, session: skep.Session, task: str, parts: int = 1) -> list[RecordingView]:
    """What is known of a task once so many of its recordings are in the store."""
    while True:
        found = await listed(face, session, task)
        if sum(view.where in ("store", "nothing") for view in found) >= parts:
            return found
        await asyncio.sleep(0.02)  # tidy: sleeps because what is sent beside the attempts tells nobody


async def text(face: skep.Skep, session: skep.Session, view: RecordingView, folder: Path, task: str = "one") -> str:
    asked = rq.GetRecording(session=session.name, task=task, attempt=view.attempt, part=view.part)
    data: bytes = await face.call(asked)
    (folder / "copy.cast").write_bytes(data)
    return Recording(folder / "copy.cast").text()


async def test_what_a_node_printed_is_seen_elsewhere_when_it_is_gone(hive: Hive) -> None:
    leader = await hive.lead()
    async with hive.node("east"):
        line = r"printf 'Gr\303\274\303\237e \033[31mrot\033[0m \360\237\220\235\n'; echo x > x.txt"
        task = Task(id="one", run=line, verify="echo looked")
        session = await leader.start(Plan(name="over", tasks=(task, Task(id="mute", run="true", mode="none"))))
        await session.settled()
    face = await hive.look_on()
    views = await arrived(face, session, "one", 2)
    assert [(view.attempt, view.part, view.where, view.node) for view in views] == [
        (1, "", "store", "east"),
        (1, "verify", "store", "east"),
    ]
    assert await text(face, session, views[0], hive.tmp_path) == "Grüße rot 🐝\n"
    assert "looked" in await text(face, session, views[1], hive.tmp_path)
    assert [(view.where, view.node) for view in await arrived(face, session, "mute")] == [("nothing", "east")]


def waiting(gate: Gate, line: str) -> Task:
    """A task that prints something and then waits for the gate."""
    return Task(id="one", run=f"{line}; {gate.PASS}", env=gate.env, mode="none")


async def looked_on(face: skep.Skep, session: skep.Session, folder: Path) -> str:
    """What the first attempt shows, once it does."""
    while True:
        data: bytes = await face.call(rq.LookOn(session=session.name, task="one", attempt=1))
        if data:
            (folder / "shown.cast").write_bytes(data)
            return Recording(folder / "shown.cast").text()
        await asyncio.sleep(0.02)  # tidy: sleeps because what is shown tells nobody


async def test_what_runs_on_a_node_is_shown_while_somebody_looks_on_and_no_longer(
    hive: Hive, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LOOK": 0.02, "LOOKS_ON": 300, "STAYS": 300}.items():
        monkeypatch.setattr(onlookers, name, value)
    leader = await hive.lead()
    async with hive.node("east"):
        line = r"printf 'Gr\303\274\303\237e \033[31mrot\033[0m\n'"
        session = await leader.start(Plan(name="over", tasks=(waiting(gate, line),)))
        await gate.begun()
        key = of_session(session.name, "shown", "one", "1")
        assert not servers.valkey_server().tell("EXISTS", key)
        assert await looked_on(leader, session, hive.tmp_path) == "Grüße rot\n"
        while True:
            if not servers.valkey_server().tell("EXISTS", key):
                break
            await asyncio.sleep(0.02)  # tidy: sleeps because only time ends it
        gate.go()
        await session.settled()


async def test_of_much_that_is_printed_beginning_and_end_are_shown(
    hive: Hive, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onlookers, "LOOK", 0.02)
    monkeypatch.setattr(onlookers, "SHOWN", 16 << 10)
    leader = await hive.lead()
    async with hive.node("east"):
        session = await leader.start(Plan(name="over", tasks=(waiting(gate, "for n in $(seq 9000); do echo line $n; done"),)))
        await gate.begun()
        while not (shown := await looked_on(leader, session, hive.tmp_path)).endswith("line 9000\n"):
            assert shown.startswith("line 1\n")
        assert ("bytes of output are cut here" in shown, len(shown) < 16 << 10) == (True, True)
        gate.go()
        await session.settled()


async def test_over_a_cluster_what_runs_and_what_ran_on_a_node_is_seen(clustered: Hive, gate: Gate) -> None:
    leader = await clustered.lead()
    async with clustered.node("east"):
        session = await leader.start(Plan(name="over", tasks=(waiting(gate, "echo begun"),)))
        await gate.begun()
        assert await looked_on(leader, session, clustered.tmp_path) == "begun\n"
        gate.go()
        await session.settled()
    (view,) = await arrived(leader, session, "one")
    assert await text(leader, session, view, clustered.tmp_path) == "begun\n"


async def test_on_its_own_machine_a_recording_is_whole(hive: Hive) -> None:
    leader = await hive.lead()
    async with hive.node("east", recording=64 << 10) as east:
        line = "for n in $(seq 20000); do echo line $n; done"
        session = await leader.start(Plan(name="over", tasks=(Task(id="one", run=line, mode="none"),)))
        await session.settled()
        (there,) = await arrived(leader, session, "one")
        (here,) = await listed(east, session, "one")
    assert (here.where, there.where) == ("here", "store")
    assert Recording(Path(here.path)).text().splitlines() == [f"line {n}" for n in range(1, 20001)]
    assert len(await text(leader, session, there, hive.tmp_path)) < 64 << 10
    whole = "".join(printed for _, _, printed in Recording(Path(here.path)).events())
    cut = list(Recording(hive.tmp_path / "copy.cast").events())
    (at,) = (index for index, event in enumerate(cut) if event[1] == "m")
    before, after = ("".join(printed for _, _, printed in part) for part in (cut[:at], cut[at + 1 :]))
    assert (whole.startswith(before), whole.endswith(after)) == (True, True)
    assert cut[at][2].startswith(f"{len(whole) - len(before) - len(after)} bytes of output are cut here")


async def test_what_is_not_sent_is_said_to_be_on_its_node(hive: Hive) -> None:
    leader = await hive.lead()
    async with hive.node("east", recording=0):
        session = await leader.start(Plan(name="over", tasks=(Task(id="one", run="echo hidden", mode="none"),)))
        await session.settled()
    assert await listed(leader, session, "one") == [RecordingView(attempt=1, where="away", node="east")]
    with pytest.raises(NotFound, match="nothing of attempt 1"):
        await leader.call(rq.GetRecording(session=session.name, task="one", attempt=1))


async def test_a_store_that_takes_no_recording_does_no_harm_to_the_task(hive: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "CLOSING", 0.1)
    leader = await hive.lead()
    async with hive.node("east"):
        session = await leader.start(Plan(name="over", tasks=(Task(id="one", run="echo hidden", mode="none", approve="before"),)))
        servers.valkey_server().tell("SET", of_session(session.name, "recordings"), "no hash")
        await session.answer("one", "approve")
        assert [task.state for task in (await session.settled()).tasks] == ["done"]
    servers.valkey_server().tell("DEL", of_session(session.name, "recordings"))
    assert await listed(leader, session, "one") == [RecordingView(attempt=1, where="away", node="east")]


async def test_a_blob_that_is_gone_or_is_none_is_said_to_be(hive: Hive) -> None:
    leader = await hive.lead()
    async with hive.node("east"):
        session = await leader.start(Plan(name="over", tasks=(Task(id="one", run="echo seen", mode="none"),)))
        await session.settled()
        (view,) = await arrived(leader, session, "one")
    for key in servers.valkey_server().tell("KEYS", "skep:blob:*"):
        servers.valkey_server().tell("DEL", key)
    with pytest.raises(NotFound, match="there is no blob"):
        await text(leader, session, view, hive.tmp_path)


async def test_an_invited_node_is_believed_only_of_what_it_ran(hive: Hive, gate: Gate) -> None:
    leader = await hive.lead()
    path = hive.tmp_path / "east.invite"
    await nodes.invite(hive.repo.top, hive.config, "east", path)
    async with hive.node("east", key="", invite=str(path)):
        session = await leader.start(Plan(name="over", tasks=(waiting(gate, "echo mine"),)))
        await gate.begun()
        assert await looked_on(leader, session, hive.tmp_path) == "mine\n"
        gate.go()
        await session.settled()
        (view,) = await arrived(leader, session, "one")
    assert await text(leader, session, view, hive.tmp_path) == "mine\n"
    async with hive.node("west"):
        await (await session.submit(Task(id="two", run="echo theirs", mode="none"))).result()
        views = await arrived(leader, session, "two")
    (n,) = [view.attempt for view in views if view.node == "west"]  # one before may have been given to the node that left
    link = Link(hive.config.store.url)
    evil = RedisRecordings(link, invited(path))
    await evil.put(session.name, "two", n, "", Recorded("1" * 64, 1, "east"))
    (view,) = [view for view in await listed(leader, session, "two") if view.attempt == n]
    assert (view.where, view.doubt) == ("doubt", "node 'east', which was only invited, says where it is, and did not make it")
    with pytest.raises(Invalid, match=f"attempt {n} of 'two': node 'east', which was only invited"):
        await text(leader, session, view, hive.tmp_path, "two")
    await evil.put(session.name, "one", 1, "merge", Recorded("1" * 64, 1, "east"))
    mine, merge = await listed(leader, session, "one")
    assert await text(leader, session, mine, hive.tmp_path) == "mine\n", "the rest is as good as without it"
    assert (merge.part, merge.where) == ("merge", "doubt")
    await link.close()


async def test_a_recording_that_would_fill_the_memory_is_refused() -> None:
    blobs = EphemeralBlobs(EphemeralDisk(), lambda: 1)
    digest = await blobs.put(zlib.compress(b"x" * 1_000))
    assert await fetched(blobs, Recorded(digest, 1_000, "east")) == b"x" * 1_000
    for size in (0, -1, -5, (64 << 20) + 1, 2**63, 999):
        with pytest.raises(Invalid, match=f"recording of {size} bytes"):
            await fetched(blobs, Recorded(digest, size, "east"))


async def test_what_a_task_left_on_a_node_that_is_gone_is_whole_elsewhere(hive: Hive) -> None:
    leader = await hive.lead()
    async with hive.node("east"):
        make = "head -c 200000 /dev/urandom > $SKEP_OUT/raw; sha256sum < $SKEP_OUT/raw > $SKEP_OUT/sum"
        session = await leader.start(
            Plan(name="over", tasks=(Task(id="one", run=make, mode="none", outputs={"raw": "raw", "sum": "sum"}),))
        )
        await session.settled()
    (task,) = (await session.status()).tasks
    raw, told = task.outputs["raw"], task.outputs["sum"].text
    assert (raw.size, raw.text, told) == (200_000, None, f"{raw.digest}  -\n")
    (backup,) = await leader.backup(session.name)
    assert (backup.trouble, backup.lost) == ("", ())
    parcel = Parcel(Path(backup.path), lambda text: b"")
    try:
        assert hashlib.sha256(parcel.blob(raw.digest)).hexdigest() == raw.digest
    finally:
        parcel.close()
