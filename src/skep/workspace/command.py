"""Runs the git command: argument lists, a cleaned environment, nothing of a repository's own that could run by itself.

Off, whatever the repository's configuration says: hooks, fsmonitor, external diff and text conversion, signing, paging,
prompts, automatic collection, recursion into submodules, and every transport: Skep's git never uses the network. What stays
on is what the user's files need to be right: clean and smudge filters (Git LFS) and line endings from the user's own
configuration. That is why HOME is kept; it also holds `safe.directory` and the user's global ignore rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from skep.errors import Exhausted, Invalid, SkepError, Unavailable

#: What Skep commits as where no person is the author.
NAME, EMAIL = "Skep", "skep@localhost"
#: Oldest git that has `merge-tree --write-tree`.
FLOOR = (2, 38)
#: Git commands of one workspace at once; more wait.
PARALLEL = 8
#: Seconds after which a git command is ended.
PATIENCE = 600.0
#: Bytes of output after which a git command is ended.
OUTPUT = 256 * 1024 * 1024
#: Bytes of what git says on standard error that are kept.
_WORDS = 16 * 1024

_KEPT = ("PATH", "HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "TMPDIR")
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_EDITOR": "false",
}
_CONFIG = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.fsync=all",
    "core.quotePath=off",
    "core.safecrlf=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "commit.gpgSign=false",
    "i18n.commitEncoding=UTF-8",
    "submodule.recurse=false",
    "diff.submodule=short",
    # The same merge must give the same tree for every user and after every change of their configuration.
    "merge.renames=true",
    "merge.directoryRenames=conflict",
    "merge.renameLimit=7000",
    "merge.renormalize=false",
    "merge.default=text",
)
#: For working trees of Skep's own: complete, plain indexes, and no fsync for what a crash makes worthless anyway.
_OWN = ("core.sparseCheckout=false", "index.sparse=false", "core.splitIndex=false", "core.untrackedCache=false")

_OID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_KNOWN: tuple[tuple[str, type[SkepError], str], ...] = (
    (r"dubious ownership", Unavailable, "If you trust that folder: git config --global --add safe.directory '{folder}'"),
    (r"\.lock': File exists", Unavailable, "If no git command is running there, remove that lock file and repeat."),
    (r"No space left|quota exceeded", Unavailable, "Make room on the disk and repeat."),
    (
        r"promisor|transport '.*' not allowed",
        Unavailable,
        "This clone is partial: git fetch --refetch --no-filter",
    ),
    (r"[Pp]ermission denied|unable to create|cannot create", Unavailable, "Check who owns the files there, and their modes."),
    (r"unable to write", Unavailable, "Make sure that the disk is writable and not full."),
    (
        r"[Nn]ot a valid|invalid reference|bad (object|revision)|nonexistent object|we can merge",
        Invalid,
        "Check the commit's id.",
    ),
    (r"corrupt|missing (blob|tree|commit)|unable to read", Unavailable, "The repository is damaged: git -C '{folder}' fsck"),
)


class Ran(NamedTuple):
    """What a git command came to: exit code, its output, and what it said on standard error."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Its output without the last line's end."""
        return self.out.decode("utf-8", "backslashreplace").rstrip("\n")

    @property
    def names(self) -> list[bytes]:
        """Its output as the list that `-z` makes."""
        return [name for name in self.out.split(b"\0") if name]


def shown(path: bytes) -> str:
    """A path as text that can be encoded again: bytes that are no UTF-8 are written as `\\xff`."""
    return path.decode("utf-8", "backslashreplace")


def oid(text: str) -> str:
    """Returns the text if it can be a commit's id. Raises Invalid if it cannot."""
    if not _OID.fullmatch(text) or not text.strip("0"):  # to git, zeros mean that there is none
        raise Invalid(f"{text[:80]!r} is no commit id.", "Give the full id, as `git rev-parse` prints it.")
    return text


