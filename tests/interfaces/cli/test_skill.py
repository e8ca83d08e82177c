"""`skep --skill`: what it teaches works, and uses nothing that is not there."""

from __future__ import annotations

import re
import shlex

from skep.interfaces.cli.registry import LATER, SECTIONS
from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User


def test_the_skill_has_its_front_matter_and_names_only_what_there_is(skep: Skep) -> None:
    ran = skep("--skill")
    assert (ran.code, ran.err) == (0, "")
    front = re.match(r"---\nname: ([a-z-]{1,64})\ndescription: (.{1,1024})\n---\n", ran.out)
    assert front
    assert front[1] == "skep"
    named = set(re.findall(r"skep ([a-z]+)", ran.out[front.end() :]))
    assert named <= {name for spots in SECTIONS.values() for name in spots}
    assert not named & LATER


def test_every_command_of_the_skill_runs_as_it_says(user: User, skep: Skep) -> None:
    skill = skep("--skill").out
    written = re.search(r"```yaml file=(\S+)\n(.*?)```", skill, re.DOTALL)
    assert written
    user.write(written[1], written[2])
    lines = [line for block in re.findall(r"```sh\n(.*?)```", skill, re.DOTALL) for line in block.splitlines()]
    assert len(lines) > 10
    for line in lines:
        ran = skep(*shlex.split(line)[1:])
        assert ran.code == 0, (line, ran)
    assert (user.repo.top / "count.txt").read_text().strip() == "2"
    assert (user.repo.top / "copy.txt").read_text() == "alpha\nbeta\n"
