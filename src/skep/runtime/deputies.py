"""Commands of the person's own that may answer for them: entries of `notify` that say so, such as a bridge to a chat.

Such a command is known by the process that Skep itself started for it, not by anything that it carries, and it is sealed: what
its files were when the session was opened is in the log. Whatever was changed since is not started, and cannot answer.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Awaitable, Callable

from msgspec import Struct
from msgspec.structs import replace

from skep.core import inputs as inp
from skep.core.model import Plan
from skep.core.terms import Command, Notify, Seal
from skep.errors import Denied, Invalid
from skep.runtime import requests as rq

#: What a process inside an attempt may ask for.
LOOKS = (
    rq.Who,
    rq.ListSessions,
    rq.Status,
    rq.GetTask,
    rq.Await,
    rq.Settle,
    rq.Explain,
    rq.Costs,
    rq.Ready,
    rq.Follow,
    rq.Diff,
)
#: Who answered, for the log.
BY = "a notify command"
#: What a deputy may look at beside what everybody may, and what it may say.
SEES = (*LOOKS, rq.Inbox, rq.Proposed, rq.Candidates)
SAYS = (inp.Permit, inp.Say)
#: Files of a command, and bytes of each.
MAX_FILES, MAX_SIZE = 50, 256 << 20
_BETWEEN = re.compile(r"""[\s;&|()<>'"`${}=]+""")

#: What tells a file, and the link that leads to it, from any other and from itself after a change.
Identity = tuple[tuple[int, int, int, int], ...]


class Deputy(Struct, frozen=True):
    """A command under way that may answer. `nonce`: its processes carry this one and no other."""

    session: str
    nonce: str
    seals: tuple[Seal, ...]
    identity: Identity


class Deputies:
    """Those under way, by process number and start time."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], Deputy] = {}

    def appoint(self, pid: int, born: int, deputy: Deputy) -> None:
        """From now on the process and what descends from it may answer."""
        self._known[pid, born] = deputy

    def dismiss(self, pid: int, born: int) -> None:
        """It is over."""
        self._known.pop((pid, born), None)

    def at(self, pid: int, born: int) -> Deputy | None:
        """The deputy that this very process is."""
        return self._known.get((pid, born))


def admitted(deputy: Deputy, request: rq.AnyRequest, session: str) -> rq.AnyRequest:
    """What a deputy asks for, if it may.

    Args:
        session: whom the request is for, if it is an answer.

    Raises:
        Denied: it may not, or its files were changed.
    """
    if isinstance(request, SEES):
        return request
    says = isinstance(request, rq.Tell) and isinstance(request.input, SAYS)
    if not (says or (isinstance(request, rq.Message) and request.answers)):
        raise Denied("a notify command may answer what is asked, and change nothing else", "Do it in a shell of your own.")
    if session != deputy.session:
        raise Denied("a notify command answers for its own session alone", "Do it in a shell of your own.")
    if unchanged(deputy.seals) != deputy.identity:
        raise Denied("the notify command was changed while it ran, so it does not answer", "Do it in a shell of your own.")
    return replace(request, input=replace(request.input, by=BY)) if isinstance(request, rq.Tell) else request


async def admit(deputy: Deputy, request: rq.AnyRequest, resolve: Callable[[str], Awaitable[str]]) -> rq.AnyRequest:
    """See `admitted`; `resolve` gives the session that goes by a name."""
    named = request.session if isinstance(request, rq.Tell | rq.Message) else ""
    return admitted(deputy, request, await resolve(named) if named else "")


def sealed(plan: Plan, cwd: str, path: str) -> Plan:
    """The plan with the seals of the commands that may answer.

    Args:
        cwd, path: where they run, and the PATH there.

    Raises:
        Invalid: such a command cannot be sealed.
    """
    if not any(entry.answers for entry in plan.notify):
        return plan
    return replace(plan, notify=tuple(_sealed(entry, cwd, path) for entry in plan.notify))


def _sealed(entry: Notify, cwd: str, path: str) -> Notify:
    if not entry.answers:
        return entry
    files = sorted(_files(entry.run, cwd, path))
    if len(files) > MAX_FILES:
        raise Invalid(f"a notify command that answers names {len(files)} files, more than {MAX_FILES}", "Put them into a script.")
    return replace(entry, seals=tuple((file, _digest(file)) for file in files))


def unchanged(seals: tuple[Seal, ...]) -> Identity:
    """What the sealed files are now; the same again later means that nothing was changed in between, or changed back.

    Raises:
        Denied: one is not what it was.
    """
    found: list[tuple[int, int, int, int]] = []
    for file, digest in seals:
        before = _identity(file)
        if not before or _digest(file) != digest or _identity(file) != before:
            raise Denied(
                f"{file} is not what it was when the session began, so the command that may answer is not trusted",
                "If the change is yours: `skep resume --file F`.",
            )
        found += before
    return tuple(found)


def _identity(file: str) -> list[tuple[int, int, int, int]]:
    try:
        both = os.lstat(file), os.stat(file)
    except OSError:
        return []
    return [(one.st_dev, one.st_ino, one.st_size, one.st_ctime_ns) for one in both]


def _files(command: Command, cwd: str, path: str) -> set[str]:
    """The files that the words of a command name: as paths, or as programs on the PATH."""
    words = {"bash", *_BETWEEN.split(command)} if isinstance(command, str) else set(command)
    found: set[str] = set()
    for word in words:
        if word and "\0" not in word:
            here = os.path.join(cwd, os.path.expanduser(word))
            program = shutil.which(word, path=path) if "/" not in word else None
            found |= {os.path.abspath(one) for one in (here, program) if one and os.path.isfile(one)}
    return found


def _digest(file: str) -> str:
    try:
        with open(file, "rb") as stream:
            if os.fstat(stream.fileno()).st_size > MAX_SIZE:
                raise Invalid(f"{file} is too large to be part of a notify command that answers", "Name a smaller program.")
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"  # and so never the same as what could be read
