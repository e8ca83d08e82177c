"""What every source of terminals does. A backend passes when a subclass with `open` does."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skep.errors import Invalid
from skep.terminals import Exit, Profile, Terminal, Terminals
from tests.terminals.processes import alive, gone

PATH = os.defpath


class Screen:
    """Takes a terminal's output, and waits for words in it."""

    def __init__(self) -> None:
        self.data = b""
        self._news = asyncio.Event()

    def __call__(self, data: bytes) -> None:
        self.data += data
        self._news.set()

    @property
    def text(self) -> str:
        return self.data.decode(errors="replace").replace("\r\n", "\n")

    async def until(self, word: str) -> str:
        """What there is once this word is in it."""
        async with asyncio.timeout(20):
            while word not in self.text:
                self._news.clear()
                await self._news.wait()
        return self.text


def profile(*argv: str, **changes: Any) -> Profile:
    """A shell line, or a program with arguments, with everything else as it usually is."""
    words = argv if len(argv) > 1 else ("sh", "-c", *argv)
    settings = {"name": "test", "cwd": "/", "env": {"PATH": PATH}, "nonce": secrets.token_hex(16), **changes}
    return Profile(argv=words, **settings)


async def run(terminals: Terminals, what: Profile, screen: Screen | None = None) -> tuple[Exit, str]:
    """Lets it run to its end."""
    screen = screen or Screen()
    terminal = await terminals.create(what, screen)
    terminal.release()
    ended = await terminal.wait()
    await terminal.end()
    return ended, screen.text


async def started(terminals: Terminals, what: Profile, word: str) -> tuple[Terminal, Screen]:
    """Lets it run until it said this word."""
    screen = Screen()
    terminal = await terminals.create(what, screen)
    terminal.release()
    await screen.until(word)
    return terminal, screen


