"""What a user who says nothing gets: agents are confined, everything says so, and nothing is started where they cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skep import wiring
from skep.runtime import byhand, checkup, plans
from skep.security.choice import choose
from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User

FLOW = """
version: 1
name: well
tasks:
  looks:
    run: "test ! -e ../../../../key && echo seen > seen.txt"
    verify: "test ! -e $SKEP_WORKSPACE/../key && grep seen seen.txt"
"""


@pytest.fixture(autouse=True)
def said_nothing(bare_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has a key beside their repository, and says nothing of the sandbox."""
    found = choose(tmp_path / "trial")
    if isinstance(found, str):
        pytest.skip(found)
    monkeypatch.delenv("SKEP_SANDBOX")
    (tmp_path / "key").write_text("a key")


def test_a_run_is_confined_and_says_so(user: User, skep: Skep) -> None:
    user.write("wf.yaml", FLOW)
    foretold = skep("run", "wf.yaml", "--dry-run")
    assert "nothing is started  confined (" in foretold.out.splitlines()[0]
    ran = skep("run", "wf.yaml")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0].startswith("well-1  confined (")
    view = json.loads(skep("status", "--json").out)
    assert view["confinement"].startswith("confined (")
    assert [task["confinement"] for task in view["tasks"]] == [view["confinement"]]


def test_it_is_off_for_an_agent_a_file_a_workspace_or_a_command_that_says_so(
    user: User, skep: Skep, monkeypatch: pytest.MonkeyPatch
) -> None:
    unconfined = FLOW.replace("! -e", "-e")
    user.write("wf.yaml", unconfined + "sandbox: off\n")
    assert skep("run", "wf.yaml").out.splitlines()[0] == "well-1  unconfined"
    one = "tasks: {a: {agent: free, run: test -e ../../../../key}}\nagents: {free: {runtime: shell, sandbox: off}}\n"
    user.write("wf.yaml", f"version: 1\nname: well\n{one}")
    ran = skep("run", "wf.yaml", "--new")
    assert (ran.code, ran.out.splitlines()[0].endswith("; unconfined: free")) == (0, True)
    user.write("wf.yaml", unconfined)
    user.write("skep.toml", '[sandbox]\nmode = "off"\n')
    assert skep("run", "wf.yaml", "--new").out.splitlines()[0] == "well-3  unconfined"
    user.write("skep.toml", "")
    monkeypatch.setenv("SKEP_SANDBOX", "off")
    assert skep("run", "wf.yaml", "--new").out.splitlines()[0] == "well-4  unconfined"


def test_where_nothing_can_confine_it_the_run_is_refused_with_the_ways_out(
    user: User, skep: Skep, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (wiring, checkup, plans, byhand):
        monkeypatch.setattr(module, "choose", lambda folder: "this machine has nothing for it")
    user.write("wf.yaml", FLOW.replace("test", "touch ../../../../ran; test", 1))
    ran = skep("run", "wf.yaml")
    assert ran.code != 0
    assert "Programs cannot be confined here: this machine has nothing for it." in ran.err
    assert "apt-get install bubblewrap" in ran.err
    assert "SKEP_SANDBOX=off" in ran.err
    assert "`sandbox: off`" in ran.err
    assert not (user.folder / "ran").exists()
    assert "no session" in skep("status").err
    assert "cannot be confined" in skep("run", "wf.yaml", "--dry-run").out.splitlines()[0]
    found = {line["name"]: line for line in json.loads(skep("doctor", "--json").out)["findings"]}
    assert found["confinement"]["state"] == "error"


def test_doctor_warns_where_it_is_off(user: User, skep: Skep) -> None:
    user.write("skep.toml", '[sandbox]\nmode = "off"\n')
    found = {line["name"]: line for line in json.loads(skep("doctor", "--json").out)["findings"]}
    assert (found["confinement"]["state"], found["confinement"]["text"][:10]) == ("warning", "unconfined")
    assert "SKEP_SANDBOX=off" in found["confinement"]["fix"]
