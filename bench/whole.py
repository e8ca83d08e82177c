"""The time that a user waits: whole commands, from the shell.

`python -m bench.whole VARIANT WORKLOAD FOLDER` measures once, in an empty folder, and prints one JSON line.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.shape import Clock, Numbers, serve

ROOT = Path(__file__).parents[1]
AGENTS, TASKS = 4, 20
NO_SETTINGS = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def timed(folder: Path, *command: str) -> Numbers:
    """Seconds that a command takes. Raises CalledProcessError if it fails."""
    clock = Clock()
    subprocess.run([sys.executable, *command], cwd=folder, env=os.environ | NO_SETTINGS, check=True, stdout=subprocess.DEVNULL)
    return {"duration": clock.ms() / 1000}


def shell(_variant: str, folder: Path) -> Numbers:
    """Shell tasks, each in a worktree of its own, each verified and merged."""
    identity = ("-c", "user.name=Bench", "-c", "user.email=bench@localhost")
    for step in (("init", "--quiet"), (*identity, "commit", "--quiet", "--allow-empty", "--message", "begin")):
        subprocess.run(["git", *step], cwd=folder, env=os.environ | NO_SETTINGS, check=True)
    tasks = "".join(f"  n{n}: {{run: echo {n} > f{n}, verify: test -s f{n}}}\n" for n in range(TASKS))
    (folder / "w.yaml").write_text(f"version: 1\nname: shell\nlimits: {{agents: {AGENTS}}}\ntasks:\n{tasks}")
    return timed(folder, "-m", "skep", "run", "w.yaml", "--ci")


def demo(_variant: str, folder: Path) -> Numbers:
    """What `make demo` does once everything is installed."""
    return timed(folder, str(ROOT / "examples" / "fix-the-bug" / "demo.py"), str(folder / "demo"))


if __name__ == "__main__":
    serve({"shell": shell, "demo": demo})
