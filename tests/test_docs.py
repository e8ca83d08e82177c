"""The manual does what it says: its files are written, its commands and scripts run, its references are the code's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "manual").glob("*.md"))
BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def environment(home: Path) -> dict[str, str]:
    """A user's, with the `skep` under test on the path and no identity for git."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "TERM": "dumb", "GIT_CONFIG_NOSYSTEM": "1"}


def run(argv: list[str], folder: Path, env: dict[str, str]) -> None:
    ended = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert ended.returncode == 0, f"{argv}: exit {ended.returncode}\n{ended.stdout}\n{ended.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_snippets_of_a_page_run_in_order(page: Path, tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    env = environment(home)
    identity = ["-c", "user.name=Reader", "-c", "user.email=reader@localhost"]
    for argv in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "begin"]):
        run(["git", *identity, *argv], folder, env)
    for language, about, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if named := re.search(r"file=(\S+)", about):
            (folder / named[1]).write_text(text, encoding="utf-8")
        elif language == "console":
            for line in text.splitlines():
                if line.startswith("$ "):
                    run(["bash", "-c", line[2:]], folder, env)
        elif language == "python" and "run" in about:
            run([sys.executable, "-c", text], folder, env)


def test_the_references_are_what_the_code_says() -> None:
    ended = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
