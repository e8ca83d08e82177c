"""`skep run --redis` and `skep node`, as an operator types them, with whoever does the work killed in the middle of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.workspace.repository import Repository

FILE = """
version: 1
limits: {agents: 4}
tasks:
  first: {run: "touch $GATE/first; while [ ! -e $GATE/open ]; do sleep 0.05; done; echo first > first.txt", env: {GATE: "%s"}%s}
  then: {run: "cat first.txt > then.txt", needs: [first]}
"""


class Machines:
    """Processes of the command line, each in a folder of its own, over one server."""

    def __init__(self, folder: Path, server: servers.Server) -> None:
        server.tell("FLUSHALL")
        self.server = server
        self.folder = folder
        self.gate = folder / "gate"
        self.gate.mkdir()
        self.repo = Repository(folder / "work")
        self.repo.commit({"a.txt": "one\n"})
        self.env = {**os.environ, "HOME": str(folder / "home"), "SKEP_SANDBOX": "off"}
        self.env["SKEP_STORE_URL"] = server.url
        self._began: list[subprocess.Popen[str]] = []

    def skep(self, *args: str, where: Path | None = None, warned: bool = False) -> str:
        """What a command prints; what it says beside it if `warned`."""
        command = [sys.executable, "-m", "skep", *args]
        done = subprocess.run(command, cwd=where or self.repo.top, env=self.env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stderr if warned else done.stdout

    def refused(self, *args: str, where: Path | None = None) -> str:
        """What a command says that fails."""
        command = [sys.executable, "-m", "skep", *args]
        done = subprocess.run(command, cwd=where or self.repo.top, env=self.env, capture_output=True, text=True, timeout=60)
        assert done.returncode, done.stdout
        return done.stderr

    def begin(self, *args: str) -> subprocess.Popen[str]:
        """A command that goes on, in a group of its own."""
        command = [sys.executable, "-m", "skep", *args]
        log = open(self.folder / f"log-{len(self._began)}", "w")  # noqa: SIM115  # the process's
        with log:
            process = subprocess.Popen(command, cwd=self.repo.top, env=self.env, stdout=log, stderr=log, text=True)
        self._began.append(process)
        return process

    def printed(self, process: subprocess.Popen[str]) -> str:
        """What a command printed that was begun."""
        return (self.folder / f"log-{self._began.index(process)}").read_text()

    def join(self, name: str, *more: str) -> subprocess.Popen[str]:
        """A node, once it is there; `more`: what else it is told."""
        key, folder = str(self.repo.top / ".skep" / "key"), str(self.folder / f"machine-{name}")
        process = self.begin("node", "join", "--name", name, "--key", key, "--folder", folder, "--labels", f"{name}", *more)
        self.until(lambda: name in self.skep("node", "list"))
        return process

    def invite(self, name: str) -> subprocess.Popen[str]:
        """A node that has an invitation and no key, once it is there."""
        path, folder = self.folder / f"{name}.invite", self.folder / f"machine-{name}"
        self.skep("node", "invite", name, "--out", str(path))
        process = self.begin("node", "join", "--invite", str(path), "--folder", str(folder), "--labels", name)
        self.until(lambda: name in self.skep("node", "list"))
        return process

    def said(self, process: subprocess.Popen[str]) -> str:
        """What a command that was begun has said so far."""
        return (self.folder / f"log-{self._began.index(process)}").read_text()

    def epoch(self, session: str) -> int:
        """How often somebody became the session's writer."""
        return int(self.server.tell("HGET", f"skep:{{{session}}}:head", "epoch"))

    def until(self, there: Callable[[], object]) -> None:
        """Returns when it is so."""
        deadline = time.monotonic() + 60
        while not there():
            assert time.monotonic() < deadline, "".join(path.read_text() for path in sorted(self.folder.glob("log-*")))
            time.sleep(0.02)  # tidy: sleeps because other processes tell nobody

    def close(self) -> None:
        """Ends what was begun."""
        (self.gate / "open").touch()
        for process in self._began:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self._began:
            process.wait(60)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    made = Machines(tmp_path, servers.valkey_server())
    yield made
    made.close()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Machines]:
    """Over a server that the test may kill."""
    server = servers.Server(servers.valkey_binary())
    made = Machines(tmp_path, server)
    yield made
    made.close()
    server.remove()


