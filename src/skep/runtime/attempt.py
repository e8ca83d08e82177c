"""One attempt, from an empty folder to a report: place, set up, run, commit, judge what it changed, keep what it left.

Every function here runs on the node that hosts the attempt and speaks to the session by reports alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from skep.agents import Ask, Ending, Job, Report, Runtime, Said, Spent, Talks, Used, Verdict, declared
from skep.agents.brief import compose, going_on, role_of
from skep.agents.door import VARIABLE, Request
from skep.agents.logins import how
from skep.agents.servers import Server, own
from skep.config import SandboxConfig
from skep.core import inputs as inp
from skep.core.commands import StartAttempt
from skep.core.confinement import Confinement
from skep.core.model import AgentSpec, Cause, Cost, Output, Proposal, Task
from skep.core.placement import kind_of
from skep.core.terms import Command
from skep.errors import Invalid, SkepError, Unavailable
from skep.memory.bank import Bank
from skep.runtime import briefing, environment
from skep.runtime.asking import Leave, otherwise
from skep.runtime.bounds import bounds
from skep.runtime.checks import check, excused, setups
from skep.runtime.confined import Wards
from skep.runtime.desk import Desk
from skep.runtime.doorway import Doorway
from skep.runtime.environment import Told
from skep.runtime.grants import keeps_home
from skep.runtime.homes import home
from skep.runtime.recorder import Recorder
from skep.runtime.reports import shown
from skep.runtime.room import Full, bounded
from skep.runtime.trespass import trespasses, unresolved
from skep.security import Bounds
from skep.security.redact import Redactor, without
from skep.store import Blobs
from skep.terminals import Terminals
from skep.terminals.transcript import Transcript
from skep.workflow import MAX_BYTES, proposal
from skep.workspace import Workspace

#: An output file up to this size also stands in the log, as text.
INLINE_OUTPUT = 64 * 1024
#: Bytes of an output file.
MAX_OUTPUT = 1024**3
#: Bytes of a proposal: one more than a workflow file may have.
MAX_PROPOSAL = MAX_BYTES + 1
#: Lines of the agent's output that the next attempt gets when the command itself failed.
TAIL_LINES = 200


class Node(Struct, frozen=True, kw_only=True):
    """The parts that attempts use, shared by all of them. `aside`: terminals that attempts cannot use up, for notifications.
    `bank`: the memory of this node."""

    workspace: Workspace
    folder: Path
    state: Path
    wards: Wards
    aside: Terminals
    confining: SandboxConfig
    runtimes: Mapping[str, Runtime]
    blobs: Blobs
    allowed: Mapping[str, str]
    marks: Mapping[str, str]
    transcripts: Path
    recorder: Recorder
    prices: Callable[[Spent], Cost]
    secrets: Callable[[str, StartAttempt], Awaitable[dict[str, str]]]
    prompts: Path | None
    bank: Bank | None = None


def mode_of(task: Task) -> str:
    """Where a task works, if it does not say: `run` and `prompt` in a worktree of their own, `call` in none."""
    return task.mode or ("none" if kind_of(task) == "call" else "isolated")


def place_of(task: Task) -> str:
    """Name of the worktree of a task: its own, or the session's. Its attempts have the same, as clients find threads by it."""
    return "shared" if mode_of(task) == "shared" else f"task/{task.id}"


