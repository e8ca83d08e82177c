"""What coding clients share: where they are found, the home that they work in, and the login of the user in it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from skep.agents import Job, Spent
from skep.agents.servers import Server
from skep.errors import Invalid

#: Arguments of tools that say in one line what is done.
_ABOUT = ("command", "file_path", "filePath", "path", "pattern", "url", "query", "description", "prompt", "text", "question")


class Client(Struct, frozen=True, kw_only=True):
    """What is to be known of a coding client beside how it talks.

    Args:
        name: of the runtime, and of the program.
        install: the command that installs it.
        wants: variables of the owner that it gets: its login, and where its model is.
        logins: files below the user's HOME with the login: shared with every task's home, never copied, because a login that
            is refreshed in a copy is worth nothing in the original.
        settings: files below the user's HOME with the providers: shared, and only read.
        hosts: where its model is, if nobody says otherwise.
        addresses: variables of the owner that name another address of its model.
        threads: where below its HOME it keeps the thread `{id}` of the folder `{cwd}`, as a pattern of files.
        merged: a file of these settings, as JSON -> what is put beside the user's own there for a job with MCP servers.
        holds: whether such a file has that thread, where one file has all of them.
        quiet: variables that keep an unattended client from doing what nobody asked for.
    """

    name: str
    install: str
    wants: tuple[str, ...]
    logins: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    threads: str = ""
    holds: Callable[[Path, str], bool] = lambda file, thread: True
    merged: dict[str, Callable[[Mapping[str, Server]], dict[str, Any]]] = {}
    quiet: dict[str, str] = {}

    def lack(self, program: str = "") -> str:
        """What is missing, with the command that installs it; empty if the client is there."""
        wanted = program or self.name
        return "" if shutil.which(wanted) else f"{wanted} is not on the PATH; install it: {self.install}"

    def ready(self, job: Job, program: str) -> None:
        """Raises Invalid for a job that this client cannot carry out, whoever tries it again."""
        if job.task.prompt is None:
            raise Invalid(f"The {self.name} agent {job.agent} carries out `prompt` tasks only.")
        if not shutil.which(program, path=job.env.get("PATH")):
            raise Invalid(f"{program} is not on the PATH; install it: {self.install}")

    def thread(self, job: Job) -> str:
        """The thread that the job is to go on in, if the client still has it; otherwise it begins a new one."""
        found = self.kept(job.home, job.cwd, job.conversation)
        return job.conversation if found is not None and self.holds(found, job.conversation) else ""

    def kept(self, home: str, cwd: str, thread: str) -> Path | None:
        """The file with the thread of that folder, below that home."""
        if not re.fullmatch(r"\w[\w-]*", thread):
            return None
        return next(Path(home).glob(self.threads.format(id=thread, cwd=re.sub(r"[^a-zA-Z0-9]", "-", cwd))), None)

    def lend(self, job: Job) -> bool:
        """Puts a copy of a past conversation where the job's client looks for it; whether there is one."""
        found = self.kept(*job.past, job.conversation)
        here = self.threads.format(id=job.conversation, cwd=re.sub(r"[^a-zA-Z0-9]", "-", job.cwd))
        if found is None or "*" in here:
            return False
        place = Path(job.home) / here
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(found, place)
        return True

    @contextlib.contextmanager
    def at_home(self, job: Job) -> Iterator[dict[str, str]]:
        """The environment to start it in: a HOME of the task's own, with the user's login in it as long as this is entered."""
        home, users = Path(job.home), Path(job.env.get("HOME") or os.path.expanduser("~"))
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = [name for name in self.merged if job.servers]
        names = [name for name in (*self.logins, *self.settings) if name not in written]
        shared = [(home / name, users / name) for name in names if (users / name).is_file()]
        for name in written:
            _merge(home / name, users / name, self.merged[name](job.servers))
        for mine, login in shared:
            mine.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not mine.is_symlink():
                mine.unlink(missing_ok=True)
                mine.symlink_to(login)
        try:
            yield {**job.env, **self.quiet, "HOME": str(home)}
        finally:
            for mine, login in shared:
                _give_back(mine, login)
            for name in written:
                (home / name).unlink(missing_ok=True)


def _merge(mine: Path, users: Path, told: Mapping[str, Any]) -> None:
    """Writes the user's settings with some of ours beside them, one level deep. Raises Invalid if they are no JSON."""
    try:
        found = msgspec.json.decode(users.read_bytes(), type=dict[str, Any]) if users.is_file() else {}
    except msgspec.MsgspecError as error:
        fix = "Mend the file; it must be plain JSON for agents that talk with each other."
        raise Invalid(f"{users} cannot be read as JSON: {error}.", fix) from None
    for name, value in told.items():
        found[name] = {**value, **found[name]} if isinstance(found.get(name), dict) else value
    mine.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mine.unlink(missing_ok=True)
    mine.write_bytes(msgspec.json.encode(found))


def _give_back(mine: Path, login: Path) -> None:
    """A client that replaced the link by a file has refreshed the login: the user gets it, as the old one no longer works."""
    if mine.is_symlink() or not mine.is_file():
        return
    with contextlib.suppress(OSError):
        aside = login.with_name(f"{login.name}.{os.getpid()}")
        shutil.copy2(mine, aside)
        os.replace(aside, login)
        mine.unlink()


def about(given: object) -> str:
    """One line about the arguments of a tool."""
    if not isinstance(given, dict):
        return ""
    found = next((given[name] for name in _ABOUT if given.get(name)), "")
    text = " ".join(map(str, found)) if isinstance(found, list) else str(found)
    return text.split("\n", 1)[0][:500]


def inner(message: object, *names: str) -> Any:
    """What lies at these names in a message, None where there is nothing: what clients say is read by key, never trusted."""
    for name in names:
        message = message.get(name) if isinstance(message, dict) else None
    return message


def whole(value: object) -> int:
    """A count as a client tells it; 0 for what is none."""
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53 else 0


def spent(model: str, usage: object, cached: str) -> Spent:
    """What a client tells at the end of a turn whose `input_tokens` include those from a cache, which are under this name."""
    again = whole(inner(usage, cached))
    fresh = max(0, whole(inner(usage, "input_tokens")) - again)
    return Spent(model=model, input=fresh, cached=again, output=whole(inner(usage, "output_tokens")))
