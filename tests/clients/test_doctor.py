"""`skep doctor` on the coding clients: what is there, and whether they are logged in, which a real call of each one shows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from skep.agents.logins import LOGINS
from skep.app import checkup
from skep.errors import Invalid
from skep.runtime import proving
from skep.runtime.checkup import Finding
from tests.clients.agents import set_up
from tests.clients.drive import BIN, need
from tests.clients.model_server import ModelServer

NPM = Path(__file__).parent / "npm"
CLIENTS = [name for name, login in LOGINS.items() if login.program]
EACH = [pytest.param(name, marks=() if name in ("claude", "codex") else pytest.mark.clients) for name in CLIENTS]


@pytest.fixture(autouse=True)
def workspace(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of a user whose clients are set up for the scripted model."""
    usual = os.environ["PATH"]
    # What is proven here is the login, not how soon a client begins on a busy machine.
    monkeypatch.setattr(proving, "TIME", 250.0)
    set_up(server.url, tmp_path / "user", monkeypatch)
    # Only the client of the test is there: each of them takes seconds to say its version.
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{usual}")
    place = tmp_path / "work"
    place.mkdir()
    (place / "skep.toml").write_text('[environment]\nallow = ["SCRIPTED_*"]\n')
    return place


async def found(place: Path, client: str, login: str | None = None) -> Finding:
    """What is found of a client, which is installed if it is not there."""
    for program in (client, "node"):
        link = place.parent / "bin" / program
        if not link.exists() and (BIN / program).exists():
            link.symlink_to(BIN / program)
    return next(one for one in await checkup(place, login) if one.name == f"runtime {client}")


def test_the_versions_that_count_as_tested_are_those_of_the_tests() -> None:
    for name in CLIENTS:
        (locked,) = json.loads((NPM / name / "package.json").read_text())["dependencies"].values()
        assert LOGINS[name].tested == locked


@pytest.mark.parametrize("client", EACH)
async def test_without_a_call_a_login_is_there_but_unproven(client: str, workspace: Path, server: ModelServer) -> None:
    need(client)
    one = await found(workspace, client)
    assert one.state == "ok"
    assert one.facts["version"] == LOGINS[client].tested
    # Codex has a provider of the user's own here, with a key of another name.
    assert one.facts["login"] == ("unknown" if client == "codex" else "unproven")
    assert server.requests == []


@pytest.mark.parametrize("client", EACH)
async def test_a_call_proves_the_login_and_says_what_it_cost(client: str, workspace: Path, server: ModelServer) -> None:
    need(client)
    one = await found(workspace, client, client)
    assert (one.state, one.facts["login"]) == ("ok", "proven"), one
    assert " tokens, " in one.text
    assert one.fix == ""
    assert server.requests


@pytest.mark.parametrize("client", EACH)
async def test_a_login_that_the_provider_does_not_take_is_said(client: str, workspace: Path, server: ModelServer) -> None:
    need(client)
    server.refuses = 401
    one = await found(workspace, client, client)
    assert (one.state, one.facts["login"]) == ("error", "refused"), one
    assert "not logged in" in one.text
    assert one.fix.startswith(("Run `", "Set "))


@pytest.mark.parametrize("client", [EACH[0]])
async def test_a_provider_that_does_not_answer_proves_nothing(client: str, workspace: Path, server: ModelServer) -> None:
    need(client)
    server.refuses = 400
    one = await found(workspace, client, client)
    assert (one.state, one.facts["login"]) == ("warning", "unknown"), one
    assert one.fix


async def test_a_client_without_any_login_is_told_from_one_that_was_refused(
    workspace: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("claude")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    one = await found(workspace, "claude")
    assert (one.state, one.facts["login"]) == ("warning", "none")
    assert "/login" in one.fix
    one = await found(workspace, "claude", "claude")
    assert one.facts["login"] == "refused"
    assert "Not logged in" in one.text
    assert server.requests == []


async def test_another_version_is_said_and_not_refused(workspace: Path, tmp_path: Path) -> None:
    old = tmp_path / "bin" / "claude"
    old.write_text("#!/bin/sh\necho '1.0.3 (Claude Code)'\n")
    old.chmod(0o755)
    one = await found(workspace, "claude")
    assert one.state == "ok"
    assert one.text.startswith(
        f"1.0.3 ({old}), not the version that Skep was tested with, {LOGINS['claude'].tested}; a login is there"
    )


async def test_a_program_that_does_not_start_is_found(workspace: Path, tmp_path: Path) -> None:
    broken = tmp_path / "bin" / "codex"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    one = await found(workspace, "codex")
    assert (one.state, "does not say its version" in one.text) == ("warning", True)
    assert one.fix


async def test_a_runtime_without_a_login_is_refused(workspace: Path) -> None:
    with pytest.raises(Invalid, match="'shell' is no runtime with a login"):
        await checkup(workspace, "shell")
