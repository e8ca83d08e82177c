"""`sandbox`: tries by hand what confined programs can see and do."""

from __future__ import annotations

import os
from pathlib import Path

import click

from skep.interfaces.cli import place
from skep.interfaces.cli.registry import Finite, command


@command(
    "sandbox",
    ("skep sandbox -- ls -la ~", "what an agent sees of your home"),
    ("skep sandbox --write . -- make test", "this folder may be changed"),
    ("skep sandbox --memory 512 -- ./hungry", "at most 512 MiB"),
)
@click.option("--read", multiple=True, metavar="PATH", help="A further folder or file to read; may be repeated.")
@click.option("--write", multiple=True, metavar="PATH", help="A folder or file that may be changed; may be repeated.")
@click.option("--credentials", multiple=True, metavar="CLIENT", help="A client whose credentials are shared: claude, codex, ...")
@click.option("--memory", type=click.IntRange(1, 1 << 30), metavar="MIB", help="Main memory, all processes together.")
@click.option("--processes", type=click.IntRange(1, 1_000_000), metavar="N", help="Processes and threads at once.")
@click.option("--cpu", type=Finite(0.01, 100_000), metavar="CORES", help="Processors, all processes together.")
@click.argument("program", nargs=-1, required=True, metavar="-- PROGRAM [ARGUMENT]...")
def sandbox(
    read: tuple[str, ...],
    write: tuple[str, ...],
    credentials: tuple[str, ...],
    memory: int | None,
    processes: int | None,
    cpu: float | None,
    program: tuple[str, ...],
) -> int:
    """Start a PROGRAM as agents' programs are started: confined.

    It sees the system, your tools, and the current folder, which it cannot change without --write. Its HOME is empty, there
    is no network. Settings of skep.toml count. The exit code is the program's.
    """
    from skep import config
    from skep.core.confinement import Confinement
    from skep.runtime import byhand, environment
    from skep.runtime.bounds import settled

    folder, here = place.workspace(), Path.cwd()
    settings = config.load(folder)
    said = settled(
        settings.sandbox,
        Confinement(
            mode="on",
            read=tuple(map(os.path.abspath, read)),
            write=tuple(map(os.path.abspath, write)),
            credentials=credentials,
            memory=(memory or 0) << 20,
            processes=processes or 0,
            cpu=cpu or 0.0,
        ),
    )
    return byhand.run(program, here, folder / config.STATE, said, environment.base(settings.environment.allow))
