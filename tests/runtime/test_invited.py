"""A node that was invited carries out what is given to it, and is heard on nothing else, whatever it writes into its letters."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from skep import nodes
from skep.config import BackupConfig, Config, SandboxConfig, StoreConfig
from skep.core import inputs as inp
from skep.core.commands import EndAttempt, Owed, StartAttempt
from skep.core.model import AgentSpec, Cost, Credit, Entry, Limits, Output, Plan, Proposal, Resources, Task, Vote
from skep.core.senders import Since
from skep.core.terms import Proposals
from skep.errors import Conflict, Denied
from skep.redis.connect import Link
from skep.redis.listen import Channels
from skep.runtime import letters
from skep.runtime.collect import MARK, collect
from skep.runtime.loop import Loop
from skep.runtime.node import Here, Role, SystemClock
from skep.runtime.replica import Replica
from skep.runtime.session import Session
from skep.runtime.shared import CHORES
from skep.store import chain, codec
from skep.store.redis.inbox import RedisInbox
from skep.store.redis.keys import encoded, of_session
from skep.store.redis.log import RedisLog
from skep.store.ring import HiveRing, NodeRing, Ring
from tests import servers

HIVE = HiveRing(b"k" * 32)
KINDS = tuple(AgentSpec(name=name, runtime="shell", count=2) for name in ("coder", "tester"))


class Hands:
    """Carries out what a test says."""

    def __init__(self) -> None:
        self.begun: list[StartAttempt] = []

    def perform(self, session: Session, command: Owed, entry: Entry) -> None:
        if isinstance(command, StartAttempt) and command.nonce not in [one.nonce for one in self.begun]:
            self.begun.append(command)
        elif isinstance(command, EndAttempt):
            session.report(inp.Gone(at=0, task=command.task.id, n=command.n, nonce=command.nonce))

    def hand_over(self, session: Session, agent: str) -> None:
        """Messages wait until the test takes them."""

    async def one(self, session: Session) -> StartAttempt:
        """The first attempt, once it was begun."""
        while not self.begun:
            await session.moved(session.head.seq)
        return self.begun[0]


class Machines:
    """Whoever writes the session `s` with the key of the hive, and two nodes that were invited."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.server = servers.valkey_server()
        self.server.tell("FLUSHALL")
        self.server.tell("SET", "skep:public", HIVE.public.hex())
        self.loop: Loop
        self.east: Replica
        self.west: Replica
        self.hands = {"east": Hands(), "west": Hands()}

    async def open(self) -> None:
        log, inbox = await self.store(HIVE)
        await log.create("s", 1)
        self.loop = Loop("s", log, SystemClock(), Hands(), "leader", inbox, "boss")
        await self.loop.start()
        self._stack.push_async_callback(self.loop.stop)
        await self.loop.tell(inp.OpenSession(at=0, session="s", plan=Plan(name="s", agents=KINDS, limits=Limits(agents=8))))
        self.east, self.west = await self.node("east"), await self.node("west")

    async def store(self, ring: Ring) -> tuple[RedisLog, RedisInbox]:
        link = Link(self.server.url, {})
        log = await RedisLog.open(link, ring)
        self._stack.push_async_callback(log.close)
        channels = Channels(link)
        self._stack.push_async_callback(channels.close)
        return log, RedisInbox(link, channels, ring)

    async def node(self, name: str) -> Replica:
        log, inbox = await self.store(NodeRing(name, HIVE.secret(name), HIVE.public, HIVE.place))
        replica = Replica("s", log, inbox, SystemClock(), self.hands[name], name, name)
        await replica.start()
        self._stack.push_async_callback(replica.stop)
        replica.boot = f"boot of {name}"
        await replica.tell(join(name))
        return replica

    async def begun(self) -> tuple[StartAttempt, StartAttempt]:
        """An attempt that is given to each; both know of both."""
        for name in ("east", "west"):
            task = Task(id=f"for-{name}", agent="coder", prompt="work", constraints={"at": name})
            await self.loop.tell(inp.Submit(at=0, tasks=(task,)))
        begun = await self.hands["east"].one(self.east), await self.hands["west"].one(self.west)
        for node in (self.east, self.west):
            await node.moved(self.loop.head.seq - 1)
        return begun


