"""What the events of phases do to a state: the part of `core.apply` that concerns them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skep.core.phase import PhaseEnded, PhaseOpened
from skep.core.state import State


def _opened(s: State, e: PhaseOpened) -> None:
    phase = s.phases[e.phase]
    phase.state, phase.why, phase.ended = "open", "", 0
    if not phase.opened:
        phase.opened, phase.base = e.at, e.base


def _ended(s: State, e: PhaseEnded) -> None:
    phase = s.phases[e.phase]
    phase.state, phase.why, phase.ended = e.state, e.why, e.at


APPLY: dict[type, Callable[[State, Any], None]] = {PhaseOpened: _opened, PhaseEnded: _ended}
