"""The terminals of this machine."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skep.errors import Exhausted, Invalid
from skep.terminals import Terminals
from skep.terminals.native import Native, find_program
from tests.contracts.terminal import PATH, Screen, TerminalContract, profile, run, started
from tests.terminals.processes import alive, state


class TestNative(TerminalContract):
    async def open(self) -> Terminals:
        return Native(home="/somewhere/.skep")


@pytest.fixture
async def terminals() -> AsyncIterator[Native]:
    source = Native(f"/nowhere/{secrets.token_hex(8)}")
    yield source
    await source.close()


def python(*lines: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", "\n".join(lines))


async def test_no_file_is_left_open_and_no_zombie_is_left_after_many_runs(terminals: Native) -> None:
    async def some() -> None:
        await run(terminals, profile("true", ""))
        await run(terminals, profile("cat", "", stdin=b"text"))
        await run(terminals, profile("true", "", tty=False))
        gated = await terminals.create(profile("true", ""), Screen())
        await gated.end()
        with pytest.raises(Invalid):
            await terminals.create(profile("no-such", ""), Screen())

    await asyncio.gather(*(some() for _ in range(10)))
    before = open_files(os.getpid()), open_files(terminals.keeper)
    for _ in range(4):
        await asyncio.gather(*(some() for _ in range(10)))
    assert (open_files(os.getpid()), open_files(terminals.keeper)) == before
    assert [child for child in children_of(terminals.keeper) if state(child) == "Z"] == []
    assert not terminals._terminals


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (entry / "stat").exists():
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            found += [int(entry.name)] if int(fields[1]) == pid else []
    return found


async def test_a_create_that_is_cancelled_leaves_no_process_even_if_the_keeper_hears_of_both_at_once(
    terminals: Native,
) -> None:
    await run(terminals, profile("true", ""))
    os.kill(terminals.keeper, signal.SIGSTOP)
    large = {"PATH": PATH, **{f"V{n}": "x" * 100_000 for n in range(5)}}  # more than the socket to the keeper holds
    creating = [asyncio.ensure_future(terminals.create(profile("true", "", env=large), Screen())) for _ in range(3)]
    await turns()
    for each in creating:
        each.cancel()
    await turns()
    os.kill(terminals.keeper, signal.SIGCONT)
    for each in creating:
        with pytest.raises(asyncio.CancelledError):
            await each
    assert children_of(terminals.keeper) == []
    assert not terminals._terminals


async def turns() -> None:
    """Lets everything that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_program_inherits_three_files_and_no_odd_signals(terminals: Native) -> None:
    script = python(
        "import os",
        "print(sorted(os.listdir('/proc/self/fd')))",  # the fourth is the folder being listed
        "print([l.split()[1] for l in open('/proc/thread-self/status') if l[:6] in ('SigBlk', 'SigCgt')])",
    )
    # Skep itself may have been started with signals ignored: by `nohup`, or by a job runner.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGUSR2, signal.SIGTSTP)}
    try:
        _, text = await run(terminals, profile(*script))
        assert text.splitlines()[0] == "['0', '1', '2', '3']"
        _, text = await run(terminals, profile("grep", "-E", "SigIgn|SigBlk", "/proc/self/status"))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    # The C library keeps 32 and 33 for itself: no program can change them, nor tell who ignored them.
    known = sum(1 << (number - 1) for number in signal.valid_signals())
    assert [int(line.split()[1], 16) & known for line in text.splitlines()] == [0, 0]


