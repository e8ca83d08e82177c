"""An attempt asks leave: what it is about to do in words and as rules see it, the wait for the answer, the one use of it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from skep.agents import Ask, Verdict
from skep.core import inputs as inp
from skep.core.approvals import MAX_ABOUT, MAX_ARGUMENTS, QUESTION
from skep.core.rules import MAX_COMMAND, Action, Asking, Do
from skep.core.state import State
from skep.errors import Conflict, Invalid, SkepError
from skep.runtime.session import Session
from skep.runtime.telling import told

#: Names of arguments -> what they hold. Others are not understood, except those that only say what is written or why.
COMMANDS, PATHS = ("command", "cmd"), ("file_path", "path", "notebook_path", "filePath", "absolute_path")
ADDRESSES = ("url", "uri")
QUESTIONS = (QUESTION,)
CONTENTS = ("content", "old_string", "new_string", "new_source", "edits", "replace_all")
WORDS = ("description", "timeout")
#: Tools that act on this machine alone: those of Claude Code, kinds of the Agent Client Protocol, Skep's own.
LOCAL = (
    "Bash", "BashOutput", "KillShell", "Edit", "MultiEdit", "NotebookEdit", "Write", "Read", "Glob", "Grep", "LS",
    "execute", "edit", "delete", "move", "read",
    "shell", "read_file", "write_file", "edit_file", "list_files",
)  # fmt: skip


class Leave:
    """What one attempt may do.

    Args:
        session: the attempt's.
        task, n, nonce: the attempt.
        now: wall-clock ms.
    """

    def __init__(self, session: Session, task: str, n: int, nonce: str, now: Callable[[], int]) -> None:
        self._session = session
        self._named: dict[str, Any] = {"task": task, "n": n, "nonce": nonce}
        self._now = now
        self._count = 0

    async def ask(self, ask: Ask, cwd: str, otherwise: Do, can_ask: bool) -> Verdict:
        """Whether the action may be done. A yes of a person is used up with it, and the log holds that when this returns.

        Args:
            cwd: where the attempt works.
            otherwise: what holds where no rule says anything.
            can_ask: whether its runtime can wait for a person.
        """
        self._count += 1
        try:
            arguments = _written(ask.arguments)
            given = inp.Ask(
                at=self._now(),
                key=f"{self._count}",
                action=understood(ask, cwd),
                about=about(ask),
                arguments=arguments if len(arguments) <= MAX_ARGUMENTS else f"{arguments[: MAX_ARGUMENTS - 20]} ... (cut)",
                digest=digest(ask.tool, arguments),
                shape=shape(ask),
                otherwise="ask" if ask.tool == QUESTION else otherwise,
                can_ask=can_ask,
                **self._named,
            )
            found = await told(self._session, given)
            if found.said:
                return Verdict(found.said == "yes", "" if found.said == "yes" else f"Not allowed: {found.why}.")
            said = await self._answer(found.number)
            if said.said != "yes":
                return Verdict(False, f"Not allowed{': ' + said.comment if said.comment else ' by a person'}.")
            await self._use(found.number, given.digest)
            return Verdict(True, said.comment)
        except SkepError as error:
            return Verdict(False, f"Not allowed: {error.message}.")

    async def _use(self, number: int, digest: str) -> None:
        """Never twice: whether it was recorded may be unknown, and then the action is not done."""
        await self._session.tell(inp.Use(at=self._now(), number=number, digest=digest, **self._named))

    async def _answer(self, number: int) -> Asking:
        """The question, once it is answered. Raises Conflict when the attempt is over."""
        while True:
            found: Asking | None
            seq, found = await self._session.ask(lambda state: (state.seq, self._look(state, number)))
            if found is None:
                raise Conflict("the attempt is over")
            if found.said:
                return found
            await self._session.moved(seq)

    def _look(self, state: State, number: int) -> Asking | None:
        entry = state.entries.get(self._named["task"])
        attempt = entry.attempt if entry is not None else None
        if attempt is None or attempt.nonce != self._named["nonce"] or number not in (attempt.asks or {}):
            return None
        return msgspec.structs.replace((attempt.asks or {})[number])


def otherwise(ask: Ask, confined: bool) -> Do:
    """What holds where no rule says anything: the sandbox bounds what acts on this machine alone; else there is a person."""
    return "always" if confined and ask.tool in LOCAL and not any(ask.arguments.get(name) for name in ADDRESSES) else "ask"


def _written(arguments: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(arguments, order="deterministic").decode()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Invalid(f"what it asks for cannot be written down: {error}") from None


def digest(tool: str, arguments: str) -> str:
    """Of an action, whole."""
    return hashlib.sha256(f"{tool}\0{arguments}".encode()).hexdigest()


def shape(ask: Ask) -> str:
    """What actions have in common that a standing yes covers: the same tool on the same file, otherwise the same arguments."""
    free = (*WORDS, *CONTENTS) if any(isinstance(ask.arguments.get(name), str) for name in PATHS) else WORDS
    kept = {name: value for name, value in ask.arguments.items() if name not in free}
    return digest(ask.tool, _written(kept))


def understood(ask: Ask, cwd: str) -> Action:
    """An action as rules see it."""
    given = ask.arguments
    command = next((given[name] for name in COMMANDS if given.get(name)), "")
    if isinstance(command, list):
        command = " ".join(_quoted(str(word)) for word in command)
    paths = [value for name in PATHS if isinstance(value := given.get(name), str) and value]
    hosts = [_host(value) for name in ADDRESSES if isinstance(value := given.get(name), str)]
    known = (*COMMANDS, *PATHS, *ADDRESSES, *WORDS, *(CONTENTS if paths else ()))
    return Action(
        tool=ask.tool,
        command=str(command)[: MAX_COMMAND + 1],
        paths=tuple(dict.fromkeys(form for path in paths for form in _forms(path, cwd))),
        hosts=tuple(hosts),
        unknown=any(name not in known and (value is True or not isinstance(value, int | float)) for name, value in given.items())
        or not isinstance(command, str),
    )


def about(ask: Ask) -> str:
    """The action in one line that hides nothing but its end, and says so: people decide by it."""
    silent = (*WORDS, *CONTENTS)
    telling = {name: value for name, value in ask.arguments.items() if name not in silent} or ask.arguments
    name, value = next(iter(telling.items()), ("", ""))
    alone = len(telling) == 1 and name in (*COMMANDS, *PATHS, *ADDRESSES, *QUESTIONS) and isinstance(value, str)
    text = value if alone else _written(telling)
    text = "".join(c if c.isprintable() else {"\n": "\\n", "\t": "\\t"}.get(c, ascii(c)[1:-1]) for c in text)
    return text if len(text) <= MAX_ABOUT else f"{text[: MAX_ABOUT - 60]} ... ({len(text) - MAX_ABOUT + 60} characters more)"


def _forms(path: str, cwd: str) -> list[str]:
    """A path as it is said and where it leads, from the folder of the attempt if it lies there."""
    if "\0" in path:
        return [path]
    real = os.path.realpath(cwd)
    said = os.path.normpath(os.path.join(real, os.path.expanduser(path)))
    if said.startswith(f"{os.path.normpath(cwd)}/"):
        said = os.path.join(real, said[len(os.path.normpath(cwd)) + 1 :])
    return [os.path.relpath(form, real) if form.startswith(f"{real}/") else form for form in (said, os.path.realpath(said))]


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _quoted(word: str) -> str:
    return word if re.fullmatch(r"[\w@%+=:,./-]+", word) else "'" + word.replace("'", "'\\''") + "'"