def join(node: str) -> inp.JoinNode:
    capacity = Resources(cpu=8.0)
    return inp.JoinNode(at=0, node=node, boot=f"boot of {node}", capacity=capacity, slots=8, labels={"at": node})


def named(command: StartAttempt) -> dict[str, Any]:
    return {"at": 0, "task": command.task.id, "n": command.n, "nonce": command.nonce}


@pytest.fixture
async def machines() -> AsyncIterator[Machines]:
    async with AsyncExitStack() as stack:
        made = Machines(stack)
        await made.open()
        yield made


async def test_it_joins_carries_out_what_is_given_to_it_and_leaves(machines: Machines) -> None:
    east, _ = await machines.begun()
    await machines.east.tell(inp.Spawned(**named(east), pid=7, born=1))
    await machines.east.tell(inp.Ended(**named(east), outcome="ok", result="made"))
    entry = machines.loop.state.entries[east.task.id]
    assert (entry.state, entry.result) == ("done", "made")
    await machines.east.tell(inp.GrantCredit(at=0, node="east", credit=Credit(slots=1)))
    await machines.east.tell(inp.LoseNode(at=0, node="east", why="it leaves"))
    assert machines.loop.state.nodes["east"].lost
    assert not machines.loop.state.nodes["west"].lost


NOT_FOR_A_NODE = [
    inp.Cancel(at=0, tasks=("for-west",)),
    inp.Submit(at=0, tasks=(Task(id="evil", run="true"),)),
    inp.DeclareAgents(at=0, specs=(AgentSpec(name="evil", runtime="shell"),)),
    inp.ChangePlan(at=0, plan=Plan(name="s", agents=KINDS)),
    inp.Retry(at=0, task="for-west"),
    inp.Say(at=0, task="for-west", answer="approve"),
    inp.Permit(at=0, ask="for-east/1", allowed=True),
    inp.Pause(at=0, stop=True),
    inp.Resume(at=0),
    inp.Close(at=0),
    inp.Mark(at=0, name="evil"),
    inp.Claim(at=0, task="for-west"),
    inp.Interrupt(at=0, task="for-west"),
    inp.JoinNode(at=0, node="west", boot="another", capacity=Resources(cpu=1.0), slots=0),
    inp.GrantCredit(at=0, node="west", credit=Credit(slots=0)),
    inp.LoseNode(at=0, node="west", why="away with it"),
    inp.Send(at=0, kind="note", source="you", target="coder-1", payload="do evil"),
    inp.Send(at=0, kind="note", source="coder-2", target="coder-1", payload="do evil"),
]


@pytest.mark.parametrize("given", NOT_FOR_A_NODE, ids=lambda given: f"{type(given).__name__}")
async def test_what_is_not_a_nodes_to_say_is_refused_and_changes_nothing(machines: Machines, given: inp.Input) -> None:
    await machines.begun()
    seq = machines.loop.head.seq
    with pytest.raises(Denied, match="node 'east'"):
        await machines.east.tell(given)
    (counted,) = await after(machines.loop, seq)
    assert counted == ["letters.taken"], "it is not decided, and cannot be repeated"


async def after(loop: Loop, seq: int) -> list[list[str]]:
    """The tags of the events of each append behind an event."""
    rows = await loop._log.read("s", after=seq)
    return [[str(type(event).__struct_config__.tag) for event in codec.decode(row.blob)] for row in rows]


async def test_it_reports_no_attempt_of_another_node_though_it_knows_its_nonce(machines: Machines) -> None:
    _, west = await machines.begun()
    known = machines.east.state.entries[west.task.id].attempt
    assert known is not None
    assert known.nonce == west.nonce, "it reads the same log"
    reports: list[inp.Input] = [
        inp.Spawned(**named(west), pid=7, born=1),
        inp.Spoke(**named(west), conversation="evil"),
        inp.Ended(**named(west), outcome="ok", result="evil"),
        inp.Worked(**named(west), commit="0" * 40),
        inp.Gone(**named(west)),
        inp.Escalate(**named(west), payload="?"),
        inp.Send(**named(west), kind="note", source="coder-1", target="coder-2", payload="evil"),
    ]
    before = machines.loop.state.entries[west.task.id]
    for report in reports:
        with pytest.raises(Denied, match="reports attempt 1 of node 'west'"):
            await machines.east.tell(report)
    assert machines.loop.state.entries[west.task.id].state == "running"
    assert machines.loop.state.entries[west.task.id].attempt == before.attempt
    await machines.west.tell(inp.Ended(**named(west), outcome="ok", result="good"))
    assert machines.loop.state.entries[west.task.id].result == "good"


