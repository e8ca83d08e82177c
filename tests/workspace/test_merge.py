"""The merge protocol: the same intent gives the same commit, and after a crash at any step repeating it ends well."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skep.core.intent import Candidate
from skep.errors import Unavailable
from skep.workspace.git import GitWorkspace
from skep.workspace.refs import STALE
from tests.workspace import crashing
from tests.workspace.repository import Repository

AT = 1_700_000_000_000
MERGE = """
candidate = Candidate(task="a/b", attempt=1, commit="{candidate}")
built = await work.build("s", "{base}", candidate, 1700000000000, "Merge", {{"Skep-Task": "a/b"}})
at = await work.advance("s", built.commit, "{base}")
assert at == built.commit, at
"""


class Story:
    """A session with a base and a candidate that is ready to be merged."""

    def __init__(self, top: Path) -> None:
        self.repository = Repository(top)
        self.base = self.repository.commit({"a.txt": "a\n", "b.txt": "b\n"})
        self.repository("checkout", "-q", "--detach")
        self.candidate = Candidate("a/b", 1, self.repository.commit({"a.txt": "changed\n"}))
        self.repository("checkout", "-q", "trunk")

    async def open(self) -> GitWorkspace:
        work = await GitWorkspace.open(self.repository.top, self.repository.top / ".skep")
        await work.begin("s")
        return work

    def main(self) -> str:
        return self.repository("rev-parse", "refs/skep/s/main")

    def lock(self) -> Path:
        return self.repository.top / ".git/refs/skep/s/main.lock"


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "user")


async def test_after_a_kill_before_any_step_the_branch_is_old_or_new_and_repeating_gives_the_same_commit(
    story: Story, tmp_path: Path
) -> None:
    work = await story.open()
    new = (await work.build("s", story.base, story.candidate, AT, "Merge", {"Skep-Task": "a/b"})).commit
    steps = MERGE.format(base=story.base, candidate=story.candidate.commit)
    total = crashing.run(story.repository.top, tmp_path / "desk", steps)
    assert story.main() == new
    for crash in range(total - 4, total + 1):  # from the build's first step to the branch
        for ref in story.repository("for-each-ref", "--format=%(refname)", "refs/skep/s/merge").splitlines():
            story.repository("update-ref", "-d", ref)
        story.repository("update-ref", "refs/skep/s/main", story.base)
        assert crashing.run(story.repository.top, tmp_path / "desk", steps, crash) == 0
        assert story.main() == story.base
        crashing.run(story.repository.top, tmp_path / "desk", steps)
        assert story.main() == new
    # The kill that is left: after the branch moved, before anybody was told.
    crashing.run(story.repository.top, tmp_path / "desk", steps)
    assert story.main() == new
    assert (await work.refs("s"))[f"merge/a/b/1-{AT}"] == new


async def test_a_branch_that_somebody_else_moved_is_reported_and_left_alone(story: Story) -> None:
    work = await story.open()
    built = await work.build("s", story.base, story.candidate, AT, "Merge", {})
    story.repository("checkout", "-q", "--detach")
    foreign = story.repository.commit({"foreign.txt": "x\n"})
    story.repository("update-ref", "refs/skep/s/main", foreign)
    assert await work.advance("s", built.commit, story.base) == foreign
    assert story.main() == foreign


async def test_configuration_of_the_user_does_not_change_a_merge(story: Story) -> None:
    def numbered(changed: int | None) -> dict[str, str]:
        return {"b.txt": "".join(f"{n}{'!' * (n == changed)}\n" for n in range(10))}

    start = story.repository.commit(numbered(None))
    sides = []
    for changed in (0, 9):
        story.repository("checkout", "-q", "--detach", start)
        sides.append(story.repository.commit(numbered(changed)))
    work = await story.open()
    first = await work.build("s", sides[0], Candidate("t", 1, sides[1]), AT, "Merge", {})
    for name, value in {
        "merge.renames": "false",
        "merge.renormalize": "true",
        "merge.default": "broken",
        "merge.broken.driver": "false",
        "i18n.commitEncoding": "ISO-8859-1",
        "commit.gpgSign": "true",
        "user.name": "Eve",
        "diff.renames": "false",
    }.items():
        story.repository("config", name, value)
    (story.repository.top / ".gitattributes").write_text("* merge=broken\n")
    assert first.commit
    assert await work.build("s", sides[0], Candidate("t", 1, sides[1]), AT, "Merge", {}) == first


async def test_a_merge_of_what_is_in_already_and_a_fast_forward_have_two_parents_too(story: Story) -> None:
    work = await story.open()
    forward = await work.build("s", story.base, story.candidate, AT, "Merge", {})
    again = Candidate("t", 2, story.candidate.commit)
    repeated = await work.build("s", forward.commit, again, AT, "Merge", {})
    for commit, base in ((forward.commit, story.base), (repeated.commit, forward.commit)):
        assert story.repository("log", "-1", "--format=%P", commit) == f"{base} {story.candidate.commit}"
        assert story.repository("rev-parse", f"{commit}^{{tree}}") == story.repository(
            "rev-parse", f"{story.candidate.commit}^{{tree}}"
        )


async def test_the_union_driver_of_committed_attributes_counts_and_commands_do_not(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "user")
    attributes = "CHANGES merge=union\nother merge=command\n"
    repository.commit({"CHANGES": "1\n2\n", "other": "1\n", ".gitattributes": attributes})
    repository("config", "merge.command.driver", f"touch {tmp_path}/ran")
    sides = []
    for word in ("left", "right"):
        repository("checkout", "-q", "--detach", "trunk")
        sides.append(repository.commit({"CHANGES": f"1\n{word}\n2\n", "other": f"{word}\n"}))
    repository("checkout", "-q", "trunk")
    work = await GitWorkspace.open(repository.top, repository.top / ".skep")
    await work.begin("s")
    built = await work.build("s", sides[0], Candidate("t", 1, sides[1]), AT, "Merge", {})
    assert built.conflicts == ("other",)
    assert not (tmp_path / "ran").exists()


async def test_histories_without_a_common_start_are_refused(story: Story) -> None:
    work = await story.open()
    story.repository("checkout", "-q", "--orphan", "island")
    island = story.repository.commit(message="island")
    with pytest.raises(Unavailable, match="unrelated histories"):
        await work.build("s", story.base, Candidate("t", 1, island), AT, "Merge", {})


async def test_a_lock_that_a_crash_left_on_the_branch_is_removed_and_a_fresh_one_is_not(story: Story) -> None:
    work = await story.open()
    built = await work.build("s", story.base, story.candidate, AT, "Merge", {})
    story.lock().write_text("")
    with pytest.raises(Unavailable, match=r"main\.lock"):
        await work.advance("s", built.commit, story.base)
    assert story.main() == story.base
    old = story.lock().stat().st_mtime - 2 * STALE
    os.utime(story.lock(), (old, old))
    assert await work.advance("s", built.commit, story.base) == built.commit


LINES = 24
EDITS = st.dictionaries(st.integers(0, LINES - 1), st.sampled_from(["left", "right"]), max_size=8)


def apart(edits: dict[int, str]) -> dict[int, str]:
    """Leaves out edits that git would call a conflict: those of different sides in neighbouring lines of one file."""
    kept: dict[int, str] = {}
    for line in sorted(edits):
        if not any(kept.get(line - gap, edits[line]) != edits[line] for gap in (1, 2)):
            kept[line] = edits[line]
    return kept


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS)
async def test_edits_that_do_not_overlap_merge_to_their_union(story: Story, edits: dict[int, str]) -> None:
    edits = apart(edits)

    def text(*sides: str) -> dict[str, str]:
        return {"long.txt": "".join(f"{edits[at]} {at}\n" if edits.get(at) in sides else f"line {at}\n" for at in range(LINES))}

    repository = story.repository
    repository("checkout", "-q", "--detach", story.base)
    base = repository.commit(text())
    left = repository.commit(text("left"))
    repository("checkout", "-q", base)
    right = repository.commit(text("right"))
    work = await story.open()
    built = await work.build("s", left, Candidate("t", 1, right), AT, "Merge", {})
    assert repository.show(built.commit, "long.txt") + "\n" == text("left", "right")["long.txt"]
