"""One attempt in the worker: the loop of a model and its tools, what it spends, its bounds, and how it ended."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

from pydantic_ai.direct import model_request, model_request_stream
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
    UserError,
)
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models import Model, ModelRequestParameters, infer_model
from pydantic_ai.providers import Provider, infer_provider_class
from pydantic_ai.settings import ModelSettings

from skep.agents import Ending, Report, Said, Spent, Talks, Waits
from skep.agents.endings import Failed, denied
from skep.agents.loop import Request, Start
from skep.agents.loop.files import Folder
from skep.agents.loop.pipe import Pipe
from skep.agents.loop.thread import Thread
from skep.agents.loop.tools import Tool, own, talking
from skep.agents.loop.turns import Turns
from skep.agents.outage import judged, unproven

#: Seconds before a call is tried again: at first, and at most. A provider that says more than that puts the attempt off.
FIRST, LONGEST = 1.0, 60.0
#: Milliseconds for which an attempt is put off where a provider does not say; what it says is believed up to the other.
DAYS = 8 * 86_400_000
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
        model = chosen(self.start)
        thread = Thread(Path(self.start.thread))
        stack.callback(thread.close)
        self.report(Talks(Path(self.start.thread).stem))
        tools = {**self._own(), **await self._servers(stack)}
        await stack.enter_async_context(model)
        turns = Turns(self, partial(self._asked, model), tools, thread, self.options.max_turns)
        for text in self._waiting:
            turns.hear(text)
        self._hear = turns.hear
        said = await turns.go(self.start.prompt)
        return denied(self.denied) if self.denied else Ending(ok=True, result=said)

    def _own(self) -> dict[str, Tool]:
        """Skep's own tools that it has."""
        mine: dict[str, Tool] = {name: own()[name] for name in self.options.tools}
        return {**mine, **talking()} if self.start.talks else mine

    async def _servers(self, stack: AsyncExitStack) -> dict[str, Tool]:
        """The tools of the declared servers; what cannot be used of them is said and left out."""
        tools: dict[str, Tool] = {}
        for name, server in self.start.servers.items():
            from skep.agents.loop.servers import Unusable, connect  # costs as much to import as all the rest

            try:
                found = await connect(name, server, self.pipes.get(name), self.request, stack)
            except Unusable as error:
                self.report(Said(f"(the MCP server {name} cannot be used: {error})"))
                continue
            for tool in found:
                if tool.shown.name in tools or tool.shown.name in self._own():
                    self.report(Said(f"(a tool {tool.shown.name} of the MCP server {name} is left out: another has that name)"))
                else:
                    tools[tool.shown.name] = tool
        return tools

    async def _asked(self, model: Model, said: list[ModelMessage], parameters: ModelRequestParameters) -> ModelResponse:
        """One turn: it is asked again when its provider fails for now, and not at all when nothing is left to spend."""
        settings = cast(ModelSettings, {"timeout": self.options.timeout, "max_retries": 0, **self.options.settings})
        messages = model.prepare_messages(list(said), parameters)
        tries = 0
        while True:
            self.spare()
            try:
                response = await self._call(model, messages, settings, parameters)
            except ModelQuotaExceededError:
                raise
            except (*_LIMITS, *_OUTAGES) as error:
                await self.put_off(error, tries)
                tries += 1
            else:
                self._answered(response)
                return response

    async def _call(
        self, model: Model, messages: list[ModelMessage], settings: ModelSettings, parameters: ModelRequestParameters
    ) -> ModelResponse:
        given: dict[str, Any] = {"model_settings": settings, "model_request_parameters": parameters}
        if not self.options.stream:
            return await model_request(model, messages, **given)
        async with model_request_stream(model, messages, **given) as stream:
            async for _ in stream:
                pass
            return stream.get()

    def _answered(self, response: ModelResponse) -> None:
        """Tells what the model said, and what that cost."""
        for part in response.parts:
            if isinstance(part, TextPart) and part.content.strip():
                self.report(Said(part.content))
        usage = response.usage
        fresh = max(0, usage.input_tokens - usage.cache_read_tokens)
        usd: float | None
        if self.start.price is None:
            usd = None if self.options.base_url else _price(response)
        else:
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
            until = now + min(DAYS, int(said * 1000)) if said else 0
            raise Failed(Ending(ok=False, interrupted=True, cause="limit", detail=_words(error), until=until))
        self.report(Waits(_words(error), now + int(delay * 1000)))
        await asyncio.sleep(delay)


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


def _price(response: ModelResponse) -> float | None:
    """Dollars, as the provider or pydantic-ai's list of prices has it; None = neither knows."""
    if response.usage.cost is not None:
        return float(response.usage.cost)
    try:
        return float(response.cost().total_price)
    except Exception:  # that a price is not known, or cannot be told, fails nothing
        return None


def _words(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:DETAIL]
