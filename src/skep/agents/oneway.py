"""A coding client that is told its task once and then only heard: line by line, to the end of its turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from skep.agents import Ability, Ending, Host, Job
from skep.agents.client import Client
from skep.agents.endings import bounded
from skep.agents.lines import Lines, Message
from skep.agents.outage import judged
from skep.errors import Invalid
from skep.terminals import Terminals


class Reader(Protocol):
    """Understands what one client says in one turn. No message makes it raise."""

    def hear(self, message: Message) -> None:
        """Passes on what a message says to the host."""

    def ending(self) -> Ending | None:
        """How the turn went, by the client's own word; None if it did not say."""

    def over(self) -> None:
        """The client is gone, however it ended: tells the host what is known and was not told."""


class OneWay:
    """A runtime of such a client. It cannot ask and hears nothing; it may have a thread to go on in.

    Args:
        terminals: where processes come from.
        client: which one.
        arguments: its command line for a job, and for the thread it is to go on in, if there is one. Raises Invalid.
        reader: makes what understands it.
        can: what it can beside carrying prompts out.
        told: variables by which it is told what no argument says, such as the MCP servers of a job.
    """

    def __init__(
        self,
        terminals: Terminals,
        client: Client,
        arguments: Callable[[Job, str], tuple[str, ...]],
        reader: Callable[[Job, Host], Reader],
        can: frozenset[Ability],
        told: Callable[[Job], dict[str, str]] = lambda job: {},
    ) -> None:
        self._terminals, self._client = terminals, client
        self._arguments, self._reader, self._told = arguments, reader, told
        self.name = client.name
        self.can: frozenset[Ability] = can | {"prompts"}
        self.wants = client.wants

    def check(self) -> str:
        """Whether the client is there."""
        return self._client.lack()

    async def run(self, job: Job, host: Host) -> Ending:
        """See the port."""
        return await bounded(job, self._run(job, host))

    async def _run(self, job: Job, host: Host) -> Ending:
        if job.question and not self._client.lend(job):
            raise Invalid("The conversation is not there any more.", "Its folder below .skep/homes was removed.")
        thread = self._client.thread(job)
        argv = self._arguments(job, thread)
        self._client.ready(job, argv[0])
        told = (job.question or (job.again if thread else job.prompt)).encode(errors="replace")
        reader = self._reader(job, host)
        with self._client.at_home(job) as env:
            try:
                async with Lines(self._terminals, job, host, argv, {**env, **self._told(job)}, input=told) as lines:
                    return await _heard(lines, reader)
            finally:
                reader.over()

    async def close(self) -> None:
        """Nothing is kept."""


async def _heard(lines: Lines, reader: Reader) -> Ending:
    async for message in lines.heard():
        reader.hear(message)
    said = reader.ending()
    failure = await lines.failure()
    if failure.interrupted or lines.flooded or (said is not None and not said.ok):
        return said if said is not None and not said.ok else failure
    if said is not None and failure.exit_code == 0:
        return said
    # It ended without a word about its turn: what it complained of may be its provider.
    found = judged(lines.complaint())
    return found if found.interrupted else failure
