"""The tools that a model is given: what they take, what they do, and how each use is told and, where it is risky, asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta, Struct
from pydantic_ai.tools import ToolDefinition

from skep.agents import Report, Used
from skep.agents.door.tools import TOOLS, described, schema
from skep.agents.loop import AtDoor, Leave, Request, Run
from skep.agents.loop.files import Folder, Refused
from skep.agents.options import LlmOptions

#: Seconds that a command may take if the model does not say, and at most; that a search may take.
PATIENCE, MOST, SEARCH = 120.0, 3_600.0, 60.0
#: Arguments of tools that say in one line what is done.
_ABOUT = ("command", "path", "pattern", "url", "query", "name", "text", "question", "prompt")

Risk = Literal["read", "edit", "run"]


class Attempt(Protocol):
    """What a tool may use of the attempt that it is called in."""

    options: LlmOptions
    folder: Folder
    denied: list[str]

    def report(self, report: Report) -> None:
        """Tells the runtime."""

    async def request(self, request: Request) -> Any:
        """Asks the runtime, and returns its answer."""


class Tool(Struct, frozen=True):
    """Something that a model can use.

    Args:
        shown: what the model is told of it.
        use: given the attempt, the id of the call and the arguments. Raises Refused, whose words are for the model.
        alone: nothing else is used meanwhile.
    """

    shown: ToolDefinition
    use: Callable[[Attempt, str, dict[str, Any]], Awaitable[str]]
    alone: bool = False


class Shell(Struct, frozen=True):
    """Runs a command under bash in your folder. What it leaves running is ended when it ends. Output is cut in the middle."""

    command: Annotated[str, Meta(description="a line or a script for bash")]
    timeout: Annotated[float, Meta(description="seconds that it may take", gt=0, le=MOST)] = PATIENCE

    async def do(self, attempt: Attempt) -> str:
        """Has the runtime run it, confined."""
        code, output = await attempt.request(Run(("bash", "-c", self.command), self.timeout))
        how = f"took more than {self.timeout:g} s and was ended" if code is None else f"exit code {code}"
        return f"{output}\n[{how}]" if output else f"[{how}, no output]"


class ReadFile(Struct, frozen=True):
    """Text of a file in your folder."""

    path: str
    first: Annotated[int, Meta(description="line to begin with", ge=1)] = 1
    lines: Annotated[int, Meta(description="how many lines at most", ge=1)] = 2_000

    async def do(self, attempt: Attempt) -> str:
        """Reads it."""
        return attempt.folder.read(self.path, self.first, self.lines)


class WriteFile(Struct, frozen=True):
    """Writes a whole file in your folder, and makes the folders that it needs."""

    path: str
    content: str

    async def do(self, attempt: Attempt) -> str:
        """Writes it."""
        return attempt.folder.write(self.path, self.content)


class EditFile(Struct, frozen=True):
    """Replaces text in a file in your folder. `old` must stand there exactly so, and only once unless `every` is true."""

    path: str
    old: str
    new: str
    every: bool = False

    async def do(self, attempt: Attempt) -> str:
        """Changes it."""
        return attempt.folder.edit(self.path, self.old, self.new, self.every)


class ListFiles(Struct, frozen=True):
    """Names in a folder, `/` behind folders."""

    path: str = "."

    async def do(self, attempt: Attempt) -> str:
        """Lists it."""
        return attempt.folder.entries(self.path)


class Search(Struct, frozen=True):
    """Lines that match an extended regular expression, in all text files below a path of your folder."""

    pattern: str
    path: str = "."

    async def do(self, attempt: Attempt) -> str:
        """A program does it: no pattern of a model's may hold up the worker."""
        path = attempt.folder.inside(self.path)
        argv = ("grep", "-rnIE", "--exclude-dir=.git", "--exclude-dir=node_modules", "-e", self.pattern, "--", path)
        code, output = await attempt.request(Run(argv, SEARCH))
        if code is None:
            raise Refused(f"the search took more than {SEARCH:g} s: search a smaller part")
        return str(output) or "(nothing matches)"


#: Name -> what it takes and does, and what that does to the world: it decides whether leave is asked for.
_KINDS: dict[str, tuple[type[Struct], Risk]] = {
    "shell": (Shell, "run"),
    "read_file": (ReadFile, "read"),
    "write_file": (WriteFile, "edit"),
    "edit_file": (EditFile, "edit"),
    "list_files": (ListFiles, "read"),
    "search": (Search, "read"),
}


@cache
def own() -> Mapping[str, Tool]:
    """Skep's own tools, by name."""
    return {name: _tool(name, kind, risk) for name, (kind, risk) in _KINDS.items()}


@cache
def talking() -> Mapping[str, Tool]:
    """Those by which it reaches others: what they do is bounded by the runtime, so they need no leave."""
    return {shown: _talk(name, shown) for name in TOOLS for shown in [f"{name}_memory" if name in _KINDS else name]}


def _talk(name: str, shown: str) -> Tool:
    """A tool at the door. One that is called as one of the loop's own is shown under another name."""

    async def use(attempt: Attempt, ident: str, given: dict[str, Any]) -> str:
        async def do() -> str:
            done, text = await attempt.request(AtDoor(name, given))
            if not done:
                raise Refused(text)
            return str(text)

        return await used(attempt, ident, shown, "read", given, do)

    return Tool(ToolDefinition(name=shown, parameters_json_schema=schema(name), description=described(name)), use)


def _tool(name: str, kind: type[Struct], risk: Risk) -> Tool:
    async def use(attempt: Attempt, ident: str, given: dict[str, Any]) -> str:
        async def do() -> str:
            try:
                wanted: Any = msgspec.convert(given, kind)
            except msgspec.ValidationError as error:
                raise Refused(f"wrong arguments: {error}") from None
            return str(await wanted.do(attempt))

        return await used(attempt, ident, name, risk, given, do)

    _, components = msgspec.json.schema_components([kind])
    schema = {key: value for key, value in components[kind.__name__].items() if key not in ("title", "description")}
    return Tool(
        ToolDefinition(name=name, parameters_json_schema=schema, description=kind.__doc__ or ""), use, alone=name == "shell"
    )


async def used(
    attempt: Attempt, ident: str, tool: str, risk: Risk, given: dict[str, Any], do: Callable[[], Awaitable[str]]
) -> str:
    """Does what a tool does: told when it begins and ends, and with leave where the attempt's permissions want that.

    Raises:
        Refused: it was not allowed, or failed; the words are for the model.
    """
    about = _about(given)
    attempt.report(Used(ident, tool, about))
    try:
        if _asks(attempt.options, risk):
            allowed, why = await attempt.request(Leave(tool, given, about))
            if not allowed:
                attempt.denied.append(tool)
                raise Refused(f"not allowed: {why}")
        answer = await do()
    except Refused as error:
        attempt.report(Used(ident, tool, str(error), ok=False))
        raise
    attempt.report(Used(ident, tool, about, ok=True))
    return answer


def _asks(options: LlmOptions, risk: Risk) -> bool:
    return risk != "read" and (options.permissions == "ask" or (options.permissions == "edits" and risk == "run"))


def _about(given: dict[str, Any]) -> str:
    found = next((str(given[name]) for name in _ABOUT if given.get(name)), "")
    return found.split("\n", 1)[0][:500]