def environment() -> dict[str, str]:
    """The variables that git gets: an allow-list of the caller's, and Skep's own."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {"PATH": os.defpath, **kept, **_ENVIRONMENT}


@dataclass(frozen=True)
class Git:
    """Git on one repository. Calling it runs a command and returns its output as text.

    Args:
        cwd: where it runs. Git reads `.gitattributes` from there even without a working tree, so this is never the user's folder
            unless that is meant.
        gitdir: the repository; None = git looks for it from `cwd`.
        tree: the working tree; None = commands see objects and refs alone.
        index: the index file; None = the repository's.
        own: the working tree is Skep's: complete whatever the user's is, and not worth an fsync.
    """

    cwd: Path
    gitdir: Path | None = None
    tree: Path | None = None
    index: Path | None = None
    own: bool = False
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PARALLEL))

    def on(self, tree: Path, index: Path | None = None, *, gitdir: Path | None = None, own: bool = True) -> Git:
        """The same repository with a working tree."""
        return replace(self, cwd=tree, tree=tree, index=index, gitdir=gitdir or self.gitdir, own=own)

    async def __call__(self, *args: str, stdin: bytes = b"") -> str:
        """Runs a command that must succeed and returns its output. Raises as `run` does."""
        return (await self.run(*args, stdin=stdin)).text

    async def run(
        self,
        *args: str,
        stdin: bytes | BinaryIO = b"",
        env: Mapping[str, str] | None = None,
        config: Sequence[str] = (),
        ok: Collection[int] = (0,),
        into: BinaryIO | None = None,
        most: int = 0,
        under: Sequence[str] = (),
    ) -> Ran:
        """Runs a command.

        Args:
            args: subcommand and arguments.
            stdin: what it reads; of a file, unbuffered, from where it stands.
            env: further variables.
            config: further settings, `name=value`.
            ok: exit codes that are an answer; empty = all.
            into: where its output goes instead of into the answer.
            most: bytes of output after which it is ended; 0 = OUTPUT.
            under: a program with its arguments that starts git.

        Raises:
            Unavailable: git is missing, failed, or took longer than PATIENCE; the message is git's own last line.
            Invalid: a commit is not there.
            Exhausted: it printed more than that.
        """
        async with self.gate:
            ran = await self._spawn([*under, *self._command(args, config)], args[0], stdin, env or {}, into, most or OUTPUT)
        if ok and ran.code not in ok:
            raise self.failure(args, ran)
        return ran

    def failure(self, args: Sequence[str], ran: Ran) -> SkepError:
        """The error that says what git said, and what to do about it."""
        lines = [line.strip() for line in ran.err.splitlines() if line.strip()]
        told = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines
        last = told[-1] if told else f"exit code {ran.code}"
        for pattern, kind, fix in _KNOWN:
            if re.search(pattern, ran.err):
                first = next((line for line in lines if re.search(pattern, line)), last)
                return kind(f"git {args[0]} failed in {self._folder}: {first}", fix.format(folder=self._folder))
        return Unavailable(f"git {args[0]} failed in {self._folder}: {last}", "Correct what git says and repeat.")

    @property
    def _folder(self) -> Path:
        return self.tree or self.gitdir or self.cwd

    def _command(self, args: Sequence[str], further: Sequence[str]) -> list[str]:
        config = (*_CONFIG, *_OWN, "core.fsync=committed") if self.own else _CONFIG
        command = ["git", "--no-pager"]
        for setting in (*config, *further):
            command += ("-c", setting)
        if self.gitdir is not None:
            command.append(f"--git-dir={self.gitdir}")
            command.append(f"--work-tree={self.tree}" if self.tree else "--bare")
        return [*command, *args]

    async def _spawn(
        self,
        command: Sequence[str],
        name: str,
        stdin: bytes | BinaryIO,
        env: Mapping[str, str],
        into: BinaryIO | None,
        most: int,
    ) -> Ran:
        told = stdin if isinstance(stdin, bytes) else b""
        feed = asyncio.subprocess.PIPE if told else asyncio.subprocess.DEVNULL
        # Cancelled over its start, asyncio would ask itself how the process ended, and then complain that it does not know.
        starting = asyncio.ensure_future(self._start(command, feed if isinstance(stdin, bytes) else stdin, env))
        try:
            process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            with contextlib.suppress(SkepError):
                await _end(await starting)
            raise
        try:
            async with asyncio.timeout(PATIENCE):
                reading = _read(process, name, into, most)
                _, out, err = await asyncio.gather(_feed(process, told), reading, _listen(process))
                return Ran(await process.wait(), out, err)
        except TimeoutError:
            raise Unavailable(f"git {name} took longer than {PATIENCE:.0f} s.", "See whether the disk answers.") from None
        finally:
            await _end(process)

    async def _start(self, command: Sequence[str], stdin: int | BinaryIO, env: Mapping[str, str]) -> asyncio.subprocess.Process:
        variables = {**environment(), **env}
        if self.index is not None:
            variables["GIT_INDEX_FILE"] = str(self.index)
        try:
            return await asyncio.create_subprocess_exec(
                *command,
                cwd=self.cwd,
                env=variables,
                stdin=stdin,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                process_group=0,  # Ctrl-C on the terminal is for Skep; git finishes what it began
            )
        except FileNotFoundError:
            if not self.cwd.is_dir():
                raise Unavailable(f"The folder {self.cwd} is gone.", "Bring it back, or start again elsewhere.") from None
            raise Unavailable("git was not found on PATH.", "Install git 2.38 or newer.") from None
        except OSError as error:
            raise Unavailable(f"git cannot be started: {error.strerror}.", "Free memory and processes, and repeat.") from error


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends it, unless it has."""
    if process.returncode is None:
        _terminate(process)
        await asyncio.shield(process.wait())


def _terminate(process: asyncio.subprocess.Process) -> None:
    """Not kill: git removes its lock files when it is asked to end. Not `process.terminate`: that may take the exit code of one
    that has just ended away from asyncio, which then complains on standard error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    if process.stdin is None:
        return
    try:
        process.stdin.write(data)
        await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        return  # git ended early; its exit code says why
    finally:
        process.stdin.close()


async def _read(process: asyncio.subprocess.Process, name: str, into: BinaryIO | None, most: int) -> bytes:
    assert process.stdout is not None
    data, size = bytearray(), 0
    while chunk := await process.stdout.read(1 << 16):
        size += len(chunk)
        if size > most:
            if process.returncode is None:
                _terminate(process)
        elif into is None:
            data += chunk
        else:
            into.write(chunk)
    if size > most:
        raise Exhausted(f"git {name} printed more than {most >> 20} MB.", "Ask for less, or run git yourself.")
    return bytes(data)


async def _listen(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    data = bytearray()
    while chunk := await process.stderr.read(1 << 14):
        data += chunk
        del data[:-_WORDS]
    return data.decode("utf-8", "replace")
