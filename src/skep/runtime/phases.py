"""What the outside sees of a session's phases, and what the voters on a gate are told."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from skep.core.gates import stands
from skep.core.model import TERMINAL, Entry
from skep.core.phase import channel_of
from skep.core.state import State
from skep.runtime.ballots import fenced
from skep.runtime.environment import Told
from skep.workspace import Workspace

#: Characters of a phase's difference, and tasks of it, that voters are shown.
MAX_DIFF, MAX_TASKS = 60_000, 200


class PhaseView(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A phase as a person sees it. Times are wall-clock ms, 0 = not yet.

    `state`: waiting, open, passed, failed, closed; `why` says what is in the way. `gate` is the id of the task that is its gate,
    and `judging` that task's state once everything else of the phase is over. `channel` names the channel that its agents
    coordinate by; `coordination` says whether there is one: not yet.
    """

    id: str
    title: str
    state: str
    why: str
    gate: str
    judging: str
    tasks: int
    done: int
    opened: int
    ended: int
    channel: str
    coordination: str = "not available"


def phase_views(state: State) -> tuple[PhaseView, ...]:
    """The phases of a session, in order."""
    views = []
    for name, phase in state.phases.items():
        if not stands(state, phase.gate):
            continue
        gate = state.entries[phase.gate]
        own = [need for need in gate.task.needs if not _is_gate(state, need)]
        fates = [state.fate(gate, need) for need in own]
        over = all(fate in TERMINAL for fate in fates)
        views.append(
            PhaseView(
                id=name,
                title=gate.task.objective,
                state=phase.state,
                why=phase.why,
                gate=phase.gate,
                judging=gate.state if over and phase.state == "open" else "",
                tasks=len(own),
                done=fates.count("done"),
                opened=phase.opened,
                ended=phase.ended,
                channel=channel_of(name),
            )
        )
    return tuple(views)


def _is_gate(state: State, name: str) -> bool:
    entry = state.entries.get(name)
    return entry is not None and entry.task.gate


async def put_before(workspace: Workspace, state: State, gate: Entry, told: Told) -> Told:
    """What a voter on a gate is told, with what the phase was for and did put below it.

    Raises:
        Unavailable, Invalid: git cannot show the difference.
    """
    # All of the state is read before anything is waited for.
    phase, tip = state.phases[gate.task.phase], state.tip
    title = gate.task.objective
    parts = [told.prompt, f"# The phase {gate.task.phase}" + (f"\n\n{title}" if title else ""), _tasks(state, gate)]
    await workspace.have(state.session, phase.base, tip)
    diff = await workspace.diff(phase.base, tip) if phase.base and phase.base != tip else ""
    if diff:
        cut = f"\n... ({len(diff) - MAX_DIFF} more characters are not shown)" if len(diff) > MAX_DIFF else ""
        parts.append(f"What it changed:\n\n{fenced(diff[:MAX_DIFF] + cut)}")
    else:
        parts.append("It changed no file.")
    return replace(told, prompt="\n\n".join(parts) + "\n")


def _tasks(state: State, gate: Entry) -> str:
    names = [need for need in gate.task.needs if not _is_gate(state, need)]
    lines = []
    for name in names[:MAX_TASKS]:
        entry = state.entries.get(name)
        title = f": {entry.task.objective}" if entry is not None and entry.task.objective else ""
        lines.append(f"- {name} ({state.fate(gate, name)}){title}")
    more = [f"- ... and {len(names) - MAX_TASKS} more"] if len(names) > MAX_TASKS else []
    return "\n".join(["Its tasks:", "", *lines, *more])
