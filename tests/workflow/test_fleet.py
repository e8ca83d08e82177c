"""Fleet files: what is read, and what a person reads who wrote one wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep.core.fleet import Swarm
from skep.core.model import AgentSpec
from skep.errors import Invalid, NotFound
from skep.workflow import fleet

STORIES = Path(__file__).parent.parent / "stories" / "fleet"
FILE = b"""
version: 1
name: farm
x-more: &gpu {gpu: "true"}
swarms:
  small: {slots: 2, cpu: 0.5, memory: 1GiB}
  special: {slots: 1, labels: *gpu, runtimes: [shell, claude]}
  judges: {slots: 3, agents: {judge: {runtime: claude, type: reviewer}}}
placement: {profile: routing, weights: {cost: 0.5}}
queue: 5m
nodes: [east, west]
"""


def test_what_a_file_says() -> None:
    found = fleet.parse(FILE, "farm.yaml")
    assert (found.name, found.queue, found.nodes) == ("farm", 300.0, ("east", "west"))
    assert (found.placement.profile, found.placement.weights) == ("routing", {"cost": 0.5})
    small, special, judges = found.swarms
    assert small == Swarm(name="small", session="farm.small", slots=2, cpu=0.5, memory=2**30)
    assert (special.labels, special.runtimes) == ({"gpu": "true"}, ("shell", "claude"))
    assert special.agents == (AgentSpec(name="claude", runtime="claude", count=0),)
    assert [(one.name, one.type) for one in judges.agents] == [("judge", "reviewer")]


def test_what_is_wrong_is_told_in_full() -> None:
    with pytest.raises(Invalid) as caught:
        fleet.parse((STORIES / "wrong.yaml").read_bytes(), "wrong.yaml")
    assert caught.value.message + "\n" == (STORIES / "wrong.txt").read_text(encoding="utf-8")


def test_the_name_is_the_files_unless_it_says_one(tmp_path: Path) -> None:
    path = tmp_path / "night shift.yaml"
    path.write_text("version: 1\nswarms: {a: {slots: 1}}\n")
    assert fleet.load(path).swarms[0].session == "night-shift.a"
    with pytest.raises(NotFound):
        fleet.load(tmp_path / "none.yaml")
    for text in (b"", b"[]", b"\xff", b"a: ["):
        with pytest.raises(Invalid):
            fleet.parse(text, "x.yaml")
