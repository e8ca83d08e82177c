"""The merge queue: what waits is verified at once, and of what fails only the culprit goes back."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

import skep
from skep.core.commands import Merge, Stacked
from skep.core.events import AttemptEnded, Event, Merged, MergeFailed, MergeStarted
from skep.core.inputs import MergeEnded
from skep.core.intent import Candidate, MergeIntent
from skep.core.model import Cause
from skep.errors import Unavailable
from skep.runtime.stacks import Refusal, land
from skep.workspace import Built, refs
from tests.runtime.gates import Gate
from tests.workspace.repository import Repository

NAMES = "abcde"
#: A commit is its base and its candidate; the branch began at `0`.
TASKS = tuple(map(Stacked, NAMES))
INTENT = MergeIntent(base="0", at=1, stack=tuple(Candidate(name, 1, name) for name in NAMES))


class Branch:
    """A branch of commits that are the names of what they hold.

    Args:
        tip: where it is.
        conflicting: candidates that do not merge.
        lost: candidates whose commits are nowhere.
        flaking: height of the stack whose first verification fails without a reason; 0 = none.
    """

    def __init__(self, tip: str = "0", conflicting: str = "", flaking: int = 0, lost: str = "") -> None:
        self.flaking, self.lost = flaking, lost
        #: Moves that are not durable; whether it cannot be moved back.
        self.unsound, self.stuck = 0, False
        self.at = tip
        self.conflicting = conflicting
        self.judged: list[str] = []

    async def build(
        self, session: str, base: str, candidate: Candidate, at: int, message: str, trailers: Mapping[str, str]
    ) -> Built:
        if candidate.commit in self.lost:
            raise Unavailable(f"commit {candidate.commit} is not to be had")
        if candidate.commit in self.conflicting:
            return Built(conflicts=("x",), detail="both changed x")
        return Built(base + candidate.commit)

    async def have(self, session: str, *commits: str) -> None:
        """All is here."""

    async def changed(self, base: str, commit: str) -> list[str]:
        return list(commit.removeprefix(base))

    async def marked(self, ours: str, theirs: str, commit: str) -> list[str]:
        return [] if commit in ours else [theirs]

    async def tip(self, session: str) -> str:
        return self.at

    async def advance(self, session: str, new: str, old: str) -> str:
        if not (self.stuck and new == INTENT.base):
            self.at = new if self.at == old else self.at
        if self.unsound:
            self.unsound -= 1
            raise Unavailable("the folder cannot be made durable")
        return self.at

    async def land(self, answers: Mapping[str, Cause], tasks: tuple[Stacked, ...] = TASKS) -> MergeEnded:
        """Lands the stack; a verification is lost or fails if its commit holds what is said so of."""

        async def verify(top: Candidate, commit: str) -> Refusal | None:
            assert commit.endswith(top.commit)
            self.judged.append(commit)
            causes = [cause for name, cause in answers.items() if name in commit]
            if len(commit) - 1 == self.flaking:
                self.flaking = 0
                causes.append("verify-failed")
            return Refusal(causes[0], f"{commit} is not good") if causes else None

        return await land(self, "s", Merge(INTENT, tasks, "make test"), verify)


@pytest.mark.parametrize(
    ("culprit", "judged"),
    [
        ("a", "abcde abcde ab a a"),
        ("b", "abcde abcde ab a ab"),
        ("c", "abcde abcde ab abc abc"),
        ("d", "abcde abcde ab abc abcd abcd"),
        ("e", "abcde abcde ab abc abcd"),
    ],
)
async def test_the_smallest_part_that_fails_is_searched_for(culprit: str, judged: str) -> None:
    branch = Branch()
    report = await branch.land({culprit: "verify-failed"})
    below = NAMES[: NAMES.index(culprit)]
    assert [commit[1:] for commit in branch.judged] == judged.split()
    assert report.commits == tuple("0" + NAMES[:n] for n in range(1, len(below) + 1))
    assert (report.cause, report.detail) == ("verify-failed", f"0{below}{culprit} is not good")
    assert branch.at == "0" + below


@pytest.mark.parametrize(
    ("flaking", "judged"),
    [
        (2, "abcde abcde ab a ab abc abcd"),
        (3, "abcde abcde ab abc abc abcd"),
        (4, "abcde abcde ab abc abcd abcd"),
    ],
)
async def test_a_run_that_fails_once_during_the_search_accuses_nobody(flaking: int, judged: str) -> None:
    branch = Branch(flaking=flaking)
    report = await branch.land({"e": "verify-failed"})
    assert [commit[1:] for commit in branch.judged] == judged.split()
    assert (len(report.commits), report.cause, branch.at) == (4, "verify-failed", "0abcd")


async def test_an_accusation_that_could_not_be_confirmed_is_asked_about() -> None:
    branch = Branch()
    answers = iter(["verify-failed"] * 4 + ["infrastructure"])

    async def verify(top: Candidate, commit: str) -> Refusal | None:
        return Refusal(cast(Cause, next(answers)), commit)

    report = await land(branch, "s", Merge(INTENT, TASKS, "make test"), verify)
    assert (report.commits, report.cause) == ((), "infrastructure")


@pytest.mark.parametrize("tip", ["0", "0ab"])
async def test_whose_commit_is_nowhere_is_refused_and_nobody_below(tip: str) -> None:
    branch = Branch(tip, lost="c")
    report = await branch.land({})
    assert (report.commits, report.cause, report.detail) == (("0a", "0ab"), "infrastructure", "commit c is not to be had")
    assert branch.at == "0ab"


@pytest.mark.parametrize("tip", ["0", "0ab"])
@pytest.mark.parametrize("back", [True, False])
async def test_a_move_that_may_not_last_is_taken_back_or_told(tip: str, back: bool) -> None:
    branch = Branch(tip)
    branch.unsound = 2 if back else 99
    branch.stuck = not back
    report = await branch.land({})
    where = branch.at
    assert where == (report.commits[-1] if report.commits else INTENT.base), "the log says what is so"
    assert report.cause == ("infrastructure" if back else "")


async def test_a_branch_whose_folder_cannot_be_synced_is_where_the_log_says_and_merges_later(
    repo: Repository, hive: skep.Skep, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await hive.start(skep.Plan(name="p", tasks=(skep.Task(id="a", run="touch x"),)))
    sync = refs._sync

    def fails(folder: Path) -> None:
        if folder.name == "p-1":
            raise OSError(errno.EIO, "Input/output error")
        sync(folder)

    with monkeypatch.context() as broken:
        broken.setattr(refs, "_sync", fails)
        view = await session.settled()
        assert (view.tasks[0].state, view.tasks[0].question, view.tip) == ("needs-you", "merge", view.base)
        assert "cannot be made durable" in view.tasks[0].detail
    assert repo("rev-parse", "refs/skep/p-1/main") == view.base
    await session.answer("a", "merge")
    view = await session.settled()
    assert (view.tasks[0].state, view.tip) == ("done", repo("rev-parse", "refs/skep/p-1/main"))
    assert view.tip != view.base


async def test_what_could_not_be_judged_is_nobodys_failure_and_what_was_found_good_lands() -> None:
    report = await Branch().land({"e": "infrastructure"})
    assert (report.commits, report.cause) == ((), "infrastructure")
    branch = Branch()
    report = await branch.land({"abcd": "verify-failed", "abc": "infrastructure"})
    assert (report.commits, report.cause, branch.at) == (("0a", "0ab"), "infrastructure", "0ab")


async def test_a_conflict_ends_the_stack_below_it() -> None:
    branch = Branch(conflicting="c")
    report = await branch.land({})
    assert (report.commits, report.cause, report.feedback) == (("0a", "0ab"), "conflict", "conflicts in x\nboth changed x")
    assert branch.judged == ["0ab"]
    first = Branch(conflicting="a")
    assert (await first.land({})).cause == "conflict"
    assert (first.judged, first.at) == ([], "0")


@pytest.mark.parametrize(
    ("bad", "cause", "why"),
    [
        (Stacked("c", protect=("c",)), "protected", "it changed protected paths: c"),
        (Stacked("c", resolves=("a", "other")), "conflict", "it left conflict markers in other"),
    ],
)
async def test_who_did_what_none_may_ends_the_stack_below_it(bad: Stacked, cause: str, why: str) -> None:
    branch = Branch()
    report = await branch.land({}, (*TASKS[:2], bad, *TASKS[3:]))
    assert (report.commits, report.cause, report.detail, branch.at) == (("0a", "0ab"), cause, why, "0ab")
    assert branch.judged == ["0ab"]


@pytest.mark.parametrize("good", [Stacked("c", protect=("a", "b")), Stacked("c", resolves=("c", "other"))])
async def test_what_others_did_and_marks_that_are_gone_stop_nobody(good: Stacked) -> None:
    branch = Branch()
    assert not (await branch.land({}, (*TASKS[:2], good, *TASKS[3:]))).cause
    assert branch.at == "0abcde"


@pytest.mark.parametrize("landed", [1, 3, 5])
async def test_what_an_owner_that_died_had_landed_is_reported_and_nothing_is_judged_again(landed: int) -> None:
    branch = Branch(tip="0" + NAMES[:landed])
    report = await branch.land({"a": "verify-failed"})
    assert (len(report.commits), report.commits[-1], report.cause) == (landed, branch.at, "")
    assert branch.judged == []


async def test_a_branch_that_somebody_else_moved_is_left_alone() -> None:
    branch = Branch(tip="foreign")
    report = await branch.land({})
    assert (report.commits, report.cause, branch.at, branch.judged) == ((), "infrastructure", "foreign", [])
    assert "where Skep did not put it" in report.detail


async def test_a_repository_that_fails_is_nobodys_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (Unavailable("git is gone"), OSError("disk")):

        async def broken(*args: object, error: Exception = error) -> str:
            raise error

        monkeypatch.setattr(Branch, "tip", broken)
        report = await Branch().land({})
        assert (report.commits, report.cause) == ((), "infrastructure")


async def stacked(hive: skep.Skep, gate: Gate, verify: str | None) -> tuple[skep.Session, list[str]]:
    """Five tasks, each of which makes a file, that worked before the first merge began; their names in order of the queue."""
    work = f"{Gate.PASS}; touch $SKEP_TASK"
    tasks = tuple(skep.Task(id=name, run=work, env=gate.env) for name in NAMES)
    session = await hive.start(skep.Plan(name="p", verify=verify, tasks=tasks, limits=skep.Limits(agents=5)))
    await gate.begun(5)
    await session.pause()
    gate.go(5)
    view = await session.settled()
    assert {(task.state, task.stage) for task in view.tasks} == {("running", "merging")}
    return session, [event.task for event in await told(session) if isinstance(event, AttemptEnded)]


async def told(session: skep.Session) -> list[Event]:
    """The events of the session so far."""
    last, found = (await session.status(tasks=False)).seq, list[Event]()
    async for number, event in session.follow():
        found.append(event)
        if number >= last:
            break
    return found


async def merges(session: skep.Session) -> list[tuple[str, ...]]:
    """What became of stacks: the tasks in each, then those that were merged, and the one that was refused with its cause."""
    found: list[tuple[str, ...]] = []
    for event in await told(session):
        if isinstance(event, MergeStarted):
            found.append(tuple(candidate.task for candidate in event.intent.stack))
        elif isinstance(event, Merged):
            found.append(("merged", event.task))
        elif isinstance(event, MergeFailed):
            found.append((event.cause, event.task))
    return found


@pytest.mark.parametrize("verified", [True, False])
async def test_what_waits_is_verified_once_and_lands_in_one_move(
    repo: Repository, hive: skep.Skep, gate: Gate, tmp_path: Path, verified: bool
) -> None:
    session, order = await stacked(hive, gate, f"ls | grep -cx '[a-e]' >> {tmp_path}/runs" if verified else None)
    await session.resume()
    assert (await session.settled()).state == "completed"
    assert await merges(session) == [tuple(order), *(("merged", name) for name in order)]
    assert not verified or (tmp_path / "runs").read_text().split() == ["5"]
    assert repo("log", "--first-parent", "--merges", "--reverse", "--format=%s", "refs/skep/p-1/main").split() == [
        word for name in order for word in ("Merge", name)
    ]
    assert repo.files("refs/skep/p-1/main") >= set(NAMES)


@pytest.mark.parametrize(("place", "runs"), [(0, "5 5 2 1 1 4"), (2, "5 5 2 3 3 4"), (3, "5 5 2 3 4 4 4"), (4, "5 5 2 3 4")])
async def test_of_five_with_a_culprit_four_are_merged_and_it_alone_hears_why(
    repo: Repository, hive: skep.Skep, gate: Gate, tmp_path: Path, place: int, runs: str
) -> None:
    verify = f"ls | grep -cx '[a-e]' >> {tmp_path}/runs; bad=$(cat {tmp_path}/bad); if [ -e $bad ]; then echo no $bad; exit 1; fi"
    session, order = await stacked(hive, gate, verify)
    culprit, above = order[place], order[place + 1 :]
    (tmp_path / "bad").write_text(culprit)
    await session.resume()
    view = await session.settled()
    assert {task.id: task.state for task in view.tasks} == {**dict.fromkeys(order, "done"), culprit: "failed"}
    assert [task.attempts for task in view.tasks] == [1] * 5
    refused = next(task for task in view.tasks if task.id == culprit)
    assert (refused.cause, refused.detail.endswith(f"no {culprit}")) == ("verify-failed", True)
    expected = [tuple(order), *(("merged", name) for name in order[:place]), ("verify-failed", culprit)]
    expected += [tuple(above)] if above else []
    assert await merges(session) == [*expected, *(("merged", name) for name in above)]
    assert (tmp_path / "runs").read_text().split() == runs.split()
    assert repo.files("refs/skep/p-1/main") & set(NAMES) == set(NAMES) - {culprit}
    assert view.tip == repo("rev-parse", "refs/skep/p-1/main")


async def test_a_verification_that_fails_once_of_itself_accuses_nobody(
    repo: Repository, hive: skep.Skep, gate: Gate, tmp_path: Path
) -> None:
    session, order = await stacked(hive, gate, f"echo run >> {tmp_path}/runs; test $(wc -l < {tmp_path}/runs) -gt 1")
    await session.resume()
    assert (await session.settled()).state == "completed"
    assert await merges(session) == [tuple(order), *(("merged", name) for name in order)]
    assert (tmp_path / "runs").read_text().split() == ["run", "run"]
