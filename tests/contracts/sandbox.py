"""What every sandbox does, tried by programs that mean harm. A backend passes when a subclass with `open` does.

Where a backend declares that a property is lost, the tests of it are counted and named, with the reason that it gives.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from msgspec.structs import replace

from skep.runtime.confined import Wards
from skep.security import Bounds, Limits, Sandbox, words
from skep.security.tools import tools
from skep.terminals import Exit, Profile
from skep.terminals.leftovers import find_marked
from skep.terminals.native import Native
from tests.contracts.terminal import Screen, run

MIB = 1 << 20
#: What hostile programs begin with.
PREFIX = """
import ctypes, os, socket, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def call(*words):
    'A system call: its answer, or the name of its error.'
    import errno
    ctypes.set_errno(0)
    answer = libc.syscall(*words)
    return errno.errorcode[ctypes.get_errno()] if answer == -1 else answer
def attempt(act, *words):
    'What came of it: its answer, or the name of the error.'
    import errno
    try:
        return act(*words)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
"""


class Yard:
    """Folders around a confined program: what it may change, what it may read, what it must not know of."""

    def __init__(self, folder: Path, sandbox: Sandbox, terminals: Native) -> None:
        self.folder, self.sandbox, self.terminals = folder, sandbox, terminals
        for name in ("work", "books", "private", "own-home", "user/.ssh"):
            (folder / name).mkdir(parents=True)
        (folder / "books" / "page").write_text("a page")
        (folder / "private" / "diary").write_text("a secret")
        (folder / "user" / ".ssh" / "id").write_text("a key")
        self.work, self.books, self.private = folder / "work", folder / "books", folder / "private"
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder / "user")}
        self.bounds = Bounds(
            write=(str(self.work),), read=(str(self.books), *tools(self.env)), home=str(folder / "own-home"), limits=Limits()
        )

    def profile(self, *argv: str) -> Profile:
        """A program in the folder that it may change."""
        return Profile(name="hostile", argv=argv, cwd=str(self.work), env=self.env, nonce=secrets.token_hex(16), tty=False)

    async def run(self, *argv: str) -> tuple[Exit, str]:
        """How the program ended when it was confined, and what it printed."""
        profile, wards = self.profile(*argv), Wards(self.terminals, self.sandbox)
        with wards.of(profile.nonce, self.bounds):
            ended = await run(wards, profile)
        assert find_marked(nonces=[profile.nonce]) == []
        return ended

    async def python(self, code: str) -> str:
        """What a confined Python program printed, without the last line's end."""
        ended, said = await self.run(sys.executable, "-I", "-c", PREFIX + dedent(code))
        assert ended.code == 0, (ended, said)
        return said.strip()

    def without(self, name: str) -> None:
        """Ends the test if the property is lost, and says so."""
        if name in self.sandbox.lost:
            pytest.skip(f"{words(self.sandbox)}: {self.sandbox.lost[name]}")

    def limit(self, **limits: float) -> None:
        """Bounds of what runs from now on."""
        self.bounds = replace(self.bounds, limits=Limits(**limits))  # type: ignore[arg-type]  # one kind for all of them


