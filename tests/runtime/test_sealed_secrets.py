"""Secrets of tasks reach the node that runs them, and nothing and nobody else: over a real Redis, and by hand."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

import skep
from skep import nodes
from skep.config import Config, EnvironmentConfig, SandboxConfig, StoreConfig
from skep.core.commands import StartAttempt
from skep.core.model import Plan, Task
from skep.core.state import State
from skep.errors import Unavailable
from skep.runtime import requests as rq
from skep.runtime import sealed_secrets
from skep.runtime.node import Here, Role
from skep.runtime.replica import Replica
from skep.runtime.sealed_secrets import KIND, TRIES, AskedSecrets, Giver, Request
from skep.security.sealing import Opener
from skep.store.ephemeral import EphemeralDisk
from skep.store.ephemeral_shared import EphemeralHandoffs
from skep.terminals.transcript import Recording
from tests import servers
from tests.runtime.gates import Gate
from tests.security.places import holding
from tests.workspace.repository import Repository

NAME, CANARY = "SKEP_TEST_DEPLOY_TOKEN", f"canary-{os.urandom(8).hex()}"


@pytest.fixture
def config() -> Config:
    server = servers.valkey_server()
    server.tell("FLUSHALL")
    return Config(store=StoreConfig(url=server.url), sandbox=SandboxConfig(mode="off"))


@pytest.fixture
async def laptop(repo: Repository, config: Config) -> AsyncIterator[skep.Skep]:
    """Where sessions are begun."""
    async with skep.open(repo.top, config) as opened:
        yield opened


# From one machine to another


@contextmanager
def machine(invitation: Path, folder: Path) -> Iterator[Path]:
    """A node that was invited, in a process of its own, whose environment lacks the secret; where it keeps what it has."""
    assert NAME not in os.environ
    command = [sys.executable, "-m", "skep", "node", "join", "--labels", "away", "--folder", str(folder)]
    env = {**os.environ, "SKEP_STORE_URL": servers.valkey_server().url}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([*command, "--invite", str(invitation)], cwd=folder.parent, env=env, stdout=quiet, stderr=quiet)
    try:
        yield folder
    finally:
        process.terminate()
        process.wait(60)


def held() -> list[bytes]:
    """Everything that the Redis holds now."""
    with servers.valkey_server().client() as client:
        reads: dict[bytes, Any] = {
            b"string": client.get,
            b"hash": client.hgetall,
            b"stream": client.xrange,
            b"list": lambda key: client.lrange(key, 0, -1),
            b"set": client.smembers,
            b"zset": lambda key: client.zrange(key, 0, -1),
        }
        keys: Any = client.keys("*")
        return [key + repr(reads[client.type(key)](key)).encode() for key in keys]  # type: ignore[index]  # redis-py's


def written() -> bytes:
    """All that was ever written into the Redis, as it lies on its disk."""
    return b"".join(path.read_bytes() for path in servers.valkey_server().folder.rglob("*") if path.is_file())


def lines() -> list[bytes]:
    """The command lines of all processes."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append((folder / "cmdline").read_bytes())
        except OSError:  # it is over
            continue
    return found


def with_canary(found: list[bytes]) -> list[bytes]:
    return [one for one in found if CANARY.encode() in one]


async def gone() -> None:
    """Returns when nothing lies in the Redis that has to do with secrets."""
    while True:
        if not [one for one in held() if one.startswith((b"skep:handoff:", b"skep:leases:secret"))]:
            return
        await asyncio.sleep(0.02)  # tidy: sleeps because only time ends what a loaded machine took too late


async def printed(laptop: skep.Skep, session: skep.Session, attempt: int, folder: Path) -> str:
    """What an attempt at `deploy` printed, on its node."""
    while True:
        views = await laptop.call(rq.Recordings(session=session.name, task="deploy"))
        if [view.where for view in views if (view.attempt, view.part) == (attempt, "")] == ["store"]:
            break
        await asyncio.sleep(0.02)  # tidy: sleeps because what is sent beside the attempts tells nobody
    data: bytes = await laptop.call(rq.GetRecording(session=session.name, task="deploy", attempt=attempt, part=""))
    (folder / "copy.cast").write_bytes(data)
    return Recording(folder / "copy.cast").text()