async def test_its_agents_write_as_themselves_and_take_their_own_messages(machines: Machines) -> None:
    east, west = await machines.begun()
    sent = inp.Send(**named(east), kind="note", source=east.agent, target=west.agent, payload="hello", id="m")
    assert await machines.east.tell(sent) == "m"
    with pytest.raises(Denied, match="in an attempt of"):
        await machines.east.tell(inp.Send(**named(east), kind="note", source=west.agent, target=east.agent))
    taken = inp.Delivered(at=0, ids=("m",), target=west.agent)
    with pytest.raises(Denied, match="who does not work there"):
        await machines.east.tell(taken)
    assert machines.loop.state.mail.waiting == 1
    await machines.west.tell(taken)
    assert machines.loop.state.mail.waiting == 0


async def test_a_report_that_comes_too_late_is_refused_as_everybodys_is(machines: Machines) -> None:
    east, _ = await machines.begun()
    await machines.east.tell(inp.Ended(**named(east), outcome="ok"))
    with pytest.raises(Conflict, match="is not the current one"):
        await machines.east.tell(inp.Ended(**named(east), outcome="ok"))


async def test_of_a_letter_with_more_in_it_only_what_is_not_for_it_to_say_is_refused(machines: Machines) -> None:
    east, west = await machines.begun()
    told = [
        machines.east.tell(inp.Ended(**named(west), outcome="ok", result="evil")),
        machines.east.tell(inp.Ended(**named(east), outcome="ok", result="good")),
        machines.east.tell(inp.Pause(at=0)),
    ]
    number = machines.east._number
    with pytest.raises(Denied):
        await told[0]
    await told[1]
    with pytest.raises(Denied):
        await told[2]
    assert machines.east._number == number + 1, "they came together"
    assert machines.loop.state.entries[east.task.id].result == "good"
    assert not machines.loop.state.paused


async def test_who_leaves_out_its_name_or_takes_another_is_not_heard(machines: Machines) -> None:
    """The node is as bad as it can be: it writes letters of its own, with the secret that it has."""
    _, west = await machines.begun()
    state, post = machines.loop.state, machines.loop._post
    assert post is not None
    evil = letters.enclose(inp.Ended(**named(west), outcome="ok", result="evil"), False)
    body = letters.write([evil], Since(state.opened, state.seq))
    for sender in ("boss", "west/evil"):
        sealed = chain.seal(HIVE.secret("east"), "letter", "s", sender, 1, body) + body
        machines.server.tell("XADD", of_session("s", "inbox"), "*", "s", encoded(sender), "n", "1", "b", sealed)
    assert await post._read(), "all that lies there was looked at"
    await machines.loop.tell(inp.Mark(at=0, name="after all that came before"))
    assert state.entries[west.task.id].state == "running"
    assert machines.server.tell("XLEN", of_session("s", "inbox")) == 2, "a person is told of them"


async def test_its_process_takes_nothing_over_and_tidies_nothing_up(tmp_path: Path) -> None:
    """It leads no session though it was told to, removes no blob, and makes no backups: it could not read all there is."""
    server = servers.valkey_server()
    server.tell("FLUSHALL")
    store = StoreConfig(url=server.url, key=str(tmp_path / "key"), keep="1h")
    config = Config(store=store, backup=BackupConfig(every="1h"), sandbox=SandboxConfig(mode="off"))
    (tmp_path / "boss").mkdir()
    async with nodes.join(tmp_path / "boss", config, Role(here=Here(name="boss", slots=0))) as boss:
        await boss.session("left")
    await nodes.invite(tmp_path, config, "east", tmp_path / "east.invite")
    (tmp_path / "east").mkdir()
    config = replace(config, store=replace(store, key="", invite=str(tmp_path / "east.invite")))
    role = Role(here=Here(name="east", slots=1), serves=True, leads=True, hosted=True)
    async with nodes.join(tmp_path / "east", config, role) as east:
        sessions = east.door._sessions
        assert sessions is not None
        parts = sessions._parts
        assert parts.shared is not None
        assert not parts.shared.leads
        row = await parts.log.row("left")
        with pytest.raises(Denied, match="needs the key of the store"):
            await sessions.live.lead(row)
        assert (await parts.log.row("left")).head.epoch == row.head.epoch
        mark = parts.state / MARK
        mark.touch()
        os.utime(mark, (0, 0))
        assert await collect(parts) == 0
        doing = {lease.holder for lease in (await parts.shared.leases.held(CHORES)).values()}
        assert parts.shared.owner not in doing, "whoever has the key does it"
        assert sessions._backups.chores() == []


