"""What a plan says beside its tasks and agents: who is told, how agents are ranked, what tasks may propose,
what agents may remember."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

#: A command: a string runs as `bash -euo pipefail -c`, a tuple is an argument list and runs as given.
Command = str | tuple[str, ...]


#: A file that a command names, absolute, and the SHA-256 of its bytes.
Seal = tuple[str, str]


class Service(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A command that runs beside the tasks of a session. It listens on the port in `$SKEP_PORT_NAME`.

    Args:
        ready: command that succeeds once it can be used; None = once its port takes connections.
        timeout: seconds after which it must be ready.
    """

    name: str
    run: Command
    ready: Command | None = None
    timeout: float = 60.0


class Notify(Struct, frozen=True, omit_defaults=True, gc=False):
    """Run a command, with JSON on its standard input, when something happens (`failed`, `needs-you`, `done`).

    `answers`: it may answer what is asked, as long as its files are as they were when the session was opened (`seals`).
    """

    on: tuple[str, ...]
    run: Command
    after: float = 0.0
    answers: bool = False
    seals: tuple[Seal, ...] = ()


class Placement(Struct, frozen=True, omit_defaults=True, gc=False):
    """How agents are ranked: a profile (`balanced` or `routing`), and weights that replace the profile's own by name."""

    profile: Literal["balanced", "routing"] = "balanced"
    weights: dict[str, float] = {}


class Proposals(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What tasks may propose: further tasks, which start only by this rule. A foreach counts as the most items it may have.

    Args:
        rule: a person is asked, all within the bounds are taken, or none are. A planner's plan is always asked about.
        max_tasks: in one proposal.
        most: taken in a session in all.
        depth: proposals by tasks that were proposed themselves: 1 = only what a person wrote may propose.
        length: tasks of one proposal that come one after the other.
        agents: whom proposed prompts may go to; empty = every agent of the session.
    """

    rule: Literal["ask", "auto", "never"] = "ask"
    max_tasks: int = 20
    most: int = 100
    depth: int = 2
    length: int = 10
    agents: tuple[str, ...] = ()


class MemoryGrant(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What agents may do with the memory bank beyond their session's own namespace, and beyond reading `project`.

    Args:
        mode: `off`: nothing at all.
        read, write: namespaces; one that ends with `*` stands for all that begin so. What may be written may be read.
        prompt: tokens, roughly, of a prompt that are for what is remembered; 0 = none.
    """

    mode: Literal["on", "off"] = "on"
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    prompt: int = 1_500