def workflow(machines: Machines, more: str = "") -> str:
    path = machines.folder / "over.yaml"
    path.write_text(FILE % (machines.gate, more))
    return str(path)


def test_a_session_whose_writer_is_killed_is_finished_by_the_nodes(machines: Machines) -> None:
    machines.skep("session", "create", "makes-the-key")
    machines.join("east")
    writer = machines.begin("run", workflow(machines))
    machines.until((machines.gate / "first").exists)
    writer.kill()
    writer.wait()
    (machines.gate / "open").touch()
    machines.until(lambda: "completed" in machines.skep("status", "over-1"))
    machines.skep("merge", "over-1")
    assert (machines.repo.top / "then.txt").read_text() == "first\n"


def test_what_ran_on_a_node_that_is_killed_is_done_by_another(machines: Machines) -> None:
    machines.skep("session", "create", "makes-the-key")
    east = machines.join("east")
    writer = machines.begin("run", workflow(machines, ', constraints: {east: "true"}'))
    machines.until((machines.gate / "first").exists)
    east.kill()
    east.wait()
    (machines.gate / "open").touch()
    machines.until(lambda: "no node that could take it is there" in machines.skep("status", "over-1"))
    machines.join("east")
    assert writer.wait(60) == 0
    assert "2 tries" in machines.skep("status", "over-1")


def test_a_lone_run_goes_on_when_the_redis_is_back(alone: Machines) -> None:
    line = "echo $$ >> $GATE/first; while [ ! -e $GATE/open ]; do sleep 0.05; done; echo first > first.txt"
    path = alone.folder / "over.yaml"
    path.write_text(f"version: 1\ntasks: {{first: {{run: '{line}', env: {{GATE: '{alone.gate}'}}}}}}\n")
    writer = alone.begin("run", str(path))
    alone.until(lambda: len(tries(alone)) == 1)
    alone.server.kill()
    alone.until(lambda: not Path(f"/proc/{tries(alone)[0]}").exists())
    assert writer.poll() is None
    alone.server.start()
    alone.until(lambda: len(tries(alone)) == 2)
    (alone.gate / "open").touch()
    assert writer.wait(60) == 0
    assert "1/1 done" in alone.skep("status", "over-1")


def tries(machines: Machines) -> list[str]:
    """The processes of the first task's attempts."""
    path = machines.gate / "first"
    return path.read_text().split() if path.exists() else []


def test_who_began_a_session_goes_on_with_it_when_the_node_that_took_it_over_dies(machines: Machines) -> None:
    machines.skep("session", "create", "makes-the-key")
    east = machines.join("east")
    writer = machines.begin("run", workflow(machines))
    machines.until((machines.gate / "first").exists)
    before = machines.epoch("over-1")
    writer.send_signal(signal.SIGSTOP)
    machines.until(lambda: machines.epoch("over-1") > before)
    writer.send_signal(signal.SIGCONT)
    east.kill()
    east.wait()
    (machines.gate / "open").touch()
    assert writer.wait(60) == 0
    assert "2/2 done" in machines.skep("status", "over-1")


def test_a_session_goes_on_at_once_where_its_process_was_killed(alone: Machines) -> None:
    first = alone.begin("run", workflow(alone))
    alone.until((alone.gate / "first").exists)
    first.kill()
    first.wait()
    (alone.gate / "open").touch()
    assert alone.begin("resume", "over-1").wait(60) == 0
    assert "2/2 done" in alone.skep("status", "over-1")


def test_an_attempt_is_lost_though_another_process_has_its_nodes_name(machines: Machines) -> None:
    first = machines.begin("run", workflow(machines))
    machines.until((machines.gate / "first").exists)
    first.kill()
    first.wait()
    other = machines.folder / "other.yaml"
    line = f"touch {machines.gate}/stays; while [ ! -e {machines.gate}/end ]; do sleep 0.05; done"
    other.write_text(f"version: 1\ntasks: {{stays: {{run: '{line}'}}}}\n")
    machines.begin("run", str(other))
    machines.until((machines.gate / "stays").exists)
    (machines.gate / "open").touch()
    machines.join("east")
    machines.until(lambda: "2/2 done" in machines.skep("status", "over-1"))
    (name,) = (line.split()[0] for line in machines.skep("node", "list").splitlines() if "-" in line.split()[0])
    assert "serves no others" in machines.refused("node", "leave", name)
    (machines.gate / "end").touch()


