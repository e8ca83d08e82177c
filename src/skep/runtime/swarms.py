"""Fleets as people and programs see them, and how one version of a fleet differs from another."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from skep.core.fleet import Fleet, Standing, Swarm, Used
from skep.core.health import Health, Resize, resize


class SwarmView(Struct, frozen=True, kw_only=True):
    """A swarm: its session and how that stands, its slots, and how many of them nodes have for it.

    Args:
        waiting: ready tasks without an attempt; `oldest`: since when the first of them waits, wall-clock ms, 0 = none does.
        led: whether somebody writes its session, or could at once.
        resize: what it uses of its slots, and what it should have.
    """

    name: str
    session: str
    state: str
    slots: int
    held: int
    running: int
    waiting: int
    oldest: int
    done: int
    failed: int
    labels: dict[str, str]
    runtimes: tuple[str, ...]
    cpu: float
    memory: int
    led: bool
    resize: Resize


class FleetView(Struct, frozen=True, kw_only=True):
    """A fleet as it stands. `formed`: since when it is this (ms). `owed`: tasks that are still to be handed to their sessions."""

    name: str
    formed: int
    health: Health
    swarms: tuple[SwarmView, ...]
    owed: int = 0


class FormedView(Struct, frozen=True, kw_only=True):
    """What forming a fleet changed: nothing if `changes` is empty. `notes`: what Skep has to say about it."""

    fleet: str
    changes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def view(swarm: Swarm, before: Used, now: Standing) -> SwarmView:
    """A swarm, shown."""
    return SwarmView(
        name=swarm.name,
        session=swarm.session,
        state=now.state,
        slots=swarm.slots,
        held=now.held,
        running=now.running,
        waiting=now.waiting,
        oldest=now.oldest,
        done=now.done,
        failed=now.failed,
        labels=swarm.labels,
        runtimes=swarm.runtimes,
        cpu=swarm.cpu,
        memory=swarm.memory,
        led=now.led,
        resize=resize(swarm, before, now),
    )


def differences(before: Fleet | None, after: Fleet) -> tuple[str, ...]:
    """What changes from one version of a fleet to another, one line each, in the order of the new one."""
    return tuple(_differences(before, after))


def _differences(before: Fleet | None, after: Fleet) -> Iterator[str]:
    old = {swarm.name: swarm for swarm in before.swarms} if before is not None else {}
    for swarm in after.swarms:
        was = old.pop(swarm.name, None)
        if was is None:
            yield f"swarm {swarm.name} is new: session {swarm.session}, {swarm.slots} slots"
            continue
        for field in Swarm.__struct_fields__:
            one, other = getattr(was, field), getattr(swarm, field)
            if one != other:
                yield f"swarm {swarm.name}: {field} {_said(one)} -> {_said(other)}"
    for name, swarm in old.items():
        yield f"swarm {name} is taken out; its session {swarm.session} stays"
    for field in ("placement", "queue", "nodes"):
        one, other = getattr(before, field) if before is not None else None, getattr(after, field)
        if before is not None and one != other:
            yield f"{field} {_said(one)} -> {_said(other)}"


def _said(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={one}" for name, one in sorted(value.items())) or "none"
    if isinstance(value, tuple):
        return ", ".join(str(getattr(one, "name", one)) for one in value) or "none"
    if isinstance(value, Struct):
        return " ".join(_said(getattr(value, name)) for name in value.__struct_fields__)
    return f"{value:g}" if isinstance(value, float) else str(value)
