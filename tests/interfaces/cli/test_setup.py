"""`init`, `config`, `schema`, `doctor`, `version`: setting up."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest
import yaml

import skep as package
from skep.interfaces.cli.setup import TEMPLATES
from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_is_a_good_workflow(template: str, skep: Skep, user: User) -> None:
    assert skep("init", "--template", template).code == 0
    workflow = yaml.safe_load((user.repo.top / "workflow.yaml").read_text())
    inputs = [word for name in workflow.get("inputs", {}) for word in ("--input", f"{name}=x")]
    assert skep("run", "workflow.yaml", *inputs, "--dry-run").code == 0
    jsonschema.validate(workflow, json.loads(skep("schema").out))


def test_the_name_of_a_template_is_not_taken_for_a_file(skep: Skep, user: User) -> None:
    ran = skep("init", "feature")
    assert ran.code == 2
    assert "skep init --template feature" in ran.err
    assert not (user.repo.top / "feature").exists()


def test_the_first_workflow_works_and_says_what_is_next(skep: Skep, user: User) -> None:
    said = skep("init").out
    assert "next: skep run workflow.yaml --dry-run" in said
    assert skep("run", "workflow.yaml").code == 0
    assert skep("merge").code == 0
    assert (user.repo.top / "greeting.txt").read_text().startswith("Hello ")


def test_the_checks_work_in_a_repository_without_faults(skep: Skep) -> None:
    skep("init", "--template", "checks")
    assert skep("run", "workflow.yaml").code == 0


def test_a_file_that_is_there_is_never_overwritten(skep: Skep, user: User) -> None:
    user.write("workflow.yaml", "mine")
    ran = skep("init")
    assert (ran.code, ran.out) == (1, "")
    assert "is there already" in ran.err
    assert (user.repo.top / "workflow.yaml").read_text() == "mine"
    assert skep("init", "no/such/folder/x.yaml").code == 1


def test_config_shows_every_setting_with_its_source(skep: Skep, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    user.write("skep.toml", '[placement]\nprofile = "routing"\n')
    monkeypatch.setenv("SKEP_AGENTS", "7")
    found = {one["name"]: (one["value"], one["source"]) for one in skep("config", "--json").json["settings"]}
    assert found["agents"] == (7, "SKEP_AGENTS")
    assert found["placement.profile"] == ("routing", "skep.toml")
    assert found["placement.weights"] == ({}, "default")
    assert 'placement.profile = "routing"' in " ".join(skep("config").out.split())
    user.write("skep.toml", "[placement]\nprofil = 1\n")
    ran = skep("config")
    assert ran.code == 2
    assert "profil" in ran.err


def test_doctor_finds_a_healthy_place_healthy(skep: Skep, user: User) -> None:
    ran = skep("doctor", "--json")
    assert (ran.code, ran.json["ok"]) == (0, True)
    found = {finding["name"]: finding for finding in ran.json["findings"]}
    assert {"python", "git", "bash", "file system", "disk", "confinement"} <= set(found)
    assert found["confinement"]["state"] == "warning"
    assert not (user.repo.top / ".skep").exists()
    skep("add", "--run", "true")
    text = skep("doctor").out
    assert "nobody but this check" in text
    assert "runtime shell" in text


def test_every_finding_that_is_not_fine_says_how_to_mend_it(skep: Skep, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    skep("add", "--run", "true")
    (user.repo.top / ".skep").chmod(0o755)
    user.write("skep.toml", "nonsense")
    empty = user.folder / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    ran = skep("doctor", "--json")
    assert ran.code == 1
    found = {finding["name"]: finding for finding in ran.json["findings"]}
    assert {name for name in ("git", "bash", "settings", "state folder") if found[name]["state"] != "ok"} == {
        "git",
        "bash",
        "settings",
        "state folder",
    }
    assert all(finding["fix"] for finding in found.values() if finding["state"] != "ok")


def test_doctor_names_the_owner_at_work(skep: Skep, user: User) -> None:
    gate = user.gate("gate")
    user.write("wf.yaml", f"version: 1\nname: w\ntasks:\n  a: {{run: 'read x < {gate}'}}\n")
    live = user.start("run", "wf.yaml")
    live.until("▶ a")
    assert f"process {live.process.pid}, 1 sessions at work" in skep("doctor").out
    user.open(gate)
    assert live.end().code == 0


def test_version(skep: Skep) -> None:
    assert skep("--version").out == skep("version").out == f"skep {package.__version__}\n"
    assert skep("version", "--json").json == {"version": 1, "skep": package.__version__}


def test_a_workspace_that_cannot_be_written_is_refused_with_what_to_do(skep: Skep, tmp_path: Path) -> None:
    if os.getuid() == 0:
        folder = Path("/proc/self")  # where not even root makes a folder
    else:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
    ran = skep("-C", str(folder), "add", "--run", "true")
    assert ran.code == 1
    assert ran.err.startswith("error: cannot use the state folder")
    assert "Fix:" in ran.err


def test_the_examples_are_listed(skep: Skep) -> None:
    ran = skep("init", "--list")
    assert (ran.code, ran.out.split()[0]) == (0, "hello")
    assert "bugfix" in json.loads(skep("init", "--list", "--json").out)["templates"]


def test_servers_that_not_every_client_can_use_are_named_before_and_while_a_task_is_done(user: User, skep: Skep) -> None:
    user.write(".mcp.json", '{"mcpServers": {"old": {"type": "sse", "url": "http://127.0.0.1:1/sse"}}}')
    client = '#!/bin/sh\necho \'{"type": "turn.completed", "usage": {}}\'\necho made > made.txt\n'
    user.write("codex", client)
    (user.repo.top / "codex").chmod(0o755)
    agent = f"{{runtime: codex, with: {{program: {user.repo.top}/codex}}}}"
    user.write("f.yaml", f"version: 1\nagents: {{coder: {agent}}}\ntasks:\n  a: {{agent: coder, prompt: do it}}\n")
    said = "the MCP server old is left out: codex takes none of type sse"
    assert said in skep("run", "f.yaml", "--dry-run").out
    assert skep("run", "f.yaml", "--dry-run", "--json").json["left_out"] == [said]
    finding = next(one for one in skep("doctor", "--json").json["findings"] if one["name"] == "mcp servers")
    assert (finding["state"], "old of type sse (claude)" in finding["text"]) == ("warning", True)
    assert skep("run", "f.yaml").code == 0
    assert said in skep("logs", "a").out
