"""What clients leave in the homes of tasks goes with the work that is discarded, and never before a task is over."""

from __future__ import annotations

from pathlib import Path

import skep
from skep.runtime.homes import home, set_aside
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository


def lived_in(state: Path, session: str, task: str, login: Path) -> Path:
    """A home as a client leaves it: a conversation, and a link to the user's login."""
    place = Path(home(str(state), session, task))
    place.mkdir(parents=True)
    (place / "thread.jsonl").write_text("{}")
    (place / "login.json").symlink_to(login)
    return place


async def test_a_discard_takes_the_homes_of_what_is_over_and_no_other(
    session: skep.Session, repo: Repository, gate: Gate, tmp_path: Path
) -> None:
    state, login = repo.top / ".skep", tmp_path / "login.json"
    login.write_text("secret")
    over, other = await session.submit_many([skep.Task(id="over", run="true"), skep.Task(id="other", run="true")])
    await session.gather([over, other])
    work = await session.submit(skep.Task(id="work", run=Gate.PASS, env=gate.env))
    await gate.begun()
    homes = {name: lived_in(state, "bench", name, login) for name in ("over", "other", "work")}
    strange = lived_in(state, "another", "over", login)
    await session.discard("over")
    assert [name for name, place in homes.items() if place.exists()] == ["other", "work"]
    await session.discard()
    assert [name for name, place in homes.items() if place.exists()] == ["work"]
    gate.go()
    await session.gather([work])
    await session.discard()
    assert not homes["work"].exists()
    assert strange.exists()
    assert login.read_text() == "secret"


def test_what_a_crash_left_half_erased_goes_with_the_next_discard(tmp_path: Path) -> None:
    lived_in(tmp_path, "bench", "a", tmp_path / "login.json")
    (first,) = set_aside(str(tmp_path), "bench", None)
    assert not Path(home(str(tmp_path), "bench", "a")).exists()
    assert set_aside(str(tmp_path), "bench", None) == [first]
    assert set_aside(str(tmp_path), "nobody", None) == []
