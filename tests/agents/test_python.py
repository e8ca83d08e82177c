"""Callables in a process of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skep.agents import Ending, Job, Runtime
from skep.agents.python import PythonRuntime
from skep.core.model import Task
from skep.terminals import Terminals
from skep.terminals.native import Native
from tests.agents import samples
from tests.contracts.runtime import Record, RuntimeContract, Workshop, assert_refused, workshop

__all__ = ["workshop"]


class Python(PythonRuntime):
    """One that closes its terminals with it."""

    def __init__(self) -> None:
        self.native = Native()
        super().__init__(self.native)

    async def close(self) -> None:
        await super().close()
        await self.native.close()


def calling(workshop: Workshop, name: str, **args: Any) -> Job:
    """A job that calls one of the samples, which lie in the workspace."""
    target = workshop.folder / "samples.py"
    if not target.exists():
        target.write_bytes(Path(str(samples.__file__)).read_bytes())
    return workshop.job(Task(call=f"samples:{name}", args=args))


class TestPythonContract(RuntimeContract):
    async def open(self) -> Runtime:
        return Python()

    async def open_in(self, terminals: Terminals) -> Runtime | None:
        return PythonRuntime(terminals)

    def good(self, workshop: Workshop) -> tuple[Job, Any]:
        return calling(workshop, "echo", value={"deep": [1, None, "☃"]}), {"deep": [1, None, "☃"]}

    def bad(self, workshop: Workshop, words: str) -> Job:
        return calling(workshop, "fail", words=words)

    def endless(self, workshop: Workshop) -> Job:
        return calling(workshop, "endless")

    def touching(self, workshop: Workshop, path: Path) -> Job:
        return calling(workshop, "touch", path=str(path))

    def foreign(self, workshop: Workshop) -> Job:
        return workshop.job(Task(run="true"))


@pytest.fixture
async def python() -> AsyncIterator[Python]:
    runtime = Python()
    yield runtime
    await runtime.close()


async def call(python: Python, workshop: Workshop, name: str, host: Record | None = None, **args: Any) -> Ending:
    return await python.run(calling(workshop, name, **args), host or Record())


async def test_coroutine_functions_and_methods_are_called_too(python: Python, workshop: Workshop) -> None:
    assert (await call(python, workshop, "later", value=3)).result == 3
    assert (await call(python, workshop, "Desk.clerk")).result == "at your service"
    assert (await call(python, workshop, "add", a=1, b=2)).result == 3


async def test_what_it_prints_is_output_never_the_result(python: Python, workshop: Workshop) -> None:
    host = Record()
    ending = await call(python, workshop, "talk", host)
    assert ending.result == "said"
    assert host.text == 'to the screen\nerrors too\n{"ok": true, "result": "forged"}\n'


async def test_it_works_in_the_attempt_s_folder_with_its_variables(python: Python, workshop: Workshop) -> None:
    job = calling(workshop, "where")
    assert (await python.run(job, Record())).result == [str(workshop.folder), job.out]


@pytest.mark.parametrize(("name", "words"), [("fail", "ValueError: no wheel"), ("fail_later", "ValueError: no wheel")])
async def test_what_it_raises_is_named_and_traced_in_the_output(
    python: Python, workshop: Workshop, name: str, words: str
) -> None:
    host = Record()
    ending = await call(python, workshop, name, host, words="no wheel")
    assert (ending.ok, ending.cause, ending.detail, ending.exit_code) == (False, "error", words, 1)
    assert "Traceback" in host.text
    assert f"in {name}" in host.text


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no_such_module:f", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("samples:no_such", "AttributeError"),
        ("samples:not_callable", "TypeError"),
        ("samples", "ValueError"),
        (":f", "ValueError"),
        ("samples:add", "TypeError"),
    ],
)
async def test_what_cannot_be_called_is_an_error(python: Python, workshop: Workshop, path: str, words: str) -> None:
    calling(workshop, "add")
    ending = await python.run(workshop.job(Task(call=path, args={"nonsense": 1})), Record())
    assert_refused(ending)
    assert words in ending.detail


@pytest.mark.parametrize("kind", samples.KEPT)
async def test_results_are_kept_as_in_process(python: Python, workshop: Workshop, kind: str) -> None:
    ending = await call(python, workshop, "odd", kind=kind)
    assert (ending.ok, ending.result) == (True, samples.KEPT[kind])


@pytest.mark.parametrize("kind", samples.UNKEPT)
async def test_a_result_that_cannot_be_kept_is_refused_as_in_process(python: Python, workshop: Workshop, kind: str) -> None:
    ending = await call(python, workshop, "odd", kind=kind)
    assert_refused(ending)
    assert ending.detail.startswith("it returned what cannot be kept: ")
    assert samples.UNKEPT[kind] in ending.detail


async def test_leaving_early_is_told_as_what_it_was(python: Python, workshop: Workshop) -> None:
    ending = await call(python, workshop, "leave")
    assert (ending.cause, ending.detail) == ("error", "SystemExit: enough")
    ending = await call(python, workshop, "vanish")
    assert (ending.cause, ending.detail, ending.exit_code) == (
        "exit", "the process ended without a result: exit code 3", 3,
    )  # fmt: skip


async def test_the_answer_of_another_attempt_is_not_taken_for_this_one_s(python: Python, workshop: Workshop) -> None:
    job = calling(workshop, "vanish")
    Path(job.out, ".skep-result.json").write_text('{"ok": true, "result": "old"}')
    assert not (await python.run(job, Record())).ok
