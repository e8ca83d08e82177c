"""Phases from the outside: a person, a command and a vote at the gates, what a gate that failed shuts, and its retry."""

from __future__ import annotations

from skep.interfaces.cli import picture
from skep.runtime.phases import PhaseView
from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User
from tests.interfaces.cli.views import view

STORY = """
version: 1
name: ship
agents:
  judge:
    runtime: shell
    count: 2
    with: {run: "cp $SKEP_PROMPT TOLD/$SKEP_TASK; echo '{\\"vote\\": \\"pass\\"}' > $SKEP_OUT/vote.json"}
phases:
  design: {objective: Agree on it, gate: {approve: true}}
  build: {gate: {verify: "test -f sketch && test ! -f code.bad"}}
  review: {objective: Is it good?, gate: {vote: {by: judge}}}
  last: {}
tasks:
  sketch: {run: "echo x > sketch", phase: design}
  code: {run: "touch code.bad", phase: build}
  look: {run: "echo z > looked", phase: review, objective: Look at it}
  tag: {run: 'cat "$SKEP_NEEDS"', phase: last, if: always()}
"""


def phases(skep: Skep) -> dict[str, str]:
    return {one["id"]: one["state"] for one in skep("status", "--json").json["phases"]}


def test_a_session_goes_from_gate_to_gate(user: User, skep: Skep) -> None:
    told = user.folder / "told"
    told.mkdir()
    user.write("wf.yaml", STORY.replace("TOLD", str(told)))
    ran = skep("run", "wf.yaml", "--ci")
    assert ran.code == 4
    assert "may the next phase begin?" in ran.out
    assert 'gate:design -m "why"' in ran.out
    assert phases(skep) == {"design": "open", "build": "waiting", "review": "waiting", "last": "waiting"}
    assert "phase design  open     1/1 done  gate:design is needs-you" in skep("status").out

    assert skep("approve", "gate:design").code == 0
    ran = skep("resume", "--ci")
    assert ran.code == 1
    assert phases(skep) == {"design": "passed", "build": "failed", "review": "closed", "last": "closed"}
    view = {task["id"]: task for task in skep("status", "--json").json["tasks"]}
    assert (view["gate:build"]["state"], view["gate:build"]["gate"], view["gate:build"]["phase"]) == ("failed", True, "build")
    assert (view["tag"]["state"], view["tag"]["cause"]) == ("skipped", "needs")
    assert view["tag"]["detail"] == "the gate of phase build was not passed: exit code 1"
    assert "phase build   failed   1/1 done  the gate of phase build was not passed: exit code 1" in skep("session", "show").out

    assert skep("retry", "gate:build").code == 0
    assert phases(skep)["build"] == "open"
    assert skep("resume", "--ci").code == 1, "what is merged is still bad"

    user.write("wf.yaml", STORY.replace("TOLD", str(told)).replace("touch code.bad", "rm code.bad; echo y > code"))
    assert skep("resume", "--file", "wf.yaml", "--ci").code == 0
    assert set(phases(skep).values()) == {"passed"}
    first = next(path for path in sorted(told.iterdir()) if "judge" in path.name).read_text()
    assert "# The phase review\n\nIs it good?" in first
    assert "- look (done): Look at it" in first
    assert "+z" in first
    assert "+x" not in first, "what an earlier phase changed is not asked about"
    assert skep("logs", "tag").out.strip().endswith("{}"), "a gate is no result that a task is told of"
    assert "gate:review: quorum, 2 voters: 2 of 2 for pass" in skep("candidates", "gate:review").out


def test_the_channel_of_a_phase_is_named_and_not_there(user: User, skep: Skep) -> None:
    user.write("wf.yaml", "version: 1\nphases: {one: {}}\ntasks: {a: {run: 'true', phase: one}}\n")
    assert skep("run", "wf.yaml").code == 0
    (phase,) = skep("status", "--json").json["phases"]
    assert (phase["channel"], phase["coordination"]) == ("phase:one:coordination", "not available")


def test_what_is_added_belongs_to_a_phase_that_is_there(user: User, skep: Skep) -> None:
    user.write("wf.yaml", "version: 1\nphases: {one: {gate: {approve: true}}}\ntasks: {a: {run: 'true', phase: one}}\n")
    assert skep("run", "wf.yaml", "--dry-run").code == 0
    ran = skep("add", "--run", "true", "--phase", "two")
    assert ran.code == 2
    assert "there is no phase 'two'" in ran.err


VOTED = """
version: 1
name: voted
agents: {judge: {runtime: claude, count: 3}, coder: {runtime: claude}}
phases: {build: {gate: {vote: {by: judge}}}, last: {}}
tasks:
  code: {prompt: Build it, agent: coder, phase: build}
  tag: {run: 'true', phase: last}
"""


def test_before_it_starts_it_says_who_votes_and_counts_their_price(user: User, skep: Skep) -> None:
    user.write("wf.yaml", VOTED)
    said = skep("run", "wf.yaml", "--dry-run").out
    assert "voted on by judge-1, judge-2, judge-3" in said
    assert skep("run", "wf.yaml", "--dry-run", "--json").json["estimate"]["tasks"] == 4
    user.write("only.yaml", VOTED.replace("prompt: Build it, agent: coder", "run: 'true'"))
    assert skep("run", "only.yaml", "--dry-run", "--json").json["estimate"]["tasks"] == 3


def test_a_rehearsal_goes_through_the_gates(user: User, skep: Skep) -> None:
    user.write("wf.yaml", VOTED)
    ran = skep("run", "wf.yaml", "--rehearse", "--ci")
    assert ran.code == 0
    assert "phase last is passed" in ran.out
    assert "failed on the work of stand-ins" not in ran.out


def test_the_screen_has_the_phases_on_one_line() -> None:
    def phase(name: str, state: str, tasks: int, done: int, judging: str = "") -> PhaseView:
        said = {"why": "", "gate": f"gate:{name}", "title": "", "channel": ""}
        return PhaseView(id=name, state=state, tasks=tasks, done=done, judging=judging, opened=0, ended=0, **said)

    phases = (phase("design", "passed", 1, 1), phase("build", "open", 5, 5, "running"), phase("ship", "waiting", 1, 0))
    (line,) = picture.phase_line(view(phases=phases))
    assert "".join(part for part, _ in line) == "phases: design passed > build open 5/5, its gate is judged > ship waiting"
    assert picture.phase_line(view()) == []
