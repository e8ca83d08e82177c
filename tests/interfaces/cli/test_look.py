"""`status`, `logs`, `diff`, `open`, `explain`, `replay`: looking, with nothing running."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User

STORY = """
version: 1
name: story
tasks:
  write:
    run: |
      printf '\\033]0;evil\\007\\033[31mred\\033[0m try %s\\n' "$SKEP_ATTEMPT"
      if [ -n "$SKEP_FEEDBACK" ]; then echo good; else echo bad; fi > w.txt
    verify: echo looking; grep good w.txt
    retries: 1
  lost: {run: "echo half > half.txt; echo 'the last words'; exit 7"}
"""


@pytest.fixture
def story(user: User, skep: Skep) -> Skep:
    """A session that is over: one task done at its second try, one failed."""
    user.write("wf.yaml", STORY)
    assert skep("run", "wf.yaml").code == 1
    return skep


def test_how_long_commands_take_is_shown_while_somebody_carries_them_out(user: User, skep: Skep) -> None:
    gate = user.gate("gate")
    user.write("wf.yaml", f"version: 1\nname: t\ntasks:\n  a: {{run: echo begun; read x < {gate}}}\n")
    live = user.start("run", "wf.yaml")
    live.until("▶ a")
    user.start("logs", "a", "-f").until("begun")
    terminals = skep("status", "--json").json["terminals"]
    assert (terminals["open"], terminals["spawn"]["count"], terminals["answer"]["count"]) == (1, 1, 1)
    assert terminals["answer"]["p50"] > 0
    found = {one["name"]: one["text"] for one in skep("doctor", "--json").json["findings"]}
    assert found["terminals"].startswith("1 open, 1 so far; start ")
    user.open(gate)
    assert live.end().code == 0
    assert skep("status", "--json").json["terminals"] is None
    found = {one["name"]: one["text"] for one in skep("doctor", "--json").json["findings"]}
    assert found["terminals"].startswith("latency not available")


def test_status_works_with_nothing_running_and_ends_with_0(story: Skep) -> None:
    ran = story("status")
    assert ran.code == 0
    assert ran.out.startswith("story-1  1/2 done, 1 failed")
    assert "exit code 7: the last words" in ran.out
    view = story("status", "story-1", "--json").json
    assert (view["version"], view["state"], view["live"], view["causes"]) == (1, "failed", False, {"exit": 1})
    assert {task["id"]: task["attempts"] for task in view["tasks"]} == {"write": 2, "lost": 1}


def test_logs_are_those_of_the_newest_attempt_and_its_verification_without_escape_sequences(story: Skep) -> None:
    ran = story("logs", "write")
    assert (ran.code, ran.out.splitlines()[:2]) == (0, ["red try 2", "--- verify of attempt 2"])
    assert "looking" in ran.out
    assert "\x1b" not in ran.out
    assert story("logs", "write", "--attempt", "1").out.startswith("red try 1\n")
    parts = story("logs", "write", "--json").json["recordings"]
    assert [(part["attempt"], part["part"]) for part in parts] == [(2, "agent"), (2, "verify")]
    assert parts[0]["text"] == "red try 2\n"


def test_raw_logs_are_what_was_printed(story: Skep) -> None:
    assert story("logs", "write", "--attempt", "1", "--raw").out.startswith("\x1b]0;evil\x07\x1b[31mred\x1b[0m try 1")


def test_logs_are_searched_over_all_attempts_and_say_by_exit_code_whether_there_was_a_hit(story: Skep) -> None:
    ran = story("logs", "write", "--search", "RED")
    assert (ran.code, ran.out) == (0, "1:1: red try 1\n2:1: red try 2\n")
    hits = story("logs", "write", "--search", "looking", "--json").json["found"]
    assert {(hit["attempt"], hit["part"]) for hit in hits} == {(1, "verify"), (2, "verify")}
    assert story("logs", "write", "--search", "nowhere").code == 1


def test_playing_back_shows_colours_and_drops_what_would_steer_the_terminal(story: Skep) -> None:
    out = story("logs", "write", "--attempt", "1", "--play", "--speed", "100").out
    assert out.startswith("\x1b[31mred\x1b[0m try 1")
    assert "evil" not in out


def test_following_what_is_over_prints_it_and_ends(story: Skep) -> None:
    assert story("logs", "lost", "-f").out == "the last words\n"
    lines = story("logs", "lost", "-f", "--json").lines
    assert [(line["type"], line["attempt"], line["part"]) for line in lines] == [("output", 1, "agent")]


def test_an_attempt_that_was_never_made_has_no_log(story: Skep) -> None:
    ran = story("logs", "write", "--attempt", "9")
    assert ran.code == 2
    assert "Recorded are: 1, 2." in ran.err


def test_attach_shows_the_terminal_and_ends_with_the_task(user: User, skep: Skep) -> None:
    gate = user.gate("gate")
    user.write("wf.yaml", f"version: 1\nname: t\ntasks:\n  a: {{run: echo begun; read x < {gate}; echo over, mode: none}}\n")
    live = user.start("run", "wf.yaml")
    live.until("▶ a")
    watching = user.start("attach", "a")
    watching.until("begun")
    user.open(gate)
    ended = watching.end()
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "over")
    assert live.end().code == 0


def test_the_diff_of_the_session_of_a_task_and_of_what_a_failed_one_left(story: Skep) -> None:
    assert "+good" in story("diff").out
    assert "w.txt | 1 +" in story("diff", "write", "--stat").out
    assert "+half" in story("diff", "lost").out
    assert "+half" in story("diff", "lost", "--json").json["diff"]


def test_open_gives_a_folder_with_the_tasks_work(story: Skep) -> None:
    path = Path(story("open", "write").out.strip())
    assert (path / "w.txt").read_text() == "good\n"
    assert (Path(story("open", "lost", "--json").json["path"]) / "half.txt").exists()


def test_open_starts_the_editor_there(story: Skep, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = user.folder / "editor"
    editor.write_text(f"#!/bin/sh\ncp w.txt {user.folder}\n")
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    assert story("open", "write", "--editor").code == 0
    assert (user.folder / "w.txt").read_text() == "good\n"
    monkeypatch.setenv("EDITOR", "no-such-editor")
    ran = story("open", "write", "--editor")
    assert (ran.code, ran.err.startswith("error: cannot start no-such-editor")) == (1, True)


def test_explain_names_the_agent_the_factors_and_the_next_best(story: Skep) -> None:
    ran = story("explain", "lost")
    assert ran.out.splitlines()[0] == "lost  failed, last by shell-2"
    assert ran.out.splitlines()[1].startswith("-> shell-")
    assert "availability  0.30 x 1.00" in ran.out
    assert "else shell-" in ran.out
    said = story("explain", "lost", "--json").json["explanation"]
    assert (said["method"], set(said["factors"])) == ("scoring", set(said["weights"]))


def test_replay_tells_every_event_in_order(story: Skep) -> None:
    lines = story("replay").out.splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert "try 1 failed, tries again: verify-failed" in "".join(lines)
    assert story("session", "show", "--events").out.splitlines() == lines
    events = story("session", "show", "--events", "--json").lines
    assert [event["seq"] for event in events] == list(range(1, len(lines) + 1))
    assert events[0]["name"] == "session.opened"


def test_replay_shows_how_the_session_stood_after_an_event(story: Skep) -> None:
    events = story("replay", "--json").of("event")
    first = next(event["seq"] for event in events if event["name"] == "attempt.ended")
    last = story("replay", "--to", str(first), "--json").lines[-1]["session"]
    assert (last["seq"], last["counts"].get("done", 0), last["live"]) == (first, 0, False)
    assert "0/2 done" in story("replay", "--to", str(first)).out
    assert story("replay", "--to", str(len(events) + 1)).code == 2


def test_status_of_many_tasks_is_cut_unless_all_are_asked_for(user: User, skep: Skep) -> None:
    tasks = "".join(f"  task-{n}: {{run: 'true', mode: none, approve: before}}\n" for n in range(60))
    user.write("wf.yaml", f"version: 1\nname: many\ntasks:\n{tasks}")
    assert skep("run", "wf.yaml").code == 4
    assert "... 21 more needs-you" in skep("status").out
    assert skep("status", "--all").out.count("NEEDS YOU") == 60


def test_looking_where_nothing_ever_ran_says_so_and_makes_no_state_folder(tmp_path: Path, skep: Skep) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    for line in ("status", "logs x", "session list", "replay", "diff", "stop"):
        ran = skep("-C", str(folder), *line.split())
        assert (ran.code, ran.err.splitlines()[0]) == (2, f"error: there is no session in {folder}")
    assert list(folder.iterdir()) == []


def test_a_command_below_the_workspace_finds_it(story: Skep, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = user.repo.top / "deep" / "inside"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert story("status").out.startswith("story-1")
    assert not (inner / ".skep").exists()


def test_ready_says_what_could_be_taken_and_why_the_rest_waits(user: User, skep: Skep) -> None:
    user.write(
        "wf.yaml",
        """
        version: 1
        name: queue
        tasks:
          late: {run: "true", mode: none}
          soon: {run: "true", mode: none, priority: high}
          after: {run: "true", needs: [soon, late], mode: none}
          asks: {run: "true", approve: before, mode: none}
        """,
    )
    assert skep("session", "create", "queue", "--file", "wf.yaml").code == 0
    found = skep("ready", "--json").json
    assert [(task["id"], task["ready"]) for task in found["tasks"]][:2] == [("soon", True), ("late", True)]
    why = {task["id"]: task["why"] for task in found["tasks"]}
    assert why["after"] == "needs soon, late"
    assert "ready      " in skep("ready").out
    assert skep("resume", "queue", "--ci").code == 4
    asks = next(task for task in skep("ready", "queue", "--json").json["tasks"] if task["id"] == "asks")
    assert (asks["ready"], asks["state"]) == (False, "needs-you")
    assert skep("approve", "asks").code == 0
    assert skep("resume", "queue", "--ci").code == 0
    assert skep("ready").out == "queue has no open task\n"


def test_ready_names_who_holds_a_lock(user: User, skep: Skep) -> None:
    gate = user.gate("gate")
    user.write(
        "wf.yaml",
        f"""
        version: 1
        name: locked
        tasks:
          first: {{run: "echo in; read -r x < {gate}", mode: none, locks: [db]}}
          second: {{run: "true", mode: none, locks: [db]}}
        """,
    )
    live = user.start("run", "wf.yaml", "--ci")
    live.until("first")
    found = {task["id"]: task for task in skep("ready", "--json").json["tasks"]}
    assert found["second"]["why"] == "waits for the lock 'db', held by first"
    assert not found["first"]["ready"]
    user.open(gate)
    assert live.end().code == 0
