"""Commands in a terminal."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from skep.agents import Ending, Job, Runtime
from skep.agents.shell import ShellRuntime
from skep.core.model import Task
from skep.terminals import Terminals
from skep.terminals.native import Native
from tests.contracts.runtime import Record, RuntimeContract, Workshop, assert_refused, workshop

__all__ = ["workshop"]


class Shell(ShellRuntime):
    """One that closes its terminals with it."""

    def __init__(self) -> None:
        self.native = Native()
        super().__init__(self.native)

    async def close(self) -> None:
        await super().close()
        await self.native.close()


class TestShellContract(RuntimeContract):
    async def open(self) -> Runtime:
        return Shell()

    async def open_in(self, terminals: Terminals) -> Runtime | None:
        return ShellRuntime(terminals)

    def good(self, workshop: Workshop) -> tuple[Job, Any]:
        return workshop.job(Task(run="echo fine")), "fine"

    def bad(self, workshop: Workshop, words: str) -> Job:
        return workshop.job(Task(run=f"echo {shlex.quote(words)} >&2; exit 3"))

    def endless(self, workshop: Workshop) -> Job:
        return workshop.job(Task(run="trap '' HUP; setsid sleep 600 & echo on; sleep 600"))

    def touching(self, workshop: Workshop, path: Path) -> Job:
        return workshop.job(Task(run=("touch", str(path))))

    def foreign(self, workshop: Workshop) -> Job:
        return workshop.job(Task(call="os:getpid"))


@pytest.fixture
async def shell() -> AsyncIterator[Shell]:
    runtime = Shell()
    yield runtime
    await runtime.close()


async def run(shell: Shell, workshop: Workshop, task: Task, host: Record | None = None, **options: Any) -> Ending:
    return await shell.run(workshop.job(task, **options), host or Record())


async def test_a_line_runs_under_bash_strictly(shell: Shell, workshop: Workshop) -> None:
    assert (await run(shell, workshop, Task(run="[[ $BASH ]]; echo $((1+2))"))).result == "3"
    for line in ("false; echo on", "echo $unset_name; echo on", "false | cat; echo on"):
        ending = await run(shell, workshop, Task(run=line))
        assert (ending.ok, ending.cause, ending.exit_code) == (False, "exit", 1)


async def test_a_list_runs_as_it_is(shell: Shell, workshop: Workshop) -> None:
    assert (await run(shell, workshop, Task(run=("printf", "%s|", "$HOME", "a b", "*")))).result == "$HOME|a b|*|"


async def test_allowed_exit_codes_are_a_success(shell: Shell, workshop: Workshop) -> None:
    ending = await run(shell, workshop, Task(run="echo half; exit 3", exit_codes=(0, 3)))
    assert (ending.ok, ending.exit_code, ending.result) == (True, 3, "half")
    ending = await run(shell, workshop, Task(run="exit 0", exit_codes=(3,)))
    assert (ending.ok, ending.exit_code, ending.detail) == (False, 0, "exit code 0")


async def test_a_failure_shows_the_last_line_that_says_something(shell: Shell, workshop: Workshop) -> None:
    line = r"printf '\033[31merror: \033[1mno wheel\033[0m\r\n\n   \n'; exit 2"
    ending = await run(shell, workshop, Task(run=line))
    assert (ending.detail, ending.exit_code) == ("exit code 2: error: no wheel", 2)
    ending = await run(shell, workshop, Task(run="echo out of memory; kill -9 $$"))
    assert (ending.cause, ending.detail, ending.exit_code) == ("exit", "ended by signal 9: out of memory", None)


async def test_the_result_is_the_end_of_the_output_in_plain_text(shell: Shell, workshop: Workshop) -> None:
    ending = await run(shell, workshop, Task(run=r"seq 1000; printf '\033]52;c;x\007\033[1mlast\033[0m\n\n'"))
    assert ending.result == "\n".join([*(str(n) for n in range(952, 1_001)), "last"])
    ending = await run(shell, workshop, Task(run="for i in $(seq 40); do printf 'é%.0s' $(seq 200); echo; done"))
    assert len(ending.result.encode()) <= 4_096
    assert set(ending.result) == {"é", "\n"}


async def test_the_host_gets_every_byte_as_it_is(shell: Shell, workshop: Workshop) -> None:
    host = Record()
    await run(shell, workshop, Task(run=r"printf '\033[1m\377\n'"), host)
    assert host.data == b"\x1b[1m\xff\r\n"


async def test_an_agent_with_a_command_gets_prompts_as_a_file(shell: Shell, workshop: Workshop) -> None:
    prompt = workshop.folder / "prompt.txt"
    prompt.write_text("Fix the wheel; rm -rf $HOME")
    job = workshop.job(Task(prompt="Fix the wheel"), run='cat "$SKEP_PROMPT"')
    ending = await shell.run(replace(job, env={**job.env, "SKEP_PROMPT": str(prompt)}), Record())
    assert ending.result == "Fix the wheel; rm -rf $HOME"
    ending = await run(shell, workshop, Task(prompt="x"), run=["echo", "a list"])
    assert ending.result == "a list"


@pytest.mark.parametrize("options", [{}, {"run": ""}, {"run": 3}, {"run": ["echo", 1]}, {"run": {}}])
async def test_an_agent_without_a_command_refuses_prompts(shell: Shell, workshop: Workshop, options: dict[str, Any]) -> None:
    assert_refused(await run(shell, workshop, Task(prompt="Fix it"), **options))


async def test_a_task_s_own_command_comes_before_the_agent_s(shell: Shell, workshop: Workshop) -> None:
    assert (await run(shell, workshop, Task(run="echo task"), run="echo agent")).result == "task"


async def test_nothing_can_be_read_unless_the_agent_has_the_terminal(shell: Shell, workshop: Workshop) -> None:
    line = "if test -t 0; then echo terminal; else wc -c; fi; test -t 1"
    assert (await run(shell, workshop, Task(run=line))).result == "0"
    assert (await run(shell, workshop, Task(run=line), tty=True)).result == "terminal"


@pytest.mark.parametrize("task", [Task(run=("no-such-program",)), Task(run=("/",)), Task(run=("echo", "a\0b"))])
async def test_what_can_never_start_is_an_error(shell: Shell, workshop: Workshop, task: Task) -> None:
    assert_refused(await run(shell, workshop, task))


async def test_a_missing_bash_is_named(shell: Shell, workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = workshop.job(Task(run="true"))
    ending = await shell.run(replace(job, env={"PATH": str(tmp_path)}), Record())
    assert_refused(ending)
    assert "'bash'" in ending.detail
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "bash is not on the PATH" in shell.check()


async def test_a_lost_folder_is_an_error_that_names_it(shell: Shell, workshop: Workshop) -> None:
    ending = await shell.run(replace(workshop.job(Task(run="true")), cwd="/no/such/folder"), Record())
    assert_refused(ending)
    assert "/no/such/folder" in ending.detail


async def test_without_terminals_it_is_the_machine_s_failure(
    shell: Shell, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("os.openpty", none)
    ending = await run(shell, workshop, Task(run="true"))
    assert (ending.ok, ending.cause) == (False, "infrastructure")
    assert "Too many open files" in ending.detail
