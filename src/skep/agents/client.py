"""What coding clients share: where they are found, the home that they work in, and the login of the user in it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from skep.agents import Job, Spent, left
from skep.agents.servers import Server
from skep.errors import Invalid

#: Bytes of a login that a client refreshed, of a thread that it kept, and at the end of one in which its costs are looked for.
MAX_LOGIN, MAX_THREAD, MAX_TAIL = 1 << 20, 1 << 30, 4 << 20
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
        """The file with the thread of that folder, below that home; no link, pipe or monster that an agent put in its place."""
        if not re.fullmatch(r"\w[\w-]*", thread):
            return None
        where = self.threads.format(id=thread, cwd=re.sub(r"[^a-zA-Z0-9]", "-", cwd))
        found = next(Path(os.path.realpath(home)).glob(where), None)
        return found if found is not None and _is_plain(found) else None

    def lend(self, job: Job) -> bool:
        """Puts a copy of a past conversation where the job's client looks for it; whether there is one."""
        found = self.kept(*job.past, job.conversation)
        if found is None:
            return False
        here = self.threads.format(id=job.conversation, cwd=re.sub(r"[^a-zA-Z0-9]", "-", job.cwd))
        if "*" in here:
            here = str(found.relative_to(os.path.realpath(job.past[0])))
        os.makedirs(job.home, mode=0o700, exist_ok=True)
        shutil.copyfile(found, _cleared(Path(job.home), here))
        return True

    @contextlib.contextmanager
    def at_home(self, job: Job) -> Iterator[dict[str, str]]:
        """The environment to start it in: a HOME of the task's own, with the user's login in it as long as this is entered."""
        home, users = Path(job.home), Path(job.env.get("HOME") or os.path.expanduser("~"))
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = [name for name in self.merged if job.servers]
        for name in (*self.logins, *self.settings):
            if name not in written and (users / name).is_file():
                _share(home, name, users / name)
        for name in written:
            _merge(_cleared(home, name), users / name, self.merged[name](job.servers))
        try:
            yield {**job.env, **self.quiet, "HOME": str(home)}
        finally:
            for name in self.logins:
                _give_back(home, name, users / name)
            for name in written:
                _cleared(home, name)


def _merge(mine: Path, users: Path, told: Mapping[str, Any]) -> None:
    """Writes the user's settings with some of ours beside them, one level deep. Raises Invalid if they are no JSON."""
    try:
        found = msgspec.json.decode(users.read_bytes(), type=dict[str, Any]) if users.is_file() else {}
    except msgspec.MsgspecError as error:
        fix = "Mend the file; it must be plain JSON for agents that talk with each other."
        raise Invalid(f"{users} cannot be read as JSON: {error}.", fix) from None
    for name, value in told.items():
        found[name] = {**found[name], **value} if isinstance(found.get(name), dict) else value
    mine.write_bytes(msgspec.json.encode(found))


def _is_plain(path: Path) -> bool:
    """Whether it is a file of a size that threads have, and no link leads there: an agent may have put anything in its place."""
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_size <= MAX_THREAD and os.path.realpath(path) == str(path)


def _share(home: Path, name: str, users: Path) -> None:
    """Puts a link to a file of the user's into a home."""
    mine = home / name
    if os.path.realpath(mine.parent) != os.path.join(os.path.realpath(home), os.path.dirname(name)) or _link(mine) != str(users):
        _cleared(home, name).symlink_to(users)


def _link(path: Path) -> str:
    return os.readlink(path) if path.is_symlink() else ""


def _cleared(home: Path, name: str) -> Path:
    """A path in a home where nothing is. What attempts left there is not trusted: no link of theirs is followed, and what stands
    in the way goes.
    """
    folder = home
    for part in Path(name).parent.parts:
        folder /= part
        if folder.is_symlink() or not folder.is_dir():
            folder.unlink(missing_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    path = home / name
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    return path


def _give_back(home: Path, name: str, login: Path) -> None:
    """A client that replaced the link by a file has refreshed the login: the user gets it, as the old one no longer works."""
    with contextlib.suppress(OSError):
        refreshed = left.read(home, name, MAX_LOGIN)
        if login.is_file():
            aside = login.with_name(f"{login.name}.{os.getpid()}")
            with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
                file.write(refreshed)
            os.replace(aside, login)
            (home / name).unlink()


def tail(thread: Path | None) -> list[bytes]:
    """The last lines of a thread's file, newest first: the agent can write to it, so it may be of any size. None has none."""
    if thread is None:
        return []
    try:
        with thread.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_TAIL))
            return file.read(MAX_TAIL).splitlines()[::-1]
    except OSError:
        return []


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
