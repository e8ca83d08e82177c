"""Whoever is killed, and however: nothing that was started stays."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skep.errors import Unavailable
from skep.terminals.leftovers import end_marked, find_marked
from skep.terminals.native import Native
from tests.contracts.terminal import Screen, profile, run, started
from tests.terminals import owning
from tests.terminals.processes import alive, carrying, gone, kill


@pytest.fixture
def home() -> str:
    return f"/nowhere/{secrets.token_hex(8)}/.skep"


@pytest.fixture
async def owner(home: str, tmp_path: Path) -> AsyncIterator[tuple[Process, dict[str, int]]]:
    """A Skep of its own process, and the numbers of all that it started."""
    process = await asyncio.create_subprocess_exec(sys.executable, owning.__file__, home, str(tmp_path), stdout=PIPE)
    assert process.stdout is not None
    pids: dict[str, int] = json.loads(await process.stdout.readline())
    yield process, pids
    for pid in (process.pid, *pids.values()):
        kill(pid)
    await process.communicate()


def dying_with_the_keeper(pids: dict[str, int]) -> dict[str, int]:
    """Those that the kernel ends when nobody else can."""
    return {name: pid for name, pid in pids.items() if name.endswith("itself") or name in ("gated", "keeper")}


async def none_stays(pids: dict[str, int]) -> None:
    assert [name for name, pid in pids.items() if not await gone(pid)] == []


async def test_all_that_was_started_is_there_before_anybody_is_killed(owner: tuple[Process, dict[str, int]]) -> None:
    assert [name for name, pid in owner[1].items() if not alive(pid)] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
async def test_nothing_outlives_a_killed_skep_and_what_waited_at_its_gate_never_ran(
    owner: tuple[Process, dict[str, int]], tmp_path: Path, home: str, number: signal.Signals
) -> None:
    process, pids = owner
    process.send_signal(number)
    await none_stays(pids)
    assert not (tmp_path / "ran").exists()
    assert carrying(f"SKEP_HOME={home}") == []


async def test_a_keeper_that_is_asked_to_end_ends_all_that_it_keeps(
    owner: tuple[Process, dict[str, int]], tmp_path: Path
) -> None:
    os.kill(owner[1]["keeper"], signal.SIGTERM)
    await none_stays(owner[1])
    assert not (tmp_path / "ran").exists()


async def test_first_processes_die_with_a_killed_keeper(owner: tuple[Process, dict[str, int]], tmp_path: Path) -> None:
    pids = owner[1]
    kill(pids["keeper"])
    await none_stays(dying_with_the_keeper(pids))
    assert not (tmp_path / "ran").exists()


async def test_what_outlives_skep_and_keeper_is_found_by_its_marks_and_ended(
    owner: tuple[Process, dict[str, int]], home: str
) -> None:
    process, pids = owner
    kill(pids["keeper"])
    kill(process.pid)
    assert await gone(process.pid)
    await none_stays(dying_with_the_keeper(pids))
    stranger = await asyncio.create_subprocess_exec("sleep", "600", env={"SKEP_HOME": home + "2", "SKEP_NONCE": "daemon"})
    found = {marked.pid: marked for marked in find_marked(home)}
    assert {found[pids["session"]].nonce, found[pids["daemon"]].nonce} == {"session", "daemon"}
    assert [marked.pid for marked in find_marked(home, ["session"])] == [pids["session"]]
    assert await end_marked(home, grace=0.1) >= 2
    await none_stays({name: pids[name] for name in ("session", "daemon", "group")})
    assert find_marked(home) == []
    assert alive(stranger.pid)
    stranger.kill()
    await stranger.wait()


async def test_marks_of_this_very_process_and_its_parents_are_no_leftovers(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = secrets.token_hex(8)
    line = f"from skep.terminals.leftovers import find_marked; print(find_marked({mark!r}))"
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", f'{sys.executable} -c "{line}"; :', env={"PATH": os.defpath, "SKEP_HOME": mark}, stdout=PIPE
    )
    said, _ = await shell.communicate()
    assert said == b"[]\n"
    assert find_marked() == []


async def test_a_lost_keeper_ends_its_terminals_and_the_next_one_serves_on(home: str) -> None:
    native = Native(home)
    try:
        one, screen = await started(native, profile("setsid sh -c 'echo $$; exec sleep 600' & wait"), "\n")
        gated = await native.create(profile("true", ""), Screen())
        kill(native.keeper)
        ended = await one.wait()
        assert (ended.code, ended.signal, ended.lost) == (None, signal.SIGKILL, True)
        assert (await gated.wait()).signal == signal.SIGKILL
        await one.end(0.1)
        assert not alive(int(screen.text))
        await one.end()
        assert (await run(native, profile("echo on")))[1] == "on\n"
    finally:
        await native.close()


async def test_a_create_that_loses_its_keeper_says_that_the_outcome_is_unknown(home: str) -> None:
    native = Native(home)
    await run(native, profile("true", ""))
    os.kill(native.keeper, signal.SIGSTOP)
    creating = asyncio.ensure_future(native.create(profile("true", ""), Screen()))
    await asyncio.sleep(0)
    kill(native.keeper)
    with pytest.raises(Unavailable, match="keeper was killed"):
        await creating
    await native.close()


async def test_the_keeper_does_not_wait_for_a_fork_of_skep_that_holds_its_socket(home: str, tmp_path: Path) -> None:
    script = (
        "import asyncio, os\n"
        "from skep.terminals import Profile\n"
        "from skep.terminals.native import Native\n"
        "async def main():\n"
        f"    native = Native({home!r})\n"
        "    what = Profile(name='x', argv=('sleep', '600'), cwd='/', env={'PATH': os.defpath}, nonce='x')\n"
        "    terminal = await native.create(what, print)\n"
        "    terminal.release()\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        import signal; signal.pause()\n"
        "    print(terminal.pid, child, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=PIPE)
    assert process.stdout is not None
    sleeper, child = map(int, (await process.stdout.readline()).split())
    assert await gone(sleeper)
    assert alive(child)
    kill(child)
    await process.communicate()


@pytest.mark.parametrize(
    "bomb",
    [
        "for i in $(seq 200); do sleep 600 & done; echo full; wait",
        "trap '' TERM; for i in $(seq 60); do setsid sh -c 'sleep 600; sleep 600' & done; echo full; wait",
        "b() { [ $1 -le 0 ] && { echo full; sleep 600; } || { b $(($1-1)) & b $(($1-1)) & wait; }; }; b 7",
    ],
)
async def test_a_fork_bomb_ends_whole(home: str, bomb: str) -> None:
    native = Native(home)
    try:
        what = profile(bomb)
        terminal, _ = await started(native, what, "full")
        # The third says so as soon as one branch is full; the others may still be growing when the end comes.
        assert len(carrying(f"SKEP_NONCE={what.nonce}")) > 7
        await terminal.end(0.05)
        assert carrying(f"SKEP_NONCE={what.nonce}") == []
    finally:
        await native.close()