async def test_a_node_that_lacks_a_secret_is_given_it_and_it_is_nowhere_else(
    laptop: skep.Skep, config: Config, repo: Repository, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invitation = tmp_path / "east.invite"
    await nodes.invite(repo.top, config, "east", invitation)
    line = f'echo "it is ${NAME}"; printf %s "${NAME}" | sha256sum > got.txt; {gate.PASS}; echo "still ${NAME}"'
    task = Task(id="deploy", run=line, env=gate.env, secrets=(NAME,), constraints={"away": "true"})
    with machine(invitation, tmp_path / "machine-east") as folder:
        monkeypatch.setenv(NAME, CANARY)
        session = await laptop.start(Plan(name="over", tasks=(task,)))
        await gate.begun()
        assert with_canary(lines()) == []
        assert with_canary(held()) == []
        await others_get_nothing(Under(laptop, session))
        await gone()
        gate.go(9)  # more than one attempt may be made where a machine is slow
        (result,) = await session.results(["deploy"])
        assert result.value == "it is [secret]\nstill [secret]", result
        assert await printed(laptop, session, result.attempts, tmp_path) == "it is [secret]\nstill [secret]\n"
        assert repo("show", "refs/skep/over-1/main:got.txt").split()[0] == hashlib.sha256(CANARY.encode()).hexdigest()
        (kept,) = await laptop.backup(to=tmp_path / "backups")
        assert not kept.trouble
        assert await holding(session, repo.top, CANARY) == set()
        backups = [path.read_bytes() for path in (tmp_path / "backups").rglob("*") if path.is_file()]
        there = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
        assert backups
        assert there
        assert with_canary([*backups, *there, *held(), *lines()]) == []
    assert b"skep:handoff:" in written(), "it went through there"
    assert CANARY.encode() not in written()


async def others_get_nothing(under: Under) -> None:
    """A node `west` that was invited, too, asks for what `east` was given; what proves its requests is its own secret."""
    asked = under.asked(Opener())
    assert asked.node == "east"
    forged = replace(asked, sealed=under.parts.log.seal_to("west", b"asks\0" + asked.about).hex())
    evil = [forged, under.asked(Opener(), "west")]
    for one in evil:
        await under.shared.leases.hold(f"{KIND}/{one.mark}", "west", 600_000, msgspec.json.encode(one).decode())
    # Whoever gives looks at all requests in one go: what came before the second that is answered was looked at.
    assert under.shared.handoffs is not None
    again = AskedSecrets(under.parts.log, under.shared.leases, under.shared.handoffs, "east", "again", {})
    task = Task(id="deploy", run="true", secrets=(NAME,))
    for _ in range(2):
        command = StartAttempt(task, asked.n, asked.nonce, "shell-1", "shell", "east", 0, "", "", "")
        assert await again.of(under.session.name, command) == {NAME: CANARY}
    for one in evil:
        assert await under.shared.handoffs.take(one.mark) is None
        await under.shared.leases.release(f"{KIND}/{one.mark}", "west")


# Who is given what


class Under:
    """An attempt that goes on, of a task that names a secret, and whoever gives it."""

    def __init__(self, laptop: skep.Skep, session: skep.Session) -> None:
        sessions = laptop.door._sessions
        assert sessions is not None
        self.live, self.parts, self.session = sessions.live, sessions._parts, session
        assert self.parts.shared is not None
        self.shared = self.parts.shared
        self.own = {NAME: CANARY, "ANOTHER": CANARY}
        self.giver = Giver(self.live, self.parts, self.own)
        self.handoffs = EphemeralHandoffs(EphemeralDisk(), lambda: 0)

    def asked(self, opener: Opener, node: str = "", **changed: Any) -> Request:
        """A request that is sealed as the node's that it names."""
        loop = self.live.get(self.session.name)
        assert loop is not None
        attempt = loop.state.entries["deploy"].attempt
        assert attempt is not None
        asked = Request(
            session=self.session.name,
            task="deploy",
            n=attempt.n,
            nonce=attempt.nonce,
            name=NAME,
            node=node or attempt.node,
            public=opener.public.hex(),
        )
        asked = replace(asked, **changed)
        return replace(asked, sealed=asked.seal(self.parts.log))

    async def given(self, asked: Request, giver: Giver | None = None, mark: str = "") -> bytes | None:
        """What is laid down for a request."""
        await (giver or self.giver).answer({mark or asked.mark: msgspec.json.encode(asked).decode()}, self.handoffs)
        return await self.handoffs.take(asked.mark)

    def opened(self, opener: Opener, asked: Request, sealed: bytes | None) -> bytes | None:
        """What is in an answer."""
        return opener.open(sealed, asked.secret(self.parts.log), asked.about) if sealed is not None else None


@pytest.fixture
async def under(laptop: skep.Skep, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Under]:
    monkeypatch.setenv(NAME, CANARY)
    tasks = [Task(id=name, run=gate.PASS, env=gate.env, secrets=(NAME,), mode="none") for name in ("deploy", "other")]
    session = await laptop.start(Plan(name="over", tasks=tuple(tasks)))
    await gate.begun(2)
    yield Under(laptop, session)
    gate.go(2)
    await session.settled()


async def test_each_request_of_the_node_with_the_attempt_is_answered_once_and_few_of_them(under: Under) -> None:
    for _ in range(TRIES):
        opener = Opener()
        asked = under.asked(opener)
        sealed = await under.given(asked)
        assert sealed is not None
        assert CANARY.encode() not in sealed
        assert under.opened(opener, asked, sealed) == CANARY.encode()
        assert under.opened(Opener(), asked, sealed) is None
        assert await under.given(asked) is None, "once"
    assert await under.given(under.asked(Opener())) is None


async def test_what_was_sealed_for_one_request_is_no_answer_to_another(under: Under) -> None:
    opener = Opener()
    asked = under.asked(opener)
    sealed = await under.given(asked)
    assert sealed is not None
    changes: list[dict[str, Any]] = [
        {"session": "another"},
        {"task": "other"},
        {"n": 2},
        {"nonce": "0" * 32},
        {"name": "ANOTHER"},
        {"node": "west"},
    ]
    for changed in changes:
        assert under.opened(opener, under.asked(opener, **changed), sealed) is None, changed
    assert under.opened(opener, asked, sealed) == CANARY.encode()


async def test_nobody_but_the_node_with_the_attempt_is_given_what_its_task_names(under: Under) -> None:
    opener = Opener()
    good = under.asked(opener)
    as_west = under.parts.log.seal_to("west", b"asks\0" + good.about).hex()
    refused = {
        "a node that has another attempt": under.asked(opener, "west"),
        "one that takes its name": replace(good, sealed=as_west),
        "nobody's": replace(good, sealed=""),
        "no seal": replace(good, sealed="\u00fc"),
        "changed on its way": replace(good, public=Opener().public.hex()),
        "another attempt": under.asked(opener, n=good.n + 1),
        "another nonce": under.asked(opener, nonce="0" * 32),
        "another task's nonce": under.asked(opener, task="other"),
        "no such task": under.asked(opener, task="nothing"),
        "what it does not name": under.asked(opener, name="ANOTHER"),
        "what is not there": under.asked(opener, name="NOTHING"),
        "another session": under.asked(opener, session="another"),
        "no key": under.asked(opener, public="xyz"),
        "a key that hides nothing": under.asked(opener, public="00" * 32),
    }
    for why, asked in refused.items():
        assert await under.given(asked) is None, why
    assert await under.given(good, mark="0" * 32) is None, "another's place"
    for words in ("", "{", "[]", '{"x": ' + "[" * 100_000, '{"session": 1}', '{"session": "\ud800"}'):
        await under.giver.answer({"x": words}, under.handoffs)
    assert under.opened(opener, good, await under.given(good)) == CANARY.encode()


async def test_what_may_not_be_sent_stays_and_what_was_not_begun_here_is_others_to_give(under: Under) -> None:
    opener = Opener()
    asked = under.asked(opener)
    for send in ((), ("ANOTHER",)):
        config = replace(under.parts.config, environment=EnvironmentConfig(send=send))
        stingy = Giver(under.live, replace(under.parts, config=config), under.own)
        assert await under.given(asked, stingy) is None
    assert await under.given(asked, Giver(under.live, under.parts, {})) is None
    own = dict(under.live.own)
    under.live.own.clear()
    assert await under.given(asked) is None
    under.live.own.update(own)
    for shared in (replace(under.shared, serves=True), replace(under.shared, invited=True), None):
        # It ends at once: a machine that serves others gives nothing, nor does one that was invited.
        await Giver(under.live, replace(under.parts, shared=shared), under.own).run()
    assert await under.given(asked) is not None


async def test_an_attempt_that_is_checked_or_ended_or_over_is_given_nothing(
    laptop: skep.Skep, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, CANARY)
    task = Task(id="deploy", run=gate.PASS, env=gate.env, secrets=(NAME,), mode="none")
    session = await laptop.start(Plan(name="over", tasks=(task,)))
    await gate.begun()
    under = Under(laptop, session)
    asked, loop = under.asked(Opener()), under.live.get(session.name)
    assert loop is not None
    copy = State.load(loop.state.save())
    attempt = copy.entries["deploy"].attempt
    assert attempt is not None
    assert sealed_secrets._is_due(asked, copy)
    for stage in ("verifying", "ending"):
        attempt.stage = stage
        assert not sealed_secrets._is_due(asked, copy), stage
    gate.go()
    await session.settled()
    assert await under.given(asked) is None


async def test_who_resumed_a_session_that_another_process_writes_gives_its_secrets(
    repo: Repository, config: Config, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, CANARY)
    config = replace(config, store=replace(config.store, key=str(tmp_path / "key")))
    (tmp_path / "boss").mkdir()
    boss = Role(here=Here(name="boss", labels={"boss": "true"}), serves=True, leads=True, hosted=True)
    task = Task(id="deploy", run=gate.PASS, env=gate.env, secrets=(NAME,), mode="none", constraints={"boss": "true"})
    async with nodes.join(tmp_path / "boss", config, boss) as writer:
        await (await writer.session("over")).submit(task)
        await gate.begun()
        async with skep.open(repo.top, config) as laptop:
            session = await laptop.find("over")
            await session.resume()
            under = Under(laptop, session)
            assert isinstance(under.live.get("over"), Replica)
            opener = Opener()
            asked = under.asked(opener)
            assert asked.node == "boss"
            assert await under.given(under.asked(opener, "west")) is None
            assert under.opened(opener, asked, await under.given(asked)) == CANARY.encode()
            gate.go(9)
            await session.settled()


async def test_many_requests_for_what_is_not_due_cost_the_session_nothing(under: Under, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = under.live.get(under.session.name)
    assert loop is not None
    asks, ask = list[object](), loop.ask

    def counted(query: Any) -> asyncio.Future[Any]:
        asks.append(query)
        return ask(query)

    monkeypatch.setattr(loop, "ask", counted)
    good = under.asked(Opener())
    many = [good, *(under.asked(Opener(), "west", n=number) for number in range(1, 100))]
    await under.giver.answer({one.mark: msgspec.json.encode(one).decode() for one in many}, under.handoffs)
    assert len(asks) == 1
    assert await under.handoffs.take(good.mark) is not None


async def test_a_session_that_does_not_answer_keeps_no_other_one_waiting(
    laptop: skep.Skep, under: Under, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    another = await laptop.start(Plan(name="another", tasks=(Task(id="deploy", run=gate.PASS, env=gate.env, secrets=(NAME,)),)))
    await gate.begun()
    stuck = under.live.get(under.session.name)
    assert stuck is not None
    monkeypatch.setattr(stuck, "ask", lambda query: asyncio.get_running_loop().create_future())
    first, second = under.asked(Opener()), Under(laptop, another).asked(Opener())
    requests = {one.mark: msgspec.json.encode(one).decode() for one in (first, second)}
    looking = asyncio.create_task(under.giver.answer(requests, under.handoffs))
    while await under.handoffs.take(second.mark) is None:
        assert not looking.done()
        await asyncio.sleep(0)
    monkeypatch.undo()
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    monkeypatch.setenv(NAME, CANARY)
    assert await under.given(first) is not None, "what was not answered is looked at again"
    gate.go(1)


async def test_an_answer_that_the_store_did_not_take_is_laid_down_at_the_next_look(
    under: Under, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise Unavailable("the store is away")

    opener = Opener()
    asked = under.asked(opener)
    monkeypatch.setattr(under.handoffs, "put", away)
    assert await under.given(asked) is None
    monkeypatch.undo()
    assert under.opened(opener, asked, await under.given(asked)) == CANARY.encode()


async def test_who_gives_is_told_of_a_request_and_does_not_have_to_look(
    laptop: skep.Skep, under: Under, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_secrets, "LOOK", 1_000.0)
    monkeypatch.setattr(sealed_secrets, "LOOK_OUT", 1_000.0)
    monkeypatch.setattr(sealed_secrets, "PATIENCE", 10_000.0)
    assert under.shared.handoffs is not None
    listening, listen = asyncio.Event(), under.shared.handoffs.listen

    async def listens(name: str, hear: Any) -> Any:
        stop = await listen(name, hear)
        listening.set()
        return stop

    monkeypatch.setattr(under.shared.handoffs, "listen", listens)
    giving = asyncio.create_task(under.giver.run())
    await listening.wait()
    asked = under.asked(Opener())
    node = AskedSecrets(under.parts.log, under.shared.leases, under.shared.handoffs, asked.node, "again", {})
    task = Task(id="deploy", run="true", secrets=(NAME,))
    command = StartAttempt(task, asked.n, asked.nonce, "shell-1", "shell", asked.node, 0, "", "", "")
    assert await node.of(under.session.name, command) == {NAME: CANARY}
    giving.cancel()
    await asyncio.gather(giving, return_exceptions=True)
