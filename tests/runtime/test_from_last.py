"""`retries: {from: last}`: the next attempt goes on with what the last one left, and is judged for all of it."""

from __future__ import annotations

import skep

FROM_LAST = skep.Retries(max=1, start="last")


async def test_what_the_last_attempt_made_counts_even_if_nothing_is_added(session: skep.Session) -> None:
    task = skep.Task(run="if [ -e made.txt ]; then exit 0; fi; echo x > made.txt; exit 1", retries=FROM_LAST)
    result = await (await session.submit(task)).result()
    assert (result.state, result.attempts) == ("done", 2)
    assert "made.txt" in await session.diff()


async def test_a_protected_path_that_an_earlier_attempt_changed_is_still_found(session: skep.Session) -> None:
    task = skep.Task(
        run="if [ -e made.txt ]; then exit 0; fi; echo x > made.txt; echo y > a.txt; exit 1",
        retries=FROM_LAST,
        protect=("a.txt",),
    )
    result = await (await session.submit(task)).result()
    assert (result.state, result.cause) == ("failed", "protected")
    assert await session.diff() == ""


async def test_an_agent_that_loses_its_git_file_does_not_find_the_users_repository(session: skep.Session) -> None:
    result = await (await session.submit(skep.Task(run="rm .git; git rev-parse --show-toplevel", exit_codes=(128,)))).result()
    assert result.ok, result