# A node that says what Skep never says


def bare(machines: Machines, number: int, body: bytes) -> None:
    """Puts a letter of the node `east` into the inbox that it wrote itself."""
    sealed = chain.seal(HIVE.secret("east"), "letter", "s", "east/evil", number, body) + body
    machines.server.tell("XADD", of_session("s", "inbox"), "*", "s", encoded("east/evil"), "n", str(number), "b", sealed)


def ended(machines: Machines, attempt: StartAttempt, result: bytes) -> bytes:
    """A letter in which it ended well, with a result as it is given here."""
    since, mark = Since(machines.loop.state.opened, machines.loop.state.seq), "@" * 9
    body = letters.write([letters.enclose(inp.Ended(**named(attempt), outcome="ok", result=mark), True)], since)
    return body.replace(msgspec.msgpack.encode(mark), result)


async def goes_on(machines: Machines) -> None:
    """All that lies in the inbox was looked at, and the session is decided, shown, saved and read as ever."""
    post = machines.loop._post
    assert post is not None
    assert await post._read()
    await machines.loop.tell(inp.Mark(at=0, name=f"after event {machines.loop.head.seq}"))
    for row in await machines.loop._log.read("s"):
        for event in codec.decode(row.blob):
            msgspec.json.encode(codec.public(event))
    machines.loop.state.save()


@pytest.mark.parametrize(
    "result",
    [b"\x91" * 5_000 + b"\x01", b"\x81\xa1a" * 3_000 + b"\x01", b"\xa2\xff\xfe"],
    ids=["lists", "mappings", "text"],
)
async def test_a_letter_that_cannot_be_read_does_not_stop_the_session(machines: Machines, result: bytes) -> None:
    east, _ = await machines.begun()
    bare(machines, 1, ended(machines, east, result))
    await goes_on(machines)
    assert machines.loop.state.entries[east.task.id].state == "running"
    assert machines.server.tell("XLEN", of_session("s", "inbox")) == 0, "nobody who follows has to do with it again"


@pytest.mark.parametrize(
    "result",
    [b"\x91" * 300 + b"\x01", b"\x81\x91\x01\x02", b"\xd4\x05\x01"],
    ids=["nested", "a list as a key", "an extension"],
)
async def test_a_result_that_nobody_could_show_is_a_failure(machines: Machines, result: bytes) -> None:
    east, _ = await machines.begun()
    bare(machines, 1, ended(machines, east, result))
    await goes_on(machines)
    assert machines.loop.state.entries[east.task.id].state == "failed"


@pytest.mark.parametrize("number", [0, -1, 2**53 + 1, 2**64, 10**40])
async def test_a_letter_with_a_number_that_no_log_holds_is_not_heard(machines: Machines, number: int) -> None:
    east, _ = await machines.begun()
    bare(machines, number, ended(machines, east, b"\x01"))
    await goes_on(machines)
    assert machines.loop.state.entries[east.task.id].state == "running"


COSTS = [Cost(usd=-1e9), Cost(usd=float("nan")), Cost(usd=float("inf")), Cost(input=-1), Cost(output=2**63), Cost(unpriced=2**63)]


@pytest.mark.parametrize("cost", COSTS, ids=str)
async def test_a_cost_that_would_undo_a_budget_or_break_a_sum_is_refused(machines: Machines, cost: Cost) -> None:
    east, _ = await machines.begun()
    for _ in range(2):
        with pytest.raises(Denied, match="a cost that nothing has"):
            await machines.east.tell(inp.Spent(**named(east), cost=cost))
    await machines.east.tell(inp.Spent(**named(east), cost=Cost(usd=0.5)))
    await goes_on(machines)
    told = machines.loop.state.entries[east.task.id].cost
    assert told is not None
    assert told.usd == 0.5