class SandboxContract:
    """Subclass it with `open`."""

    def open(self, folder: Path) -> Sandbox:
        """The sandbox, made in this folder; skips the test if it cannot be had here."""
        raise NotImplementedError

    @pytest.fixture
    async def yard(self, tmp_path: Path) -> AsyncIterator[Yard]:
        terminals = Native()
        yield Yard(tmp_path, self.open(tmp_path / "sandbox"), terminals)
        await terminals.close()

    @pytest.fixture
    def bystander(self, yard: Yard) -> Iterator[subprocess.Popen[bytes]]:
        """A process outside, with a secret in its environment."""
        with subprocess.Popen(["sleep", "1000"], env={"PATH": os.defpath, "CANARY": "tweet-9137"}) as process:
            yield process
            process.kill()

    async def test_programs_run_as_they_do_elsewhere(self, yard: Yard) -> None:
        ended, said = await yard.run("sh", "-c", "pwd; cat ../books/page; echo made > file; exit 3")
        assert (ended.code, said) == (3, f"{yard.work}\na page")
        assert (yard.work / "file").read_text() == "made\n"
        ended, _ = await yard.run("sh", "-c", "kill -9 $$")
        assert ended.code == 128 + signal.SIGKILL or ended.signal == signal.SIGKILL

    async def test_common_tools_work(self, yard: Yard) -> None:
        code = """
        import asyncio, json, multiprocessing, ssl, tempfile, zoneinfo
        async def shout():
            process = await asyncio.create_subprocess_exec('git', '--version', stdout=-1)
            return (await process.communicate())[0].decode()[:3]
        pool = multiprocessing.get_context('fork').Pool(2)
        print(asyncio.run(shout()), socket.socketpair()[0].family.name, pool.map(abs, [-1, 2]))
        tempfile.TemporaryFile().write(b'x')
        threading.Thread(target=print, args=('thread',)).start()
        """
        assert await yard.python(code) == "git AF_UNIX [1, 2]\nthread"

    async def test_what_is_told_to_end_may_tidy_up(self, yard: Yard) -> None:
        profile = yard.profile("sh", "-c", "trap 'echo tidied > end; exit 0' TERM; echo ready; while :; do sleep 0.02; done")
        screen, wards = Screen(), Wards(yard.terminals, yard.sandbox)
        with wards.of(profile.nonce, yard.bounds):
            terminal = await wards.create(profile, screen)
            terminal.release()
            await screen.until("ready")
            await terminal.end(grace=10)
        assert (yard.work / "end").read_text() == "tidied\n"

    async def test_what_is_not_named_cannot_be_read(self, yard: Yard) -> None:
        places = [yard.private / "diary", yard.folder / "user" / ".ssh" / "id", Path("/etc/shadow")]
        assert all(place.exists() for place in places)
        found = await yard.python(
            f"""
            for place in {[str(place) for place in places]}:
                print(attempt(open, place), attempt(os.listdir, os.path.dirname(place)) if 'etc' not in place else '')
            """
        )
        assert "secret" not in found
        for line in found.splitlines():
            assert line.split(" ", 1)[0] in ("ENOENT", "EACCES"), found
            assert "diary" not in line
            assert "id" not in line

    async def test_what_is_not_named_cannot_be_changed(self, yard: Yard) -> None:
        outside = [
            yard.books / "page",
            yard.private / "diary",
            Path("/usr/skep-was-here"),
            Path("/etc/passwd"),
            Path("/skep-was-here"),
        ]
        acts = f"""
        for place in {[str(place) for place in outside]}:
            print(attempt(open, place, 'a'), attempt(os.unlink, place), attempt(os.truncate, place, 0))
        print(attempt(os.rename, '../books', '../stolen'), attempt(os.link, '../books/page', 'page'))
        """
        said = await yard.python(acts)
        assert set(said.split()) <= {"EROFS", "ENOENT", "EACCES", "EXDEV", "EPERM", "EBUSY"}, said
        assert (yard.books / "page").read_text() == "a page"
        assert (yard.private / "diary").read_text() == "a secret"

    async def test_modes_outside_cannot_be_changed(self, yard: Yard) -> None:
        yard.without("modes")
        said = await yard.python(
            "print(attempt(os.chmod, '../books/page', 0o777), attempt(os.utime, '../private/diary', (1, 1)))"
        )
        assert set(said.split()) <= {"EROFS", "ENOENT", "EACCES", "EPERM"}, said

    async def test_processes_outside_cannot_be_seen(self, yard: Yard) -> None:
        yard.without("pids")
        said = await yard.python("print(len([name for name in os.listdir('/proc') if name.isdecimal()]))")
        assert int(said) <= 3

    async def test_what_stands_instead_is_read(self, yard: Yard) -> None:
        yard.without("settings")
        (yard.folder / "harmless").write_text("harmless")
        yard.bounds = replace(yard.bounds, instead={str(yard.books / "page"): str(yard.folder / "harmless")})
        assert await yard.python("print(open('../books/page').read())") == "harmless"

    async def test_a_folder_swapped_for_a_link_leads_nowhere(self, yard: Yard) -> None:
        said = await yard.python(
            f"""
            os.mkdir('swap')
            stop = threading.Event()
            def swap():
                while not stop.is_set():
                    os.rename('swap', 'kept'); os.symlink({str(yard.private)!r}, 'swap')
                    os.unlink('swap'); os.rename('kept', 'swap')
            thread = threading.Thread(target=swap); thread.start()
            seen = set()
            for _ in range(3000):
                seen.add(attempt(lambda: open('swap/diary').read()))
                seen.add(attempt(lambda: open('swap/planted', 'w').close()))
            stop.set(); thread.join()
            print('a secret' in seen)
            """
        )
        assert said == "False"
        assert os.listdir(yard.private) == ["diary"]

    async def test_home_is_its_own(self, yard: Yard) -> None:
        yard.without("home")
        said = await yard.python("print(os.listdir(os.environ['HOME'])); open(os.path.expanduser('~/.rc'), 'w').write('mine')")
        assert ".ssh" not in said
        assert (yard.folder / "own-home" / ".rc").read_text() == "mine"
        assert os.listdir(yard.folder / "user") == [".ssh"]

    async def test_what_is_hidden_is_empty(self, yard: Yard) -> None:
        (yard.books / "vault").mkdir()
        (yard.books / "vault" / "coin").write_text("gold")
        (yard.books / "vault" / "box").mkdir()
        yard.bounds = replace(
            yard.bounds, hidden=(str(yard.books / "vault"),), write=(str(yard.work), str(yard.books / "vault" / "box"))
        )
        said = await yard.python("print(attempt(lambda: open('../books/vault/coin').read())); open('../books/vault/box/x', 'w')")
        assert said in ("ENOENT", "EACCES")
        assert (yard.books / "vault" / "box" / "x").exists()

    async def test_processes_outside_are_out_of_reach(self, yard: Yard, bystander: subprocess.Popen[bytes]) -> None:
        yard.without("processes")
        said = await yard.python(
            f"""
            pids = [pid for pid in os.listdir('/proc') if pid.isdecimal()]
            print(any(b'tweet' in (attempt(lambda: open(f'/proc/{{pid}}/environ', 'rb').read()) or b'') for pid in pids
                  if not isinstance(attempt(lambda: open(f'/proc/{{pid}}/environ', 'rb').read()), str)))
            for pid in ({bystander.pid}, {os.getpid()}):
                print(attempt(os.kill, pid, 9), call(101, 16, pid, 0, 0), attempt(open, f'/proc/{{pid}}/mem', 'r+b'))
            attempt(os.kill, -1, 9)
            """
        )
        first, *rest = said.splitlines()
        assert first == "False"
        assert set(" ".join(rest).split()) <= {"ESRCH", "EPERM", "ENOENT", "EACCES"}, said
        assert bystander.poll() is None

    async def test_what_leaves_its_group_ends_with_it(self, yard: Yard) -> None:
        mark = f"9{secrets.randbelow(10**8)}.5"
        said = await yard.python(
            f"""
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    null = os.open('/dev/null', os.O_RDWR)
                    for fd in (0, 1, 2):
                        os.dup2(null, fd)
                    os.execve({_which("sleep")!r}, ['sleep', {mark!r}], {{}})
                os._exit(0)
            os.wait()
            print('left one behind')
            """
        )
        assert said == "left one behind"
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        assert not any(mark.encode() in line for line in lines)

    async def test_no_unix_socket_can_be_connected_to(self, yard: Yard) -> None:
        yard.without("sockets")
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as abstract:
            os.chdir(yard.work)  # the name of a socket must be short
            server.bind("owner.sock")
            abstract.bind(b"\0skep-abstract-" + str(os.getpid()).encode())
            for one in (server, abstract):
                one.listen()
                one.setblocking(False)
            said = await yard.python(
                f"""
                for name in ('owner.sock', b'\\0skep-abstract-{os.getpid()}'):
                    print(attempt(lambda: socket.socket(socket.AF_UNIX).connect(name)))
                print(attempt(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)), attempt(lambda: socket.socket(40)))
                """
            )
            assert set(said.split()) <= {"EACCES", "EPERM"}, said
            for one in (server, abstract):
                with pytest.raises(BlockingIOError):
                    one.accept()

    async def test_there_is_no_network(self, yard: Yard) -> None:
        yard.without("network")
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as letters:
            letters.bind(("127.0.0.1", 0))
            letters.setblocking(False)
            server.setblocking(False)
            said = await yard.python(
                f"""
                def reach(host, port):
                    with socket.socket() as one:
                        one.settimeout(2)
                        return one.connect((host, port))
                def write(host, port):
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                        return one.sendto(b'hello', (host, port)) and 'sent'
                print(attempt(reach, '127.0.0.1', {server.getsockname()[1]}))
                for host in ('169.254.169.254', '10.0.0.1', '1.1.1.1'):
                    print(attempt(reach, host, 80), attempt(write, host, 53))
                attempt(write, '127.0.0.1', {letters.getsockname()[1]})
                """
            )
            assert set(said.split()) <= {"ECONNREFUSED", "ENETUNREACH", "EACCES", "EPERM"}, said
            for one in (server.accept, lambda: letters.recv(10)):
                with pytest.raises(BlockingIOError):
                    one()

    async def test_the_kernel_is_out_of_reach(self, yard: Yard) -> None:
        yard.without("kernel")
        if os.uname().machine != "x86_64":
            pytest.skip("system calls are tried by their numbers on x86_64 only")
        said = await yard.python(
            """
            import fcntl
            print(
                attempt(fcntl.ioctl, 0, 0x5412, b'x'),           # TIOCSTI
                call(250, 0, -3, 0), call(248, b'user', b'a', b'b', 1, -4), call(249, b'user', b'a', 0, -4),  # keyrings
                call(165, b'none', b'/tmp', b'tmpfs', 0, 0), call(155, b'/', b'/'), call(161, b'/'),  # mount, pivot_root, chroot
                call(272, 0x10000000), call(56, 0x10000000 | 17, 0, 0, 0, 0), call(308, 0, 0),  # unshare, clone, setns
                call(321, 0, 0, 0), call(298, 0, 0, -1, -1, 0), call(323, 0),  # bpf, perf_event_open, userfaultfd
            )
            print(call(425, 8, 0), call(435, 0, 0), call(0x40000000 + 41, 1, 1, 0))  # io_uring, clone3, x32
            """
        )
        first, second = said.splitlines()
        assert set(first.split()) == {"EPERM"}, said
        assert set(second.split()) == {"ENOSYS"}, said

    async def test_privileges_cannot_be_gained(self, yard: Yard) -> None:
        status = await yard.python("print(open('/proc/self/status').read())")
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status
        said = await yard.python(
            "print(attempt(open, '/proc/sys/kernel/core_pattern', 'w'), attempt(open, '/proc/sysrq-trigger', 'w'))"
        )
        assert set(said.split()) <= {"EROFS", "EACCES", "ENOENT", "EPERM"}

    async def test_a_fork_bomb_is_bounded(self, yard: Yard) -> None:
        yard.without("count")
        yard.limit(processes=40)
        said = await yard.python(
            """
            count = 0
            try:
                while count < 500:
                    if os.fork() == 0:
                        time.sleep(1000)
                    count += 1
            except BlockingIOError:
                pass
            print(count, flush=True)
            os._exit(0)
            """
        )
        assert 10 < int(said) < 40

    async def test_memory_is_bounded(self, yard: Yard) -> None:
        yard.without("memory")
        yard.limit(memory=150 * MIB)
        ended, said = await yard.run(
            sys.executable,
            "-I",
            "-c",
            "import os\nos.fork()\nheld = [b'x' * (1 << 20) for _ in range(600)]\nprint('held it all')",
        )
        assert "held it all" not in said
        assert ended.code != 0

    async def test_files_are_bounded(self, yard: Yard) -> None:
        yard.without("disk")
        yard.limit(disk=2 * MIB)
        said = await yard.python(
            """
            import signal
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            def fill(place):
                wrote, file = 0, attempt(lambda: open(place, 'wb', buffering=0))
                if not isinstance(file, str):
                    while wrote < 10 << 20:
                        size = attempt(file.write, b'x' * (1 << 20))
                        if isinstance(size, str):
                            break
                        wrote += size
                return wrote
            print(*map(fill, ('large', '/tmp/large', '/dev/shm/large')))
            """
        )
        assert all(int(size) <= 2 * MIB for size in said.split()), said


def _which(name: str) -> str:
    return next(f"{place}/{name}" for place in ("/bin", "/usr/bin") if os.path.exists(f"{place}/{name}"))
