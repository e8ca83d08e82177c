"""`skep fleet`, as an operator types it in one workspace; over a Redis: tests/runtime/test_fleet_nodes.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User

FARM = """
version: 1
name: farm
swarms:
  any: {slots: 4}
  gpu: {slots: 1, labels: {gpu: "true"}}
"""


def test_a_fleet_in_one_workspace(user: User, skep: Skep, tmp_path: Path) -> None:
    file = tmp_path / "farm.yaml"
    file.write_text(FARM)
    assert skep("fleet", "list").code == 2, "merely looking makes no state folder"
    formed = skep("fleet", "init", str(file))
    assert (formed.code, "swarm gpu is new: session farm.gpu, 1 slots" in formed.out) == (0, True)
    assert skep("fleet", "init", str(file)).out == "fleet farm: is as it was\n"
    assert skep("fleet", "list").out == "farm\tdegraded\t2\t4/5\t0\t0\n"
    first = json.loads(skep("fleet", "submit", "farm", "--run", "echo one > one.txt", "--key", "k", "--wait", "--json").out)
    assert (first["session"], first["task"], first["result"]["state"]) == ("farm.any", "t1", "done")
    assert "gpu" in [one["swarm"] for one in first["route"]["alternatives"]]
    again = json.loads(skep("fleet", "submit", "farm", "--run", "echo one > one.txt", "--key", "k", "--json").out)
    assert (again["session"], again["task"]) == ("farm.any", "t1")
    failed = skep("fleet", "submit", "farm", "--run", "exit 3", "--wait")
    assert (failed.code, "task t2 failed" in failed.out) == (1, True)
    refused = skep("fleet", "submit", "farm", "--run", "true", "--label", "tpu")
    assert (refused.code, "gpu: it does not carry tpu=true" in refused.err) == (2, True)
    waits = skep("fleet", "submit", "farm", "--run", "true", "--label", "gpu")
    assert (waits.code, "waits: no node is there that carries gpu=true" in waits.out) == (0, True)
    ill = skep("fleet", "health", "farm")
    assert (ill.code, "nobody leads swarm gpu" in ill.out) == (1, True)
    sizes = json.loads(skep("fleet", "resources", "farm", "--json").out)["swarms"]
    assert [(one["swarm"], one["used"], one["to"]) for one in sizes] == [("any", -1.0, 4), ("gpu", -1.0, 1)]
    file.write_text(FARM.replace("slots: 4", "slots: 3"))
    assert "would change\n  swarm any: slots 4 -> 3" in skep("fleet", "init", str(file), "--dry-run").out
    assert skep("fleet", "status", "none").code != 0
    removed = skep("fleet", "remove", "farm")
    assert (removed.code, "`skep prune` takes it away" in removed.out) == (0, True), "what is recorded here cannot be dropped"
    file.write_text("version: 1\nswarms: {a: {slots: none}}\n")
    wrong = skep("fleet", "init", str(file))
    assert (wrong.code, f"{file}:2:21: swarms.a.slots: expected" in wrong.err) == (2, True)


@pytest.mark.parametrize("cores", ["nan", "inf"])
@pytest.mark.parametrize("words", [("fleet", "submit", "farm", "--run", "true"), ("node", "join")])
def test_cores_are_a_finite_number(skep: Skep, words: tuple[str, ...], cores: str) -> None:
    refused = skep(*words, "--cpu", cores)
    assert (refused.code, f"'--cpu': '{cores}' is not a finite number" in refused.err) == (2, True), refused.err
