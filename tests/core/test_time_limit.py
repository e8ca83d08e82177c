"""`limits.time` is for the time in which a session has something to do."""

from __future__ import annotations

from skep.core import inputs as inp
from skep.core.decide import Decision, decide
from skep.core.model import AgentSpec, Limits, Plan, Resources, Task
from skep.core.state import State

SECOND = 1_000
PLAN = Plan(name="p", limits=Limits(agents=1, time=4.0), agents=(AgentSpec(name="shell", runtime="shell", count=0),))


def at(state: State, second: int, *inputs: inp.Input) -> Decision:
    decision = decide(state, inputs, second * SECOND, bytes(16))
    assert not [answer for answer in decision.answers if isinstance(answer, Exception)], decision.answers
    return decision


def ended(state: State) -> inp.Ended:
    attempt = state.entries["a"].attempt
    assert attempt is not None
    return inp.Ended(at=0, task="a", n=attempt.n, nonce=attempt.nonce, outcome="ok")


def test_what_lies_between_the_work_does_not_count() -> None:
    state = State().rebuild()
    node = inp.JoinNode(at=0, node="here", boot="b", capacity=Resources(cpu=1.0), slots=9)
    at(state, 1, inp.OpenSession(at=0, session="p-1", plan=PLAN), node)
    at(state, 100, inp.Submit(at=0, tasks=(Task(id="a", run="x", mode="none"),)))
    at(state, 102, ended(state))
    assert state.entries["a"].state == "done"
    at(state, 200, inp.Retry(at=0, task="a"))
    assert not state.paused
    at(state, 201)
    assert (state.paused, state.at_work(201 * SECOND)) == (False, 3 * SECOND)
    at(state, 203)
    assert (state.paused, state.why) == (True, "time limit reached")
    assert state.worked == 5 * SECOND


def test_a_pause_of_a_finished_session_does_not_count_either() -> None:
    state = State().rebuild()
    node = inp.JoinNode(at=0, node="here", boot="b", capacity=Resources(cpu=1.0), slots=9)
    at(state, 1, inp.OpenSession(at=0, session="p-1", plan=PLAN), node)
    at(state, 1, inp.Submit(at=0, tasks=(Task(id="a", run="x", mode="none"),)))
    at(state, 2, ended(state))
    at(state, 50, inp.Pause(at=0, stop=True))
    at(state, 90, inp.Resume(at=0))
    at(state, 120, inp.Retry(at=0, task="a"))
    assert (state.paused, state.at_work(121 * SECOND)) == (False, 2 * SECOND)