async def test_commits_and_outputs_that_an_attempt_cannot_have_are_refused(machines: Machines) -> None:
    east, _ = await machines.begun()
    evil = {"../../evil": Output(digest="../../evil", size=1)}
    for said in ("--upload-pack=evil", "HEAD", "../../evil", "0" * 40, "a" * 39):
        with pytest.raises(Denied, match="a commit that it cannot have"):
            await machines.east.tell(inp.Ended(**named(east), outcome="ok", commit=said))
        with pytest.raises(Denied, match="a commit that it cannot have"):
            await machines.east.tell(inp.Worked(**named(east), commit=said))
        with pytest.raises(Denied, match="a commit that it cannot have"):
            await machines.east.tell(inp.Gone(**named(east), wip=said))
    with pytest.raises(Denied, match=r"an output '\.\./\.\./evil' that it cannot have"):
        await machines.east.tell(inp.Ended(**named(east), outcome="ok", outputs=evil))
    with pytest.raises(Denied, match="wait for more than a month"):
        await machines.east.tell(inp.Ended(**named(east), outcome="interrupted", cause="limit", until=2**62))
    await machines.east.tell(inp.Ended(**named(east), outcome="ok", commit="a" * 40))
    assert machines.loop.state.entries[east.task.id].commit == "a" * 40


FOR_PEOPLE: dict[str, dict[str, Any]] = {
    "secrets": {"secrets": ("DEPLOY_TOKEN",)},
    "env": {"env": {"LD_PRELOAD": "evil.so"}},
    "constraints": {"constraints": {"at": "east"}},
    "resources": {"resources": Resources(cpu=1.0)},
    "options": {"options": {"model": "dear"}},
    "candidates": {"candidates": ("coder", "coder")},
    "vote": {"vote": Vote(by="coder")},
    "plans": {"plans": True},
    "retries": {"retries": 6},
    "agent": {"agent": "dear"},
}


async def test_what_it_proposes_names_no_secret_and_nothing_else_that_is_a_persons_to_say(machines: Machines) -> None:
    """Such a file is refused where the agent's words are read: on the node, which is as bad as it can be."""
    plan = replace(machines.loop.state.plan, proposals=Proposals(rule="auto", agents=("coder",)))
    await machines.loop.tell(inp.ChangePlan(at=0, plan=plan))
    east, _ = await machines.begun()
    good = Task(id="more", prompt="more of it", agent="coder", needs=(east.task.id,))
    evil = {name: Proposal(tasks=(replace(good, **said),)) for name, said in FOR_PEOPLE.items()}
    evil["verify"] = Proposal(tasks=(good,), verify="true")
    for name, proposal in evil.items():
        with pytest.raises(Denied, match=f"says '{name}', which is for people alone"):
            await machines.east.tell(inp.Ended(**named(east), outcome="ok", proposal=proposal))
        with pytest.raises(Denied, match=f"says '{name}', which is for people alone"):
            await machines.east.tell(inp.Worked(**named(east), commit="a" * 40, proposal=proposal))
    assert "more" not in machines.loop.state.entries
    await machines.east.tell(inp.Ended(**named(east), outcome="ok", proposal=Proposal(tasks=(good,))))
    assert machines.loop.state.entries["more"].task.generation == 1
    await goes_on(machines)


async def test_a_node_gives_what_a_machine_may_have(machines: Machines) -> None:
    good = join("east")
    for evil in (
        msgspec.structs.replace(good, capacity=Resources(cpu=float("nan"))),
        msgspec.structs.replace(good, capacity=Resources(memory=2**63)),
        msgspec.structs.replace(good, slots=-1),
        msgspec.structs.replace(good, labels={str(n): "" for n in range(65)}),
        msgspec.structs.replace(good, boot="b" * 201),
        inp.GrantCredit(at=0, node="east", credit=Credit(slots=2**63)),
        inp.GrantCredit(at=0, node="east", credit=Credit(cpu=float("-inf"))),
    ):
        with pytest.raises(Denied, match=r"node 'east' (gives what no machine has|has more than 64 labels)"):
            await machines.east.tell(evil)
    await machines.east.tell(good)
    await goes_on(machines)
