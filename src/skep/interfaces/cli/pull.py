"""`merge --pr`: a session's work as a pull request, by the user's own git and GitHub's `gh`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from skep.errors import Conflict, Unavailable
from skep.interfaces.cli.words import one_line

#: The remote that is pushed to, and seconds that each command may take.
REMOTE, PATIENCE = "origin", 300.0


def ready(folder: Path) -> None:
    """Raises Unavailable or Conflict, before anything is changed, if no pull request could be made from here."""
    if shutil.which("gh") is None:
        raise Unavailable(
            "gh is not on the PATH, which makes pull requests", "Install GitHub's CLI and `gh auth login`, or merge without --pr."
        )
    if subprocess.run(["git", "remote", "get-url", REMOTE], cwd=folder, capture_output=True).returncode:
        raise Conflict(f"there is no remote '{REMOTE}' to push to", f"git remote add {REMOTE} URL, or merge without --pr.")


def request(folder: Path, branch: str, base: str, title: str) -> str:
    """Pushes the branch and opens the pull request; returns its address. Raises Unavailable with what the command said."""
    _run(folder, "git", "push", "-u", REMOTE, f"refs/heads/{branch}:refs/heads/{branch}")
    onto = ("--base", base) if base else ()
    said = _run(folder, "gh", "pr", "create", "--head", branch, *onto, "--title", title, "--body", "Made with Skep.")
    return said.strip().rpartition("\n")[2]


def _run(folder: Path, *command: str) -> str:
    try:
        ran = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=PATIENCE, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]} {command[1]} did not end well: {error}", "Repeat the command.") from None
    if ran.returncode:
        last = one_line((ran.stderr or ran.stdout).strip().rpartition("\n")[2])
        raise Unavailable(f"`{command[0]} {command[1]}` failed: {last}", "Mend what it names, then repeat the command.")
    return ran.stdout