def test_a_node_that_is_told_to_drain_leaves_when_it_is_done(machines: Machines) -> None:
    machines.skep("session", "create", "makes-the-key")
    east = machines.join("east")
    writer = machines.begin("run", workflow(machines, ', constraints: {east: "true"}'))
    machines.until((machines.gate / "first").exists)
    machines.skep("node", "drain", "east")
    machines.until(lambda: "drains" in machines.skep("node", "list"))
    assert east.poll() is None
    (machines.gate / "open").touch()
    assert writer.wait(60) == 0
    assert east.wait(60) == 0
    assert "east" not in machines.skep("node", "list")
    said = machines.skep("logs", "-s", "over-1", "first", warned=True)
    assert said == "'first' has printed nothing yet\n"


def test_a_node_gives_what_it_is_told_to_and_one_that_is_told_to_leave_does_so_at_once(machines: Machines) -> None:
    machines.skep("session", "create", "makes-the-key")
    east = machines.join("east", "--slots", "2", "--cpu", "3", "--memory", "32GB", "--labels", "ours")
    note = str(machines.server.tell("HGETALL", "skep:leases:node"))
    assert all(said in note for said in ('"slots":2', '"cpu":3', '"memory":32000000000'))
    writer = machines.begin("run", workflow(machines, ', constraints: {ours: "true"}'))
    machines.until((machines.gate / "first").exists)
    machines.skep("node", "leave", "east")
    assert east.wait(60) == 0  # though what it does has not ended
    machines.join("west", "--labels", "ours")
    (machines.gate / "open").touch()
    assert writer.wait(60) == 0


def test_a_password_in_the_command_line_is_refused_and_a_name_is_had_once(machines: Machines) -> None:
    machines.skep("session", "create", "makes-the-key")
    machines.join("east")
    again = [sys.executable, "-m", "skep", "node", "join", "--name", "east", "--key", str(machines.repo.top / ".skep" / "key")]
    done = subprocess.run(again, env=machines.env, cwd=machines.repo.top, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "is the node 'east'" in done.stderr, "--name" in done.stderr) == (1, True, True)
    spoken = [sys.executable, "-m", "skep", "status", "--redis", "redis://:secret@127.0.0.1:1"]
    done = subprocess.run(spoken, env=machines.env, cwd=machines.repo.top, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "REDIS_PASSWORD" in done.stderr) == (2, True)


SAYS = """
version: 1
tasks:
  says:
    run: |
      echo Grüße; touch $GATE/said
      while [ ! -e $GATE/more ]; do sleep 0.05; done; echo more
      while [ ! -e $GATE/open ]; do sleep 0.05; done; echo over
    env: {GATE: "%s"}
    mode: none
    constraints: {east: "true"}
"""


def test_what_a_node_printed_is_shown_elsewhere_and_what_was_lost_with_it_is_said_to_be_there(machines: Machines) -> None:
    machines.skep("session", "create", "makes-the-key")
    east = machines.join("east")
    path = machines.folder / "over.yaml"
    path.write_text(SAYS % machines.gate)
    writer = machines.begin("run", str(path))
    machines.until((machines.gate / "said").exists)
    east.kill()
    east.wait()
    away = "what attempt 1 of 'says' printed lies on node 'east': not available here"
    machines.until(lambda: away in machines.skep("logs", "says", "--session", "over-1", warned=True))
    (machines.gate / "said").unlink()
    east = machines.join("east")
    machines.until((machines.gate / "said").exists)
    follows = machines.begin("logs", "says", "--session", "over-1", "-f")
    attached = machines.begin("attach", "says", "--session", "over-1")
    for process in (follows, attached):
        machines.until(lambda: "Grüße\n" in machines.printed(process))  # noqa: B023  # it is over before the next one
    (machines.gate / "more").touch()
    for process in (follows, attached):
        machines.until(lambda: "more\n" in machines.printed(process))  # noqa: B023  # it is over before the next one
    (machines.gate / "open").touch()
    assert (writer.wait(60), follows.wait(60), attached.wait(60)) == (0, 0, 0)
    east.kill()
    east.wait()
    assert machines.skep("logs", "says", "--session", "over-1") == "Grüße\nmore\nover\n"
    assert machines.printed(follows) == "Grüße\nmore\nover\n"
    assert machines.printed(attached) == "watching says; Ctrl-] leaves\nGrüße\nmore\nover\n"
    assert away in machines.refused("logs", "says", "--session", "over-1", "--attempt", "1")
    assert machines.skep("logs", "says", "--session", "over-1", "--search", "grü") == "2:1: Grüße\n"
    machines.server.tell("HSET", "skep:{over-1}:recordings", "says:1:", "who knows")
    missing = "what attempt 1 of 'says' printed is missing here: where it is, 9 bytes, was not written by this hive"
    assert missing in machines.refused("logs", "says", "--session", "over-1", "--attempt", "1")
    assert machines.skep("logs", "says", "--session", "over-1") == "Grüße\nmore\nover\n"


