"""Those who follow a session hear of what the log holds, once it is what they wait for, and are forgotten when they give up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from skep.core import events as ev
from skep.core.state import State
from skep.errors import NotFound, Unavailable
from skep.runtime import followers
from skep.runtime.followers import Followers


def at(seq: int) -> State:
    """A state after so many events."""
    state = State()
    state.seq = seq
    return state


def after(seq: int) -> Callable[[State], Any]:
    return lambda state: state.seq if state.seq > seq else None


def watch(known: Followers, look: Callable[[State], Any], state: State) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    known.watch(look, future, state)
    return future


async def test_what_is_waited_for_is_found_at_once_or_in_the_first_state_that_has_it() -> None:
    known = Followers()
    assert watch(known, after(2), at(3)).result() == 3
    near, far = watch(known, after(4), at(3)), watch(known, after(6), at(3))
    for seq in (4, 5, 6, 7, 8):
        known.publish(seq, [ev.SessionResumed(0)], at(seq))
    assert (near.result(), far.result()) == (5, 7)


async def test_who_gave_up_is_not_asked_again_and_who_cannot_look_hears_why() -> None:
    known, asked = Followers(), list[int]()

    def gone(state: State) -> None:
        asked.append(state.seq)
        if state.seq == 3:
            raise NotFound("it is gone")

    given_up, broken = watch(known, gone, at(1)), watch(known, gone, at(1))
    given_up.cancel()
    for seq in (2, 3, 4):
        known.look(at(seq))
    assert asked == [1, 1, 2, 3]
    with pytest.raises(NotFound):
        await broken


async def test_at_the_end_of_the_session_everybody_hears_it() -> None:
    known = Followers()
    found, changed = watch(known, after(4), at(3)), asyncio.ensure_future(known.change())
    await asyncio.sleep(0)
    known.fail(Unavailable("closed"))
    await changed
    with pytest.raises(Unavailable):
        await found


async def test_events_are_kept_by_turns_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "RING", 4)
    known = Followers()
    for seq in (2, 4, 6, 8):
        known.publish(seq, [ev.SessionResumed(seq - 1), ev.SessionResumed(seq)], at(seq))
    assert known.size == 4
    assert [last for last, _ in known.since(5)] == [6, 8]
    known.forget()
    assert (known.size, known.since(5)) == (0, [])