class Work:
    """One attempt under way.

    Args:
        node: what it uses.
        session: its session's name.
        command: what is owed.
        spec: the agent's kind.
        said: how it is confined.
        told: what the task is told about the others.
        setup: commands that prepare every worktree of the session.
        tell: puts a report into the session's inbox; returns the answer's future.
        record: the same where nobody waits for the answer: it is told again until it is known to be in the log.
        leave: whom it asks before risky actions.
        desk: what it may have done for its agent.
    """

    def __init__(
        self,
        node: Node,
        session: str,
        command: StartAttempt,
        spec: AgentSpec,
        said: Confinement,
        told: Told | SkepError,
        setup: tuple[Command, ...],
        tell: Callable[[inp.Input], asyncio.Future[object]],
        record: Callable[[inp.Input], None],
        now: Callable[[], int],
        leave: Leave,
        desk: Desk,
    ) -> None:
        self.node = node
        self.session = session
        self.command = command
        self.spec = spec
        self.said = said
        self.confinement = ""
        self.within: Bounds | None = None
        self.told = told
        self.setup = (*setup, *command.task.setup)
        self.tell = tell
        self.record = record
        #: Costs that were told so far.
        self.costs = 0
        self.now = now
        self.leave = leave
        self.desk = desk
        # No two running attempts of a session have the same slot.
        self.folder = f"{node.marks['SKEP_HOME']}/attempts/{session}-{command.slot}"
        self.home = f"{self.folder}.home"  # of what is confined
        self.door = Doorway(f"{self.folder}.door", desk.serve)
        self.keeps = home(node.marks["SKEP_HOME"], session, command.task.id)  # what its conversation leaves
        self.transcript = Transcript.create(node.transcripts, session, command.task.id, command.n)
        self.cwd = ""
        self.wip = ""
        #: Whether the agent may have left something in its worktree that is no commit yet.
        self.unkept = False
        #: Whether its home and its door are ready for programs.
        self.furnished = False
        #: Takes messages for the agent while it works and can hear.
        self.hear: Callable[[str], None] | None = None
        #: Ids of the messages that stand in its prompt, and of those that it was given while it works.
        self.given: tuple[str, ...] = ()

    async def spawned(self, pid: int, born: int) -> None:
        """Host: records the process."""
        command = self.command
        name, n, nonce = command.task.id, command.n, command.nonce
        said = self.confinement
        await self.tell(inp.Spawned(at=self.now(), task=name, n=n, nonce=nonce, pid=pid, born=born, confinement=said))

    def output(self, data: bytes) -> None:
        """Host: what the agent prints."""
        self.transcript.write(data)

    def report(self, report: Report) -> None:
        """Host: shows it, and records what counts."""
        self.output(shown(report))
        at, task, n, nonce = self.now(), self.command.task.id, self.command.n, self.command.nonce
        if isinstance(report, Talks):
            self.record(inp.Spoke(at=at, task=task, n=n, nonce=nonce, conversation=report.conversation))
        elif isinstance(report, Spent):
            self.costs += 1
            cost, model, owing = self.node.prices(report), report.model, report.owing
            number = self.costs
            self.record(inp.Spent(at=at, task=task, n=n, nonce=nonce, cost=cost, model=model, number=number, owing=owing))

    async def ask(self, ask: Ask) -> Verdict:
        """Host: what no rule speaks of is asked about, unless the sandbox bounds it."""
        runtime = self.node.runtimes[self.spec.runtime]
        verdict = await self.leave.ask(ask, self.cwd, otherwise(ask, self.said.mode != "off"), "asks" in runtime.can)
        if not verdict.allowed:
            self.output(shown(Used(ask.id, ask.tool, verdict.why, ok=False)))
        return verdict

    async def serve(self, request: Request) -> Any:
        """Host: what the agent has done for it."""
        return await self.desk.serve(request)

    def listen(self, hear: Callable[[str], None] | None) -> None:
        """Host: whom messages go to."""
        self.hear = hear

    async def carry_out(self) -> inp.Input:
        """Does the work and returns the report. When cancelled, keeps what there is (`wip`) and goes on being cancelled."""
        try:
            return await self._carry_out()
        except asyncio.CancelledError:
            with contextlib.suppress(SkepError):
                await asyncio.shield(self._keep("interrupted"))
            raise
        except SkepError as error:
            with contextlib.suppress(SkepError):
                await self._keep("failed")
            cause: Cause = "error" if isinstance(error, Invalid) else "infrastructure"
            return self._ended(Ending(ok=False, cause=cause, detail=error.message), feedback=str(error))
        except Exception as error:  # whatever one attempt meets, the others go on; this one is tried again, and then gives up
            with contextlib.suppress(SkepError):
                await self._keep("failed")
            return self._ended(Ending(ok=False, cause="infrastructure", detail=f"{type(error).__name__}: {error}"))
        finally:
            self.transcript.close()
            await asyncio.shield(self.door.close())
            await asyncio.shield(self._clear())

    async def _carry_out(self) -> inp.Input:
        command, node = self.command, self.node
        if isinstance(self.told, SkepError):
            raise self.told
        runtime = node.runtimes.get(self.spec.runtime)
        if runtime is None:
            raise Invalid(f"no runtime is called '{self.spec.runtime}'", "`skep doctor` lists the runtimes.")
        if self.told.remark:
            self.report(Said(f"({self.told.remark})"))
        self.confinement = node.wards.expected(self.said)
        wanted = environment.matching(runtime.wants)
        allowed = {**node.allowed, **wanted, **self.told.services}
        given = await node.secrets(self.session, command)
        env = environment.prepare(allowed, given, node.marks, self.session, command, self.told, self.folder)
        await self._settle_in()
        if self.desk.open:
            env[VARIABLE] = self.door.folder
        hidden = given | environment.keys(wanted)
        secrets, self.within = tuple(hidden.values()), await self._bounds(env)
        self.desk.secrets = secrets
        with node.wards.of(command.nonce, self.within, secrets, self.said.network, self._furnish):
            try:
                return await self._work(runtime, env)
            except Full as error:
                # To keep it as a commit would take as much room again, for good.
                self.unkept = False
                shared = mode_of(command.task) == "shared"
                kept = "what it left stays in the shared worktree" if shared else "nothing of it is kept"
                return self._ended(Ending(ok=False, cause="limit", detail=f"{error.message}; {kept}"))

    def _furnish(self) -> None:
        """Before its first program starts: an empty home, and the door to the desk. A loop of Skep's own may start none."""
        if self.furnished:
            return
        if self.said.mode != "off":
            environment.empty(self.home)
        if self.desk.open:
            try:
                self.door.open()
            except OSError as error:
                raise Unavailable(f"{self.door.folder} cannot be made: {error.strerror}", "Check the disk.") from error
        self.furnished = True

    async def _bounds(self, env: dict[str, str]) -> Bounds | None:
        """What its programs may see and do; adds to their environment what git needs in there. None = they are not confined."""
        if self.said.mode == "off":
            return None
        node = self.node
        granted = [self.folder, *([self.door.folder] if self.desk.open else [])]
        for folder in (*granted, self.home):
            environment.make(folder)
        if keeps_home(self.spec.runtime):
            os.makedirs(self.keeps, exist_ok=True)
            granted.append(self.keeps)
        around = await node.workspace.around("" if mode_of(self.command.task) == "none" else self.cwd)
        env.update({name: value for name, value in around.env.items() if name not in env})
        return bounds(self.said, node.folder, node.state, env, around, granted, self.home)

    async def _work(self, runtime: Runtime, env: dict[str, str]) -> inp.Input:
        async with bounded(self.within):
            ended = await self._run(runtime, env)
        return ended if isinstance(ended, inp.Ended) else await self._judge(ended, env)

    async def _run(self, runtime: Runtime, env: dict[str, str]) -> Ending | inp.Ended:
        command, node = self.command, self.node
        setup = self.setup if mode_of(command.task) != "none" else command.task.setup
        found = await setups(node.wards, setup, self.cwd, env, command.nonce, self.output)
        if not found.ok:
            return self._ended(Ending(ok=False, cause="infrastructure", detail=found.detail), feedback=command.feedback)
        prompt, again = await self._told(runtime, env["SKEP_OUT"])
        job = Job(
            task=command.task,
            n=command.n,
            nonce=command.nonce,
            agent=command.agent,
            options=self.spec.options,
            cwd=self.cwd,
            out=env["SKEP_OUT"],
            env=env,
            feedback=command.feedback,
            model=self.spec.model,
            home=self.keeps,
            prompt=prompt,
            conversation=command.conversation,
            usd=command.usd,
            servers=self._servers(runtime, env),
            again=again,
            confined=self.said.mode != "off",
        )
        self.unkept = True
        ending = await runtime.run(job, self)
        # Its last words may come from elsewhere than what it printed, such as its standard error.
        if self.desk.secrets:
            words = without([ending.detail, ending.result], Redactor(self.desk.secrets))
            ending = replace(ending, detail=words[0], result=words[1])
        return ending

    def _servers(self, runtime: Runtime, env: Mapping[str, str]) -> dict[str, Server]:
        """The MCP servers that a client is handed: those of the workspace, and Skep's own: to talk, to remember."""
        named = self.spec.options.get("mcp")
        wanted = named if isinstance(named, list | tuple) else None
        found, left = declared.usable(str(self.node.folder), env, wanted, runtime.name) if runtime.wants else ({}, [])
        for words in left:
            self.report(Said(f"({words})"))
        return found | (own(self.door.folder) if self.desk.talks or self.desk.remembers else {})

    async def _told(self, runtime: Runtime, out: str) -> tuple[str, str]:
        """What an agent of a client is told, at the beginning and when it goes on; nothing for one that reads $SKEP_PROMPT."""
        if not isinstance(self.told, Told) or kind_of(self.command.task) != "prompt" or self.spec.runtime == "shell":
            return "", ""
        brief = await briefing.brief(self.node.workspace, self.command, self.told, self.cwd, out, "reads" in runtime.can)
        brief = replace(brief, talk=self.desk.about, remember=self.desk.bank)
        task = self.command.task
        role = "planner" if task.plans else "conflict" if task.resolves else role_of(self.spec.type)
        return compose(role, brief, self.node.prompts), going_on(brief)

    async def _settle_in(self) -> None:
        task, n = self.command.task, self.command.n
        if mode_of(task) == "none":
            self.cwd = self.folder
        else:
            name, shared = place_of(task), mode_of(task) == "shared"
            left = self.node.workspace.path(self.session, name)
            if (
                n > 1 and not shared and os.path.isdir(left)
            ):  # nobody could keep it when the last attempt ended: now, or not at all
                with contextlib.suppress(Invalid):
                    await self.node.workspace.capture(left, self.session, f"wip/{task.id}/{n - 1}", "kept late", {}, self.now())
            tree = self.told.tree if isinstance(self.told, Told) and self.command.base == self.command.origin else ""
            self.cwd = await self.node.workspace.checkout(self.session, name, self.command.base, keep=shared, tree=tree)

    async def _judge(self, ending: Ending, env: Mapping[str, str]) -> inp.Input:
        """Whether what the runtime calls an end is one: outputs there, allowed paths, changes where changes are due."""
        command, task = self.command, self.command.task
        if not ending.ok:
            self.wip = await self._keep("interrupted" if ending.interrupted else "failed")
            if ending.cause == "login":
                ending = replace(ending, detail=f"{ending.detail}; {how(self.spec.runtime, self.spec.options)}")
            return self._ended(ending, feedback=self._feedback(ending))
        outputs = await self._outputs(Path(env["SKEP_OUT"]))
        if isinstance(outputs, str):
            self.wip = await self._keep("failed")
            return self._ended(Ending(ok=False, cause="error", detail=outputs), feedback=outputs)
        proposal = self.desk.proposed(await self._proposed(Path(env["SKEP_OUT"])))
        if task.plans and proposal is not None and proposal.refused:
            why = proposal.refused
            return self._ended(Ending(ok=False, cause="verify-failed", detail=why.partition("\n")[0]), feedback=why)
        commit = await self._commit(f"task/{task.id}/{command.n}")
        if not commit and command.base != command.origin:
            commit = command.base  # it had nothing to add to what the last attempt left
        if commit and (why := await trespasses(self.node.workspace, command.origin, commit, task.protect)):
            self.wip = commit
            return self._ended(Ending(ok=False, cause="protected", detail=why), feedback=why)
        if commit and task.resolves and (why := await unresolved(self.node.workspace, command.origin, task.resolves, commit)):
            self.wip = commit
            return self._ended(Ending(ok=False, cause="conflict", detail=why), feedback=f"{why}: take those lines out")
        if not commit and kind_of(task) == "prompt" and not task.outputs and mode_of(task) != "none":
            return self._ended(Ending(ok=False, cause="no-changes", detail="the agent ended without changing anything"))
        return await self._accept(ending, commit, outputs, env, proposal)

    async def _accept(
        self, ending: Ending, commit: str, outputs: dict[str, Output], env: Mapping[str, str], proposal: Proposal | None
    ) -> inp.Input:
        command, task, remark = self.command, self.command.task, ""
        if task.verify is not None:
            if mode_of(task) != "none":
                return inp.Worked(
                    at=self.now(),
                    task=task.id,
                    n=command.n,
                    nonce=command.nonce,
                    commit=commit or command.base,
                    result=ending.result,
                    exit_code=ending.exit_code,
                    outputs=outputs,
                    proposal=proposal,
                )
            async with bounded(self.within):
                found = await check(
                    self.node.wards, "verify", task.verify, self.cwd, env, command.nonce, self.output, task.timeout
                )
            if isinstance(self.told, Told) and self.told.rehearsal and kind_of(task) == "prompt":
                found = excused(found)
            if found.lost:
                return self._ended(Ending(ok=False, cause="infrastructure", detail=found.detail))
            remark = found.detail
            if not found.ok:
                return self._ended(Ending(ok=False, cause="verify-failed", detail=found.detail), feedback=found.feedback)
        return inp.Ended(
            at=self.now(),
            task=task.id,
            n=command.n,
            nonce=command.nonce,
            outcome="ok",
            detail=remark,
            result=ending.result,
            exit_code=ending.exit_code,
            commit=commit,
            outputs=outputs,
            proposal=proposal,
        )

    def _feedback(self, ending: Ending) -> str:
        lines = self.transcript.tail(TAIL_LINES)
        return f"{ending.cause}: {ending.detail}\n" + "\n".join(lines)

    def _ended(self, ending: Ending, feedback: str = "") -> inp.Ended:
        command = self.command
        return inp.Ended(
            at=self.now(),
            task=command.task.id,
            n=command.n,
            nonce=command.nonce,
            outcome="interrupted" if ending.interrupted else "failed",
            cause=ending.cause,
            detail=ending.detail,
            feedback=feedback or ending.detail,
            exit_code=ending.exit_code,
            commit=self.wip,
            until=ending.until,
        )

    async def _outputs(self, out: Path) -> dict[str, Output] | str:
        """Keeps the declared outputs as blobs; a string says which is missing."""
        found: dict[str, Output] = {}
        for name, file in self.command.task.outputs.items():
            path = out / file
            if not path.resolve().is_relative_to(out.resolve()) or not path.is_file():
                return f"the output '{name}' is not there: no file {file} in $SKEP_OUT"
            if path.stat().st_size > MAX_OUTPUT:
                return f"the output '{name}' is larger than {MAX_OUTPUT} bytes"
            digest, size = await self.node.blobs.put_file(str(path))
            text: str | None = None
            if size <= INLINE_OUTPUT:
                with contextlib.suppress(UnicodeDecodeError):
                    text = path.read_bytes().decode()
            found[name] = Output(digest=digest, size=size, text=text)
        return found

    async def _proposed(self, out: Path) -> Proposal | None:
        """What the attempt proposes: the plan of a planner, or further tasks; None if it left no such file."""
        path = out / (proposal.PLAN if self.command.task.plans else proposal.FILE)
        return await asyncio.to_thread(self._read_proposal, out, path) if os.path.lexists(path) else None

    def _read_proposal(self, out: Path, path: Path) -> Proposal | None:
        task, told = self.command.task, self.told
        assert isinstance(told, Told)
        if not path.is_file() or not path.resolve().is_relative_to(out.resolve()):
            return None
        with path.open("rb") as file:
            data = file.read(MAX_PROPOSAL)
        return proposal.read(data, path.name, told.proposals, told.agents, "" if task.plans else task.id, self.now())

    async def _commit(self, ref: str) -> str:
        workspace, command = self.node.workspace, self.command
        if mode_of(command.task) == "none" or not self.cwd:
            return ""
        title = command.task.objective or command.task.id
        trailers = {"Skep-Session": self.session, "Skep-Task": command.task.id, "Skep-Attempt": str(command.n)}
        commit = await workspace.capture(self.cwd, self.session, ref, title, trailers, self.now())
        self.unkept = False
        return commit

    async def _keep(self, why: str) -> str:
        """What a failed or interrupted attempt left, as a commit under its own ref."""
        if not self.wip:
            self.wip = await self._commit(f"wip/{self.command.task.id}/{self.command.n}")
        return self.wip

    async def _clear(self) -> None:
        workspace = self.node.workspace
        # What could not be kept stays where it is; the next owner tries again.
        if self.cwd and not self.unkept and mode_of(self.command.task) == "isolated":
            with contextlib.suppress(SkepError):
                await workspace.remove(self.cwd)
        for folder in (self.folder, *([self.home] if self.furnished else [])):
            with contextlib.suppress(SkepError):  # the next attempt in this place tries again, and says so if it cannot
                await environment.cleared(folder)
