"""Fleets: many swarms, each a session, among which tasks are distributed.

```python
async with skep.open("workspace") as hive:
    await fleets.init(hive, "farm.yaml")
    sent = await fleets.submit(hive, "farm", skep.Task(run="make test"), key="nightly-7")
    print(sent.route.reasons, await sent.task.result())
```
"""

from __future__ import annotations

import secrets
from pathlib import Path

from msgspec import Struct

from skep.app import Handle, Skep
from skep.core.fleet import Fleet, Route
from skep.core.health import Word, worst
from skep.core.model import Task
from skep.errors import Invalid
from skep.runtime import requests as rq
from skep.runtime.swarms import FleetView, FormedView
from skep.runtime.typed import path as path_of
from skep.workflow import complete
from skep.workflow import fleet as files


class Sent(Struct, frozen=True):
    """A task that went to a swarm: the task, and why it went there."""

    task: Handle
    route: Route


def read(path: str | Path) -> Fleet:
    """Reads and checks a fleet file; nothing is changed.

    Raises:
        Invalid: everything that is wrong with it, with line and column.
        NotFound: there is no such file.
    """
    return files.load(path_of(path, "path"))


async def init(hive: Skep, fleet: str | Path | Fleet, dry: bool = False, adopt: bool = False) -> FormedView:
    """Makes a fleet what a file says, and its sessions with it. The same file again changes nothing.

    Args:
        fleet: the file, or what was read of it.
        dry: only say what would change.
        adopt: a session that has the name of a swarm's becomes that, with its tasks; it belongs to no other fleet.

    Raises:
        Conflict: a session of one of its swarms is there already and is none of the fleet's.
        Invalid, NotFound: as `read`.
    """
    wanted = fleet if isinstance(fleet, Fleet) else read(fleet)
    return await hive.call(rq.FormFleet(fleet=wanted, dry=dry, adopt=adopt, by=hive.by))


async def remove(hive: Skep, fleet: str) -> tuple[str, ...]:
    """Forgets a fleet; returns the sessions of its swarms, which stay as they are.

    Raises:
        NotFound: no such fleet.
        Conflict: tasks of it could not be handed to their sessions yet.
    """
    return await hive.call(rq.RemoveFleet(fleet=fleet, by=hive.by))


async def status(hive: Skep, fleet: str = "") -> list[FleetView]:
    """A fleet as it stands, or all of them, as they were formed. Raises NotFound for one that is not there."""
    return await hive.call(rq.Fleets(fleet=fleet))


async def health(hive: Skep, fleet: str = "") -> Word:
    """healthy, degraded or unhealthy: of a fleet, or the worst of all."""
    return worst([one.health.state for one in await status(hive, fleet)])


async def submit(hive: Skep, fleet: str, task: Task, key: str = "", carry: bool = True) -> Sent:
    """Sends a task to the best swarm of a fleet; it is durable when this returns.

    Args:
        key: repeating a call with one of the last 10,000 keys submits nothing twice.
        carry: whether this workspace's owner carries that session out, if nobody else does.

    Raises:
        Invalid: no swarm has what the task demands; says of each what it lacks.
        NotFound: no such fleet.
    """
    if task.needs or task.phase:
        raise Invalid("a task of a fleet can need no other", "Submit tasks that belong together to one session.")
    asked = rq.SendTask(fleet=fleet, task=complete(task), key=key or secrets.token_hex(16), carry=carry, by=hive.by)
    route = await hive.call(asked)
    return Sent(Handle(await hive.find(route.session), route.id), route)


async def resize(hive: Skep, fleet: str) -> FormedView:
    """Gives the swarms of a fleet the slots that `status` recommends; returns what that changed."""
    return await hive.call(rq.ResizeFleet(fleet=fleet, by=hive.by))
