"""Callables in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from skep.agents import Ending, Job, Runtime
from skep.agents import inprocess as module
from skep.agents.inprocess import InProcess
from skep.core.model import Task
from tests.agents import samples
from tests.contracts.runtime import Record, RuntimeContract, Workshop, assert_refused, workshop

__all__ = ["workshop"]

SAMPLES = "tests.agents.samples"


class TestInProcessContract(RuntimeContract):
    processes = False

    async def open(self) -> Runtime:
        return InProcess()

    def good(self, workshop: Workshop) -> tuple[Job, Any]:
        return workshop.job(task("echo", value=[1, "☃"])), [1, "☃"]

    def bad(self, workshop: Workshop, words: str) -> Job:
        return workshop.job(task("fail_later", words=words))

    def endless(self, workshop: Workshop) -> Job:
        samples.under_way.clear()
        return workshop.job(task("endless_later"))

    async def started(self, workshop: Workshop, host: Record) -> None:
        await samples.under_way.wait()

    def touching(self, workshop: Workshop, path: Path) -> Job:
        return workshop.job(task("touch", path=str(path)))

    def foreign(self, workshop: Workshop) -> Job:
        return workshop.job(Task(run="true"))


@pytest.fixture
async def here() -> AsyncIterator[InProcess]:
    runtime = InProcess()
    yield runtime
    await runtime.close()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    samples.gate.clear()
    samples.arrived = threading.Semaphore(0)
    yield samples.gate
    samples.gate.set()


def task(name: str, timeout: float = 0.0, **args: Any) -> Task:
    return Task(call=f"{SAMPLES}:{name}", args=args, timeout=timeout)


async def arrivals(count: int) -> None:
    """Waits until so many calls of `wait_at_gate` are under way."""
    for _ in range(count):
        assert await asyncio.to_thread(samples.arrived.acquire, timeout=10)


async def call(here: InProcess, what: Task) -> Ending:
    over: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
    here.start(what, object(), over.set_result)
    return await over


@pytest.mark.parametrize("name", ["echo", "later"])
async def test_ten_thousand_calls_all_come_back_with_their_own_result(here: InProcess, name: str) -> None:
    got: dict[int, Any] = {}
    over = asyncio.Event()

    def done(n: int, ending: Ending) -> None:
        assert n not in got
        got[n] = ending.result
        if len(got) == 10_000:
            over.set()

    for n in range(10_000):
        here.start(task(name, value=n), n, lambda ending, n=n: done(n, ending))  # type: ignore[misc]  # binds n
    await over.wait()
    assert got == {n: n for n in range(10_000)}
    assert len(here._threads) <= 4


async def test_one_call_after_the_other_waits_for_no_timer(here: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 3_600.0)
    for n in range(100):
        assert (await call(here, task("echo", value=n))).result == n


async def test_a_slow_call_holds_up_neither_results_before_it_nor_calls_after_it(here: InProcess, gate: threading.Event) -> None:
    order: list[str] = []
    slow = asyncio.ensure_future(named(here, "slow", task("wait_at_gate"), order))
    await asyncio.sleep(0)
    await asyncio.gather(*(named(here, f"{n}", task("echo"), order) for n in range(20)))
    assert "slow" not in order
    gate.set()
    await slow
    assert sorted(order) == sorted(["slow", *(f"{n}" for n in range(20))])


async def named(here: InProcess, name: str, what: Task, order: list[str]) -> None:
    await call(here, what)
    order.append(name)


async def test_calls_that_wait_run_at_the_same_time(here: InProcess) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(call(here, task("nap", seconds=0.2)) for _ in range(50)))
    assert loop.time() - began < 50 * 0.2 / 2


async def test_threads_are_bounded_and_the_rest_waits(
    here: InProcess, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_THREADS", 3)
    calls = [asyncio.ensure_future(call(here, task("wait_at_gate", value=n))) for n in range(10)]
    await arrivals(3)
    gate.set()
    assert [ending.result for ending in await asyncio.gather(*calls)] == list(range(10))
    assert len(here._threads) == 3


@pytest.mark.parametrize("name", ["fail", "fail_later"])
async def test_what_it_raises_is_named(here: InProcess, name: str) -> None:
    ending = await call(here, task(name, words="no wheel"))
    assert (ending.ok, ending.cause, ending.detail) == (False, "error", "ValueError: no wheel")


@pytest.mark.parametrize(
    "path", ["no_such_module:f", f"{SAMPLES}:no_such", f"{SAMPLES}:not_callable", SAMPLES, ":f", "", f"{SAMPLES}:add", "a b:c"]
)
async def test_what_cannot_be_called_is_an_error(here: InProcess, path: str) -> None:
    assert_refused(await call(here, Task(call=path, args={"nonsense": 1})))


async def test_an_error_that_cannot_be_shown_ends_the_call_all_the_same(here: InProcess) -> None:
    ending = await asyncio.wait_for(call(here, task("fail_mutely")), 10)
    assert (ending.ok, ending.cause, ending.detail) == (False, "error", "Mute: it cannot be shown as text")
    assert (await call(here, task("echo", value=1))).result == 1


async def test_a_module_that_fails_to_import_is_an_error(
    here: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_on_import.py").write_text("1/0")
    monkeypatch.syspath_prepend(str(tmp_path))
    ending = await call(here, Task(call="broken_on_import:f"))
    assert_refused(ending)
    assert "ZeroDivisionError" in ending.detail


async def test_leaving_the_interpreter_ends_the_call_only(here: InProcess) -> None:
    assert (await call(here, task("leave"))).detail == "SystemExit: enough"
    assert (await call(here, task("add", a=1))).result == 1


@pytest.mark.parametrize("kind", samples.KEPT)
async def test_results_are_kept_as_json_has_them(here: InProcess, kind: str) -> None:
    assert await call(here, task("odd", kind=kind)) == Ending(ok=True, result=samples.KEPT[kind])


@pytest.mark.parametrize("kind", samples.UNKEPT)
async def test_a_result_that_cannot_be_kept_is_an_error_that_names_its_place(here: InProcess, kind: str) -> None:
    ending = await call(here, task("odd", kind=kind))
    assert_refused(ending)
    assert ending.detail.startswith("it returned what cannot be kept: ")
    assert samples.UNKEPT[kind] in ending.detail


async def test_an_error_without_words_is_told_by_its_name(here: InProcess) -> None:
    assert (await call(here, task("complain"))).detail == "ValueError"
    assert (await call(here, task("give_up"))).detail == "it was cancelled, not by Skep"


async def test_time_is_bounded_for_coroutines_and_judged_for_functions(here: InProcess, tmp_path: Path) -> None:
    ending = await call(here, task("endless_later", timeout=0.01))
    assert (ending.cause, ending.detail) == ("timed-out", "it took more than 0.01 s")
    ending = await call(here, task("nap", timeout=0.01, seconds=0.05))
    assert (ending.cause, ending.detail) == ("timed-out", "it took more than 0.01 s")
    assert (await call(here, task("later", timeout=60, value=1))).result == 1


async def test_a_cancelled_call_that_did_not_begin_never_does(
    here: InProcess, gate: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_THREADS", 1)
    first = asyncio.ensure_future(call(here, task("wait_at_gate")))
    await asyncio.sleep(0)
    here.start(task("touch", path=str(tmp_path / "ran")), "second", unexpected)
    await arrivals(1)
    assert await here.cancel("second")
    assert not await here.cancel("second")
    gate.set()
    await first
    assert (await call(here, task("echo", value=1))).result == 1
    assert not (tmp_path / "ran").exists()


async def test_cancelling_a_function_waits_for_its_end_and_drops_its_result(here: InProcess, gate: threading.Event) -> None:
    here.start(task("wait_at_gate"), "key", unexpected)
    await arrivals(1)
    cancelling = asyncio.ensure_future(here.cancel("key"))
    await call(here, task("echo"))
    assert not cancelling.done()
    gate.set()
    assert await cancelling


async def test_cancelling_a_coroutine_ends_it_at_once(here: InProcess, tmp_path: Path) -> None:
    here.start(task("endless_later"), "key", unexpected)
    assert await here.cancel("key")
    assert not await here.cancel("key")
    assert not await here.cancel("another")


async def test_a_coroutine_that_somebody_else_cancels_was_interrupted(here: InProcess, tmp_path: Path) -> None:
    over: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
    here.start(task("endless_later"), "key", over.set_result)
    await asyncio.sleep(0)
    here._coroutines["key"].cancel()
    ending = await over
    assert (ending.ok, ending.cause, ending.interrupted) == (False, "interrupted", True)


async def test_closing_ends_coroutines_drops_what_waits_and_lets_threads_go(tmp_path: Path, gate: threading.Event) -> None:
    here = InProcess()
    here.start(task("endless_later"), 1, unexpected)
    here.start(task("wait_at_gate"), 2, unexpected)
    here.start(task("touch", path=str(tmp_path / "ran")), 3, unexpected)
    await here.close()
    gate.set()
    for thread in here._threads:
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()


def unexpected(ending: Ending) -> None:
    pytest.fail(f"nobody should be told about this call, but was: {ending}")
