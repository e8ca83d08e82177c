"""What a task does: run, call, prompt; how it ends, and what it is told when it is tried again."""

from __future__ import annotations

import os
import signal

import pytest
from msgspec.structs import replace

import skep
from tests.runtime import calls
from tests.runtime.gates import Gate
from tests.runtime.traces import left_behind
from tests.workspace.repository import Repository

HERE = "tests.runtime.calls:"
#: A module with a function that waits at a gate.
MEET = """
import os
def meet(n, gate):
    os.write(os.open(gate + "/begun", os.O_WRONLY), b"begun\\n")
    os.read(os.open(gate + "/go", os.O_RDONLY), 3)
    return n
"""


async def test_a_string_runs_under_a_strict_bash(session: skep.Session) -> None:
    done, unset, piped = await session.gather(
        await session.submit_many(
            [
                skep.Task(run="echo one; echo $((1 + 1))", mode="none"),
                skep.Task(run="echo $NOT_THERE", mode="none"),
                skep.Task(run="false | true", mode="none"),
            ]
        )
    )
    assert (done.state, done.value, done.exit_code) == ("done", "one\n2", 0)
    assert (unset.state, unset.cause) == ("failed", "exit")
    assert "unbound variable" in unset.detail
    assert (piped.state, piped.exit_code) == ("failed", 1)


async def test_a_list_runs_as_given_without_a_shell(session: skep.Session) -> None:
    result = await (await session.submit(skep.Task(run=("printf", "%s|", "a b", "$HOME", "*"), mode="none"))).result()
    assert result.value == "a b|$HOME|*|"


async def test_a_program_that_is_not_there_fails_its_task_and_is_named(session: skep.Session) -> None:
    result = await (await session.submit(skep.Task(run=("no-such-program",), mode="none"))).result()
    assert (result.state, result.cause) == ("failed", "error")
    assert "no-such-program" in result.detail


async def test_other_exit_codes_may_count_as_success(session: skep.Session) -> None:
    good, bad = await session.gather(
        await session.submit_many(
            [skep.Task(run="exit 3", exit_codes=(0, 3), mode="none"), skep.Task(run="exit 4", exit_codes=(0, 3), mode="none")]
        )
    )
    assert (good.state, good.exit_code) == ("done", 3)
    assert (bad.state, bad.exit_code, bad.detail) == ("failed", 4, "exit code 4")


async def test_a_signal_is_no_success_whatever_the_exit_codes(session: skep.Session) -> None:
    result = await (await session.submit(skep.Task(run="kill -9 $$", exit_codes=(0, 9, 137), mode="none"))).result()
    assert (result.state, result.exit_code) == ("failed", None)
    assert "signal 9" in result.detail


async def test_the_last_error_line_is_in_the_result(session: skep.Session) -> None:
    result = await (await session.submit(skep.Task(run="echo fine; echo 'it broke' >&2; exit 2", mode="none"))).result()
    assert result.detail == "exit code 2: it broke"


async def test_a_callable_of_the_owner_runs_in_its_process(session: skep.Session) -> None:
    results = await session.gather(
        await session.submit_many(
            [
                skep.Task(call=HERE + "pid"),
                skep.Task(call=HERE + "echo", args={"a": [1, {"b": None}], "c": "ü"}),
                skep.Task(call=HERE + "later", args={"n": 1}),
            ]
        )
    )
    assert [result.value for result in results] == [os.getpid(), {"a": [1, {"b": None}], "c": "ü"}, 2]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fail", "ValueError: no good"),
        ("not_there", "not_there"),
        ("unkeepable", "cannot be kept"),
    ],
)
async def test_a_callable_that_cannot_succeed_says_why(session: skep.Session, name: str, says: str) -> None:
    result = await (await session.submit(skep.Task(call=HERE + name, retries=1))).result()
    assert (result.state, result.cause, result.attempts) == ("failed", "error", 2)
    assert says in result.detail


async def test_a_module_that_is_not_there_fails_its_task(session: skep.Session) -> None:
    result = await (await session.submit(skep.Task(call="no_such_module:f"))).result()
    assert (result.state, result.cause) == ("failed", "error")
    assert "no_such_module" in result.detail


