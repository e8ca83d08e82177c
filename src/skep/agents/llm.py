"""Runtime `llm`: a loop of a model and tools on pydantic-ai, for any provider and for local OpenAI-compatible servers.

The loops of all attempts run in one worker, which is Skep's own program (`skep.agents.loop`), is kept warm, and alone has the
keys of providers. What an agent does by itself, its commands and its MCP servers, runs in processes of the attempt, which are
started, confined and ended like those of every runtime. Why so: `docs/decisions/008-the-llm-runtime.md`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec.structs import replace

from skep.agents import Ability, Ending, Host, Job, left
from skep.agents.declared import usable
from skep.agents.endings import Failed, late
from skep.agents.loop import MAX_THREAD, Start, Word
from skep.agents.loop.carrier import Carrier
from skep.agents.loop.link import Link
from skep.agents.options import LlmOptions, read
from skep.agents.outage import unproven
from skep.agents.process import to_the_end
from skep.agents.servers import OWN
from skep.config import PriceConfig
from skep.core.patterns import fits
from skep.errors import Invalid, SkepError
from skep.terminals import Terminals

INSTALL = "pip install 'skep[llm]'"
#: Variables of the owner with which providers are reached. Only the worker gets them.
WANTS = (
    "OPENAI_*", "ANTHROPIC_*", "GEMINI_API_KEY", "GOOGLE_*", "AZURE_OPENAI_*", "AWS_*", "CO_API_KEY", "HF_TOKEN", "OLLAMA_*",
    "XAI_API_KEY", "ZAI_API_KEY", "GITHUB_API_KEY", "PYDANTIC_AI_GATEWAY_*",
    *(f"{name}_API_KEY" for name in ("MISTRAL", "GROQ", "DEEPSEEK", "OPENROUTER", "CEREBRAS", "TOGETHER", "FIREWORKS")),
)  # fmt: skip
#: Further variables that the worker has of the owner: how to reach anything at all.
_OWN = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "*_PROXY", "*_proxy")
#: Tools that change nothing and are never asked about: what a question may use.
READING = ("read_file", "list_files", "search")
#: Seconds for which a worker without an attempt is kept, and that an attempt may take to stop.
IDLE, STOP = 300.0, 5.0


class LlmRuntime:
    """Carries `prompt` tasks out. What `with` takes: `skep.agents.options.LlmOptions`.

    Args:
        terminals: where processes of attempts come from.
        own: where the worker comes from: it is Skep's own, and belongs to no attempt.
        price: what a model costs by the configuration, None if that does not say.
    """

    name = "llm"
    can: frozenset[Ability] = frozenset({"prompts", "asks", "hears", "resumes", "spends", "calls-reported", "answers"})
    wants: tuple[str, ...] = WANTS

    def __init__(
        self, terminals: Terminals, own: Terminals, price: Callable[[str], PriceConfig | None] = lambda model: None
    ) -> None:
        self._terminals, self._own, self._price = terminals, own, price
        self._workers: dict[frozenset[tuple[str, str]], Worker] = {}
        self._numbers = itertools.count(1)

    def check(self) -> str:
        """Whether the extra is installed."""
        missing = [name for name in ("pydantic_ai", "mcp") if importlib.util.find_spec(name) is None]
        return f"{' and '.join(missing)} is not installed; install it: {INSTALL}" if missing else ""

    async def run(self, job: Job, host: Host) -> Ending:
        """See the port."""
        try:
            start, shown = self._start(job)
        except Invalid as error:
            return Ending(ok=False, cause="error", detail=str(error))
        except Failed as failed:
            return failed.ending
        try:
            async with asyncio.timeout(job.task.timeout or None):
                return await self._carry_out(job, host, start, shown)
        except TimeoutError:
            return late(job.task.timeout)

    async def close(self) -> None:
        """Ends the workers."""
        workers, self._workers = self._workers, {}
        for worker in workers.values():
            await worker.end()

    def _start(self, job: Job) -> tuple[Start, dict[str, str]]:
        """What the worker is told, and the environment of the attempt's programs. Raises Invalid."""
        if job.task.prompt is None:
            raise Invalid(f"The llm agent {job.agent} carries out `prompt` tasks only.")
        # Looking for packages costs more than all else here, and a worker that runs has found them.
        if not self._workers and (lack := self.check()):
            raise Invalid(lack)
        if not job.model:
            raise Invalid(f"The llm agent {job.agent} has no model.", "Give it `model: PROVIDER:NAME`, as in `openai:gpt-5.2`.")
        options = read(LlmOptions, job.options)
        # Naming the variable grants it, as `secrets` of a task does; only the worker gets it.
        key = job.env.get(options.api_key_env) or os.environ.get(options.api_key_env, "")
        if options.api_key_env and not key:
            raise Failed(unproven(f"the key of the llm agent {job.agent} is not there: {options.api_key_env} is not set"))
        shown = {name: value for name, value in job.env.items() if name != options.api_key_env and not fits(name, WANTS)}
        price = self._price(job.model)
        thread = job.conversation if re.fullmatch("[0-9a-f]{32}", job.conversation) else secrets.token_hex(16)
        folder = Path(job.home or job.out) / "llm"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{thread}.jsonl"
        if job.question:
            _lend(job, path)
            options = replace(options, tools=tuple(tool for tool in options.tools if tool in READING), mcp=())
        start = Start(
            id=next(self._numbers),
            model=job.model,
            prompt=job.question or (job.again if path.exists() else job.prompt) or job.prompt or job.task.prompt,
            folder=os.path.realpath(job.cwd),
            thread=str(path),
            options=options,
            key=key,
            usd=job.usd,
            price=None if price is None else (price.input, price.input if price.cached is None else price.cached, price.output),
            talks=OWN in job.servers,
            servers=usable(job.env.get("SKEP_WORKSPACE", job.cwd), shown, options.mcp, self.name)[0],
        )
        return start, shown

    async def _carry_out(self, job: Job, host: Host, start: Start, env: dict[str, str]) -> Ending:
        worker = self._worker(job.env)
        worker.users += 1
        try:
            try:
                link = await worker.ready()
            except SkepError as error:
                return Ending(ok=False, interrupted=True, cause="infrastructure", detail=error.message)
            carrier = Carrier(self._terminals, job, host, start, env, link)
            worker.carriers[start.id] = carrier
            host.listen(carrier.tell)
            try:
                return await carrier.go()
            finally:
                host.listen(None)
                await to_the_end(worker.leave(start.id))
        finally:
            worker.users -= 1
            worker.rest()

    def _worker(self, env: Mapping[str, str]) -> Worker:
        """The one that has these keys."""
        keys = frozenset((name, value) for name, value in env.items() if fits(name, WANTS))
        found = self._workers.get(keys)
        if found is None or found.gone:
            own = {name: value for name, value in os.environ.items() if fits(name, _OWN)}
            found = self._workers[keys] = Worker(self._own, {**own, **dict(keys)})
        return found


