"""Proves the login of a runtime by a call of its model: one turn, as a task would have it, which is asked for one word.

The client runs as those of attempts do: in a HOME of its own with the user's login shared, in the sandbox if the settings say so.
The first call of a tool ends it: then the model has answered, and nothing is to be done.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from skep.agents import Ask, Ending, Job, Report, Runtime, Spent, Used, Verdict
from skep.agents.door import Request
from skep.config import Config
from skep.core.model import AgentSpec, Cost, Task
from skep.errors import Denied, SkepError
from skep.runtime import environment
from skep.runtime.bounds import bounds, settled
from skep.runtime.confined import Wards
from skep.runtime.grants import needs
from skep.workspace import Around

#: Seconds for one proof, and dollars for a client that holds a bound itself.
TIME, USD = 120.0, 0.5
PROMPT = "Answer with the one word: ready. Use no tool, read no file, change nothing."
#: Endings after which the model has answered, whatever else.
_ANSWERED = ("denied", "limit")


class Proof(Struct, frozen=True):
    """What a call showed.

    Args:
        login: proven = the model answered; refused = nobody is logged in, or the login was not taken; unknown = neither was seen.
        detail: the client's words if it is not proven.
        cost: what it told of tokens and money; None = nothing.
    """

    login: Literal["proven", "refused", "unknown"]
    detail: str = ""
    cost: Cost | None = None


class Witness:
    """Implements the port `Host`: allows nothing, and notices when the model has answered with a call of a tool."""

    def __init__(self, prices: Callable[[Spent], Cost]) -> None:
        self._prices = prices
        #: What it told of its cost.
        self.cost: Cost | None = None
        self.acted = asyncio.Event()

    async def spawned(self, pid: int, born: int) -> None:
        """There is no log: the keeper of terminals ends the process if this one dies."""

    def output(self, data: bytes) -> None:
        """Nobody watches."""

    def report(self, report: Report) -> None:
        """Counts what it costs."""
        if isinstance(report, Spent):
            self.cost = self.cost or Cost()
            self.cost.add(self._prices(report))
        elif isinstance(report, Used):
            self.acted.set()

    async def ask(self, ask: Ask) -> Verdict:
        """No."""
        self.acted.set()
        return Verdict(False, "Only the login is tried.")

    async def serve(self, request: Request) -> Any:
        """No."""
        raise Denied("Only the login is tried.")

    def listen(self, hear: Callable[[str], None] | None) -> None:
        """Nothing is said to it."""


async def prove(
    runtime: Runtime, wards: Wards, config: Config, prices: Callable[[Spent], Cost], model: str, options: Mapping[str, Any]
) -> Proof:
    """Calls the model once.

    Args:
        model, options: of the agent, as a workflow file would give them.
    """
    host = Witness(prices)
    with tempfile.TemporaryDirectory(prefix="skep-login-", ignore_cleanup_errors=True) as name:
        try:
            ending = await _call(runtime, wards, config, host, _job(runtime, config, Path(name).resolve(), model, options))
        except SkepError as error:
            return Proof("unknown", error.message)
    if ending is None or ending.ok or (ending.cause in _ANSWERED and not ending.interrupted and host.cost is not None):
        return Proof("proven", "", host.cost)
    return Proof("refused" if ending.cause == "login" else "unknown", ending.detail, host.cost)


def _job(runtime: Runtime, config: Config, folder: Path, model: str, options: Mapping[str, Any]) -> Job:
    for part in ("work", "out", "home", "own"):
        (folder / part).mkdir()
    allowed = environment.base(config.environment.allow)
    env = {**allowed, **environment.matching(runtime.wants), "SKEP_OUT": f"{folder}/out", "SKEP_WORKSPACE": f"{folder}/work"}
    return Job(
        task=Task(id="login", prompt=PROMPT, timeout=TIME),
        n=1,
        nonce=secrets.token_hex(16),
        agent=f"{runtime.name}-1",
        options=dict(options),
        cwd=f"{folder}/work",
        out=f"{folder}/out",
        env=env,
        feedback="",
        model=model,
        home=f"{folder}/home",
        prompt=PROMPT,
        usd=USD,
    )


async def _call(runtime: Runtime, wards: Wards, config: Config, host: Witness, job: Job) -> Ending | None:
    """How the turn ended; None if the model answered with a call of a tool."""
    spec = AgentSpec(name=runtime.name, runtime=runtime.name, options=job.options)
    said = settled(config.sandbox, needs(spec))
    wards.expected(said)
    folder = Path(job.cwd).parent
    within = None
    if said.mode != "off":
        around = Around(write=(job.cwd,))
        within = bounds(said, Path(job.cwd), folder, job.env, around, (job.out, job.home), f"{folder}/own")
    with wards.of(job.nonce, within, (), said.network):
        running = asyncio.ensure_future(runtime.run(job, host))
        acting = asyncio.ensure_future(host.acted.wait())
        try:
            await asyncio.wait((running, acting), return_when=asyncio.FIRST_COMPLETED)
            return running.result() if running.done() else None
        finally:
            running.cancel()
            acting.cancel()
            await asyncio.wait((running, acting))