async def test_a_callable_of_a_file_runs_in_a_process_of_its_own(hive: skep.Skep, repo: Repository) -> None:
    repo.write({"tools.py": "import os\ndef where(n):\n    print('said')\n    return [n, os.getpid()]\ndef bad(): 1 / 0\n"})
    plan = skep.Plan(
        name="calls",
        tasks=(
            skep.Task(id="good", call="tools:where", args={"n": 7}),
            skep.Task(id="bad", call="tools:bad"),
            skep.Task(id="ends", call="os:_exit", args={"status": 5}),
        ),
    )
    session = await hive.start(plan)
    good, bad, ends = await session.results(["good", "bad", "ends"])
    assert good.ok, good
    assert good.value[0] == 7
    assert good.value[1] != os.getpid()
    assert (bad.state, bad.detail) == ("failed", "ZeroDivisionError: division by zero")
    assert (ends.state, ends.exit_code) == ("failed", 5)


async def test_callables_in_processes_of_their_own_do_not_mix_their_results(
    hive: skep.Skep, repo: Repository, gate: Gate
) -> None:
    repo.write({"tools.py": MEET})
    task = skep.Task(call="tools:meet")
    tasks = tuple(replace(task, id=f"n{n}", args={"n": n, "gate": str(gate.folder)}) for n in range(4))
    session = await hive.start(skep.Plan(name="calls", limits=skep.Limits(agents=4), tasks=tasks))
    await gate.begun(4)
    gate.go(4)
    results = await session.results([task.id for task in tasks])
    assert [result.value for result in results] == [0, 1, 2, 3], results


async def test_prompts_go_to_a_shell_agent_as_a_file(hive: skep.Skep) -> None:
    plan = skep.Plan(
        name="prompts",
        inputs={"who": "Ada"},
        agents=(skep.AgentSpec(name="writer", runtime="shell", options={"run": 'tr a-z A-Z < "$SKEP_PROMPT" > said.txt'}),),
        tasks=(
            skep.Task(id="plan", run="echo a plan; echo 42 > $SKEP_OUT/n", outputs={"n": "n"}),
            skep.Task(id="say", prompt="hello ${{ inputs.who }}, ${{ needs.plan.outputs.n }}, $HOME `x`", needs=("plan",)),
        ),
    )
    session = await hive.start(plan)
    (said,) = await session.results(["say"])
    assert said.ok, said
    assert said.agent == "writer-1"
    assert "\n+HELLO ADA, 42\n+, $HOME `X`\n" in await session.diff("say")


async def test_a_shell_without_a_command_for_prompts_says_what_to_do(hive: skep.Skep) -> None:
    plan = skep.Plan(name="p", agents=(skep.AgentSpec(name="mute", runtime="shell"),), tasks=(skep.Task(id="a", prompt="x"),))
    (result,) = await (await hive.start(plan)).results(["a"])
    assert (result.state, result.cause) == ("failed", "error")
    assert "mute-1" in result.detail


async def test_a_task_that_takes_too_long_is_ended_and_says_so(session: skep.Session) -> None:
    slow, stubborn = await session.gather(
        await session.submit_many(
            [
                skep.Task(run="echo begun; sleep 300", timeout=0.3, mode="none"),
                skep.Task(call=HERE + "wait_forever", timeout=0.1),
            ]
        )
    )
    assert (slow.state, slow.cause, slow.detail) == ("failed", "timed-out", "it took more than 0.3 s")
    assert (stubborn.state, stubborn.cause) == ("failed", "timed-out")


async def test_the_next_attempt_is_told_why_the_last_one_failed(session: skep.Session) -> None:
    script = 'if [ -n "$SKEP_FEEDBACK" ]; then echo "told: $SKEP_FEEDBACK"; else echo "first try"; exit 7; fi'
    result = await (await session.submit(skep.Task(run=script, retries=1, mode="none"))).result()
    assert (result.state, result.attempts) == ("done", 2)
    assert result.value.splitlines() == ["told: exit: exit code 7: first try", "first try"]


