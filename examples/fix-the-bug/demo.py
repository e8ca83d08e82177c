"""The demonstration: a project with two bugs becomes a scratch git repository, and Skep mends it there.

usage: .venv/bin/python examples/fix-the-bug/demo.py [FOLDER]     FOLDER is made anew; by default .demo/fix-the-bug of the clone
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
#: Not resolved: the environment's own folder, with `skep` and a `python3` in it.
BIN = Path(sys.executable).parent
COMMIT = ("-c", "user.name=Demo", "-c", "user.email=demo@localhost", "commit", "--quiet", "--message", "Receipts, with two bugs")


def scratch(folder: Path) -> None:
    """Makes the repository, untouched by the user's git settings and identity."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "project", folder, ignore=shutil.ignore_patterns("__pycache__", ".skep"))
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for step in (("init", "--quiet", "--initial-branch=main"), ("add", "--all"), COMMIT):
        subprocess.run(["git", *step], cwd=folder, env=env, check=True)


def skep(folder: Path, *words: str) -> int:
    """Runs a command of Skep as a user would, and returns its exit code. Ctrl-C reaches it too, and it knows what to do."""
    process = subprocess.Popen([str(BIN / "skep"), *words], cwd=folder, env=environment())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def environment() -> dict[str, str]:
    """The user's, with `skep` in it."""
    return os.environ | {"PATH": os.pathsep.join((str(BIN), os.environ.get("PATH", os.defpath)))}


def confine(folder: Path) -> None:
    """Where nothing can confine agents, a run is refused. The agents of this demonstration are known, so it goes on without."""
    trial = [str(BIN / "skep"), "sandbox", "--", "true"]
    tried = subprocess.run(trial, cwd=folder, env=environment(), capture_output=True, text=True)
    if tried.returncode and os.environ.get("SKEP_SANDBOX") != "off":
        print(tried.stderr)
        print("THIS DEMONSTRATION RUNS UNCONFINED: SKEP_SANDBOX=off is set. Its agents are its own scripts.\n", flush=True)
        os.environ["SKEP_SANDBOX"] = "off"


def main() -> int:
    """Returns the exit code of `skep run`."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".demo" / "fix-the-bug"
    scratch(folder)
    confine(folder)
    shown = os.path.relpath(folder)
    command = os.path.relpath(BIN / "skep", folder)
    print(f"A scratch repository in {shown}: eleven tests, two of them fail.\n$ skep run workflow.yaml\n", flush=True)
    code = skep(folder, "run", "workflow.yaml")
    if code:
        print(f"\nskep run ended with exit code {code}. To look: cd {shown} && {command} status")
        return code
    print("\n$ skep logs report", flush=True)
    skep(folder, "logs", "report")
    print("\nWhat to do next:")
    for line, why in (
        (f"cd {shown}", ""),
        (f"{command} logs fix-totals", "how the second try used what the check of the first one said"),
        (f"{command} diff", "all that was changed"),
        (f"{command} merge", "bring it to main; until then main is as it was"),
        ("python3 -m unittest", "the tests, once more"),
    ):
        print(f"  {line:<{len(command) + 17}}{why}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
