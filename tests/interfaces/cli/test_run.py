"""`run`, `add`, `resume`: what is carried out, what is printed, with what the command ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User
from tests.workspace.repository import Repository

WELL = """
version: 1
name: well
tasks:
  one: {run: echo one > one.txt}
  two: {needs: [one], run: cat one.txt > two.txt, verify: grep one two.txt}
"""
BADLY = """
version: 1
name: badly
tasks:
  fine: {run: echo fine > fine.txt}
  broken: {run: "echo 'all is lost' >&2; exit 3"}
  after: {needs: [broken], run: "true"}
"""
ASKING = """
version: 1
name: asking
tasks:
  plan: {run: echo plan > plan.txt, approve: after}
  build: {needs: [plan], run: cat plan.txt > build.txt}
"""


def waiting(gate: Path, name: str = "waiting") -> str:
    return f"""
version: 1
name: {name}
tasks:
  first: {{run: "echo >> {gate.parent}/first-ran; echo first > first.txt"}}
  second: {{needs: [first], run: "echo I wait; echo half > half.txt; read x < {gate}; echo done > half.txt"}}
"""


def test_a_run_prints_one_line_per_change_and_a_report(user: User, skep: Skep) -> None:
    user.write("wf.yaml", WELL)
    before = user.repo.fingerprint()
    ran = skep("run", "wf.yaml")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == "well-1  unconfined"
    assert "1 uncommitted file NOT included" in lines[1]
    assert [line.split()[:2] for line in lines if line.startswith("▶")] == [["▶", "one"], ["▶", "two"], ["▶", "two"]]
    assert sum("merged as" in line for line in lines) == 2
    assert "2/2 done" in ran.out
    assert "trunk+2 commits  completed  unconfined" in ran.out
    assert "skep merge well-1" in ran.out
    assert "\x1b" not in ran.out
    assert user.repo.fingerprint() == before


def test_a_failed_task_gives_exit_code_1_with_its_last_error_line_and_the_cause(user: User, skep: Skep) -> None:
    user.write("wf.yaml", BADLY)
    ran = skep("run", "wf.yaml")
    assert ran.code == 1
    report = ran.out.split("\n\n")[-1]
    assert "failed: exit code 3: all is lost" in report
    assert "skipped: broken is failed" in report
    assert "not done: 1 exit, 1 needs" in report
    assert "skep retry broken" in report


def test_json_lines_begin_with_the_session_and_end_with_the_result(user: User, skep: Skep) -> None:
    user.write("wf.yaml", BADLY)
    ran = skep("run", "wf.yaml", "--json")
    first, last = ran.lines[0], ran.lines[-1]
    assert (first["type"], first["session"]["name"], first["session"]["confinement"]) == ("session", "badly-1", "unconfined")
    assert "tasks" not in first["session"]
    assert (last["type"], last["exit"], last["session"]["state"]) == ("result", 1, "failed")
    assert {task["id"]: task["cause"] for task in last["session"]["tasks"]} == {"fine": "", "broken": "exit", "after": "needs"}
    assert [line["seq"] for line in ran.of("event")] == list(range(1, last["session"]["seq"] + 1))
    assert {"session.opened", "task.assigned", "attempt.ended", "task.merged"} <= {line["name"] for line in ran.of("event")}
    assert all(line["version"] == 1 for line in ran.lines)


def test_without_a_terminal_a_question_ends_the_run_with_4_and_the_commands_to_go_on(user: User, skep: Skep) -> None:
    user.write("wf.yaml", ASKING)
    ran = skep("run", "wf.yaml")
    assert ran.code == 4
    assert "skep approve plan" in ran.out
    assert "skep resume asking-1" in ran.out
    assert skep("status", "--json").json["idle"] == "needs you: plan"
    said = skep("approve", "plan")
    assert said.out == "approved plan\nnext: skep resume asking-1\n"
    ran = skep("resume")
    assert ran.code == 0
    assert "▶ plan" not in ran.out
    assert "2/2 done" in ran.out


def test_a_limit_ends_the_run_with_3(user: User, skep: Skep) -> None:
    user.write("wf.yaml", "version: 1\nname: long\nlimits: {time: 0.5s}\ntasks:\n  a: {run: sleep 60}\n")
    ran = skep("run", "wf.yaml")
    assert ran.code == 3
    assert "paused: time limit reached" in ran.out


@pytest.mark.parametrize("whose", ["task", "agent"])
def test_time_that_is_used_up_ends_the_run_with_3(user: User, skep: Skep, whose: str) -> None:
    budget = "budget: {time: 0.5s}"
    agent = f"\nagents: {{sh: {{runtime: shell, {budget}}}}}" if whose == "agent" else ""
    task = budget if whose == "task" else "agent: sh"
    user.write("wf.yaml", f"version: 1\nname: long{agent}\ntasks:\n  a: {{run: sleep 60, retries: 5, {task}}}\n")
    ran = skep("run", "wf.yaml")
    assert ran.code == 3
    said = "its budget of 0.5 s at work is used up" if whose == "task" else "paused: the budget of an agent is used up: sh"
    assert said in ran.out
    assert skep("status", "--json").json["tasks"][0]["attempts"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_keeps_its_work_and_ends_with_130(user: User, number: int) -> None:
    gate = user.gate("gate")
    user.write("wf.yaml", waiting(gate))
    live = user.start("run", "wf.yaml")
    live.until("▶ second")
    user.start("logs", "second", "-f").until("I wait")
    live.signal(number)
    ended = live.end()
    assert ended.code == 130
    assert "stopping...\n" in ended.out
    assert "1 attempt interrupted, work kept; no try counted. Resume: skep resume waiting-1" in ended.out
    assert "its work is kept as" in ended.out
    assert ended.err == ""


def test_a_second_interrupt_ends_at_once_and_resuming_keeps_the_work(user: User, skep: Skep) -> None:
    stubborn = "trap '' TERM; echo half > half.txt; echo begun; while :; do read -t 9 < <(sleep 9) || true; done"
    user.write("wf.yaml", f"version: 1\nname: s\ntasks:\n  a: {{run: {json.dumps(stubborn)}}}\n")
    live = user.start("run", "wf.yaml")
    live.until("▶ a")
    user.start("logs", "a", "-f").until("begun")
    live.signal(signal.SIGINT)
    live.until("stopping...")
    live.signal(signal.SIGINT)
    ended = live.end()
    assert ended.code == 130
    assert "leaving at once: what still runs is killed, work kept; no try counted. Resume: skep resume s-1" in ended.out
    again = user.start("resume")
    again.until("▶ a")
    again.signal(signal.SIGINT)
    assert again.end().code == 130
    events = skep("replay", "--json").of("event")
    (first, *_) = [line["event"] for line in events if line["name"] == "attempt.ended"]
    assert (first["outcome"], first["counted"]) == ("interrupted", False)
    assert user.repo.show(first["commit"], "half.txt") == "half"


def test_after_kill_nine_resume_goes_on_and_no_done_task_runs_again(user: User, skep: Skep) -> None:
    gate = user.gate("gate")
    user.write("wf.yaml", waiting(gate))
    live = user.start("run", "wf.yaml")
    live.until("▶ second")
    live.process.kill()
    live.end()
    status = skep("status", "--json").json
    assert {task["id"]: task["state"] for task in status["tasks"]} == {"first": "done", "second": "running"}
    assert (status["live"], status["idle"]) == (False, "nobody carries it out; go on with `skep resume`")
    assert "skep resume waiting-1" in skep("run", "wf.yaml").err
    again = user.start("resume")
    again.until("▶ second")
    user.open(gate)
    ended = again.end()
    assert ended.code == 0
    assert (user.folder / "first-ran").read_text().count("\n") == 1
    assert user.repo.show(skep("status", "--json").json["tip"], "half.txt") == "done"


def test_an_unfinished_session_of_a_file_is_not_begun_twice_unless_asked(user: User, skep: Skep) -> None:
    user.write("wf.yaml", ASKING)
    assert skep("run", "wf.yaml").code == 4
    refused = skep("run", "wf.yaml")
    assert refused.code == 1
    assert "session asking-1 of this file is unfinished" in refused.err
    assert "skep run --new" in refused.err
    assert skep("run", "wf.yaml", "--new", "--json").lines[0]["session"]["name"] == "asking-2"


def test_a_dry_run_shows_levels_agents_and_reasons_and_touches_nothing(user: User, skep: Skep) -> None:
    user.write("wf.yaml", WELL)
    ran = skep("run", "wf.yaml", "--dry-run")
    assert "as if it were the first" in ran.out
    assert ran.code == 0
    assert ran.out.index("level 1") < ran.out.index("one") < ran.out.index("level 2") < ran.out.index("two")
    assert "-> shell-1  score 0." in ran.out
    assert "no attempts yet" in ran.out
    steps = skep("run", "wf.yaml", "--dry-run", "--json").json["tasks"]
    assert [(step["task"], step["level"], step["needs"]) for step in steps] == [("one", 1, []), ("two", 2, ["one"])]
    assert steps[0]["explanation"]["factors"]["availability"] == 1.0
    assert not (user.repo.top / ".skep").exists()


def test_inputs_and_a_selected_part(user: User, skep: Skep) -> None:
    user.write(
        "wf.yaml",
        "version: 1\nname: part\ninputs: {word: {required: true}}\ntasks:\n"
        "  a: {run: 'cp $SKEP_INPUTS in.json'}\n  b: {needs: [a], run: 'true'}\n  c: {run: 'exit 9'}\n",
    )
    assert skep("run", "wf.yaml").code == 2
    ran = skep("run", "wf.yaml", "-i", "word=a=b", "--select", "a+", "--json")
    view = ran.lines[-1]["session"]
    assert (ran.code, sorted(task["id"] for task in view["tasks"])) == (0, ["a", "b"])
    assert user.repo.show(view["tip"], "in.json") == '{"word":"a=b"}'


def test_the_junit_report_is_written_when_the_run_is_over(user: User, skep: Skep) -> None:
    user.write("wf.yaml", BADLY)
    assert skep("run", "wf.yaml", "--ci", "--report", "junit=out.xml").code == 1
    suite = ElementTree.parse(user.repo.top / "out.xml").getroot()
    assert {case.get("name"): [child.tag for child in case] for case in suite} == {
        "fine": [],
        "broken": ["failure"],
        "after": ["skipped"],
    }
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    assert "all is lost" in str(suite[1][0].get("message"))


def test_without_git_it_works_on_copies_and_says_so(tmp_path: Path, skep: Skep) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "wf.yaml").write_text(WELL)
    ran = skep("-C", str(folder), "run", str(folder / "wf.yaml"))
    assert ran.code == 0
    assert ran.out.count("no git repository with a commit: every attempt works on a copy") == 1
    assert skep("-C", str(folder), "merge").code == 0
    assert (folder / "two.txt").read_text() == "one\n"


def test_a_second_terminal_works_through_the_live_run(user: User, skep: Skep) -> None:
    gate = user.gate("gate")
    user.write("wf.yaml", waiting(gate))
    live = user.start("run", "wf.yaml")
    live.until("▶ second")
    status = skep("status", "--json").json
    assert (status["live"], status["counts"]) == (True, {"done": 1, "running": 1})
    assert "at work" in skep("session", "list").out
    added = skep("add", "--run", "echo more > more.txt", "--id", "more", "--json").json
    assert (added["session"], added["task"]) == ("waiting-1", "more")
    live.until("✔ more")
    watching = user.start("status", "--watch", "--json")
    watching.until('"type":"session"')
    user.open(gate)
    assert watching.end().of("result")[0]["session"]["state"] == "completed"
    ended = live.end()
    assert ended.code == 0
    assert "3/3 done" in ended.out


def test_a_guest_goes_on_when_the_owner_is_killed(user: User) -> None:
    one, two = user.gate("one"), user.gate("two")
    user.write("one.yaml", waiting(one, "one"))
    user.write("two.yaml", waiting(two, "two"))
    owner = user.start("run", "one.yaml")
    owner.until("▶ second")
    guest = user.start("run", "two.yaml")
    guest.until("▶ second")
    owner.process.kill()
    owner.end()
    guest.until("▶ second  shell-1 try 2")
    user.open(two)
    ended = guest.end()
    assert ended.code == 0
    assert "no try counted" in ended.out or "2 tries" in ended.out


def test_an_owner_whose_work_is_done_stays_for_its_guests_and_says_so(user: User) -> None:
    gate = user.gate("gate")
    short = user.gate("short")
    user.write("short.yaml", f"version: 1\nname: short\ntasks:\n  a: {{run: 'read x < {short}'}}\n")
    user.write("wf.yaml", waiting(gate))
    owner = user.start("run", "short.yaml")
    owner.until("▶ a")
    guest = user.start("run", "wf.yaml")
    guest.until("▶ second")
    user.open(short)
    owner.until("done here; staying for 1 guest")
    assert owner.process.poll() is None
    user.open(gate)
    ended = guest.end()
    assert (ended.code, "try 2" in ended.out) == (0, False)
    assert owner.end().code == 0


def test_detached_it_goes_on_alone_and_can_be_stopped(user: User, skep: Skep) -> None:
    gate = user.gate("gate")
    user.write("wf.yaml", waiting(gate))
    begun = user.run("run", "wf.yaml", "--detach", "--json").json
    assert begun["session"] == "waiting-1"
    assert os.getsid(begun["pid"]) == begun["pid"]
    user.start("logs", "second", "-f").until("I wait")
    stopped = skep("stop", "--json").json
    assert stopped["interrupted"] == 1
    assert skep("status", "--json").json["state"] == "paused"
    subprocess.run(["tail", f"--pid={begun['pid']}", "-f", "/dev/null"], timeout=30, check=True)
    assert "skep resume waiting-1" in (user.repo.top / ".skep/owner.log").read_text()


def test_what_is_wrong_is_said_before_a_run_goes_to_the_background(user: User) -> None:
    user.write("wf.yaml", "version: 1\nname: x\ntasks:\n  a: {needs: [b], run: x}\n")
    ran = user.run("run", "wf.yaml", "--detach")
    assert ran.code == 2
    assert "task 'a' needs 'b'" in ran.err


def test_add_without_a_live_session_carries_the_task_out(skep: Skep, repo: Repository) -> None:
    ran = skep("add", "--run", "echo hi > hi.txt", "--json")
    view = ran.lines[-1]["session"]
    assert (ran.code, view["name"], view["state"]) == (0, "task-1", "completed")
    assert repo.show(view["tip"], "hi.txt") == "hi"
    ran = skep("add", "--run", "cat hi.txt", "--needs", "t1", "-s", "task-1", "--json")
    assert (ran.code, len(ran.lines[-1]["session"]["tasks"])) == (0, 2)


def test_a_reader_that_leaves_stops_the_run_quietly(user: User, skep: Skep) -> None:
    gate = user.gate("gate")
    user.write("wf.yaml", waiting(gate))
    live = user.start("run", "wf.yaml")
    live.until("▶ second")
    assert live.process.stdout is not None
    live.process.stdout.close()
    skep("add", "--run", "true")
    assert live.process.stderr is not None
    assert (live.process.wait(30), live.process.stderr.read()) == (130, b"")
    assert skep("status", "--json").json["state"] == "paused"


def test_resume_answers_what_it_is_told_to_decide(user: User, skep: Skep) -> None:
    user.write("wf.yaml", ASKING)
    assert skep("run", "wf.yaml").code == 4
    assert skep("resume", "--decide", "plan=approve").code == 0
