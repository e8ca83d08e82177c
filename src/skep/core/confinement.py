"""What users say of how programs are confined: in a workflow file, for a session or an agent."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Confinement(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How programs of an agent, or of a session, are confined: what is said here comes on top of what holds otherwise.

    Args:
        mode: confined, or in so many words not; empty = what holds otherwise: `on`, unless somebody says `off`.
        network: hosts that can be reached: `host`, `host:port`, `*.host`, `*`.
        read, write: further files and folders; relative ones from the workspace, `~` is the user's home.
        credentials: names of clients whose credentials are shared.
        require: properties without which nothing is to run.
        cpu: cores, memory: bytes, processes: how many, disk: bytes of one file; 0 = what holds otherwise.
        disk_total: bytes that an attempt's own folders may grow by; 0 = what holds otherwise.
    """

    mode: Literal["", "on", "off"] = ""
    network: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    cpu: float = 0.0
    memory: int = 0
    processes: int = 0
    disk: int = 0
    disk_total: int = 0
