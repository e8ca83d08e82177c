"""`--detach`: the same command again, in a process of its own without a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from skep.config import STATE
from skep.errors import SkepError, Unavailable

#: Where the process in the background writes, in the state folder; begun anew when it is larger than this, bytes.
LOG = "owner.log"
MAX_LOG = 8 * 1024 * 1024


class Failed(SkepError):
    """The command in the background ended before it began; it has said why."""


def start(args: list[str], folder: Path) -> dict[str, Any]:
    """Starts `skep ARGS --background` and waits until its session exists and its door is open.

    Args:
        args: the command and what follows it.
        folder: the workspace.

    Returns:
        Its announcement: `session`, and `pid`.

    Raises:
        Failed: it ended instead; `exit_code` is the command's, the message what it said.
        Unavailable: it cannot be started.
    """
    command = [sys.executable, "-P", "-m", "skep", "-C", str(folder), args[0], "--background", *args[1:]]
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as error:
        raise Unavailable(f"cannot start a process in the background: {error.strerror}", "Run without --detach.") from None
    assert child.stdout is not None
    # The child leaves this pipe for its log as soon as it has announced its session.
    with child.stdout:
        said = child.stdout.read().decode("utf-8", "replace").strip()
    last = said.rpartition("\n")[2]
    try:
        announced: dict[str, Any] = json.loads(last)
        return {"session": announced["session"], "pid": announced["pid"]}
    except (ValueError, KeyError, TypeError):
        child.wait()
        failed = Failed(said.removeprefix("error: ") or "the process in the background ended without a word")
        failed.exit_code = child.returncode or 1
        raise failed from None


def announce(session: str, folder: Path) -> None:
    """In the process in the background: tells the starter that the session exists, then writes to the log alone."""
    sys.stdout.write(json.dumps({"session": session, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    path = folder / STATE / LOG
    if path.exists() and path.stat().st_size > MAX_LOG:
        path.replace(path.with_suffix(".log.1"))
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
