"""Runs work on a workspace in a process of its own that is killed right before its n-th git command starts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

#: Counts git commands in $COUNT and kills its caller instead of running the one that $CRASH names.
WRAPPER = """#!/bin/sh
n=$(($(cat "{count}") + 1))
echo $n > "{count}"
if [ $n = {crash} ]; then kill -9 $PPID; exit 1; fi
exec {git} "$@"
"""
PROGRAM = """
import asyncio, sys
from pathlib import Path
from skep.core.intent import Candidate
from skep.workspace.git import GitWorkspace

async def main():
    work = await GitWorkspace.open(Path(sys.argv[1]), Path(sys.argv[1]) / ".skep")
{steps}

asyncio.run(main())
"""


def run(folder: Path, desk: Path, steps: str, crash: int = 0) -> int:
    """Runs steps (lines of Python that use `work`) on the workspace `folder`.

    Args:
        folder: the user's folder.
        desk: a folder for the wrapper.
        steps: what to do.
        crash: number of the git command before which the process is killed; 0 = none.

    Returns:
        The number of git commands, 0 if the process was killed.
    """
    real = shutil.which("git")
    bin_, count = desk / "bin", desk / "count"
    bin_.mkdir(parents=True, exist_ok=True)
    count.write_text("0\n")
    (bin_ / "git").write_text(WRAPPER.format(count=count, crash=crash, git=real))
    (bin_ / "git").chmod(0o755)
    program = PROGRAM.format(steps="\n".join(f"    {line}" for line in steps.splitlines()))
    env = {**os.environ, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run([sys.executable, "-c", program, str(folder)], env=env, capture_output=True, check=False)
    if crash and ran.returncode == -signal.SIGKILL:
        return 0
    assert ran.returncode == 0, ran.stderr.decode()
    return int(count.read_text())