def test_a_node_with_an_invitation_does_real_tasks_and_leaves_when_it_is_told(machines: Machines) -> None:
    machines.skep("session", "create", "makes-the-key")
    east = machines.invite("east")
    assert (machines.folder / "east.invite").stat().st_mode & 0o777 == 0o600
    assert "leads too" not in machines.skep("node", "list")
    writer = machines.begin("run", workflow(machines, ', constraints: {east: "true"}'))
    machines.until((machines.gate / "first").exists)
    machines.skep("node", "drain", "east")
    machines.until(lambda: "drains" in machines.skep("node", "list"))
    (machines.gate / "open").touch()
    assert writer.wait(60) == 0
    assert east.wait(60) == 0
    machines.skep("merge", "over-1")
    assert (machines.repo.top / "then.txt").read_text() == "first\n"
    said = machines.skep("logs", "-s", "over-1", "first", warned=True)
    assert "not available" not in said, "what it printed, nothing, was sent"
    state = machines.folder / "machine-east" / ".skep"
    assert state.is_dir()
    assert not (state / "key").exists(), "it never had it, and made none"


def test_what_is_told_through_a_node_with_an_invitation_is_refused_by_the_writer(machines: Machines) -> None:
    machines.skep("session", "create", "makes-the-key")
    machines.invite("east")
    machines.begin("run", workflow(machines))
    machines.until((machines.gate / "first").exists)
    for words in (("stop", "-s", "over-1"), ("cancel", "-s", "over-1", "first")):
        said = machines.refused(*words, where=machines.folder / "machine-east")
        assert "node 'east' says" in said
        assert "which is not a node's to say" in said


def test_who_has_an_invitation_alone_begins_nothing_and_invites_nobody(machines: Machines) -> None:
    machines.skep("session", "create", "makes-the-key")
    machines.skep("node", "invite", "east", "--out", str(machines.folder / "east.invite"))
    there = machines.folder / "there"
    there.mkdir()
    (there / "skep.toml").write_text('[store]\ninvite = "../east.invite"\n')
    for words in (("run", workflow(machines)), ("node", "invite", "west")):
        assert "needs the key of the store" in machines.refused(*words, where=there), words
    assert not (there / ".skep" / "key").exists()
    assert "is for node 'east', not for 'west'" in machines.refused("node", "join", "--name", "west", where=there)


def test_a_node_with_an_invitation_says_that_it_cannot_check_what_was_written_unsigned(machines: Machines) -> None:
    machines.skep("session", "create", "makes-the-key")
    writer = machines.begin("run", workflow(machines))
    machines.until((machines.gate / "first").exists)
    log = "skep:{over-1}:log"
    rows = machines.server.tell("XRANGE", log, "-", "+")
    machines.server.tell("DEL", log)
    for place, fields in rows:
        unsigned = [part for name, value in fields.items() if name != b"sign" for part in (name, value)]
        machines.server.tell("XADD", log, place, *unsigned)
    east = machines.invite("east")
    machines.until(lambda: "session over-1: event 1 is not signed" in machines.said(east))
    (machines.gate / "open").touch()
    assert writer.wait(60) == 0, "who has the key reads it as ever"
    assert "completed" in machines.skep("status", "over-1")
    machines.invite("west")
    assert machines.said(east).count("is not signed") == 1, "it says so once"
