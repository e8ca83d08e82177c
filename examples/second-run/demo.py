"""The second run goes around what the first one found to be a dead end; printed are the figures of both sessions.

usage: .venv/bin/python examples/second-run/demo.py [FOLDER]     FOLDER is made anew; by default .demo/second-run of the clone
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: Not resolved: the environment's own folder, with `skep` in it.
BIN = Path(sys.executable).parent
COMMIT = (
    "-c",
    "user.name=Demo",
    "-c",
    "user.email=demo@localhost",
    "commit",
    "--quiet",
    "--message",
    "Tests for rows, and no rows",
)


def environment() -> dict[str, str]:
    """The user's, with `skep` in it, untouched by git settings and identity."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    path = os.pathsep.join((str(BIN), env.get("PATH", os.defpath)))
    return env | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PATH": path}


def say(folder: Path, *words: str) -> str:
    """What a command prints. Ends the demonstration if it fails."""
    done = subprocess.run(words, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def run(folder: Path, *options: str) -> dict[str, Any]:
    """Carries the workflow out; returns its one task as `skep status` shows it."""
    print(f"$ skep run workflow.yaml {' '.join(options)}".rstrip(), flush=True)
    say(folder, "skep", "run", "workflow.yaml", *options)
    task: dict[str, Any] = json.loads(say(folder, "skep", "status", "--json"))["tasks"][0]
    for line in say(folder, "skep", "logs", "rows").splitlines():
        print(f"  {line}")
    return task


def main() -> int:
    """Returns 0 if the second run needed fewer attempts."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent.parent / ".demo" / "second-run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "project", folder, ignore=shutil.ignore_patterns("__pycache__", ".skep"))
    for step in (("init", "--quiet", "--initial-branch=main"), ("add", "--all"), COMMIT):
        say(folder, "git", *step)
    tried = subprocess.run(["skep", "sandbox", "--", "true"], cwd=folder, env=environment(), capture_output=True, text=True)
    if tried.returncode and os.environ.get("SKEP_SANDBOX") != "off":
        print(f"{tried.stderr}\nTHIS DEMONSTRATION RUNS UNCONFINED: SKEP_SANDBOX=off is set. Its agent is its own script.\n")
        os.environ["SKEP_SANDBOX"] = "off"
    first, second = run(folder), run(folder, "--new")
    for name, task in (("first", first), ("second", second)):
        tries = "1 attempt" if task["attempts"] == 1 else f"{task['attempts']} attempts"
        print(f"{name} run: {tries}, {task['spent'] / 1000:.1f} s at work, {task['state']}")
    return 0 if second["attempts"] < first["attempts"] else 1


if __name__ == "__main__":
    sys.exit(main())