def _lend(job: Job, path: Path) -> None:
    """Puts a copy of a past conversation where this job's is kept. Raises Invalid if there is none."""
    try:
        path.write_bytes(left.read(job.past[0], f"llm/{path.name}", MAX_THREAD))
    except OSError:
        raise Invalid("The conversation is not there any more.", "Its folder below .skep/homes was removed.") from None


class Worker:
    """A worker with its attempts: started for the first of them, ended some time after the last.

    Args:
        terminals: where it comes from.
        env: all of its environment.
    """

    def __init__(self, terminals: Terminals, env: Mapping[str, str]) -> None:
        self._folder = folder = tempfile.mkdtemp(prefix="skep-llm-")
        self._link = Link(terminals, env, folder, Path(folder) / "errors", self._heard, self._lost)
        self._beginning: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None
        self.carriers: dict[int, Carrier] = {}
        self.users = 0

    @property
    def gone(self) -> bool:
        """Whether it takes no more attempts."""
        return self._link.gone or self._ending is not None

    async def ready(self) -> Link:
        """The link, once it listens. Raises SkepError if it does not start."""
        if self._beginning is None:
            self._beginning = asyncio.ensure_future(self._link.begin())
        await asyncio.shield(self._beginning)
        return self._link

    async def leave(self, ident: int) -> None:
        """Ends an attempt. A worker that does not let go of it is ended, and the others of its attempts are interrupted."""
        if not await self.carriers[ident].end(STOP):
            await self.end()
        del self.carriers[ident]

    def rest(self) -> None:
        """Nobody uses it for now: after a while it ends."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.users and not self.gone:
            self._timer = asyncio.get_running_loop().call_later(IDLE, self._tire)

    async def end(self) -> None:
        """Ends it; returns when it is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._retire()
        assert self._ending is not None
        await asyncio.shield(self._ending)

    def _tire(self) -> None:
        if not self.users:
            self._retire()

    def _retire(self) -> None:
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end())

    async def _end(self) -> None:
        if self._beginning is not None:
            await asyncio.wait([self._beginning])
            self._beginning.exception()
        await self._link.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _heard(self, word: Word) -> None:
        if word.id in self.carriers:
            self.carriers[word.id].heard(word)

    def _lost(self, ending: Ending) -> None:
        for carrier in self.carriers.values():
            carrier.lost(ending)
        shutil.rmtree(self._folder, ignore_errors=True)
