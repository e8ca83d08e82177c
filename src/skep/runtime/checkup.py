"""What Skep needs of a machine and a workspace, checked one by one. Every finding that is not fine says how to mend it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import resource
import shlex
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal

from msgspec import Struct

from skep import config as configuration
from skep.agents import declared
from skep.agents.servers import ONLY, kind_of
from skep.config import STATE
from skep.errors import SkepError
from skep.runtime import collect, retention
from skep.runtime.backups import ARCHIVE, ENDING, FOLDER, MARK
from skep.runtime.confined import FIX
from skep.runtime.memory_views import StatsView
from skep.runtime.requests import OwnerView
from skep.runtime.schedule import last
from skep.runtime.views import UNCONFINED
from skep.security import PROPERTIES, words
from skep.security.choice import choose
from skep.terminals.pool import Stats
from skep.workspace.command import FLOOR
from skep.workspace.names import decode

#: Bytes free below which a run is at risk, and below which it cannot go on.
FEW_BYTES, NO_BYTES = 1 << 30, 100 << 20
#: Open files below which many agents at once fail.
FILES = 4_096
#: File systems that are elsewhere: locks and syncs of theirs promise less.
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "fuse.glusterfs", "lustre")
_GET_CHILD_SUBREAPER = 37  # linux/prctl.h


class Finding(Struct, frozen=True):
    """What one check found. `fix` says what to do about it; empty if it is fine.

    `facts` of a runtime: its `program`, `version` and the version that Skep was `tested` with; `login`: proven, refused, unproven
    (one is there), none or unknown; `cost` of the call that tried it.
    """

    name: str
    state: Literal["ok", "warning", "error"]
    text: str
    fix: str = ""
    facts: dict[str, object] = {}


Check = Callable[[Path], Finding]


def checkup(folder: Path) -> list[Finding]:
    """Every check of the machine and of a workspace folder. Changes nothing."""
    return [_guarded(check, folder) for check in CHECKS]


def _guarded(check: Check, folder: Path) -> Finding:
    name = check.__name__.strip("_").replace("_", " ")
    try:
        return check(folder)
    except SkepError as error:
        return Finding(name, "error", error.message, error.fix or "Mend what it names.")
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Finding(name, "error", f"cannot be checked: {error}", "Mend what it names, then run `skep doctor` again.")


def _python(folder: Path) -> Finding:
    return Finding(
        "python", "ok", f"{platform.python_implementation()} {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def _system(folder: Path) -> Finding:
    text = f"{platform.system()} {platform.release()}"
    if sys.platform != "linux":
        return Finding("system", "warning", f"{text}: only Linux ends strays by itself", "Run it on Linux.")
    reaper = ctypes.c_int()
    if ctypes.CDLL(None, use_errno=True).prctl(_GET_CHILD_SUBREAPER, ctypes.byref(reaper), 0, 0, 0) != 0:
        return Finding("system", "error", f"{text}: no child subreaper", "Allow prctl in the container.")
    if not Path("/proc/self/stat").exists():
        return Finding("system", "error", f"{text}: /proc is not mounted", "Mount /proc: `mount -t proc proc /proc`.")
    return Finding("system", "ok", f"{text}, /proc and child subreaper")


def _git(folder: Path) -> Finding:
    fix = f"Install git {FLOOR[0]}.{FLOOR[1]} or later."
    if shutil.which("git") is None:
        return Finding("git", "error", "there is no git on the PATH", fix)
    said = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    numbers = tuple(int(part) for part in said.split()[2].split(".")[:2])
    return Finding("git", "ok", said) if numbers >= FLOOR else Finding("git", "error", said, fix)


def _bash(folder: Path) -> Finding:
    found = shutil.which("bash")
    if found is None:
        return Finding("bash", "error", "there is no bash on the PATH", "Install bash: commands written as text are run by it.")
    return Finding("bash", "ok", found)


def _workspace(folder: Path) -> Finding:
    for place in (folder, *folder.parents):
        if (place / ".git").exists():
            return Finding("workspace", "ok", f"{folder}, in the git repository {place}")
    fix = "Run `git init` and commit, if attempts are to work in worktrees."
    return Finding("workspace", "warning", f"{folder} is no git repository: every attempt works on a copy", fix)


def _left_refs(folder: Path) -> Finding:
    """Refs of sessions that this state folder did not make: of another workspace, or of a state folder that was deleted."""
    own = folder / STATE / "git" / "id"
    mine = own.read_text().strip() if own.exists() else ""
    command = ["git", "-C", str(folder), "for-each-ref", "--format=%(refname) %(raw)", "refs/skep/*/about"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    lines = [line.partition(" ") for line in ran.stdout.splitlines() if line]
    left = [decode(name.split("/")[2]) for name, _, about in lines if f'"workspace":"{mine}"' not in about or not mine]
    if not left:
        return Finding("left refs", "ok", "none of another state folder in this repository")
    names = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
    fix = f"If their .skep was deleted: skep session drop {shlex.quote(left[0])}; work that was not merged is refused first."
    return Finding("left refs", "warning", f"refs/skep/ holds {len(left)} sessions of another state folder: {names}", fix)


def _settings(folder: Path) -> Finding:
    configuration.load(folder)
    path = folder / configuration.FILE
    return Finding("settings", "ok", str(path) if path.exists() else f"all defaults, no {configuration.FILE}")


def _state_folder(folder: Path) -> Finding:
    state = folder / STATE
    if not state.exists():
        fix = "Make the workspace writable for you."
        if not os.access(folder, os.W_OK | os.X_OK):
            return Finding("state folder", "error", f"{folder} cannot be written", fix)
        return Finding("state folder", "ok", f"none yet; it will be {state}")
    found = state.stat()
    if found.st_uid != os.getuid():
        return Finding("state folder", "error", f"{state} belongs to user {found.st_uid}", "Run Skep as that user.")
    if stat.S_IMODE(found.st_mode) & 0o077:
        mode = f"{stat.S_IMODE(found.st_mode):o}"
        return Finding("state folder", "warning", f"others can look into {state} (mode {mode})", f"chmod 700 {state}")
    return Finding("state folder", "ok", str(state))


def _file_system(folder: Path) -> Finding:
    place = folder / STATE if (folder / STATE).is_dir() else folder
    kind = _mounted(place)
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # locked by somebody: then locks work
    except OSError as error:
        return Finding("file system", "error", f"{kind}: no locks ({error.strerror})", "Put the workspace on a local disk.")
    finally:
        os.close(handle)
    if kind in NETWORK:
        return Finding("file system", "warning", f"{kind}: a network file system", "Put the workspace on a local disk.")
    return Finding("file system", "ok", f"{kind}, locks work")


def _mounted(place: Path) -> str:
    """The kind of file system that a folder lies on."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split()
        point = fields[1].replace("\\040", " ")
        if len(point) >= len(best) and place.is_relative_to(point):
            best, kind = point, fields[2]
    return kind


