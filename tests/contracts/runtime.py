"""What every runtime does. A runtime passes when a subclass with `open` and a few jobs does."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from skep.agents import LOST, Ask, Ending, Job, Report, Runtime, Said, Spent, Talks, Used, Verdict
from skep.agents.door import Request
from skep.core.model import Task
from skep.terminals import Terminals
from skep.terminals.native import Native
from tests.clients.model_server import ModelServer
from tests.contracts.terminal import PATH, Screen
from tests.terminals.processes import alive, carrying, kill

R = TypeVar("R")


class Record(Screen):
    """A host: keeps what an attempt says, and lets its process go on only when told to."""

    def __init__(self, held: bool = False) -> None:
        super().__init__()
        self.pids: list[int] = []
        self.reports: list[Report] = []
        self.asked: list[Ask] = []
        self.served: list[Request] = []
        self.answer: Any = None
        self.verdict = Verdict(True)
        self.hear: Callable[[str], None] | None = None
        self.listened = False
        self.arrived = asyncio.Event()
        self.recorded = asyncio.Event()
        if not held:
            self.recorded.set()

    async def spawned(self, pid: int, born: int) -> None:
        self.pids.append(pid)
        self.arrived.set()
        await self.recorded.wait()

    def output(self, data: bytes) -> None:
        self(data)

    def report(self, report: Report) -> None:
        self.reports.append(report)

    async def ask(self, ask: Ask) -> Verdict:
        self.asked.append(ask)
        return self.verdict

    async def serve(self, request: Request) -> Any:
        self.served.append(request)
        return self.answer

    def listen(self, hear: Callable[[str], None] | None) -> None:
        self.hear = hear
        self.listened = True

    def told(self, kind: type[R]) -> list[R]:
        """The reports of this kind."""
        return [report for report in self.reports if isinstance(report, kind)]


class Workshop:
    """A folder with what an attempt needs, and jobs for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def job(self, task: Task, **options: Any) -> Job:
        """A job for this task; options are the agent's `with`."""
        nonce = secrets.token_hex(16)
        out = self.folder / nonce / "out"
        out.mkdir(parents=True)
        env = {"PATH": PATH, "SKEP_OUT": str(out), "SKEP_WORKSPACE": str(self.folder), "HOME": str(self.folder)}
        return Job(
            task=replace(task, id=task.id or "t1"), n=1, nonce=nonce, agent="agent-1", options=options,
            cwd=str(self.folder), out=str(out), env=env, feedback="",
        )  # fmt: skip


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


