"""What a task's processes see: an allow-list, the files and variables that Skep hands over, secrets for one task alone."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import skep
from skep.config import Config, EnvironmentConfig, SandboxConfig
from skep.runtime.environment import FEW, SMALL, cleared, empty, make
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository

CANARY = "canary-7f3a9c"


async def environment(session: skep.Session, task: skep.Task) -> dict[str, str]:
    """The environment that a task's process sees."""
    result = await (await session.submit(task)).result()
    assert result.ok, result
    return dict(line.split("=", 1) for line in Path(str(result.value)).read_text().split("\0") if line)


def dump(folder: Path, **more: object) -> skep.Task:
    return skep.Task(run=f'f={folder}/${{SKEP_TASK//\\//_}}.env; cat /proc/self/environ > "$f"; echo "$f"', **more)  # type: ignore[arg-type]  # keyword arguments of many kinds


async def test_nothing_of_the_owners_environment_gets_through_but_what_is_allowed(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "PYTHONPATH", "LD_PRELOAD_NOT", "MY_VAR", "BASH_ENV", "SKEP_NONCE_X"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("LC_TEST", "allowed")
    monkeypatch.setenv("CI_JOB", "allowed too")
    config = Config(environment=EnvironmentConfig(allow=("CI_*",)), sandbox=SandboxConfig(mode="off"))
    async with skep.open(repo.top, config) as hive:
        session = await hive.session("bench")
        for more in ({}, {"mode": "none"}, {"mode": "shared"}):
            env = await environment(session, dump(tmp_path, **more))
            assert not [name for name, value in env.items() if CANARY in value]
            assert (env["LC_TEST"], env["CI_JOB"], env["GIT_TERMINAL_PROMPT"]) == ("allowed", "allowed too", "0")
        repo.write({"tools.py": "import os\ndef all(): return dict(os.environ)\n"})
        plan = skep.Plan(name="p", tasks=(skep.Task(id="a", call="tools:all"),), setup=(f"env > {tmp_path}/setup",))
        plan_session = await hive.start(plan)
        (result,) = await plan_session.results(["a"])
        assert result.ok
        assert CANARY not in repr(result.value)
        verified = skep.Task(run="touch x", verify=f"env > {tmp_path}/verify", setup=(f"env > {tmp_path}/setup2",))
        assert (await (await session.submit(verified)).result()).ok
    for name in ("verify", "setup2"):
        text = (tmp_path / name).read_text()
        assert CANARY not in text
        assert "LC_TEST=allowed" in text


async def test_a_secret_reaches_the_task_that_names_it_and_nothing_else(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", CANARY)
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        with_it = await environment(session, dump(tmp_path, secrets=("API_KEY",), verify=f"env > {tmp_path}/verify; echo $HOME"))
        without = await environment(session, dump(tmp_path))
        assert (with_it["API_KEY"], without.get("API_KEY")) == (CANARY, None)
        assert CANARY not in (tmp_path / "verify").read_text()
        view = repr(await session.status()) + repr([event async for event in until_now(session)])
        assert CANARY not in view
    for path in (repo.top / ".skep").rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


async def until_now(session: skep.Session):  # type: ignore[no-untyped-def]  # an async generator of the test alone
    last = (await session.status(tasks=False)).seq
    async for number, event in session.follow():
        yield event
        if number >= last:
            return


async def test_a_secret_that_is_not_set_fails_its_task_at_once_and_says_what_to_do(session: skep.Session) -> None:
    result = await (await session.submit(skep.Task(run="true", secrets=("NO_SUCH_KEY",)))).result()
    assert (result.state, result.cause, result.attempts) == ("failed", "error", 1)
    assert result.detail == "the secret NO_SUCH_KEY is not set"


async def test_a_task_knows_who_it_is(hive: skep.Skep, session: skep.Session, tmp_path: Path, gate: Gate) -> None:
    first = await environment(session, dump(tmp_path, id="a b/c", env={"OWN": "mine", "SKEP_TASK_KEY": "forged"}))
    names = ("SESSION", "TASK", "ATTEMPT", "TASK_KEY", "SLOT", "WORKSPACE", "FEEDBACK")
    assert {name: first[f"SKEP_{name}"] for name in names} == {
        "SESSION": "bench",
        "TASK": "a b/c",
        "ATTEMPT": "1",
        "TASK_KEY": "bench:a b/c",
        "SLOT": "0",
        "WORKSPACE": str(hive.workspace),
        "FEEDBACK": "",
    }
    assert (first["OWN"], first["SKEP_HOME"]) == ("mine", str(hive.workspace / ".skep"))
    assert "SKEP_ITEM" not in first
    assert "SKEP_PROMPT" not in first
    retried = await (
        await session.submit(skep.Task(run="echo $SKEP_TASK_KEY; test $SKEP_ATTEMPT = 2", id="again", retries=1))
    ).result()
    assert (retried.value, retried.attempts) == ("bench:again", 2)


async def test_slots_are_small_numbers_unique_among_the_running(session: skep.Session, gate: Gate) -> None:
    handles = await session.submit_many(
        skep.Task(run=f"{gate.PASS}; echo $SKEP_SLOT", env=gate.env, mode="none", agent="shell") for _ in range(9)
    )
    for _ in range(9):
        await gate.begun()
        gate.go()
    slots = [int(result.value) for result in await session.gather(handles)]
    assert set(slots) == set(range(4))  # the limit is twice the cores or more; here it is what `limits.agents` says
    assert len(slots) == 9


async def test_a_task_is_told_inputs_and_what_its_needs_came_to(hive: skep.Skep, tmp_path: Path) -> None:
    plan = skep.Plan(
        name="told",
        inputs={"issue": "412", "odd": 'quo"te\n$x'},
        tasks=(
            skep.Task(
                id="plan",
                run="echo planned; printf 'a\\xffb' > $SKEP_OUT/raw; echo text > $SKEP_OUT/t",
                outputs={"t": "t", "r": "raw"},
            ),
            skep.Task(id="bad", run="echo sorry; exit 9", mode="none"),
            skep.Task(
                id="last",
                run=f'cp "$SKEP_NEEDS" {tmp_path}/needs; cp "$SKEP_INPUTS" {tmp_path}/inputs',
                needs=("plan", "bad"),
                condition="always()",
            ),
        ),
    )
    session = await hive.start(plan)
    assert (await session.results(["last"]))[0].ok
    assert json.loads((tmp_path / "inputs").read_text()) == {"issue": "412", "odd": 'quo"te\n$x'}
    needs = json.loads((tmp_path / "needs").read_text())
    assert needs["plan"]["state"] == "done"
    assert needs["plan"]["result"] == "planned"
    assert needs["plan"]["outputs"]["t"] == "text\n"
    assert needs["plan"]["outputs"]["r"].startswith("blob:")
    assert (needs["bad"]["state"], needs["bad"]["cause"], needs["bad"]["exit_code"]) == ("failed", "exit", 9)


async def test_each_item_of_a_foreach_is_in_the_environment(hive: skep.Skep, tmp_path: Path) -> None:
    items = [{"name": "x y", "n": 1}, {"name": "$HOME", "n": 2}]
    plan = skep.Plan(
        name="each",
        tasks=(
            skep.Task(
                id="list",
                run=f"echo '{json.dumps(items)}' > $SKEP_OUT/l; echo '[\"p\", \"q\"]' > $SKEP_OUT/m",
                outputs={"l": "l", "m": "m"},
            ),
            skep.Task(
                id="each",
                run=f'printf %s "$SKEP_ITEM" > "{tmp_path}/$SKEP_SLOT-$SKEP_ATTEMPT-${{SKEP_TASK//\\//_}}"',
                needs=("list",),
                foreach=skep.Foreach(source="needs.list.outputs.l", key="name"),
                mode="none",
            ),
            skep.Task(
                id="plain",
                run="echo $SKEP_ITEM",
                needs=("list",),
                foreach=skep.Foreach(source="needs.list.outputs.m"),
                mode="none",
            ),
        ),
    )
    session = await hive.start(plan)
    await session.settled()
    results = await session.results(["each[x%20y]", "each[%24HOME]", "plain[p]", "plain[q]", "each", "plain"])
    assert [result.state for result in results] == ["done"] * 6, results
    assert [result.value for result in results[2:4]] == ["p", "q"]
    written = {path.name.split("-")[2]: json.loads(path.read_text()) for path in tmp_path.glob("*-1-each*")}
    assert written == {"each[x%20y]": items[0], "each[%24HOME]": items[1]}


async def test_feedback_of_any_size_and_kind_fits_into_the_environment(session: skep.Session) -> None:
    run = 'test -n "$SKEP_FEEDBACK" && exit 0; for n in $(seq 300); do printf "%0800d é \\x00 \\xff\\n" $n; done; exit 5'
    result = await (await session.submit(skep.Task(run=run, retries=1, mode="none"))).result()
    assert (result.state, result.attempts) == ("done", 2)


async def test_a_cancelled_task_is_cancelled_while_its_setup_runs(session: skep.Session, gate: Gate) -> None:
    handle = await session.submit(skep.Task(run="true", setup=(gate.PASS,), env=gate.env))
    await gate.begun()
    await session.cancel(handle.id)
    assert (await handle.result()).state == "cancelled"
    view = await session.settled()
    assert view.counts == {"cancelled": 1}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who is kept out")
def test_a_folder_that_its_attempt_shut_is_emptied_all_the_same() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        folder, nobody = f"{top}/f", 65534
        os.makedirs(f"{folder}/inner")
        for path in (top, folder, f"{folder}/inner"):
            os.chown(path, nobody, nobody)
        os.chmod(folder, 0)
        os.seteuid(nobody)
        try:
            empty(folder)
            assert os.listdir(folder) == []
        finally:
            os.seteuid(0)


def test_emptying_a_folder_keeps_it_and_touches_nothing_that_its_attempt_put_in_its_place(tmp_path: Path) -> None:
    others, folder, link = tmp_path / "others", tmp_path / "mine", tmp_path / "link"
    others.mkdir()
    (others / "precious").touch()
    folder.mkdir()
    (folder / "file").touch()
    (folder / "out").symlink_to(others)
    os.mkfifo(folder / "pipe")
    kept = folder.stat().st_ino
    empty(str(folder))
    assert (os.listdir(folder), folder.stat().st_ino) == ([], kept)
    for number in range(FEW + 1):
        (folder / str(number)).touch()
    empty(str(folder))
    assert os.listdir(folder) == []
    link.symlink_to(others)
    empty(str(link))
    assert (link.is_symlink(), os.listdir(link), os.listdir(others)) == (False, [], ["precious"])


def test_a_folder_is_made_where_none_is_and_nothing_else_is_taken_for_one(tmp_path: Path) -> None:
    others, folder = tmp_path / "others", tmp_path / "mine"
    others.mkdir()
    (others / "precious").touch()
    folder.symlink_to(others)
    for _ in range(2):
        make(str(folder))
        assert (folder.is_symlink(), os.listdir(folder), os.listdir(others)) == (False, [], ["precious"])
    folder.rmdir()
    folder.touch()
    make(str(folder))
    assert os.listdir(folder) == []


async def test_a_file_that_goes_meanwhile_keeps_none_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stays", "goes"):
        (tmp_path / name).touch()
    scandir = os.scandir

    def scanned(folder: int) -> contextlib.nullcontext[Iterator[os.DirEntry[str]]]:
        found = list(scandir(folder))
        (tmp_path / "goes").unlink()
        return contextlib.nullcontext(iter(found))

    with monkeypatch.context() as patched:
        patched.setattr("os.scandir", scanned)
        await cleared(str(tmp_path))
    assert os.listdir(tmp_path) == []


async def test_what_an_attempt_left_is_cleared_whatever_it_is(tmp_path: Path) -> None:
    others, folder = tmp_path / "others", tmp_path / "mine"
    others.mkdir()
    (others / "precious").touch()
    await cleared(str(folder))
    assert not folder.exists()  # of an attempt that was not confined there is no home
    for left in ("few", "large", "many", "tree", "link"):
        folder.mkdir(exist_ok=True)
        for number in range(FEW + 1 if left == "many" else 2):
            (folder / str(number)).touch()
        if left == "large":
            os.truncate(folder / "0", 2 * SMALL)
        elif left == "tree":
            (folder / "inner").mkdir()
        elif left == "link":
            (folder / "away").symlink_to(others)
        await cleared(str(folder))
        assert os.listdir(folder) == [], left
    folder.rmdir()
    folder.symlink_to(others)
    await cleared(str(folder))
    assert (folder.is_symlink(), os.listdir(folder), os.listdir(others)) == (False, [], ["precious"])
