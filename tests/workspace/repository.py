"""A repository of a user's, worked on with plain git, and what of it must not change."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

#: Below `.git`, what Skep may add to.
OURS = ("objects", "worktrees", "refs/skep", "info/exclude")


class Repository:
    """A git repository with a user's own identity.

    Args:
        top: its folder, made if it is not there.
    """

    def __init__(self, top: Path) -> None:
        self.top = top
        top.mkdir(parents=True, exist_ok=True)
        self("init", "-q", "-b", "trunk")

    def __call__(self, *args: str, ok: bool = True, **more: str) -> str:
        """Runs git there as the user would; returns what it prints."""
        return git(self.top, *args, ok=ok, env=more)

    def write(self, files: Mapping[str, str]) -> None:
        """Writes files of the user's."""
        write(self.top, files)

    def commit(self, files: Mapping[str, str] | None = None, message: str = "work") -> str:
        """Commits those files and whatever else is new; returns the commit."""
        self.write(files or {})
        self("add", "-A")
        self("commit", "-q", "--allow-empty", "-m", message)
        return self("rev-parse", "HEAD")

    def show(self, commit: str, path: str) -> str:
        """A file of a commit."""
        return self("show", f"{commit}:{path}")

    def files(self, commit: str) -> set[str]:
        """The files of a commit."""
        return set(self("ls-tree", "-r", "-z", "--name-only", commit).strip("\0").split("\0")) - {""}

    def fingerprint(self) -> str:
        """Everything of the user's: files with modes and bytes, index, HEAD, branches, configuration, reflogs."""
        return fingerprint(self.top)


def git(where: Path, *args: str, ok: bool = True, env: Mapping[str, str] | None = None) -> str:
    """Plain git with an identity and without the machine's configuration."""
    variables = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "LC_ALL": "C.UTF-8",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
        **(env or {}),
    }
    ran = subprocess.run(["git", *args], cwd=where, env=variables, capture_output=True, check=False)
    if ok and ran.returncode:
        raise AssertionError(f"git {args}: {ran.stderr.decode()}")
    return ran.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")


def write(top: Path, files: Mapping[str, str]) -> None:
    """Writes files below a folder."""
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def tree(top: Path, without: tuple[str, ...] = (".git", ".skep")) -> dict[str, str]:
    """Path -> mode and content of every file below a folder."""
    found = {}
    for where, folders, names in os.walk(top):
        folders[:] = sorted(folder for folder in folders if folder not in without)
        for name in sorted(set(names) - set(without)):
            path = Path(where, name)
            content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            found[path.relative_to(top).as_posix()] = f"{path.lstat().st_mode:o} {hashlib.sha256(content).hexdigest()}"
    return found


def fingerprint(top: Path) -> str:
    """One digest of what Skep must leave alone in a folder, a repository or not."""
    parts = [repr(tree(top))]
    if (top / ".git").is_dir():
        inner = tree(top / ".git", without=())
        parts.append(repr({path: value for path, value in inner.items() if not path.startswith(OURS)}))
        parts.append(git(top, "status", "--porcelain", "-uall", env={"GIT_OPTIONAL_LOCKS": "0"}))
        parts.append(git(top, "reflog", ok=False))
        parts.append(git(top, "for-each-ref", "refs/heads", "refs/tags", "refs/stash"))
    return "\n".join(parts)