class TerminalContract:
    """Subclass it with `open`."""

    async def open(self) -> Terminals:
        raise NotImplementedError

    @pytest.fixture
    async def terminals(self) -> AsyncIterator[Terminals]:
        source = await self.open()
        yield source
        await source.close()

    async def test_a_program_runs_in_its_folder_and_its_output_and_exit_code_arrive(
        self, terminals: Terminals, tmp_path: Path
    ) -> None:
        ended, text = await run(terminals, profile("pwd; echo out; echo err >&2; exit 7", cwd=str(tmp_path)))
        assert (ended.code, ended.signal, text) == (7, None, f"{tmp_path}\nout\nerr\n")

    async def test_a_program_that_is_not_released_never_runs(self, terminals: Terminals, tmp_path: Path) -> None:
        terminal = await terminals.create(profile("touch", str(tmp_path / "ran")), Screen())
        assert alive(terminal.pid)
        await terminal.end()
        assert await terminal.wait() == await terminal.wait()
        assert not alive(terminal.pid)
        assert not (tmp_path / "ran").exists()

    async def test_pid_and_start_time_are_those_of_the_program(self, terminals: Terminals) -> None:
        terminal, screen = await started(terminals, profile("echo $$; read never", stdin="tty"), "\n")
        fields = Path(f"/proc/{terminal.pid}/stat").read_text().rpartition(")")[2].split()
        assert (int(screen.text), int(fields[19])) == (terminal.pid, terminal.born)
        await terminal.end(0)

    async def test_death_by_a_signal_is_told_as_such(self, terminals: Terminals) -> None:
        ended, _ = await run(terminals, profile("kill -USR1 $$"))
        assert (ended.code, ended.signal) == (None, 10)

    async def test_what_it_used_is_told(self, terminals: Terminals) -> None:
        ended, _ = await run(terminals, profile("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"))
        assert 0.001 < ended.cpu < 10
        assert 100_000 < ended.memory < 1 << 30

    @pytest.mark.parametrize("tty", [True, False])
    async def test_arguments_arrive_as_they_are(self, terminals: Terminals, tty: bool) -> None:
        words = ("printf", "<%s>", "a b", "", "'\"$HOME`\\", "naïve ☃", "-n", "*")
        _, text = await run(terminals, profile(*words, tty=tty))
        assert text == "".join(f"<{word}>" for word in words[2:])

    async def test_the_environment_is_what_was_given_and_the_mark(
        self, terminals: Terminals, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET_OF_THE_PARENT", "canary")
        what = profile("env", "-0", env={"PATH": PATH, "EMPTY": "", "ODD": "a=b\nc ☃", "RAW": "\udcff"}, tty=False)
        _, text = await run(terminals, what)
        found = dict(entry.split("=", 1) for entry in text.rstrip("\0").split("\0"))
        assert found.pop("SKEP_NONCE") == what.nonce
        found.pop("SKEP_HOME", None)
        assert found == {"PATH": PATH, "EMPTY": "", "ODD": "a=b\nc ☃", "RAW": "�"}

    async def test_standard_input_is_empty_by_default(self, terminals: Terminals) -> None:
        ended, text = await run(terminals, profile("cat; test -t 0 || echo none"))
        assert (ended.code, text) == (0, "none\n")

    @pytest.mark.parametrize("size", [0, 10, 3_000_000])
    async def test_standard_input_is_the_bytes_that_were_given(self, terminals: Terminals, size: int) -> None:
        _, text = await run(terminals, profile("wc", "-c", stdin=b"x" * size))
        assert int(text) == size

    async def test_bytes_that_nobody_reads_hold_up_nobody(self, terminals: Terminals) -> None:
        ended, _ = await run(terminals, profile("true", "", stdin=b"x" * 3_000_000))
        assert ended.code == 0

    async def test_one_can_type_into_it(self, terminals: Terminals) -> None:
        terminal, screen = await started(terminals, profile("echo go; read word; echo got $word", stdin="tty"), "go")
        terminal.write(b"hel")
        terminal.write(b"lo\n")
        assert (await terminal.wait()).code == 0
        assert "got hello" in screen.text
        terminal.write(b"too late\n")
        await terminal.end()

    async def test_ctrl_c_reaches_the_program(self, terminals: Terminals) -> None:
        what = profile("trap 'echo stopped; exit 3' INT; echo go; while :; do sleep 0.02; done", stdin="tty")
        terminal, screen = await started(terminals, what, "go")
        terminal.write(b"\x03")
        assert (await terminal.wait()).code == 3
        assert "stopped" in screen.text
        await terminal.end()

    async def test_typing_where_nobody_listens_is_refused(self, terminals: Terminals) -> None:
        terminal = await terminals.create(profile("true", ""), Screen())
        with pytest.raises(Invalid, match="takes no input"):
            terminal.write(b"x")
        await terminal.end()

    async def test_one_can_converse_with_it_through_a_pipe(self, terminals: Terminals) -> None:
        screen = Screen()
        what = profile("while read -r line; do echo heard $line; done; echo over", stdin="pipe", tty=False)
        terminal = await terminals.create(what, screen)
        terminal.write(b"before it runs\n")
        terminal.release()
        await screen.until("heard before it runs")
        terminal.write(b"more\n" * 50_000)
        terminal.finish()
        terminal.write(b"after the end\n")
        assert (await terminal.wait()).code == 0
        await terminal.end()
        assert screen.text.count("heard more") == 50_000
        assert screen.text.endswith("heard more\nover\n")

    async def test_only_a_pipe_has_an_end(self, terminals: Terminals) -> None:
        terminal = await terminals.create(profile("cat", "", stdin="tty"), Screen())
        with pytest.raises(Invalid, match="no pipe"):
            terminal.finish()
        await terminal.end()

    async def test_its_output_is_a_terminal_of_the_size_asked_for(self, terminals: Terminals) -> None:
        line = "test -t 1 && test -t 2 && echo terminal && stty size <&1"
        _, text = await run(terminals, profile(line, columns=99, rows=44))
        assert text == "terminal\n44 99\n"

    async def test_the_size_can_change(self, terminals: Terminals) -> None:
        what = profile("echo go; read ready; stty size", stdin="tty")
        terminal, screen = await started(terminals, what, "go")
        terminal.resize(77, 11)
        terminal.write(b"\n")
        await terminal.wait()
        assert "11 77" in screen.text
        await terminal.end()

    async def test_without_a_terminal_output_and_errors_share_a_pipe(self, terminals: Terminals) -> None:
        _, text = await run(terminals, profile("test -t 1 || echo a; echo b >&2; echo c", tty=False))
        assert text == "a\nb\nc\n"

    @pytest.mark.parametrize("tty", [True, False])
    async def test_much_output_arrives_whole_and_in_order(self, terminals: Terminals, tty: bool) -> None:
        _, text = await run(terminals, profile("seq", "200000", tty=tty))
        assert text == "".join(f"{n}\n" for n in range(1, 200_001))

    async def test_bytes_arrive_as_they_are(self, terminals: Terminals) -> None:
        screen = Screen()
        await run(terminals, profile(r"printf '\377\000\033]52;c;x\007\342\230'", tty=False), screen)
        assert screen.data == b"\xff\x00\x1b]52;c;x\x07\xe2\x98"

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"argv": ("no-such-program",)}, "no program 'no-such-program'"),
            ({"argv": ("./nothing",)}, "no program './nothing' in /"),
            ({"argv": ()}, "no program ''"),
            ({"argv": ("/etc/passwd",)}, "cannot be executed"),
            ({"argv": ("/etc",)}, "cannot be executed"),
            ({"cwd": "/no/such/folder"}, "folder|work in"),
            ({"argv": ("echo", "a\0b")}, "NUL"),
            ({"env": {"PATH": PATH, "A=B": "c"}}, "proper name"),
            ({"env": {"PATH": PATH, "": "c"}}, "proper name"),
            ({"argv": ("echo", "x" * 200_000)}, "128 KiB"),
            ({"stdin": "tty", "tty": False}, "needs one as output"),
        ],
    )
    async def test_what_cannot_be_started_is_refused(self, terminals: Terminals, changes: dict[str, Any], words: str) -> None:
        given = {"name": "test", "argv": ("true",), "cwd": "/", "env": {"PATH": PATH}, "nonce": "0" * 32, **changes}
        with pytest.raises(Invalid, match=words):
            await terminals.create(Profile(**given), Screen())
        assert (await run(terminals, profile("true", "")))[0].code == 0

    async def test_waiting_is_not_held_up_by_what_was_left_behind(self, terminals: Terminals) -> None:
        screen = Screen()
        terminal = await terminals.create(profile("echo first; sleep 600 & echo $!"), screen)
        terminal.release()
        async with asyncio.timeout(10):
            assert (await terminal.wait()).code == 0
        left = int(screen.text.split()[1])
        await terminal.end()
        assert not alive(left)

    @pytest.mark.parametrize(
        "leave",
        [
            "sleep 600 & echo $!",
            "nohup sleep 600 >/dev/null 2>&1 & echo $!",
            "setsid sleep 600 >/dev/null 2>&1 & echo $!",
            "(setsid sh -c 'echo $$; exec sleep 600' </dev/null 2>/dev/null &)",
            "(setsid sh -c 'trap \"\" TERM HUP INT; echo $$; while :; do sleep 600; done' &)",
            "(env -i setsid sh -c 'echo $$; exec sleep 600 >/dev/null 2>&1' &)",
        ],
    )
    async def test_end_ends_what_the_program_left_behind(self, terminals: Terminals, leave: str) -> None:
        terminal, screen = await started(terminals, profile(leave + "\nsleep 0.1", tty=False), "\n")
        await terminal.wait()
        left = int(screen.text.split()[0])
        await terminal.end(0.1)
        assert not alive(left)

    async def test_end_gives_the_program_time_to_finish(self, terminals: Terminals) -> None:
        what = profile("trap 'echo bye; exit 4' TERM; echo go; while :; do sleep 0.01; done")
        terminal, screen = await started(terminals, what, "go")
        await terminal.end(20)
        assert (await terminal.wait()).code == 4
        assert "bye" in screen.text

    async def test_a_program_that_does_not_want_to_end_is_killed(self, terminals: Terminals) -> None:
        terminal, _ = await started(terminals, profile("trap '' TERM HUP INT; echo go; while :; do sleep 60; done"), "go")
        await terminal.end(0.05)
        assert (await terminal.wait()).signal == 9

    async def test_a_stopped_program_ends_too(self, terminals: Terminals) -> None:
        terminal, _ = await started(terminals, profile("echo go; kill -STOP $$"), "go")
        await terminal.end(20)
        assert (await terminal.wait()).signal == 15

    async def test_ends_at_the_same_time_are_one_and_the_shortest_grace_holds(self, terminals: Terminals) -> None:
        terminal, _ = await started(terminals, profile("trap '' TERM; echo go; while :; do sleep 60; done"), "go")
        async with asyncio.timeout(30):
            await asyncio.gather(terminal.end(600), terminal.end(0.05), terminal.end(600))
        await terminal.end()
        assert (await terminal.wait()).signal == 9

    async def test_end_right_after_release_is_no_race(self, terminals: Terminals) -> None:
        async def brief() -> None:
            terminal = await terminals.create(profile("sleep", "600"), Screen())
            terminal.release()
            await terminal.end()
            assert (await terminal.wait()).signal in (9, 15)

        await asyncio.gather(*(brief() for _ in range(20)))

    async def test_a_create_that_is_cancelled_leaves_nothing(self, terminals: Terminals, tmp_path: Path) -> None:
        nonce = secrets.token_hex(16)
        attempts = [
            asyncio.ensure_future(terminals.create(profile("touch", str(tmp_path / "ran"), nonce=nonce), Screen()))
            for _ in range(5)
        ]
        await run(terminals, profile("true", ""))
        more = asyncio.ensure_future(terminals.create(profile("touch", str(tmp_path / "ran"), nonce=nonce), Screen()))
        await asyncio.sleep(0)
        more.cancel()
        with pytest.raises(asyncio.CancelledError):
            await more
        for terminal in await asyncio.gather(*attempts):
            await terminal.end()
        assert not (tmp_path / "ran").exists()

    async def test_many_at_once_do_not_mix(self, terminals: Terminals) -> None:
        texts = await asyncio.gather(*(run(terminals, profile("echo", str(n), tty=n % 2 == 0)) for n in range(60)))
        assert [text for _, text in texts] == [f"{n}\n" for n in range(60)]

    async def test_one_end_spares_the_others(self, terminals: Terminals) -> None:
        spawn = "(setsid sh -c 'echo $$; exec sleep 600' &)\nsleep 600"
        one, screen_one = await started(terminals, profile(spawn), "\n")
        other, screen_other = await started(terminals, profile(spawn), "\n")
        await one.end(0.1)
        left_one, left_other = int(screen_one.text), int(screen_other.text)
        assert not alive(left_one)
        assert alive(left_other)
        assert alive(other.pid)
        await other.end(0.1)
        assert not alive(left_other)

    async def test_close_ends_all_of_them(self, terminals: Terminals) -> None:
        stubborn, screen = await started(terminals, profile("trap '' TERM; sleep 600 & echo $!; wait; sleep 600"), "\n")
        waiting = await terminals.create(profile("sleep", "600"), Screen())
        await terminals.close()
        assert await gone(stubborn.pid)
        assert await gone(int(screen.text))
        assert await gone(waiting.pid)
        await stubborn.wait()
        await waiting.wait()
        await stubborn.end()
