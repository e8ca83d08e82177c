"""One attempt in the worker: the loop of a model and its tools, what it spends, its bounds, and how it ended."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

from pydantic_ai import Agent
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestTimeout,
    ModelServerError,
    ModelUnavailableError,
    UsageLimitExceeded,
    UserError,
)
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models import Model, ModelRequestParameters, infer_model
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.providers import Provider, infer_provider_class
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import Tool
from pydantic_ai.toolsets import FunctionToolset
from pydantic_ai.usage import UsageLimits

from skep.agents import Ending, Report, Said, Spent, Talks, Waits
from skep.agents.door.tools import TOOLS
from skep.agents.endings import Failed, denied
from skep.agents.loop import Request, Start
from skep.agents.loop.files import Folder
from skep.agents.loop.pipe import Pipe
from skep.agents.loop.thread import Thread
from skep.agents.loop.tools import Attempt, own, talking
from skep.agents.outage import judged, unproven

#: Seconds before a call is tried again: at first, and at most. A provider that says more than that puts the attempt off.
FIRST, LONGEST = 1.0, 60.0
#: Milliseconds for which an attempt is put off where a provider does not say; what it says is believed up to the other.
PAUSE, DAYS = 60_000, 8 * 86_400_000
#: Characters of a failure.
DETAIL = 500
_LIMITS = (ModelRateLimitError, ModelUnavailableError)
_OUTAGES = (ModelServerError, ModelConnectionError, ModelRequestTimeout)


class Carried:
    """An attempt that is carried out.

    Args:
        start: what it is.
        tell: takes reports for the runtime.
        ask: takes requests to the runtime, and gives its answers.
        write: takes a line for the program of an MCP server.
    """

    def __init__(
        self, start: Start, tell: Callable[[Report], None], ask: Callable[[Request], Any], write: Callable[[str, str], None]
    ) -> None:
        self.start, self.options = start, start.options
        self.report, self.request = tell, ask
        self.folder = Folder(start.folder)
        self.denied: list[str] = []
        self.pipes = {name: Pipe(partial(write, name)) for name, server in start.servers.items() if not server.url}
        self._waiting: list[str] = []
        self._hear: Callable[[str], Any] = self._waiting.append
        self._usd = 0.0

    def hear(self, text: str) -> None:
        """A message for the agent: it gets it with the next call of its model."""
        self._hear(text)

    async def go(self) -> Ending:
        """Carries it out. Raises CancelledError only when cancelled."""
        try:
            async with AsyncExitStack() as stack:
                return await self._go(stack)
        except Failed as failed:
            return failed.ending
        except UsageLimitExceeded:
            return Ending(ok=False, cause="limit", detail=f"its turns are used up: {self.options.max_turns} of the model")
        except ModelContextWindowExceededError as error:
            return Ending(ok=False, cause="limit", detail=f"the conversation is longer than the model takes: {_words(error)}")
        except ModelAuthenticationError as error:
            return unproven(_words(error))
        except UserError as error:
            found = judged(_words(error))  # that a key is not set, among other things
            return found if found.cause == "login" else Ending(ok=False, cause="error", detail=found.detail)
        except (AgentRunError, ValueError, TypeError, ImportError) as error:
            return Ending(ok=False, cause="error", detail=_words(error))
        except Exception as error:  # nothing that one attempt meets may end the others
            return Ending(ok=False, cause="error", detail=f"{type(error).__name__}: {_words(error)}")

    async def _go(self, stack: AsyncExitStack) -> Ending:
        model = Patient(chosen(self.start), self)
        thread = Thread(Path(self.start.thread))
        history = thread.load()
        self.report(Talks(Path(self.start.thread).stem))
        tools = await self._servers(stack)
        await stack.enter_async_context(model)
        agent = _agent(self.options.tools, self.start.talks)
        settings = {"timeout": self.options.timeout, "max_retries": 0, **self.options.settings}
        running = await stack.enter_async_context(
            agent.iter(
                self.start.prompt,
                deps=self,
                model=model,
                message_history=history,
                model_settings=cast(ModelSettings, settings),
                usage_limits=UsageLimits(request_limit=self.options.max_turns),
                toolsets=[FunctionToolset(tools)] if tools else [],
            )
        )
        self._hear = running.enqueue
        for text in self._waiting:
            running.enqueue(text)
        async for node in running:
            if Agent.is_call_tools_node(node):
                self._answered(node.model_response)
            thread.keep(running.all_messages())
        if self.denied:
            return denied(self.denied)
        return Ending(ok=True, result=running.result.output if running.result else "")

    async def _servers(self, stack: AsyncExitStack) -> list[Tool[Attempt]]:
        """The tools of the declared servers; what cannot be used of them is said and left out."""
        tools: dict[str, Tool[Attempt]] = {}
        for name, server in self.start.servers.items():
            from skep.agents.loop.servers import Unusable, connect  # costs as much to import as all the rest

            try:
                found = await connect(name, server, self.pipes.get(name), self.request, stack)
            except Unusable as error:
                self.report(Said(f"(the MCP server {name} cannot be used: {error})"))
                continue
            for tool in found:
                if tool.name in tools or tool.name in self.options.tools:
                    self.report(Said(f"(a tool {tool.name} of the MCP server {name} is left out: another has that name)"))
                else:
                    tools[tool.name] = tool
        return list(tools.values())

    def _answered(self, response: ModelResponse) -> None:
        """Tells what the model said, and what that cost."""
        for part in response.parts:
            if isinstance(part, TextPart) and part.content.strip():
                self.report(Said(part.content))
        usage = response.usage
        fresh = max(0, usage.input_tokens - usage.cache_read_tokens)
        usd = None if usage.cost is None or self.options.base_url else float(usage.cost)
        if self.start.price is not None:
            counts = (fresh, usage.cache_read_tokens, usage.output_tokens)
            usd = sum(count * price for count, price in zip(counts, self.start.price, strict=True)) / 1e6
        self._usd += usd or 0.0
        self.report(
            Spent(model=self.start.model, input=fresh, cached=usage.cache_read_tokens, output=usage.output_tokens, usd=usd)
        )

    def spare(self) -> None:
        """Raises Failed if nothing is left to spend."""
        if self.start.usd and self._usd >= self.start.usd:
            detail = f"its budget is used up: ${self._usd:.4f} of ${self.start.usd:.4f}"
            raise Failed(Ending(ok=False, cause="limit", detail=detail))

    async def put_off(self, error: AgentRunError, tries: int) -> None:
        """Waits before the next try of a call. Raises Failed if there is to be none."""
        said = getattr(error, "retry_after", None)
        delay = said if said is not None else min(LONGEST, FIRST * 2**tries) * random.uniform(0.5, 1.0)
        now = int(time.time() * 1000)
        if tries >= self.options.retries or delay > LONGEST:
            if not isinstance(error, _LIMITS):
                raise Failed(Ending(ok=False, interrupted=True, cause="infrastructure", detail=_words(error)))
            until = now + min(DAYS, int(said * 1000) if said else PAUSE)
            raise Failed(Ending(ok=False, interrupted=True, cause="limit", detail=_words(error), until=until))
        self.report(Waits(_words(error), now + int(delay * 1000)))
        await asyncio.sleep(delay)


class Patient(WrapperModel):
    """A model that is asked again when its provider fails for now, and not at all when nothing is left to spend."""

    def __init__(self, wrapped: Model, carried: Carried) -> None:
        super().__init__(wrapped)
        self._carried = carried

    async def request(
        self, messages: list[ModelMessage], model_settings: ModelSettings | None, model_request_parameters: ModelRequestParameters
    ) -> ModelResponse:
        """One call."""
        tries = 0
        while True:
            self._carried.spare()
            try:
                if not self._carried.options.stream:
                    return await self.wrapped.request(messages, model_settings, model_request_parameters)
                async with self.wrapped.request_stream(messages, model_settings, model_request_parameters) as stream:
                    async for _ in stream:
                        pass
                    return stream.get()
            except ModelQuotaExceededError:
                raise
            except (*_LIMITS, *_OUTAGES) as error:
                await self._carried.put_off(error, tries)
            tries += 1


def chosen(start: Start) -> Model:
    """The model that is meant. Raises UserError, ValueError, TypeError or ImportError, whose words are for people."""
    options = start.options
    given = {name: value for name, value in (("base_url", options.base_url), ("api_key", start.key)) if value}

    def provider(name: str) -> Provider[Any]:
        return infer_provider_class(name)(**given)

    name = start.model
    if options.base_url and name.startswith("openai:"):  # what is compatible with OpenAI speaks its older protocol
        name = f"openai-chat:{name.removeprefix('openai:')}"
    return infer_model(name, provider) if given else infer_model(name)


@cache
def _agent(tools: tuple[str, ...], talks: bool) -> Agent[Attempt, str]:
    """The same for all attempts with these tools: making one costs more than a turn."""
    mine = own() | (talking() if talks else {})
    tools = (*tools, *TOOLS) if talks else tools
    return Agent(deps_type=Carried, tools=[mine[name] for name in tools], name="skep", retries=3)


def _words(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:DETAIL]
