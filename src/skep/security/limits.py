"""Bounds on what the processes of an attempt use together: control groups (version 1 and 2) where they can be written, limits
of single processes besides.

A process is put under them while it waits at its gate, from outside: it needs no right for that, and cannot take them off.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from skep.errors import Unavailable
from skep.security import Limits

#: Controllers, and the property that each of them gives.
CONTROLLERS = {"memory": "memory", "pids": "count", "cpu": "cpu"}
#: How groups of Skep's are called, before the nonce.
PREFIX = "skep-"
#: Microseconds over which a share of the processors is counted.
_PERIOD = 100_000


class Group:
    """The control groups of one attempt; made when the first process comes.

    Args:
        name: unlike any other's; part of a folder's name.
        limits: what they bound.
    """

    def __init__(self, name: str, limits: Limits) -> None:
        self._name, self._limits = f"{PREFIX}{name}", limits
        self._made = False
        self._folders: dict[Path, dict[str, str]] = {}  # of version 2 all controllers share one
        self._bounded = {controller for controller in places() if _rules(controller, limits)}
        for controller in sorted(self._bounded):
            self._folders.setdefault(places()[controller] / self._name, {}).update(_rules(controller, limits))

    def take(self, pid: int) -> None:
        """Puts a process under the limits; what it starts from now on is under them too.

        Raises:
            Unavailable: the kernel refused a limit. The process must not be let go then.
        """
        self._made = True
        try:
            for folder, rules in self._folders.items():
                if not folder.is_dir():
                    folder.mkdir()
                    for file, value in rules.items():
                        if (folder / file).exists():  # not every kernel counts swap, and names differ by version
                            (folder / file).write_text(value)
                (folder / "cgroup.procs").write_text(str(pid))
            for which, most in _of_one(self._limits, "memory" in self._bounded):
                resource.prlimit(pid, which, (most, most))
        except ProcessLookupError:
            return  # it was killed at its gate
        except (OSError, ValueError) as error:
            raise Unavailable(f"The limits cannot be set: {error}.", "`skep doctor` says what can be had here.") from error

    def close(self) -> None:
        """Removes the groups. One with processes left stays until `sweep`."""
        for folder in self._folders if self._made else ():
            with contextlib.suppress(OSError):
                folder.rmdir()


def _rules(controller: str, limits: Limits) -> dict[str, str]:
    """File of the group -> what is written there, for both versions; nothing if there is no such limit."""
    if controller == "memory" and limits.memory:
        most = str(limits.memory)
        return {
            "memory.max": most,
            "memory.swap.max": "0",
            "memory.oom.group": "1",
            "memory.limit_in_bytes": most,
            "memory.memsw.limit_in_bytes": most,
        }
    if controller == "pids" and limits.processes:
        return {"pids.max": str(limits.processes)}
    if controller == "cpu" and limits.cpu:
        quota = str(max(1_000, int(limits.cpu * _PERIOD)))
        return {"cpu.max": f"{quota} {_PERIOD}", "cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": quota}
    return {}


def _of_one(limits: Limits, summed: bool) -> Iterator[tuple[int, int]]:
    """Limits of each single process: no dump of its memory, files of a size; its data where no group bounds the sum."""
    yield resource.RLIMIT_CORE, 0
    if limits.disk:
        yield resource.RLIMIT_FSIZE, limits.disk
    if limits.memory and not summed:
        yield resource.RLIMIT_DATA, limits.memory


@cache
def places() -> dict[str, Path]:
    """Controller -> the folder in which this process can make groups with it."""
    found = {}
    mounted = list(_mounted())
    for line in Path("/proc/self/cgroup").read_text().splitlines() if Path("/proc/self/cgroup").exists() else ():
        _, kinds, own = line.split(":", 2)
        for point, options in mounted:
            if (set(kinds.split(",")) <= options) if kinds else "cgroup2" in options:
                here = Path(point) / own.lstrip("/")
                for base in dict.fromkeys((here, here.parent)) if here.is_dir() else (Path(point),):
                    for controller in CONTROLLERS:
                        if controller not in found and base.is_relative_to(point) and _works(base, controller, kinds):
                            found[controller] = base
    return found


def missing() -> dict[str, str]:
    """Properties that no control group gives here -> why."""
    why = "no control group can be made here"
    return {given: why for controller, given in CONTROLLERS.items() if controller not in places()}


def sweep() -> None:
    """Removes groups that a Skep which died left; those with processes in them stay."""
    for base in set(places().values()):
        for folder in base.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):
                folder.rmdir()


def _mounted() -> Iterator[tuple[str, set[str]]]:
    """Where control groups are mounted, and the kind and controllers of each place."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, point, kind, options = line.split()[:4]
            if kind in ("cgroup", "cgroup2"):
                yield point, {kind, *options.split(",")}


def _works(base: Path, controller: str, kinds: str) -> bool:
    """Whether a group made there has the controller: tried out."""
    if kinds and controller not in kinds.split(","):
        return False
    trial = base / f"{PREFIX}trial-{os.getpid()}"
    try:
        if not kinds and controller not in (base / "cgroup.subtree_control").read_text().split():
            return False
        trial.mkdir()
        try:
            return os.access(trial / "cgroup.procs", os.W_OK)
        finally:
            trial.rmdir()
    except OSError:
        return False
