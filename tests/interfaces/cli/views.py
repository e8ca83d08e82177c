"""Sessions to show, made up."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from skep.runtime.views import SHOWN, SessionView, TaskView

STATES = ("waiting", "ready", "running", "needs-you", "parked", "done", "skipped", "failed", "gave-up", "cancelled")
NOW = 1_700_000_100_000
BEGIN = 1_700_000_000_000


def task(name: str, state: str, **more: Any) -> TaskView:
    """A task in some state; what ran began at BEGIN and took ten seconds."""
    ran = state in ("done", "failed", "running", "gave-up")
    times = {"started": BEGIN, "attempts": 1, "agent": "shell-1"} if ran else {}
    times |= {"begun": BEGIN} if state == "running" else {"spent": 10_000} if ran else {}
    over = {"ended": BEGIN + 10_000} if state in ("done", "failed", "gave-up", "skipped", "cancelled") else {}
    return TaskView(**{"id": name, "title": "", "state": state, **times, **over, **more})


def view(*tasks: TaskView, **more: Any) -> SessionView:
    """A session of these tasks, counted."""
    counts: dict[str, int] = {}
    causes: dict[str, int] = {}
    for one in tasks:
        counts[one.state] = counts.get(one.state, 0) + 1
        if one.cause and one.state in ("failed", "gave-up", "skipped", "cancelled"):
            causes[one.cause] = causes.get(one.cause, 0) + 1
    given = {
        "opened": BEGIN,
        "resumed": BEGIN,
        "counts": counts,
        "causes": causes,
        "tasks": list(tasks),
        "agents": 4,
        "live": True,
    }
    return SessionView(**{"session": "f-1", "name": "f-1", **given, **more})


NAMES = st.text(min_size=1, max_size=40)
TASKS = st.lists(
    st.builds(
        task,
        NAMES,
        st.sampled_from(STATES),
        detail=st.text(max_size=300),
        cause=st.sampled_from(["", "exit", "verify-failed", "interrupted", "needs"]),
        stage=st.sampled_from(["", *SHOWN, "working", "verifying", "ending"]),
        question=st.sampled_from(["", "approve", "approve before", "conflict", "another"]),
        needs=st.tuples(NAMES),
        waits=st.lists(NAMES, max_size=9).map(tuple),
        until=st.sampled_from([0, NOW + 60_000]),
    ),
    max_size=60,
)
