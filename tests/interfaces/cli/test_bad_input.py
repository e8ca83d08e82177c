"""Bad input: one clear message, an exit code, no traceback, and nothing changed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from skep.errors import Bug, Conflict, Denied, Exhausted, Invalid, NotFound, SkepError, Unavailable
from skep.interfaces.cli.main import cli
from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User
from tests.workspace.repository import Repository

BAD = [
    "run",
    "run no-such.yaml",
    "run .",
    "run bytes.yaml",
    "run empty.yaml",
    "run broken.yaml",
    "run good.yaml -i x",
    "run good.yaml -i x=1",
    "run good.yaml --select nope",
    "run good.yaml --agents 0",
    "run good.yaml --report pdf=x",
    "add",
    "add prompt --run x",
    "add --run x --needs nope",
    "add --run x --agent nope",
    "-C no/such/folder status",
    "resume --decide x",
    "resume --decide a=maybe",
    "init --template nope",
    "completion tcsh",
    "logs x --play -f",
    "logs x --play --speed nan",
    "reject x",
    "--no-such-option",
    "session",
    "session create a/b",
    "session restore",
    "session import no-such.skep",
]


@pytest.fixture
def files(user: User) -> None:
    user.write("good.yaml", "version: 1\nname: good\ntasks:\n  a: {run: 'true'}\n")
    user.write("broken.yaml", "version: 1\nname: b\ntasks:\n  a: {runn: x, needs: [z]}\n")
    user.write("empty.yaml", "")
    (user.repo.top / "bytes.yaml").write_bytes(b"\xff\xfe\x00")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("line", BAD)
def test_it_is_refused_with_one_message_and_exit_code_2(line: str, skep: Skep, user: User) -> None:
    ran = skep(*line.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(("error: ", "Usage: "))
    assert "Traceback" not in ran.err
    if (user.repo.top / ".skep").exists():
        assert skep("session", "list", "--json").json["sessions"] == []


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("line", ["run no-such.yaml", "run broken.yaml", "status", "run", "statsu"])
def test_with_json_the_refusal_is_a_document_on_standard_output(line: str, skep: Skep) -> None:
    ran = skep(*line.split(), "--json")
    assert (ran.code, ran.err) == (2, "")
    assert (ran.json["version"], ran.json["exit"]) == (1, 2)
    assert set(ran.json["error"]) == {"kind", "message", "fix"}


@pytest.mark.usefixtures("files")
def test_what_is_wrong_with_a_file_is_told_all_at_once_with_line_and_column(skep: Skep) -> None:
    err = skep("run", "broken.yaml").err
    assert "broken.yaml:4:7: tasks.a: unknown key 'runn'; did you mean 'run'?" in err
    assert "task 'a' needs 'z', which is no task of this file" in err


def test_an_objective_without_a_planner_is_said_to_need_one(skep: Skep) -> None:
    ran = skep("run", "fix the login bug")
    assert ran.code == 1
    assert "no planner is configured" in ran.err
    assert "Fix: " in ran.err


def test_things_that_are_not_there_are_named(skep: Skep) -> None:
    skep("add", "--run", "true")
    for line in ("status nope", "logs nope", "diff nope", "open nope", "explain nope", "cancel nope", "retry nope"):
        ran = skep(*line.split())
        assert (ran.code, "'nope'" in ran.err, "Fix:" in ran.err) == (2, True, True), line


def test_what_was_typed_cannot_steer_the_terminal(skep: Skep) -> None:
    skep("add", "--run", "true")
    for args in (["logs", "a\x1b]0;evil\x07"], ["-C", "/\x1b[2J", "status"], ["run", "\x1b[2J.yaml"], ["\x1b[2Jx"]):
        ran = skep(*args)
        assert ran.code == 2
        assert "\x1b" not in ran.err


@pytest.mark.parametrize(
    ("error", "code"),
    [(Invalid, 2), (NotFound, 2), (Denied, 1), (Conflict, 1), (Unavailable, 1), (Exhausted, 3)],
)
def test_every_error_of_the_family_has_its_exit_code(
    error: type[SkepError], code: int, skep: Skep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise error("it went wrong", "Do it right.")

    monkeypatch.setattr(cli.get_command(None, "version"), "callback", fail)  # type: ignore[arg-type]  # no context is needed
    ran = skep("version")
    assert (ran.code, ran.err) == (code, "error: it went wrong\n  Fix: Do it right.\n")


@pytest.mark.parametrize("error", [RuntimeError("surprise"), Bug("a rule was broken")])
def test_a_bug_is_one_line_and_a_file_with_the_story(
    error: Exception, skep: Skep, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli.get_command(None, "version"), "callback", fail)  # type: ignore[arg-type]  # no context is needed
    told = skep("version")
    assert (told.code, "Traceback" in told.err) == (70, True)  # there is no state folder to keep it in
    skep("add", "--run", "true")
    told = skep("version")
    assert (told.code, "Traceback" in told.err) == (70, False)
    assert told.err.startswith(f"error: this is a bug in Skep: {type(error).__name__}: {error}")
    (path,) = Path(user.repo.top, ".skep").glob("bug-*.txt")
    assert str(path) in told.err
    assert "Traceback" in path.read_text()


def test_a_path_that_is_too_long_is_refused_in_words(skep: Skep) -> None:
    for line in (["-C", "x" * 300, "status"], ["-C", "x/" * 3_000, "status"], ["run", "x" * 300 + ".yaml"]):
        told = skep(*line)
        assert (told.code, "bug" in told.err, "Errno" in told.err) == (2, False, False)
        assert "Fix:" in told.err


def test_the_file_of_a_bug_lies_in_the_workspace_that_was_named(skep: Skep, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise ZeroDivisionError

    skep("add", "--run", "true")
    monkeypatch.setattr(cli.get_command(None, "version"), "callback", fail)  # type: ignore[arg-type]  # no context is needed
    monkeypatch.chdir(user.folder)
    told = skep("-C", str(user.repo.top), "version")
    assert told.code == 70
    assert told.err.startswith("error: this is a bug in Skep: ZeroDivisionError\n")
    (path,) = Path(user.repo.top, ".skep").glob("bug-*.txt")
    assert str(path) in told.err


@pytest.mark.parametrize("line", ["replay", "replay --json", "logs a", "logs a --raw", "logs a -f", "status --json", "--help"])
def test_a_reader_that_leaves_ends_the_command_without_a_word(user: User, skep: Skep, line: str) -> None:
    assert skep("add", "--id", "a", "--run", "seq 20000").code == 0
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        ran = subprocess.run(
            user.command(*line.split()), cwd=user.repo.top, env=user.env, stdout=closed, stderr=subprocess.PIPE, text=True
        )
    assert (ran.returncode, ran.stderr) == (141, "")


def test_with_its_standard_streams_closed_it_works_all_the_same(user: User, skep: Skep) -> None:
    skep("add", "--run", "true")
    for line, code in (("status", 0), ("run nothing.yaml", 2), ("--help", 0)):
        shell = f"{shlex.join(user.command(*line.split()))} <&- >&- 2>&-"
        assert subprocess.run(["bash", "-c", shell], cwd=user.repo.top, env=user.env, check=False).returncode == code, line


def test_a_state_folder_that_is_a_file_says_what_to_move(skep: Skep, repo: Repository) -> None:
    (repo.top / "f.yaml").write_text("version: 1\ntasks: {a: {run: 'true'}}\n", "utf-8")
    state = repo.top / ".skep"
    for leads in ("f.yaml", "/nowhere"):
        state.unlink(missing_ok=True)
        state.symlink_to(leads)
        ran = skep("run", "f.yaml")
        assert ran.code == 2
        assert "is there and is no folder" in ran.err


def test_a_path_with_a_line_break_is_refused_in_a_sentence(skep: Skep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Repository(tmp_path / "line\nbreak")
    broken.commit({"f.yaml": "version: 1\ntasks: {a: {run: 'true'}}\n"})
    monkeypatch.chdir(broken.top)
    ran = skep("run", "f.yaml")
    assert ran.code == 2
    assert "has a line break in it" in ran.err
    assert not (broken.top / ".skep").exists()


def test_a_pull_request_needs_gh_and_a_remote_and_then_is_made(
    skep: Skep, repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repo.top / "f.yaml").write_text("version: 1\nname: f\ntasks: {a: {run: 'echo x > made.txt'}}\n", "utf-8")
    skep("run", "f.yaml")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("git", "bash", "sh", "env"):
        (tools / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tools))
    ran = skep("merge", "--pr")
    assert ran.code == 1
    assert "gh is not on the PATH" in ran.err
    (tools / "gh").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho https://host/pull/7\n')
    (tools / "gh").chmod(0o755)
    assert "there is no remote 'origin'" in skep("merge", "--pr").err
    assert "refs/heads/skep" not in repo("for-each-ref")
    repo("init", "-q", "--bare", str(tmp_path / "far.git"))
    repo("remote", "add", "origin", str(tmp_path / "far.git"))
    ran = skep("merge", "--pr", "--json")
    assert ran.json["pull"] == "https://host/pull/7"
    assert "pr create --head skep/f-1 --base trunk --title f-1" in (tmp_path / "asked").read_text()
    assert repo("ls-remote", "origin", "refs/heads/skep/f-1").split()[0] == ran.json["commit"]


def test_attaching_to_what_is_over_says_where_its_output_is(skep: Skep, repo: Repository) -> None:
    (repo.top / "f.yaml").write_text("version: 1\ntasks: {a: {run: 'true'}}\n", "utf-8")
    skep("run", "f.yaml")
    assert "task 'a' is done: nothing runs to watch" in skep("attach", "a").err