async def test_feedback_can_be_withheld(session: skep.Session) -> None:
    task = skep.Task(run='test -z "$SKEP_FEEDBACK"; exit 1', retries=skep.Retries(max=2, feedback=False), mode="none")
    result = await (await session.submit(task)).result()
    assert (result.state, result.attempts, result.detail) == ("failed", 3, "exit code 1")


async def test_a_failed_verification_reaches_the_next_attempt_with_command_exit_code_and_its_last_200_lines(
    session: skep.Session,
) -> None:
    verify = "test -f good || { seq 1 5000; exit 9; }"
    run = 'printf "%s" "$SKEP_FEEDBACK" > "told.txt"; if [ -n "$SKEP_FEEDBACK" ]; then touch good; fi'
    handle = await session.submit(skep.Task(run=run, verify=verify, retries=1))
    result = await handle.result()
    assert (result.state, result.attempts) == ("done", 2)
    told = [line[1:] for line in (await session.diff(handle.id)).splitlines() if line.startswith("+")]
    assert "verify failed: " + verify in told
    assert "exit code 9" in told
    assert [line for line in told if line.isdecimal()] == [str(n) for n in range(4801, 5001)]


async def test_what_failed_is_kept_and_a_retry_can_start_from_it(session: skep.Session, repo: Repository) -> None:
    run = "test -f half && { echo whole > half; exit 0; }; echo half > half; echo again; exit 1"
    fresh, last = await session.gather(
        await session.submit_many(
            [
                skep.Task(run=run, retries=1, merge="never"),
                skep.Task(run=run, retries=skep.Retries(max=1, start="last"), merge="never"),
            ]
        )
    )
    assert (fresh.state, fresh.attempts) == ("failed", 2)
    assert (last.state, last.attempts) == ("done", 2)
    kept = repo("for-each-ref", "--format=%(refname)", "refs/skep/bench/wip").splitlines()
    assert kept == ["refs/skep/bench/wip/t1/1", "refs/skep/bench/wip/t1/2", "refs/skep/bench/wip/t2/1"]
    assert repo.show(kept[0], "half") == "half"


async def test_a_poison_task_does_not_take_the_others_with_it(session: skep.Session) -> None:
    poison = [
        skep.Task(run="ulimit -v 100000; head -c 1G /dev/zero | tail", mode="none"),
        skep.Task(run="exec 1>&- 2>&-; exit 1", mode="none"),
        skep.Task(run=("", "x"), mode="none"),
        skep.Task(run="x", env={"A": "b\0c"}, mode="none"),
        skep.Task(run="x", env={"A=B": "c"}, mode="none"),
        skep.Task(call=HERE + "fail"),
        skep.Task(call="os:abort.nothing"),
    ]
    good = [skep.Task(run="echo fine", mode="none") for _ in range(3)]
    results = await session.gather(await session.submit_many([*poison, *good]))
    assert [result.state for result in results] == ["failed"] * len(poison) + ["done"] * len(good), results


async def test_a_task_that_kills_what_keeps_it_gives_up_and_others_do_not_pay(session: skep.Session) -> None:
    killer = await session.submit(skep.Task(run="kill -9 $PPID", mode="none"))
    result = await killer.result()
    assert (result.state, result.cause, result.attempts) == ("gave-up", "interrupted", 5)
    assert (await (await session.submit(skep.Task(run="echo fine", mode="none"))).result()).value == "fine"


async def test_what_was_running_when_the_keeper_died_runs_again_and_no_failure_is_counted(
    session: skep.Session, gate: Gate
) -> None:
    handle = await session.submit(skep.Task(run=f"{gate.PASS}; echo $SKEP_ATTEMPT", env=gate.env, mode="none"))
    await gate.begun()
    (keeper,) = [process for process in left_behind(session.hive.workspace) if "keeper" in process]
    os.kill(int(keeper.split(":")[0]), signal.SIGKILL)
    await gate.begun()
    gate.go()
    result = await handle.result()
    assert (result.state, result.value, result.attempts) == ("done", "2", 2)


async def test_a_gate_in_this_process_is_left_when_it_opens(session: skep.Session) -> None:
    calls.gate.clear()
    handle = await session.submit(skep.Task(call=HERE + "wait_at_gate"))
    assert (await handle.view()).state == "running"
    calls.gate.set()
    assert (await handle.result()).value == "through"
