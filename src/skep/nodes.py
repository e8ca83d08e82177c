"""Machines that work together over one store: be one of them, see who is there, tell them something."""

from __future__ import annotations

from pathlib import Path

from skep.app import Skep
from skep.config import Config
from skep.runtime.node import Role
from skep.runtime.nodes import NodeView, Word, listed, tell
from skep.runtime.typed import path as path_of
from skep.store.invitation import invited, save
from skep.wiring import hive


def join(workspace: str | Path, config: Config, role: Role) -> Skep:
    """Opens a workspace whose store is shared, in a role of its own; use it with `async with`. Arguments else as in `open`.

    Args:
        role: what this process does for the others: as which node, and whether it carries out attempts of their sessions.

    Raises (on entering):
        Conflict: another process has this node's name.
        Invalid, Unavailable: as `open`.
    """
    return Skep(path_of(workspace, "workspace"), config, 0, "", role)


async def nodes(workspace: str | Path, config: Config) -> list[NodeView]:
    """The nodes that are there, of the store that a workspace shares. Raises Invalid if it shares none."""
    async with hive(path_of(workspace, "workspace").expanduser().resolve(), config) as (leases, kept):
        return await listed(leases, kept.log.seal_to)


async def tell_node(workspace: str | Path, config: Config, name: str, word: Word) -> None:
    """Tells a node to drain or to leave. Raises NotFound if it is not there."""
    async with hive(path_of(workspace, "workspace").expanduser().resolve(), config) as (leases, kept):
        await tell(leases, kept.log.seal_to, name, word)


async def invite(workspace: str | Path, config: Config, name: str, file: str | Path) -> None:
    """Writes a file with which a node of that name can join without the store's key. Nothing is kept about it.

    Raises:
        Invalid: no invited node can be called so, or the file cannot be written.
        Conflict: the file is there.
        Denied: this workspace was itself only invited.
    """
    async with hive(path_of(workspace, "workspace").expanduser().resolve(), config) as (_, kept):
        assert kept.invite is not None
        said = await kept.invite(name)
    save(path_of(file, "file").expanduser(), said)


def invited_as(file: str | Path) -> str:
    """The node that an invitation is for. Raises Invalid or Denied for a file that is none, or not kept safe."""
    return invited(path_of(file, "file").expanduser()).node
