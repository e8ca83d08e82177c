"""What `with` of an agent may say, by runtime: checked when a plan is read, and read again when an attempt begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

from skep.core.references import nearest
from skep.errors import Invalid

Words = Annotated[tuple[str, ...], Meta(max_length=100)]


class NoOptions(Struct, frozen=True):
    """Nothing: the runtime takes no `with`."""


class ShellOptions(Struct, frozen=True):
    """Of `shell`.

    Args:
        run: the command that carries prompts out; it finds the prompt in the file $SKEP_PROMPT.
        tty: whether the command's standard input is the terminal.
    """

    run: str | Words = ""
    tty: bool = False


class ClaudeOptions(Struct, frozen=True):
    """Of `claude`.

    Args:
        permissions: `ask` = Skep decides about what Claude Code would ask a person; `edits` = as `ask`, but files in its folder
            are changed unasked; `all` = nothing is asked.
        tools: tools that need no leave, as Claude Code writes them: `Edit`, `Bash(make test:*)`.
        max_turns: at most so many turns of the model.
        program: the client, if it is not `claude` on the PATH.
        args: further arguments for it.
    """

    permissions: Literal["ask", "edits", "all"] = "ask"
    tools: Words = ()
    max_turns: Annotated[int, Meta(ge=0, le=100_000)] = 0
    program: str = "claude"
    args: Words = ()


class CodexOptions(Struct, frozen=True):
    """Of `codex`.

    Args:
        permissions: `edits` = commands are confined to the folder: by Skep's sandbox, or, where that is off, by Codex's own,
            without network; `all` = Codex confines nothing.
        program: the client, if it is not `codex` on the PATH.
        args: further arguments for `codex exec`.
    """

    permissions: Literal["edits", "all"] = "edits"
    program: str = "codex"
    args: Words = ()


class GeminiOptions(Struct, frozen=True):
    """Of `gemini`.

    Args:
        permissions: `edits` = it may change files and has no shell; `all` = it may use every tool.
        program: the client, if it is not `gemini` on the PATH.
        args: further arguments for it.
    """

    permissions: Literal["edits", "all"] = "edits"
    program: str = "gemini"
    args: Words = ()


class OpenCodeOptions(Struct, frozen=True):
    """Of `opencode`.

    Args:
        permissions: `edits` = what its own settings would ask about is refused; `all` = that is allowed.
        program: the client, if it is not `opencode` on the PATH.
        args: further arguments for `opencode run`.
    """

    permissions: Literal["edits", "all"] = "edits"
    program: str = "opencode"
    args: Words = ()


class AcpOptions(Struct, frozen=True):
    """Of `acp`.

    Args:
        command: the agent's command line, as a list; it speaks the Agent Client Protocol on its standard input and output.
        permissions: `ask` = Skep decides about what the agent asks; `all` = everything is allowed.
        mode: a mode that the agent offers, to begin in.
    """

    command: Annotated[tuple[str, ...], Meta(min_length=1, max_length=100)]
    permissions: Literal["ask", "all"] = "ask"
    mode: str = ""


#: Tools that Skep gives to agents of `llm`.
LlmTool = Literal["shell", "read_file", "write_file", "edit_file", "list_files", "search"]


class LlmOptions(Struct, frozen=True):
    """Of `llm`.

    Args:
        base_url: the address of an OpenAI-compatible server, or of a provider's stand-in.
        api_key_env: the variable that holds the key, if it is not the provider's usual one.
        permissions: `ask` = Skep decides about commands, changes of files and tools of MCP servers; `edits` = files in its folder
            are changed unasked; `all` = nothing is asked.
        tools: those of Skep's own that it has; all of them if left out.
        mcp: names of the servers of `.mcp.json` that it may use; all of them if left out.
        max_turns: at most so many turns of the model.
        settings: for the model, as pydantic-ai takes them: `temperature`, `max_tokens`, `thinking`.
        timeout: seconds that the provider may take for one answer.
        retries: how often one call is tried again before the attempt is put off.
        stream: whether answers are taken as they come: for very long ones, and where something between cuts silence.
    """

    base_url: str = ""
    api_key_env: str = ""
    permissions: Literal["ask", "edits", "all"] = "ask"
    tools: tuple[LlmTool, ...] = get_args(LlmTool)
    mcp: Words | None = None
    max_turns: Annotated[int, Meta(ge=1, le=100_000)] = 200
    settings: dict[str, Any] = {}
    timeout: Annotated[float, Meta(gt=0, le=86_400)] = 600.0
    retries: Annotated[int, Meta(ge=0, le=20)] = 4
    stream: bool = False


#: Runtime -> what its `with` may hold.
OPTIONS: dict[str, type[Struct]] = {
    "shell": ShellOptions,
    "python": NoOptions,
    "claude": ClaudeOptions,
    "codex": CodexOptions,
    "gemini": GeminiOptions,
    "opencode": OpenCodeOptions,
    "acp": AcpOptions,
    "llm": LlmOptions,
}

T = TypeVar("T", bound=Struct)


def read(kind: type[T], options: Mapping[str, Any]) -> T:
    """An agent's `with` as its runtime takes it.

    Raises:
        Invalid: a key that it does not know, with the nearest that it does; a value of the wrong kind; one that is missing.
    """
    known = kind.__struct_fields__
    for key in options:
        if key not in known:
            there = f"It takes {', '.join(known)}." if known else "It takes none."
            raise Invalid(f"`with` has no key {key!r} here{nearest(str(key), known)}", there)
    try:
        return msgspec.convert(options, kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"`with` is not right: {error}") from None


def wrong_options(runtime: str, options: Mapping[str, Any]) -> str:
    """What is wrong with the `with` of an agent of this runtime; empty if nothing is, or if the runtime is none of Skep's own."""
    try:
        if runtime in OPTIONS:
            read(OPTIONS[runtime], options)
    except Invalid as error:
        return f"{error.message} {error.fix}".strip()
    return ""
