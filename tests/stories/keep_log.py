"""`python -m tests.stories.keep_log`: keeps a log of the present format for good, as `golden/log-FORMAT.msgpack`.

Each release keeps one; a log that is kept is never written again, so that what it holds stays what that release wrote. It is the
log of a simulated session, gone on with until every kind of event is in it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from skep.core import inputs as inp
from skep.core.apply import apply, replay
from skep.core.decide import decide
from skep.core.events import Event, SessionForked
from skep.core.fleet import Fleet, FleetFormed, FleetHanded, FleetRemoved, FleetRouted, Swarm, Used
from skep.core.model import AgentSpec, Cost, Credit, Output, Proposal, Resources, Task, Vote
from skep.core.routing import route
from skep.core.rules import Action
from skep.core.state import State
from skep.store import codec
from tests.simulation.run import Run

GOLDEN = Path(__file__).parent / "golden"
#: A simulated session with a stack of merges, crashes, messages, costs, approvals and answers.
SEED = 1042


def digest_of(blobs: list[bytes]) -> str:
    """The digest of the state that a log replays to."""
    state = State()
    for blob in blobs:
        replay(state, codec.decode(blob))
    return state.digest()


def kinds_in(blobs: list[bytes]) -> set[type[Event]]:
    """The kinds of events that a log holds."""
    return {type(event) for blob in blobs for event in codec.decode(blob)}


def made() -> list[bytes]:
    """The appends of a session in which everything happens."""
    run = Run(SEED)
    run.go()
    blobs = [append.blob for append in run.scene.disk.kept.sessions["sim-1"].log]
    state = State()
    for blob in blobs:
        replay(state, codec.decode(blob))
    state.rebuild()
    at = state.at
    blobs += proposed(state, at)
    blobs += voted(state, at)
    blobs += resolved(state, at)
    blobs += phased(state, at)
    blobs += fleet(state, at)
    waiting = Task(id="asked", run="work", approve="before")
    checked = Task(id="checked", run="work", verify="check")
    blobs.append(decided(state, inp.Submit(at=at, tasks=(waiting, checked), key="last", by="somebody")))
    attempt = state.entries["checked"].attempt
    assert attempt is not None
    spoke = inp.Spoke(at=at, task="checked", n=1, nonce=attempt.nonce, conversation="thread-1")
    cost = Cost(input=100, cached=50, output=20, usd=0.25, unpriced=1)
    blobs += [decided(state, spoke), decided(state, inp.Spent(at=at, task="checked", n=1, nonce=attempt.nonce, cost=cost))]
    named: dict[str, Any] = {"at": at, "task": "checked", "n": 1, "nonce": attempt.nonce, "digest": "d"}
    action = Action(tool="Bash", command="make")
    asked = inp.Ask(key="1", action=action, about="make", arguments="{}", shape="s", otherwise="ask", **named)
    allowed = inp.Permit(at=at, ask="checked/1", allowed=True, always=True, by="somebody")
    blobs += [decided(state, asked), decided(state, allowed), decided(state, inp.Use(number=1, **named))]
    blobs.append(decided(state, inp.Worked(at=at, task="checked", n=1, nonce=attempt.nonce, commit="c" * 40)))
    blobs.append(decided(state, inp.Inquired(at=at, task="checked", cost=cost, model="m", by="somebody")))
    word = inp.Send(at=at, kind="note", source="you", target="judge-1", payload="hello", id="hello", ttl=1_000)
    later = replace(word, id="later")
    for said in (word, inp.Delivered(at=at, ids=("hello",), target="judge-1"), later, inp.Tick(at=at + 1_000)):
        blobs.append(decided(state, said))
    at += 1_000
    capacity = Resources(cpu=1.0, memory=1 << 30, storage=1 << 30)
    blobs += [
        decided(state, given)
        for given in (
            inp.Landed(at=at, branch="main", commit="c" * 40, tip=state.tip, by="somebody"),
            inp.LoseNode(at=at, node="here", why="silent"),
            inp.JoinNode(at=at, node="there", boot="b", capacity=capacity, slots=1, labels={"os": "linux"}),
            inp.GrantCredit(at=at, node="there", credit=Credit(cpu=0.5, slots=1)),
            inp.Close(at=at, by="somebody"),
        )
    ]
    taken = decide(state, (), at, bytes(16), letters=(("sender", 1),))
    blobs.append(codec.encode(taken.events))
    fork = SessionForked(at, "fork-1", state.session, state.seq, "somebody")
    apply(state, fork)
    return [*blobs, codec.encode([fork])]


def voted(state: State, at: int) -> list[bytes]:
    """A task with candidates, a vote on them, and a person who does not want the one that won."""
    judge = AgentSpec(name="judge", runtime="x", count=1)
    task = Task(id="best", run="work", candidates=("", ""), vote=Vote(by="judge"), merge="ask", priority="critical")
    blobs = [decided(state, inp.DeclareAgents(at=at, specs=(judge,))), decided(state, inp.Submit(at=at, tasks=(task,)))]
    vote = Output(digest="d", size=13, text='{"vote": "A"}')
    for name in ("best[1]", "best[2]", "best[judge-1]"):
        attempt = state.entries[name].attempt
        assert attempt is not None
        commit = "" if "judge" in name else name[-2] * 40
        report = inp.Ended(at=at, task=name, n=1, nonce=attempt.nonce, outcome="ok", commit=commit, outputs={"vote": vote})
        blobs.append(decided(state, report))
    return [*blobs, decided(state, inp.Say(at=at, task="best", answer="reject", comment="not this one", by="somebody"))]


def resolved(state: State, at: int) -> list[bytes]:
    """A task whose work does not merge, and another one that resolves the conflict."""
    task = Task(id="clash", run="work", on_conflict="task", priority="critical")
    blobs = [decided(state, inp.Submit(at=at, tasks=(task,)))]
    for name, commit in (("clash", "e" * 40), ("clash[conflict]", "f" * 40)):
        attempt = state.entries[name].attempt
        assert attempt is not None
        report = inp.Ended(at=at, task=name, n=1, nonce=attempt.nonce, outcome="ok", commit=commit)
        blobs.append(decided(state, report))
        if name == "clash":
            assert state.intent is not None
            clash = inp.MergeEnded(at=at, intent=state.intent, commits=(), cause="conflict", detail="conflicts in a")
            blobs.append(decided(state, clash))
    while state.intent is not None:
        commits = tuple(candidate.commit for candidate in state.intent.stack)
        blobs.append(decided(state, inp.MergeEnded(at=at, intent=state.intent, commits=commits)))
    return blobs


def phased(state: State, at: int) -> list[bytes]:
    """A phase whose gate a person does not open, and one that stays closed."""
    gates = [Task(id=f"gate:{name}", phase=name, gate=True, merge="never", approve="after") for name in ("first", "second")]
    tasks = (Task(id="early", run="work", phase="first", priority="critical"), *gates)
    blobs = [decided(state, inp.Submit(at=at, tasks=tasks))]
    attempt = state.entries["early"].attempt
    assert attempt is not None
    blobs.append(decided(state, inp.Ended(at=at, task="early", n=1, nonce=attempt.nonce, outcome="ok")))
    return [*blobs, decided(state, inp.Say(at=at, task="gate:first", answer="reject", comment="not yet", by="somebody"))]


def fleet(state: State, at: int) -> list[bytes]:
    """A fleet, and a task that goes to its swarm; only the session of fleets decides so, any log may hold it."""
    swarm = Swarm(name="small", session="farm.small", slots=2, labels={"gpu": "true"}, cpu=1.0)
    task = Task(run="work", constraints={"gpu": "true"})
    routed = route(Fleet(name="farm", swarms=(swarm,)), {}, task, "key")
    events: list[Event] = [
        FleetFormed(at, Fleet(name="farm", swarms=(swarm,)), {"small": Used(1, 2)}, "somebody"),
        FleetRouted(at, "farm", routed, "somebody"),
        FleetHanded(at, "farm", "key", "t1"),
        FleetFormed(at, Fleet(name="former", swarms=(swarm,)), {}),
        FleetRemoved(at, "former", "somebody"),
    ]
    for event in events:
        apply(state, event)
    return [codec.encode(events)]


def proposed(state: State, at: int) -> list[bytes]:
    """A task that proposes another one, and a person who says yes."""
    task = Task(id="proposer", run="work", merge="never", priority="critical")
    blobs = [decided(state, inp.Submit(at=at, tasks=(task,)))]
    attempt = state.entries["proposer"].attempt
    assert attempt is not None
    proposal = Proposal(
        tasks=(Task(id="proposer-more", run="more", needs=("proposer",), approve="before"),), fingerprint="f" * 64
    )
    report = inp.Ended(at=at, task="proposer", n=1, nonce=attempt.nonce, outcome="ok", proposal=proposal)
    blobs.append(decided(state, report))
    return [*blobs, decided(state, inp.Say(at=at, task="proposer", answer="approve", by="somebody"))]


def decided(state: State, given: inp.Input) -> bytes:
    """The append that comes of an input."""
    decision = decide(state, (given,), given.at, state.seq.to_bytes(16, "big"))
    return codec.encode(decision.events)


def main() -> None:
    """Keeps the log, unless there is one of this format."""
    path = GOLDEN / f"log-{codec.FORMAT}.msgpack"
    if path.exists():
        sys.exit(f"{path.name} is there, and a log that is kept is never written again")
    blobs = made()
    path.write_bytes(msgspec.msgpack.encode(blobs))
    path.with_suffix(".digest").write_text(digest_of(blobs) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