class RuntimeContract:
    """Subclass it with `open` and the jobs."""

    #: Whether it starts processes, which are recorded first.
    processes = True
    #: How many attempts are carried out at once.
    many = 8
    #: The model that its agents ask, for a runtime with one: then it has `scripted`.
    server: ModelServer | None = None

    async def open(self) -> Runtime:
        raise NotImplementedError

    async def open_in(self, terminals: Terminals) -> Runtime | None:
        """One that starts its processes there, None if it starts none."""
        return None

    def good(self, workshop: Workshop) -> tuple[Job, Any]:
        """A job that ends well, and its result."""
        raise NotImplementedError

    def bad(self, workshop: Workshop, words: str) -> Job:
        """A job that fails, saying these words."""
        raise NotImplementedError

    def endless(self, workshop: Workshop) -> Job:
        """A job that says `on` somehow and then goes on for ever; with processes, it leaves one in a session of its own."""
        raise NotImplementedError

    def touching(self, workshop: Workshop, path: Path) -> Job:
        """A job that makes this file."""
        raise NotImplementedError

    def foreign(self, workshop: Workshop) -> Job:
        """A job that is not for this runtime."""
        raise NotImplementedError

    def scripted(self, workshop: Workshop, prompt: str) -> Job:
        """A job whose model does what the prompt says (`tests/clients/script.py`), and which may do everything."""
        raise NotImplementedError

    def asking(self, workshop: Workshop, path: Path) -> Job:
        """One that asks before it makes this file, for a runtime that can ask."""
        raise NotImplementedError

    def between(self, workshop: Workshop) -> None:
        """Something that has to happen before a client can go on in its conversation."""

    @pytest.fixture
    async def runtime(self) -> AsyncIterator[Runtime]:
        runtime = await self.open()
        yield runtime
        await runtime.close()

    async def started(self, workshop: Workshop, host: Record) -> None:
        """Waits until an endless job is under way."""
        await host.until("on")

    def test_it_says_that_it_can_be_used_here(self, runtime: Runtime) -> None:
        assert runtime.check() == ""
        assert runtime.name.islower()

    async def test_a_good_end_has_a_result(self, runtime: Runtime, workshop: Workshop) -> None:
        job, result = self.good(workshop)
        ending = await runtime.run(job, Record())
        assert (ending.ok, ending.cause, ending.detail, ending.result, ending.interrupted) == (True, "", "", result, False)

    async def test_a_bad_end_says_why(self, runtime: Runtime, workshop: Workshop) -> None:
        ending = await runtime.run(self.bad(workshop, "the wheel came off"), Record())
        assert not ending.ok
        assert ending.cause in ("exit", "error")
        assert "the wheel came off" in ending.detail
        assert "\n" not in ending.detail

    async def test_nothing_runs_before_it_is_recorded(self, runtime: Runtime, workshop: Workshop, tmp_path: Path) -> None:
        if not self.processes:
            ending = await runtime.run(self.touching(workshop, tmp_path / "ran"), host := Record())
            assert ending.ok
            assert host.pids == []
            return
        host = Record(held=True)
        running = asyncio.ensure_future(runtime.run(self.touching(workshop, tmp_path / "ran"), host))
        await host.arrived.wait()
        assert alive(host.pids[0])
        assert not (tmp_path / "ran").exists()
        host.recorded.set()
        assert (await running).ok
        assert (tmp_path / "ran").exists()
        assert len(host.pids) == 1

    async def test_what_cannot_be_recorded_never_runs(self, runtime: Runtime, workshop: Workshop, tmp_path: Path) -> None:
        class Full(Record):
            async def spawned(self, pid: int, born: int) -> None:
                self.pids.append(pid)
                raise RuntimeError("the log is full")

        host, job = Full(), self.touching(workshop, tmp_path / "ran")
        if not self.processes:
            assert (await runtime.run(job, host)).ok
            return
        with pytest.raises(RuntimeError, match="the log is full"):
            await runtime.run(job, host)
        assert not alive(host.pids[0])
        assert not (tmp_path / "ran").exists()

    async def test_its_time_is_bounded(self, runtime: Runtime, workshop: Workshop) -> None:
        job = self.endless(workshop)
        ending = await runtime.run(replace(job, task=replace(job.task, timeout=0.2)), Record())
        assert (ending.ok, ending.cause, ending.interrupted) == (False, "timed-out", False)
        assert "0.2 s" in ending.detail
        assert carrying(f"SKEP_NONCE={job.nonce}") == []

    async def test_when_cancelled_it_returns_when_nothing_is_left(self, runtime: Runtime, workshop: Workshop) -> None:
        job, host = self.endless(workshop), Record()
        running = asyncio.ensure_future(runtime.run(job, host))
        await self.started(workshop, host)
        running.cancel()
        await asyncio.sleep(0)
        running.cancel()  # impatience changes nothing
        with pytest.raises(asyncio.CancelledError):
            await running
        assert carrying(f"SKEP_NONCE={job.nonce}") == []
        assert not any(alive(pid) for pid in host.pids)

    async def test_a_terminal_that_is_lost_interrupts_an_attempt_and_fails_none(self, workshop: Workshop) -> None:
        native = Native()
        runtime, host = await self.open_in(native), Record()
        if runtime is None:
            return
        job = self.endless(workshop)
        running = asyncio.ensure_future(runtime.run(job, host))
        await self.started(workshop, host)
        kill(native.keeper)
        assert await running == LOST
        assert carrying(f"SKEP_NONCE={job.nonce}") == []
        await native.close()

    async def test_cancelled_before_it_is_recorded_it_never_runs(
        self, runtime: Runtime, workshop: Workshop, tmp_path: Path
    ) -> None:
        if not self.processes:
            return
        host = Record(held=True)
        running = asyncio.ensure_future(runtime.run(self.touching(workshop, tmp_path / "ran"), host))
        await host.arrived.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not alive(host.pids[0])
        assert not (tmp_path / "ran").exists()

    async def test_one_runtime_serves_many_attempts_at_once(self, runtime: Runtime, workshop: Workshop) -> None:
        jobs = [self.good(workshop) for _ in range(self.many)]
        endings = await asyncio.gather(*(runtime.run(job, Record()) for job, _ in jobs))
        assert [ending.result for ending in endings] == [result for _, result in jobs]

    async def test_a_job_for_another_runtime_fails_and_is_not_tried_for_ever(self, runtime: Runtime, workshop: Workshop) -> None:
        ending = await runtime.run(self.foreign(workshop), Record())
        assert_refused(ending)

    async def test_it_tells_what_it_says_uses_and_spends(self, runtime: Runtime, workshop: Workshop) -> None:
        host = Record()
        if self.server is None:
            assert (await runtime.run(self.good(workshop)[0], host)).ok
            assert host.reports == []
            assert not runtime.can & {"spends", "resumes", "calls-reported"}
            return
        ending = await runtime.run(self.scripted(workshop, "RUN: echo hi > made.txt\nSAY: All well."), host)
        assert (ending.ok, ending.result) == (True, "All well.")
        begun, over = host.told(Used)
        assert (begun.id, begun.tool, begun.ok, over.ok) == (over.id, over.tool, None, True)
        assert "echo hi > made.txt" in begun.about
        assert host.told(Said)[-1].text == "All well."
        assert host.reports.index(over) < host.reports.index(host.told(Said)[-1])
        assert isinstance(host.reports[0], Talks) == ("resumes" in runtime.can)
        assert len(host.told(Talks)) == ("resumes" in runtime.can)
        calls = [spent for spent in host.told(Spent) if spent.output]
        assert len(calls) == (2 if "calls-reported" in runtime.can else 1 if "spends" in runtime.can else 0)

    async def test_it_asks_and_heeds_the_answer_or_never_asks(self, runtime: Runtime, workshop: Workshop, tmp_path: Path) -> None:
        if "asks" not in runtime.can:
            assert (await runtime.run(self.touching(workshop, tmp_path / "made"), host := Record())).ok
            assert host.asked == []
            return
        host = Record()
        host.verdict = Verdict(False, "Not today.")
        refused = await runtime.run(self.asking(workshop, tmp_path / "refused"), host)
        assert (refused.ok, refused.cause, refused.interrupted) == (False, "denied", False)
        assert not (tmp_path / "refused").exists()
        assert f"touch {tmp_path / 'refused'}" in host.asked[0].about
        host = Record()
        assert (await runtime.run(self.asking(workshop, tmp_path / "made"), host)).ok
        assert (tmp_path / "made").exists()
        assert len(host.asked) == 1

    async def test_it_hears_while_it_works_or_never_listens(self, runtime: Runtime, workshop: Workshop) -> None:
        host = Record()
        if self.server is None or "hears" not in runtime.can:
            assert (await runtime.run(self.good(workshop)[0], host)).ok
            assert (host.listened, "hears" in runtime.can) == (False, False)
            return
        running = asyncio.ensure_future(runtime.run(self.scripted(workshop, "RUN: true\nHOLD: hear\nSAY: fine"), host))
        await self.server.holding("hear")
        assert host.hear is not None
        host.hear("Mind the gap.")
        self.server.release("hear")
        assert (await running).ok
        assert host.hear is None
        assert any("Mind the gap." in str(request.body) for request in self.server.requests)

    async def test_it_goes_on_in_its_conversation_or_has_none(self, runtime: Runtime, workshop: Workshop) -> None:
        if self.server is None or "resumes" not in runtime.can:
            job, result = self.good(workshop)
            assert (await runtime.run(replace(job, conversation="0" * 32), host := Record())).result == result
            assert (host.told(Talks), "resumes" in runtime.can) == ([], False)
            return
        job, first, second = self.scripted(workshop, "RUN: echo hi > made.txt\nSAY: All well."), Record(), Record()
        job = replace(job, again="SAY: Again.")
        assert (await runtime.run(job, first)).ok
        self.between(workshop)
        (thread,) = first.told(Talks)
        ending = await runtime.run(replace(job, conversation=thread.conversation), second)
        assert (ending.ok, ending.result) == (True, "Again.")
        assert second.told(Talks) == [thread]
        told = [str(each.body) for each in self.server.requests if "SAY: Again." in str(each.body) and each.body.get("tools")]
        assert "echo hi > made.txt" in told[-1]

    async def test_a_conversation_that_is_gone_is_begun_anew_with_the_whole_task(
        self, runtime: Runtime, workshop: Workshop
    ) -> None:
        if self.server is None:
            return
        job = replace(self.scripted(workshop, "SAY: Whole."), again="SAY: Again.")
        for gone in ("0" * 32, "../../etc/passwd", "--help"):
            ending = await runtime.run(replace(job, conversation=gone), Record())
            assert (ending.ok, ending.result) == (True, "Whole.")

    async def test_it_takes_prompts_or_refuses_them(self, runtime: Runtime, workshop: Workshop) -> None:
        if "prompts" not in runtime.can:
            assert_refused(await runtime.run(replace(workshop.job(Task(prompt="x")), prompt="x"), Record()))

    async def test_it_reads_the_instructions_of_its_folder_where_it_says_so(self, runtime: Runtime, workshop: Workshop) -> None:
        if self.server is None or "reads" not in runtime.can:
            return
        (workshop.folder / "AGENTS.md").write_text("Never lean on the wheel.\n")
        assert (await runtime.run(self.scripted(workshop, "SAY: fine"), Record())).ok
        assert any("Never lean on the wheel." in str(request.body) for request in self.server.requests)


def assert_refused(ending: Ending) -> None:
    """It failed for a reason that another attempt would meet again, and says which."""
    assert (ending.ok, ending.cause, ending.interrupted, ending.until) == (False, "error", False, 0)
    assert ending.detail
