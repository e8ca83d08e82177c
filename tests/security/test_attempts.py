"""Attempts are confined as their agents say, truthfully called so, and refused where that cannot be had."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent

import pytest

import skep
from skep import wiring
from skep.agents import Ask
from skep.app import read_plan
from skep.config import SandboxConfig
from skep.core.confinement import Confinement
from skep.core.events import ApprovalAsked
from skep.core.rules import ToolRule
from skep.errors import Unavailable
from skep.runtime.asking import otherwise
from skep.runtime.bounds import settled
from skep.security.limits import missing
from skep.security.sandbox import choose
from tests.clients.model_server import ModelServer
from tests.security.places import holding
from tests.workspace.repository import Repository

CLIENT = Path(__file__).parents[1] / "runtime" / "drivers" / "claude_like.py"
CANARY = "tweet-4711-tweet"


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with a home that holds a key; nothing of the machine's configuration."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_", "SKEP_"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "user"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id").write_text("a key")
    monkeypatch.setenv("HOME", str(home))
    found = choose(tmp_path / "trial", missing())
    if isinstance(found, str):
        pytest.skip(found)
    return home


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "work")
    repository.commit({"a.txt": "one\n"})
    repository("config", "http.extraheader", f"Authorization: {CANARY}")
    return repository


@pytest.fixture
async def hive(repo: Repository) -> AsyncIterator[skep.Skep]:
    async with skep.open(repo.top) as opened:
        yield opened


async def carried_out(hive: skep.Skep, text: str) -> skep.Session:
    """A workflow, carried out to its end."""
    path = Path(hive.workspace).parent / "flow.yaml"
    path.write_text(text)
    session = await hive.start(read_plan(path, {}))
    await session.settled()
    return session


async def test_an_attempt_commits_and_moves_nothing_of_the_users(hive: skep.Skep, repo: Repository) -> None:
    script = """
    cat ~/.ssh/id && exit 1
    git config --list | grep -i tweet && exit 1
    ls "$SKEP_WORKSPACE" "$SKEP_HOME/key" && exit 1
    for act in "branch mine" "tag mine" "update-ref refs/heads/main HEAD~0" "config a.b c" "stash" "gc --prune=now"; do
      echo change > a.txt
      git $act && exit 1
    done
    find "$(git rev-parse --git-common-dir)" -writable -type f | grep -v "worktrees/" && exit 1
    echo two > a.txt
    git commit -qam "by the agent"
    git log --format=%s
    """
    before = repo("for-each-ref", "refs/heads"), (repo.top / ".git" / "config").read_text()
    session = await hive.session("commits")
    result = await (await session.submit(skep.Task(id="a", run=script))).result()
    assert (result.ok, result.cause, result.detail) == (True, "", "")
    assert str(result.value).splitlines()[-2:] == ["by the agent", "first"] or "by the agent" in str(result.value)
    assert (repo("for-each-ref", "refs/heads"), (repo.top / ".git" / "config").read_text()) == before
    assert repo("log", "-1", "--format=%s", result.commit) in ("by the agent", "Merge a")
    assert repo("show", f"{result.commit}:a.txt") == "two"
    repo("fsck", "--strict")


async def test_setup_and_verify_are_confined_too(hive: skep.Skep) -> None:
    session = await carried_out(
        hive,
        """
        version: 1
        environment: {setup: "! cat ~/../user/.ssh/id"}
        verify: "! test -e $SKEP_WORKSPACE/../user/.ssh/id"
        tasks:
          a: {run: "echo x > b.txt", verify: "! test -e $SKEP_WORKSPACE/../user/.ssh/id && test -s b.txt"}
        """,
    )
    view = await session.status()
    assert [(task.state, task.detail) for task in view.tasks] == [("done", "")]
    assert view.confinement.startswith("confined (bubblewrap")
    assert view.tasks[0].confinement == view.confinement


async def test_an_agent_is_unconfined_only_in_so_many_words(hive: skep.Skep, user: Path) -> None:
    session = await carried_out(
        hive,
        f"""
        version: 1
        agents: {{free: {{runtime: shell, sandbox: off}}}}
        tasks:
          a: {{run: "test -e {user}/.ssh/id", agent: free}}
          b: {{run: "! test -e {user}/.ssh/id", agent: shell}}
        """,
    )
    view = await session.status()
    assert {task.id: (task.state, task.confinement.partition(" ")[0]) for task in view.tasks} == {
        "a": ("done", "unconfined"),
        "b": ("done", "confined"),
    }
    assert view.confinement.endswith("; unconfined: free-1")


async def test_what_is_granted_can_be_reached(hive: skep.Skep, user: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (user / ".codex").mkdir()
    (user / ".codex" / "auth.json").write_text("{}")
    session = await carried_out(
        hive,
        """
        version: 1
        sandbox: {read: [~/.ssh/id], write: [../data], credentials: [codex]}
        tasks:
          a: {run: "cat ~/.ssh/id > ../../../../data/copy; echo more >> ~/.codex/auth.json; echo x > ~/private"}
        """,
    )
    assert [task.detail for task in (await session.status()).tasks] == [""]
    assert (tmp_path / "data" / "copy").read_text() == "a key"
    assert (user / ".codex" / "auth.json").read_text() == "{}more\n"
    assert not (user / "private").exists()


async def test_what_cannot_be_had_is_refused_before_anything_starts(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(wiring, "choose", lambda folder: "this machine has nothing for it")
    async with skep.open(repo.top) as hive:
        with pytest.raises(Unavailable, match="this machine has nothing for it") as raised:
            await carried_out(hive, f"version: 1\ntasks: {{a: {{run: 'touch {tmp_path}/ran'}}}}\n")
        assert "SKEP_SANDBOX=off" in raised.value.fix
        assert await hive.sessions() == []
    assert not (tmp_path / "ran").exists()


async def test_what_is_required_and_lost_is_refused(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "choose", lambda folder: choose(folder, {"memory": "no control group"}))
    async with skep.open(repo.top) as hive:
        with pytest.raises(Unavailable, match=r"'memory' .* cannot be had here: no control group"):
            await carried_out(hive, "version: 1\nsandbox: {require: [memory]}\ntasks: {a: {run: 'true'}}\n")
        session = await carried_out(hive, "version: 1\ntasks: {a: {run: 'true'}}\n")
        assert (await session.status()).confinement == "confined (bubblewrap; lost: memory)"


async def test_a_secret_is_where_it_is_granted_and_nowhere_else(
    hive: skep.Skep, repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKEP_TEST_TOKEN", CANARY)
    repo("config", "--unset", "http.extraheader")
    # In pieces, so that the terminal hands it over in pieces; on the last line, which becomes the result; and as an error.
    slowly = "import os,sys,time\nfor c in os.environ['TOKEN']: print(c, end='', flush=True); time.sleep(0.01)\nprint()"
    monkeypatch.setenv("TOKEN", CANARY)
    session = await hive.session("secrets")
    told = await session.submit(skep.Task(id="told", run=("python3", "-c", slowly), secrets=("TOKEN",)))
    fails = await session.submit(skep.Task(id="fails", run="echo no: $TOKEN; exit 1", secrets=("TOKEN",)))
    other = await session.submit(skep.Task(id="other", run="env | grep -c tweet || true"))
    results = await session.gather([told, fails, other])
    assert [result.value for result in results] == ["[secret]", None, "0"]
    assert "[secret]" in results[1].detail
    await session.stop()
    assert await holding(session, repo.top, CANARY) == set()


@pytest.mark.parametrize(("rules", "asked"), [((), []), ((ToolRule(do="ask"),), ["touch made"])])
async def test_what_the_sandbox_bounds_is_not_asked_about_unless_a_rule_says_so(
    rules: tuple[ToolRule, ...], asked: list[str], repo: Repository, hive: skep.Skep, tmp_path: Path
) -> None:
    program = tmp_path / "claude"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P {CLIENT} "$@"\n')
    program.chmod(0o755)
    confinement = Confinement(read=(str(CLIENT.parent),))
    agent = skep.AgentSpec(name="coder", runtime="claude", options={"program": str(program)}, sandbox=confinement, rules=rules)
    session = await hive.start(skep.Plan(name="p", agents=(agent,), tasks=(skep.Task(id="a", prompt="$ touch made"),)))
    if asked:
        async for _, event in session.follow():
            if isinstance(event, ApprovalAsked):
                break
        assert [need.about for need in await hive.inbox()] == asked
        await session.cancel("a")
        return
    (result,) = await session.results(["a"])
    assert result.ok, result
    assert "made" in repo.files("refs/skep/p-1/main")


def test_what_agents_and_sessions_say_adds_up() -> None:
    agent = Confinement(read=("/agent",), network=("agent.example",), processes=7)
    total = settled(SandboxConfig(read=("/settings",), memory=5), Confinement(read=("/session",), processes=9), agent)
    assert (total.read, total.network, total.memory) == (("/settings", "/session", "/agent"), ("agent.example",), 5)
    assert (total.processes, total.mode) == (7, "on")


def test_only_what_acts_on_this_machine_alone_is_bounded() -> None:
    fetches, looks_up = Ask("1", "read", {"url": "https://a.example"}, ""), Ask("2", "WebSearch", {"query": "x"}, "")
    sends, runs = Ask("3", "mcp__mail__send", {"path": "x"}, ""), Ask("4", "Bash", {"command": "curl https://a.example"}, "")
    assert [otherwise(one, True) for one in (fetches, looks_up, sends, runs)] == ["ask", "ask", "ask", "always"]
    assert otherwise(runs, False) == "ask"


async def test_a_program_of_no_attempt_is_not_started(hive: skep.Skep) -> None:
    from skep.runtime.confined import Wards
    from skep.terminals import Profile
    from skep.terminals.native import Native

    wards = Wards(Native(), "nothing here")
    with pytest.raises(skep.errors.Denied, match="belongs to no attempt"):
        await wards.create(Profile(name="stray", argv=("true",), cwd="/", env={}, nonce="0" * 32), lambda data: None)
    await wards.close()


SERVED = """
version: 1
environment:
  services:
    web: {run: 'exec python3 -m http.server "$SKEP_PORT_WEB" --bind 127.0.0.1'}
