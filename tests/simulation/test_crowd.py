"""Many processes and sessions in virtual time, in short; `python -m tests.simulation.crowd` has the long form."""

from __future__ import annotations

import pytest

from tests.simulation.crowd import Crowd, Figures

#: Nodes, leaders, sessions, those at work.
SHORT = (12, 4, 400, 3)


@pytest.fixture(scope="module")
def found() -> Figures:
    return Crowd(*SHORT).run()


def test_sessions_at_rest_are_looked_at_by_nobody_but_their_writers(found: Figures) -> None:
    nodes, leaders, sessions, _ = SHORT
    assert found.rows == 0
    assert found.calls < 6 * (nodes + leaders)
    assert 0 < found.inboxes <= 1.1 * sessions / 20, "their writers look in each 20 s"


def test_the_sessions_at_work_of_a_leader_that_dies_go_on_and_the_others_rest(found: Figures) -> None:
    assert found.taken
    assert max(found.taken) <= 6
    assert found.disturbed == 0
    assert max(found.lost) <= 3


def test_a_session_that_rests_without_a_writer_goes_on_when_somebody_has_a_task_for_it(found: Figures) -> None:
    assert found.woken < 3
