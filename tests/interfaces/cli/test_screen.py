"""The live screen, in a window."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User
from tests.interfaces.cli.window import Window

HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"
Open = Callable[..., Window]


@pytest.fixture
def window(user: User) -> Iterator[Open]:
    """Opens windows with a command in front."""
    opened: list[Window] = []

    def start(*args: str, columns: int = 100, lines: int = 24, **env: str) -> Window:
        opened.append(Window(user.command(*args), user.repo.top, user.env | env, columns, lines))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_the_screen_shows_who_works_on_what_asks_and_makes_room_for_the_report(user: User, window: Open, skep: Skep) -> None:
    gate = user.gate("gate")
    user.write(
        "wf.yaml",
        f"version: 1\nname: live\ntasks:\n  slow: {{run: \"printf 'step \\\\033[31mone\\\\007\\\\n'; read x < {gate}\"}}\n"
        "  ask: {run: echo x > x.txt, approve: after}\n",
    )
    run = window("run", "wf.yaml")
    run.until(": is its result good?  skep approve ask")
    run.until("step one")
    assert "1 uncommitted file NOT included" in run.text
    assert "live-1  0/2 done" in run.text
    user.open(gate)
    run.until("live-1  1/2 done")
    assert run.process.poll() is None
    assert skep("approve", "ask").code == 0
    assert run.end() == 0
    assert b"\x1b[31mone" not in run.data
    assert b"one\x07" not in run.data
    assert run.data.rindex(SHOW) > run.data.rindex(HIDE)
    report = run.frames()[-1].splitlines()
    assert "live-1  2/2 done" in run.frames()[-1]
    assert any("ask" in line and "merged" in line for line in report)


def test_no_line_is_wider_and_no_picture_higher_than_the_window(user: User, window: Open) -> None:
    gate = user.gate("gate")
    tasks = "".join(f"  task-{n}: {{mode: none, run: 'echo {'long ' * 40}; read x < {gate}'}}\n" for n in range(30))
    user.write("wf.yaml", f"version: 1\nname: narrow\nlimits: {{agents: 4}}\ntasks:\n{tasks}")
    run = window("run", "wf.yaml", columns=50, lines=10)
    run.until("long long")
    run.until("more ready")
    pictures = [frame for frame in run.frames() if "narrow-1" in frame][1:]
    assert pictures
    for picture in pictures:
        lines = [line for line in picture.splitlines() if line]
        assert len(lines) <= 10
        assert max(len(line) for line in lines) <= 50
    run.type(b"\x03")
    assert run.end() == 130


def test_ctrl_c_says_what_it_does_and_gives_the_terminal_back(user: User, window: Open, skep: Skep) -> None:
    gate = user.gate("gate")
    user.write("wf.yaml", f"version: 1\nname: live\ntasks:\n  slow: {{run: 'echo begun; read x < {gate}'}}\n")
    run = window("run", "wf.yaml")
    run.until("begun")
    run.type(b"\x03")
    assert run.end() == 130
    assert "stopping..." in run.text
    assert "1 attempt interrupted, work kept; no try counted. Resume: skep resume live-1" in run.text
    assert run.data.rindex(SHOW) > run.data.rindex(HIDE)
    assert skep("status", "--json").json["state"] == "paused"


def test_a_dumb_terminal_gets_plain_lines(user: User, window: Open) -> None:
    user.write("wf.yaml", "version: 1\nname: dumb\ntasks:\n  a: {run: 'true'}\n")
    run = window("run", "wf.yaml", TERM="dumb", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert run.end() == 0
    assert b"\x1b" not in run.data
    assert "> a  shell-1" in run.text
    assert run.data.isascii()


def test_without_colour_the_screen_still_works(user: User, window: Open) -> None:
    user.write("wf.yaml", "version: 1\nname: plain\ntasks:\n  a: {run: 'true'}\n")
    run = window("run", "wf.yaml", NO_COLOR="1")
    assert run.end() == 0
    assert b"\x1b[32m" not in run.data
    assert "✔ a" in run.text


def test_leaving_attach_by_its_key_harms_nothing(user: User, window: Open) -> None:
    gate = user.gate("gate")
    user.write(
        "wf.yaml",
        f"version: 1\nname: live\ntasks:\n  slow: {{run: 'printf \"\\033[32mbegun\\033]0;evil\\007\\n\"; read x < {gate}'}}\n",
    )
    run = user.start("run", "wf.yaml")
    run.until("▶ slow")
    watch = window("attach", "slow")
    watch.until("begun")
    assert b"\x1b[32mbegun" in watch.data
    assert b"evil" not in watch.data
    watch.type(b"typed\x1d")
    assert watch.end() == 0
    user.open(gate)
    assert run.end().code == 0


def test_replay_step_by_step_stops_at_a_key_and_shows_how_it_stood(window: Open, skep: Skep) -> None:
    skep("add", "--run", "true")
    step = window("replay", "--step")
    step.until("      1  ")
    step.type(b" ")
    step.until("\n      2  ")
    step.type(b"q")
    assert step.end() == 0
    assert "      3  " not in step.text
    assert "task-1  0/1 done" in step.text