tasks:
  fetch:
    run: |
      python3 -c 'import os, socket; s = socket.create_connection(("127.0.0.1", int(os.environ["SKEP_PORT_WEB"])))
      s.sendall(b"GET /a.txt HTTP/1.0\\r\\n\\r\\n"); print(s.makefile().read().split()[-1])'
      python3 -c 'import socket; socket.create_connection(("127.0.0.1", %d))' 2>&1 | tail -n 1 || true
"""


async def test_a_service_is_reached_and_nothing_else_of_this_machine(hive: skep.Skep) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        session = await carried_out(hive, SERVED % other.getsockname()[1])
        result = (await session.task("fetch")).result
        assert result.splitlines()[0] == "one"
        assert "refused" in result.splitlines()[-1]
        assert "confined" in (await session.status()).confinement


@pytest.mark.parametrize("name", ["result", "pipe", "endless"])
async def test_what_a_callable_leaves_for_a_result_leads_nowhere(
    name: str, hive: skep.Skep, repo: Repository, user: Path
) -> None:
    (user / "answer.json").write_text(json.dumps({"ok": True, "result": CANARY}))
    code = f"""
    import os
    def put(make):
        place = os.environ["SKEP_RESULT"]
        make(place)
        os._exit(0)
    def result(): put(lambda place: os.symlink("{user}/answer.json", place))
    def pipe(): put(os.mkfifo)
    def endless(): put(lambda place: os.truncate(os.open(place, os.O_CREAT | os.O_RDWR), 1 << 33))
    """
    repo.commit({"astray.py": dedent(code)})
    session = await carried_out(hive, f"version: 1\ntasks: {{a: {{call: 'astray:{name}', mode: isolated}}}}\n")
    (task,) = (await session.status()).tasks
    assert task.state != "done"
    assert "without a result" in task.detail
    assert CANARY not in str(task)


async def test_what_a_client_leaves_in_its_home_leads_nowhere(
    hive: skep.Skep, repo: Repository, user: Path, tmp_path: Path
) -> None:
    for path in (".codex/config.toml", ".codex/auth.json", "private/config.toml"):
        (user / path).parent.mkdir(exist_ok=True)
        (user / path).write_text(f"# of the user: {path}\n")
    script = f"""#!/bin/sh
    cat >/dev/null
    echo evil >> {user}/.codex/config.toml && echo CHANGED
    if test -L "$HOME/.codex"; then echo STAYED; fi
    rm -f "$HOME/.codex/auth.json" && echo '"refreshed"' > "$HOME/.codex/auth.json"
    rm -f "$HOME/.codex/config.toml" && echo '"evil"' > "$HOME/.codex/config.toml"
    test "$SKEP_ATTEMPT" = 2 && mv "$HOME/.codex" "$HOME/old" && ln -s {user}/private "$HOME/.codex"
    ln -sf {user}/private/config.toml "$(ls "$SKEP_OUT"/.*-errors)"
    exit 3
    """
    program = tmp_path / "codex"
    program.write_text(script)
    program.chmod(0o755)
    agent = skep.AgentSpec(name="coder", runtime="codex", options={"program": str(program)})
    task = skep.Task(id="a", prompt="go", retries=2)
    session = await hive.start(skep.Plan(name="p", agents=(agent,), tasks=(task,)))
    (result,) = await session.results(["a"])
    assert (result.ok, result.attempts, result.detail) == (False, 3, "exit code 3")
    found = {path: (user / path).read_text() for path in (".codex/config.toml", ".codex/auth.json", "private/config.toml")}
    assert found == {
        ".codex/config.toml": "# of the user: .codex/config.toml\n",
        ".codex/auth.json": '"refreshed"\n',  # a login that was refreshed is the user's new one
        "private/config.toml": "# of the user: private/config.toml\n",
    }
    shown = "".join(path.read_text() for path in (repo.top / ".skep" / "transcripts").rglob("*.cast"))
    assert "CHANGED" not in shown
    assert "STAYED" not in shown


async def test_the_key_of_a_clients_provider_is_in_nothing_that_is_kept(
    hive: skep.Skep, repo: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", CANARY)
    repo("config", "--unset", "http.extraheader")
    says = '{"type":"result","subtype":"success","result":"it is %s"}\\n'
    program = tmp_path / "claude"
    program.write_text(f"#!/bin/sh\nread x; echo x > x.txt; env; printf '{says}' \"$ANTHROPIC_API_KEY\"; cat >/dev/null\n")
    program.chmod(0o755)
    agent = skep.AgentSpec(name="coder", runtime="claude", options={"program": str(program)})
    session = await hive.start(skep.Plan(name="p", agents=(agent,), tasks=(skep.Task(id="a", prompt="go"),)))
    (result,) = await session.results(["a"])
    assert (result.ok, result.value) == (True, "it is [secret]"), result
    await session.stop()
    assert await holding(session, repo.top, CANARY) == set()


async def test_what_is_no_secret_is_found_in_all_places_that_are_searched(hive: skep.Skep, repo: Repository) -> None:
    session = await hive.session("open")
    task = skep.Task(id="a", objective=CANARY, run=f"echo {CANARY} | tee told.txt; false", retries=1)
    await (await session.submit(task)).result()
    await session.stop()
    assert await holding(session, repo.top, CANARY) == {"state", "commits", "receipt", "bundle", "export"}


@pytest.mark.parametrize("runtime", ["claude", "codex"])
async def test_a_key_that_a_client_complains_of_on_standard_error_is_in_nothing_that_is_kept(
    runtime: str, hive: skep.Skep, repo: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = {"claude": "ANTHROPIC_API_KEY", "codex": "OPENAI_API_KEY"}[runtime]
    monkeypatch.setenv(name, CANARY)
    repo("config", "--unset", "http.extraheader")
    program = tmp_path / runtime
    program.write_text(f'#!/bin/sh\necho "no such model for the key ${name}" >&2; exit 1\n')
    program.chmod(0o755)
    agent = skep.AgentSpec(name="coder", runtime=runtime, options={"program": str(program)})
    session = await hive.start(skep.Plan(name="p", agents=(agent,), tasks=(skep.Task(id="a", prompt="go"),)))
    (result,) = await session.results(["a"])
    assert (result.ok, result.detail) == (False, "exit code 1: no such model for the key [secret]"), result
    await session.stop()
    found = [path for path in (repo.top / ".skep").rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert found == []


async def test_the_way_from_a_worktree_to_its_repository_stays(hive: skep.Skep) -> None:
    script = """
    entry=$(git rev-parse --git-dir)
    mkdir "$entry/evil" && cp -r "$(git rev-parse --git-common-dir)/HEAD" "$entry/evil/"
    echo "$entry/evil" > "$entry/commondir" && exit 1
    rm -f "$entry/commondir" && exit 2
    mv "$entry/evil" "$entry/commondir" 2>/dev/null && test -d "$entry/commondir" && exit 3
    echo kept > kept.txt
    """
    session = await hive.session("ways")
    result = await (await session.submit(skep.Task(id="a", run=script))).result()
    assert (result.ok, result.detail) == (True, "")


async def test_an_attempt_that_fills_the_disk_is_ended_and_leaves_nothing(hive: skep.Skep, repo: Repository) -> None:
    fill = """for i in $(seq 64); do head -c 65536 /dev/urandom > "{place}/$i.bin"; done; echo full; exec tail -f /dev/null"""
    places = {"tree": ".", "home": "$HOME", "out": "$SKEP_OUT", "git": "$GIT_OBJECT_DIRECTORY"}
    box = Confinement(disk_total=1 << 20)
    tasks = tuple(skep.Task(id=name, run=fill.format(place=place)) for name, place in places.items())
    fits = skep.Task(id="fits", run="head -c 500000 /dev/urandom > fits.bin")
    session = await hive.start(skep.Plan(name="p", sandbox=box, tasks=(*tasks, fits)))
    results = await session.results([*places, "fits"])
    assert [(result.ok, result.cause) for result in results] == [(False, "limit")] * 4 + [(True, "")]
    assert {result.detail for result in results[:4]} == {
        "it took more room on the disk than the 1,048,576 bytes that it may (`disk_total`); nothing of it is kept"
    }
    assert [result.commit for result in results[:4]] == [""] * 4
    assert "fits.bin" in repo.files("refs/skep/p-1/main")
    assert list((repo.top / ".skep").rglob("*.bin")) == []


async def test_a_burst_is_noticed_at_the_end_and_a_verification_is_bounded_too(hive: skep.Skep) -> None:
    fill = "head -c 4000000 /dev/urandom > big.bin"
    box = Confinement(disk_total=1 << 20)
    tasks = (skep.Task(id="burst", run=fill), skep.Task(id="tests", run="echo x > x.txt", verify=fill))
    session = await hive.start(skep.Plan(name="p", sandbox=box, tasks=tasks))
    burst, tests = await session.results(["burst", "tests"])
    assert (burst.ok, burst.cause, burst.commit) == (False, "limit", "")
    assert (tests.ok, tests.cause) == (False, "verify-failed")
    assert "verify: it took more room" in tests.detail


@pytest.mark.parametrize("named", [False, True])
async def test_a_loop_whose_model_is_on_this_machine_reaches_nothing_else_of_it(
    named: bool, hive: skep.Skep, repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands reach not even the model, unless `network` names it; the other port is reached in neither case."""
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    knocks: list[asyncio.StreamWriter] = []
    async with ModelServer() as model, await asyncio.start_server(lambda _, writer: knocks.append(writer), "127.0.0.1") as other:
        ports = [int(model.url.rpartition(":")[2]), other.sockets[0].getsockname()[1]]
        tries = "; ".join(f"(: < /dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo {port} >> made.txt" for port in ports)
        prompt = f"""
        RUN: echo made > made.txt; env | grep -c tweet >> made.txt; {tries}; true
        RUN: git add -A && git commit -qm "by the loop"
        SAY: Done.
        """
        box = Confinement(network=(f"127.0.0.1:{ports[0]}",) if named else ())
        options = {"base_url": f"{model.url}/v1"}
        agent = skep.AgentSpec(name="coder", runtime="llm", model="openai:scripted", options=options, sandbox=box)
        task = skep.Task(id="a", prompt=prompt, verify="test -s made.txt")
        session = await hive.start(skep.Plan(name="p", agents=(agent,), tasks=(task,)))
        (result,) = await session.results(["a"])
        assert (result.ok, result.detail) == (True, ""), result
        assert (await session.status()).tasks[0].confinement.startswith("confined (bubblewrap")
        assert repo("show", "refs/skep/p-1/main:made.txt").split() == ["made", "0", *([str(ports[0])] if named else [])]
        assert "by the loop" in repo("log", "--format=%s", "refs/skep/p-1/main").splitlines()
        assert knocks == []
