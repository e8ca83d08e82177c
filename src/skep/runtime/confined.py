"""Terminals in which every program runs as its attempt may: in the sandbox, under limits, its secrets out of what it prints."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct
from msgspec.structs import replace

from skep.core.confinement import Confinement
from skep.errors import Denied, Unavailable
from skep.runtime.views import UNCONFINED
from skep.security import PROPERTIES, Bounds, Limits, Sandbox, words
from skep.security.egress import Egress, near, variables
from skep.security.limits import Group
from skep.security.redact import Redactor
from skep.terminals import Exit, Profile, Terminal, Terminals
from skep.terminals.native import find_program

#: What to do where nothing can be confined.
FIX = (
    "Install bubblewrap (Debian: apt-get install bubblewrap); or say `sandbox: off` of the agent or the file, or set "
    "SKEP_SANDBOX=off: then agents can do whatever you can."
)


def expected(sandbox: Sandbox | str, said: Confinement) -> str:
    """How what this is said of will be confined: `confined (bubblewrap)`, `unconfined`.

    Raises:
        Unavailable: it cannot be confined here, or not with all that it requires.
    """
    if said.mode == "off":
        return UNCONFINED
    if isinstance(sandbox, str):
        raise Unavailable(f"Programs cannot be confined here: {sandbox}.", FIX)
    for name in (*said.require, *(["hosts"] if said.network else [])):
        if why := sandbox.lost.get(name):
            what = f"'{name}' ({PROPERTIES[name]})"
            raise Unavailable(f"{what} is required and cannot be had here: {why}.", "`skep doctor` says what can be had.")
    return words(sandbox)


def would(sandbox: Sandbox | str, said: Confinement) -> str:
    """As `expected`, for people: it says so if nothing could be started."""
    try:
        return expected(sandbox, said)
    except Unavailable:
        return "cannot be confined"


class Ward(Struct, frozen=True):
    """What holds for the programs of one attempt. No bounds: they are not confined, because the user said so."""

    bounds: Bounds | None
    secrets: tuple[str, ...]
    group: Group
    hosts: tuple[str, ...] = ()
    ready: Callable[[], None] = lambda: None


class Wards:
    """Implements the port `Terminals`. A program belongs to the attempt whose nonce it carries; one of nobody's is refused.

    Args:
        terminals: where processes come from.
        sandbox: what confines them, or why there is none here.
        egress: lets those out that may reach hosts.
    """

    def __init__(self, terminals: Terminals, sandbox: Sandbox | str, egress: Egress | None = None) -> None:
        self.plain = terminals
        self.egress = egress
        self._sandbox = sandbox
        self._wards: dict[str, Ward] = {}

    @property
    def here(self) -> str:
        """How programs are confined here, or why they cannot be."""
        return self._sandbox if isinstance(self._sandbox, str) else words(self._sandbox)

    def expected(self, said: Confinement) -> str:
        """How what this is said of will be confined here; see `expected`."""
        return expected(self._sandbox, said)

    def would(self, said: Confinement) -> str:
        """The same for people, who are told as well if it cannot be."""
        return would(self._sandbox, said)

    @contextmanager
    def of(
        self,
        nonce: str,
        bounds: Bounds | None,
        secrets: Iterable[str] = (),
        hosts: Sequence[str] = (),
        ready: Callable[[], None] = lambda: None,
    ) -> Iterator[None]:
        """As long as this is open, programs with that nonce run within these bounds; None = unconfined.

        Args:
            secrets: values that are taken out of what they print.
            hosts: what they may reach.
            ready: called before each of them starts; what it raises, `create` raises, and nothing ran.

        Raises:
            Invalid: one of these is no host.
            Unavailable: there is no way out here.
        """
        if hosts and bounds is not None:
            if self.egress is None:
                raise Unavailable("There is no proxy here that would reach hosts.", "Leave `network` out.")
            self.egress.admit(nonce, hosts)
            bounds = replace(bounds, door=self.egress.door, near=near(hosts))
        limits = bounds.limits if bounds is not None else Limits()
        before = self._wards.get(nonce)
        ward = self._wards[nonce] = Ward(bounds, tuple(secrets), Group(nonce[:32], limits), tuple(hosts), ready)
        try:
            yield
        finally:
            ward.group.close()
            if self.egress is not None and before is None:
                self.egress.dismiss(nonce)
            if before is None:
                self._wards.pop(nonce, None)
            else:
                self._wards[nonce] = before

    async def create(self, profile: Profile, output: Callable[[bytes], None]) -> Terminal:
        """See the port. Also raises Denied for a program of no attempt, Unavailable if it cannot be confined: nothing ran."""
        ward = self._wards.get(profile.nonce)
        if ward is None:
            raise Denied(f"{profile.name} belongs to no attempt that is under way.", "Please report it: this is a fault of Skep.")
        ward.ready()
        if ward.bounds is not None:
            if isinstance(self._sandbox, str):
                raise Unavailable(f"{profile.name} cannot be confined: {self._sandbox}.", FIX)
            # The sandbox itself can always be started: whether the program can is to be said as it is without one.
            find_program(profile.argv[0] if profile.argv else "", profile.env.get("PATH", os.defpath), profile.cwd)
            if ward.hosts:
                profile = replace(profile, env=profile.env | variables(ward.bounds.near))
            profile = self._sandbox.confine(profile, ward.bounds)
        hidden = Hidden(ward.secrets, output) if ward.secrets else None
        terminal = await self.plain.create(profile, hidden.feed if hidden is not None else output)
        if ward.bounds is not None:
            try:
                ward.group.take(terminal.pid)
            except BaseException:
                await terminal.end(0)
                raise
        return hidden.behind(terminal) if hidden is not None else terminal

    async def close(self) -> None:
        """See the port."""
        await self.plain.close()
        if self.egress is not None:
            self.egress.close()


class Hidden:
    """A terminal whose output is passed on without secrets."""

    def __init__(self, secrets: Sequence[str], output: Callable[[bytes], None]) -> None:
        self._redactor, self._output = Redactor(secrets), output
        self._terminal: Terminal

    def behind(self, terminal: Terminal) -> Terminal:
        """This one, in front of the terminal that feeds it."""
        self._terminal, self.pid, self.born = terminal, terminal.pid, terminal.born
        self.release, self.write, self.resize, self.end = terminal.release, terminal.write, terminal.resize, terminal.end
        self.finish = terminal.finish
        return self

    def feed(self, data: bytes) -> None:
        """Output as it comes."""
        if passed := self._redactor.feed(data):
            self._output(passed)

    async def wait(self) -> Exit:
        """See the port; what was held back comes before the end."""
        ended = await self._terminal.wait()
        if rest := self._redactor.feed(b"", final=True):
            self._output(rest)
        return ended
