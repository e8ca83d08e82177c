"""A Redis of our own for the peers that need one: on a Unix socket, and so durable or not as asked."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

#: The variable that names the server's program; without it, redis-server from the PATH.
SERVER = "BENCH_REDIS_SERVER"


@contextmanager
def serving(folder: Path, *, fsync: str) -> Iterator[str]:
    """Runs the server that Skep has in the same run, with its append-only file in `folder`; yields the path of its socket.

    Args:
        fsync: `always` (what it acknowledged survives a power cut) or `everysec` (up to a second of it does not).

    Raises:
        SystemExit: there is no server.
    """
    program = os.environ.get(SERVER) or shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is not installed")
    socket = folder / "redis.sock"
    options = {"port": "0", "unixsocket": str(socket), "dir": str(folder), "save": "", "appendonly": "yes", "appendfsync": fsync}
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    server = subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if "eady to accept connections" in line:
                break
        with redis.Redis(unix_socket_path=str(socket)) as client:
            client.ping()
        yield str(socket)
    finally:
        server.terminate()
        server.wait()