def _open_files(folder: Path) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        fix = f"ulimit -n {min(FILES, hard) if hard > 0 else FILES}; with few agents it does not matter."
        return Finding("open files", "warning", f"at most {soft} at once", fix)
    return Finding("open files", "ok", f"at most {soft} at once")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    text = f"{free / (1 << 30):.1f} GiB free"
    if free < FEW_BYTES:
        state: Literal["warning", "error"] = "error" if free < NO_BYTES else "warning"
        return Finding("disk", state, text, "Free some space; `skep discard` drops kept work.")
    return Finding("disk", "ok", text)


def _confinement(folder: Path) -> Finding:
    with tempfile.TemporaryDirectory(prefix="skep-trial-") as place:
        found = choose(Path(place))
    if isinstance(found, str):
        return Finding("confinement", "error", f"programs cannot be confined: {found}", FIX)
    if configuration.load(folder).sandbox.mode == "off":
        text = f"{UNCONFINED}, as the settings say; here it could be {words(found)}"
        fix = 'Take mode = "off" out of [sandbox] in skep.toml, or SKEP_SANDBOX=off out of the environment.'
        return Finding("confinement", "warning", text, fix)
    held = ", ".join(name for name in PROPERTIES if name not in found.lost)
    if not found.lost:
        return Finding("confinement", "ok", f"{words(found)}: {held}")
    why = "; ".join(f"{name}: {reason}" for name, reason in found.lost.items())
    fix = "What is lost does not hold for agents; `require: [...]` of `sandbox` refuses to run without it."
    return Finding("confinement", "warning", f"{words(found)}. Holds: {held}. Lost: {why}", fix)


def _backups(folder: Path) -> Finding:
    """How the backups by schedule went."""
    config, state = configuration.load(folder).backup, folder / STATE
    if not config.every:
        return Finding("backups", "ok", "none by schedule; `skep backup --all` makes them, [backup] in skep.toml says how often")
    told = last(state / MARK)
    if told is None:
        return Finding("backups", "ok", f"every {config.every}; none yet: they begin when a session is carried out")
    when = datetime.fromtimestamp(told.at / 1000).astimezone().strftime("%Y-%m-%d %H:%M")
    if told.failed:
        why = "; ".join(f"{name}: {reason}" if name else reason for name, reason in list(told.failed.items())[:3])
        return Finding("backups", "error", f"those of {when} failed: {why}", "Mend what it names.")
    return Finding("backups", "ok", f"every {config.every}, the last ones {when}")