async def test_a_program_dumps_no_core_and_gets_the_limit_of_files_that_skep_was_started_with(terminals: Native) -> None:
    await run(terminals, profile("true", ""))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard
    _, text = await run(terminals, profile("ulimit -c; ulimit -H -n"))
    assert text.split() == ["0", str(hard)]
    script = (
        "import asyncio, os, resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (300, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "from skep.terminals import Profile\n"
        "from skep.terminals.native import Native\n"
        "async def main():\n"
        "    native = Native()\n"
        "    what = Profile(name='x', argv=('sh', '-c', 'ulimit -n'), cwd='/', env={'PATH': os.defpath}, nonce='x')\n"
        "    terminal = await native.create(what, lambda data: print(data.decode()))\n"
        "    terminal.release()\n"
        "    await terminal.wait()\n"
        "    await native.close()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert (await process.communicate())[0].split() == [b"300"]


async def test_what_the_system_refuses_only_when_it_runs_is_said_in_the_terminal(terminals: Native, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.write_text("#!/no/such/interpreter\n")
    odd.chmod(0o755)
    ended, text = await run(terminals, profile(str(odd), ""))
    assert (ended.code, text) == (127, f"skep: cannot run {odd}: No such file or directory\n")
    odd.write_bytes(b"\x7fELF nonsense")
    ended, text = await run(terminals, profile(str(odd), ""))
    assert (ended.code, text) == (126, f"skep: cannot run {odd}: Exec format error\n")


async def test_a_program_is_looked_up_in_the_path_that_it_is_given(terminals: Native, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "tool"
    tool.write_text("#!/bin/sh\necho mine\n")
    tool.chmod(0o755)
    assert (await run(terminals, profile("tool", "", env={"PATH": f"{PATH}:{tool.parent}"})))[1] == "mine\n"
    assert (await run(terminals, profile("tool", "", cwd=str(tmp_path), env={"PATH": f"bin:{PATH}"})))[1] == "mine\n"
    assert (await run(terminals, profile("bin/tool", "", cwd=str(tmp_path))))[1] == "mine\n"
    tool.chmod(0o644)
    with pytest.raises(Invalid, match="cannot be executed"):
        find_program("tool", str(tool.parent), "/")


async def test_what_a_program_starts_carries_the_marks(terminals: Native) -> None:
    what = profile("sh -c 'echo $SKEP_NONCE $SKEP_HOME'", env={"PATH": PATH, "SKEP_NONCE": "forged", "SKEP_HOME": "forged"})
    _, text = await run(terminals, what)
    assert text == f"{what.nonce} {terminals._home}\n"


async def test_a_stray_without_marks_is_left_to_the_last_terminal_that_may_have_started_it(terminals: Native) -> None:
    old, _ = await started(terminals, profile("echo go; sleep 600"), "go")
    daemon = "(env -i setsid sh -c 'echo $$; exec sleep 600' &)"
    young, screen = await started(terminals, profile(daemon), "\n")
    await young.wait()
    stray = int(screen.text)
    await young.end(0.05)
    assert alive(stray), "it may be the other terminal's"
    await old.end(0.05)
    assert not alive(stray)


async def test_a_failing_consumer_of_output_stops_neither_the_program_nor_others(terminals: Native) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    def fail(_data: bytes) -> None:
        raise ZeroDivisionError

    one = await terminals.create(profile("seq", "30000"), fail)
    one.release()
    assert (await run(terminals, profile("echo fine")))[1] == "fine\n"
    assert (await one.wait()).code == 0
    assert isinstance(told[0]["exception"], ZeroDivisionError)
    await one.end()


async def test_typing_more_than_a_program_reads_is_bounded(terminals: Native) -> None:
    terminal, _ = await started(terminals, profile("stty raw; echo go; exec sleep 600", stdin="tty"), "go")
    for _ in range(15):
        terminal.write(b"x" * 65_536)
    with pytest.raises(Exhausted, match="does not read"):
        terminal.write(b"x" * 131_072)
    await terminal.end(0)


async def test_a_program_that_closes_its_output_is_waited_for(terminals: Native) -> None:
    ended, text = await run(terminals, profile("echo on; exec >/dev/null 2>&1 </dev/null; sleep 0.1; exit 5"))
    assert (ended.code, text) == (5, "on\n")


async def test_unattended_programs_have_no_terminal_to_ask_at(terminals: Native) -> None:
    _, text = await run(terminals, profile("(: </dev/tty) 2>/dev/null || echo none"))
    assert text == "none\n"
    _, text = await run(terminals, profile("(: </dev/tty) && echo one", stdin="tty"))
    assert text == "one\n"


async def test_no_more_terminals_than_the_system_has_is_said_as_such(terminals: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> tuple[int, int]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.openpty", none)
    with pytest.raises(Exhausted, match="No terminal for test: No space"):
        await terminals.create(profile("true", ""), Screen())


async def test_close_without_any_terminal_starts_nothing() -> None:
    source = Native()
    await source.close()
    assert source.keeper == 0


async def test_the_keeper_is_one_for_all_and_starts_with_the_first(terminals: Native) -> None:
    assert terminals.keeper == 0
    await asyncio.gather(*(run(terminals, profile("true", "")) for _ in range(3)))
    keeper = terminals.keeper
    await run(terminals, profile("true", ""))
    assert terminals.keeper == keeper
    assert alive(keeper)
