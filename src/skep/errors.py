"""The family of errors that Skep raises. A message says what happened, to what, and what to do next."""

from __future__ import annotations


class SkepError(Exception):
    """What every error of Skep is. `exit_code` is what the command line ends with when it reaches the user.

    Args:
        message: what happened and to what, one sentence.
        fix: what to do next, one sentence; shown on a line of its own.
    """

    exit_code = 1

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n  Fix: {self.fix}" if self.fix else self.message


class Invalid(SkepError):
    """What was asked for cannot be understood or can never work: nothing was started, nothing was changed."""

    exit_code = 2


class Denied(SkepError):
    """A rule forbids it."""


class NotFound(SkepError):
    """The thing that was named is not there."""

    exit_code = 2


class Conflict(SkepError):
    """Somebody or something else got there first; nothing was changed."""


class Exhausted(SkepError):
    """A bound was reached: a queue, a limit, a budget."""

    exit_code = 3


class Unavailable(SkepError):
    """Something that Skep needs does not answer, is not installed, or does not exist yet.

    When it is raised by a call that changes something, the outcome is unknown: the same call with the same key is safe to repeat.
    """


class Bug(SkepError):
    """Skep broke one of its own rules. Please report it with the message."""


#: Name on the wire -> class; the only errors that cross a socket.
FAMILY: dict[str, type[SkepError]] = {
    kind.__name__: kind for kind in (SkepError, Invalid, Denied, NotFound, Conflict, Exhausted, Unavailable, Bug)
}


def kind_of(error: SkepError) -> str:
    """What an error is called on the wire: a room's own kind goes as the one of the family that it is."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in FAMILY)