def _retention(folder: Path) -> Finding:
    """What becomes of sessions that ended long ago, and how it went the last time."""
    config, state = configuration.load(folder), folder / STATE
    place = folder / config.backup.to if config.backup.to else state / FOLDER
    there = f"{len(list(place.glob(f'*/*{ARCHIVE}{ENDING}')))} in archives in {place}"
    if not config.store.keep:
        return Finding("retention", "ok", f"sessions stay for ever, unless `skep prune` is told otherwise; {there}")
    told = last(state / retention.MARK)
    if told is None:
        return Finding("retention", "ok", f"sessions stay for {config.store.keep}; not looked at yet: that begins with a session")
    when = datetime.fromtimestamp(told.at / 1000).astimezone().strftime("%Y-%m-%d %H:%M")
    if told.failed:
        why = "; ".join(f"{name}: {reason}" if name else reason for name, reason in list(told.failed.items())[:3])
        return Finding("retention", "error", f"not all could go that were old at {when}: {why}", "Mend what it names.")
    return Finding("retention", "ok", f"sessions stay for {config.store.keep}, looked at {when}; {there}")


def _collection(folder: Path) -> Finding:
    """What the last collection of what no session names had to pass over."""
    try:
        passed = (folder / STATE / collect.MARK).read_text("utf-8", "replace").splitlines()
    except OSError:
        passed = []
    if passed:
        more = f", and {len(passed) - 3} more" if len(passed) > 3 else ""
        return Finding(
            "collection",
            "warning",
            f"the last one passed over what is damaged: {'; '.join(passed[:3])}{more}",
            "See who else can write to the store.",
        )
    return Finding("collection", "ok", "nothing had to be passed over")


def _mcp_servers(folder: Path) -> Finding:
    known = declared.servers(str(folder), os.environ, None)
    left = [name for name, one in known.items() if kind_of(one) not in ("stdio", "http")]
    if not left:
        return Finding("mcp servers", "ok", f"{declared.FILE} declares {', '.join(known) or 'none'}")
    told = (
        f"{name} of type {kind_of(known[name])[:40]} ({', '.join(ONLY.get(kind_of(known[name]), ())) or 'nobody'})"
        for name in left
    )
    text = f"not every client can use what {declared.FILE} declares: {'; '.join(told)}"
    return Finding(
        "mcp servers", "warning", text, "The others are handed the rest. Give it an address of type http, if it has one."
    )


CHECKS: tuple[Check, ...] = (
    _python,
    _system,
    _git,
    _bash,
    _workspace,
    _left_refs,
    _settings,
    _state_folder,
    _file_system,
    _open_files,
    _disk,
    _backups,
    _retention,
    _collection,
    _confinement,
    _mcp_servers,
)


def in_use(owner: OwnerView | None) -> list[Finding]:
    """The store, which was opened, and who works with it; None = nobody else does."""
    who = "nobody but this check"
    if owner is not None:
        who = f"process {owner.pid}, {len(owner.sessions)} sessions at work, {owner.guests} guests"
    return [
        Finding("store", "ok", "its settings were read back, it stopped cleanly or passed the integrity check"),
        Finding("owner", "ok", who),
        Finding("terminals", "ok", latency(owner.terminals if owner else None)),
    ]


def remembered(stats: StatsView) -> Finding:
    """What memory holds and where, how far its index is, and what of it waits for somebody."""
    entries = _count(sum(shelf.entries for shelf in stats.shelves), "entry", "entries")
    index = f"{_count(stats.behind, 'change', 'changes')} behind" if stats.behind else "up to date"
    text = f"{entries} in {stats.store}; index {index}, embedder {stats.embedder}; replication: {stats.replication or 'none'}"
    if stats.trouble:
        fix = (
            f"Mend what it says. The index is a cache: with nothing at work, delete {STATE}/memory/index.db, and it is made anew."
        )
        return Finding("memory", "warning", f"{text}; its index cannot be brought up to date: {stats.trouble}", fix)
    if stats.unreadable:
        path, why = next(iter(stats.unreadable.items()))
        what = f"{_count(len(stats.unreadable), 'file was', 'files were')} edited and cannot be read: {path}: {why}"
        return Finding("memory", "warning", f"{text}; {what}", "Repair the file, or remove it, which deletes its key.")
    if stats.conflicts:
        fix = "`skep memory conflicts` shows them, `skep memory resolve` decides."
        return Finding("memory", "warning", f"{text}; {_count(stats.conflicts, 'key', 'keys')} with several values", fix)
    return Finding("memory", "ok", text)


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def latency(stats: Stats | None) -> str:
    """How long the commands of the owner at work took, in a line."""
    if stats is None:
        return "latency not available: it is measured while a session is carried out, and none is"
    series = (("start", stats.spawn), ("first output", stats.answer), ("end", stats.command))
    told = (f"{name} {one.p50 * 1000:,.0f} ms (p95 {one.p95 * 1000:,.0f})" for name, one in series if one.count)
    return f"{stats.open} open, {stats.opened} so far; " + (", ".join(told) or "nothing measured yet")
