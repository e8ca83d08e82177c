"""Receipts: what a session was asked to do, what it did, what was checked, in one signed file that anybody can check offline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from skep import __version__
from skep.core import events as ev
from skep.core.model import Entry
from skep.core.state import State
from skep.core.terms import Command
from skep.errors import Invalid, NotFound, Unavailable
from skep.runtime.views import status_of
from skep.security.signing import Signer, canonical, fingerprint, is_signed
from skep.store import Head
from skep.workspace.command import Git

FORMAT = 1
#: What stands for the costs if no agent reported any.
NO_COSTS: Literal["none reported"] = "none reported"
#: Bytes that a receipt may have.
LARGEST = 64 << 20


class Planned(Struct, frozen=True, kw_only=True):
    """What was asked for. `fingerprint`: SHA-256 of the workflow file; `verify`: the check of every merged commit."""

    name: str
    objective: str
    fingerprint: str
    verify: str


class Done(Struct, frozen=True, kw_only=True):
    """A task and how it ended. `definition`: SHA-256 of its whole definition; what it says is not in the receipt."""

    id: str
    objective: str
    state: str
    cause: str
    agent: str
    attempts: int
    needs: tuple[str, ...]
    definition: str
    verify: str
    commit: str
    merged: str


class Checked(Struct, frozen=True, kw_only=True):
    """A check that was carried out: of an attempt's commit (`task`) or of the merged one (`merge`).

    Results that were merged together were checked together, in the commit of the last of them.
    """

    what: str
    task: str
    attempt: int
    commit: str
    command: str
    passed: bool


class Decided(Struct, frozen=True, kw_only=True):
    """What a person answered, and when (wall-clock ms)."""

    task: str
    answer: str
    by: str
    at: int


class Costs(Struct, frozen=True, kw_only=True):
    """What agents reported to have spent: tokens, and millionths of a dollar as far as the price is known.

    `unpriced`: reports whose price nobody knew; if there are any, `micro_usd` is too low.
    """

    input: int
    cached: int
    output: int
    micro_usd: int
    unpriced: int


class LogHead(Struct, frozen=True, kw_only=True):
    """Where the session's log ended: its events, its writer's epoch, the hash that ties all of it together, hex."""

    events: int
    epoch: int
    hash: str


class Record(Struct, frozen=True, kw_only=True):
    """What a receipt says of a session; times are wall-clock ms."""

    format: int
    skep: str
    made: int
    session: str
    state: str
    opened: int
    kind: str
    base: str
    tip: str
    plan: Planned
    tasks: list[Done]
    checks: list[Checked]
    answers: list[Decided]
    costs: Costs | Literal["none reported"]
    log: LogHead


class Receipt(Struct, frozen=True, kw_only=True):
    """The file: the record, the public key that signed it, the signature over both. Key and signature are base64."""

    record: Record
    key: str
    signature: str


class Verdict(Struct, frozen=True, kw_only=True):
    """What checking a receipt came to. `whole`: it is as its signer wrote it. `commits`: how many are in the repository, or None.

    `wrong`: everything that does not hold, in words; empty if all does.
    """

    whole: bool
    signer: str
    session: str
    state: str
    commits: int | None
    wrong: list[str]


def make(name: str, state: State, entries: Iterable[Entry], events: list[ev.Event], head: Head, at: int, signer: Signer) -> bytes:
    """The signed file of a session.

    Args:
        name: as people know the session.
        entries: all its tasks, archived ones too.
        at: wall-clock ms.
    """
    plan, tasks = state.plan, {entry.task.id: entry for entry in sorted(entries, key=lambda entry: entry.seq)}
    record = Record(
        format=FORMAT,
        skep=__version__,
        made=at,
        session=name,
        state=status_of(state),
        opened=state.opened,
        kind=state.kind,
        base=state.base,
        tip=state.tip,
        plan=Planned(name=plan.name, objective=plan.objective, fingerprint=plan.fingerprint, verify=_line(plan.verify)),
        tasks=[_done(entry) for entry in tasks.values() if entry.state != "replaced"],
        checks=list(_checks(events, tasks, _line(plan.verify))),
        answers=[Decided(task=e.task, answer=e.answer, by=e.by, at=e.at) for e in events if isinstance(e, ev.TaskAnswered)],
        costs=_costs(events),
        log=LogHead(events=head.seq, epoch=head.epoch, hash=head.hash.hex()),
    )
    signed = {"record": msgspec.to_builtins(record), "key": signer.public}
    whole = {**signed, "signature": signer.sign(signed)}
    return json.dumps(whole, indent=1).encode("ascii") + b"\n"


def _line(command: Command | None) -> str:
    return "" if command is None else command if isinstance(command, str) else " ".join(command)


def _done(entry: Entry) -> Done:
    task = entry.task
    return Done(
        id=task.id,
        objective=task.objective,
        state=entry.state,
        cause=entry.cause,
        agent=entry.agent,
        attempts=entry.attempts,
        needs=task.needs,
        definition=hashlib.sha256(canonical(msgspec.to_builtins(task))).hexdigest(),
        verify=_line(task.verify),
        commit=entry.commit,
        merged=entry.merged,
    )


def _costs(events: list[ev.Event]) -> Costs | Literal["none reported"]:
    spent = [event.cost for event in events if isinstance(event, ev.AttemptSpent | ev.TaskInquired)]
    if not spent:
        return NO_COSTS
    return Costs(
        input=sum(cost.input for cost in spent),
        cached=sum(cost.cached for cost in spent),
        output=sum(cost.output for cost in spent),
        micro_usd=round(sum(cost.usd for cost in spent) * 1_000_000),
        unpriced=sum(cost.unpriced for cost in spent),
    )


def _checks(events: list[ev.Event], tasks: dict[str, Entry], merged_by: str) -> Iterable[Checked]:
    """Every check whose outcome the log holds, in order."""
    commits: dict[tuple[str, int], str] = {}
    stack: dict[str, int] = {}
    for event, following in zip(events, [*events[1:], None], strict=True):
        if isinstance(event, ev.AttemptWorked):
            commits[event.task, event.n] = event.commit
        elif isinstance(event, ev.AttemptEnded) and event.task in tasks:
            command, commit = _line(tasks[event.task].task.verify), commits.get((event.task, event.n), event.commit)
            if command and (event.outcome == "ok" or event.cause == "verify-failed"):
                passed = event.outcome == "ok"
                yield Checked(what="task", task=event.task, attempt=event.n, commit=commit, command=command, passed=passed)
        elif isinstance(event, ev.MergeStarted):
            stack = {candidate.task: candidate.attempt for candidate in event.intent.stack}
        elif merged_by and isinstance(event, ev.Merged) and not isinstance(following, ev.Merged):
            # Of results that land together the topmost was checked, and the others in it.
            n = stack[event.task]
            yield Checked(what="merge", task=event.task, attempt=n, commit=event.commit, command=merged_by, passed=True)
        elif merged_by and isinstance(event, ev.MergeFailed) and event.cause == "verify-failed":
            n = stack[event.task]
            yield Checked(what="merge", task=event.task, attempt=n, commit="", command=merged_by, passed=False)


def read(path: Path) -> tuple[Receipt, dict[str, Any]]:
    """A receipt from a file, and all that the file holds.

    Raises:
        NotFound, Invalid: there is no such file, it is no receipt, or a newer Skep wrote it.
    """
    fix = "Receipts come from `skep receipt SESSION`."
    try:
        if path.stat().st_size > LARGEST:
            raise Invalid(f"{path} is larger than any receipt", fix)
        plain = json.loads(path.read_bytes(), object_pairs_hook=_once)
        newer = plain["record"]["format"] > FORMAT
        if newer:
            raise Invalid(f"{path} was written by a newer Skep (format {plain['record']['format']})", "Update Skep.")
        return msgspec.convert(plain, Receipt), plain
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", fix) from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError, msgspec.ValidationError) as error:
        raise Invalid(f"{path} is no receipt: {error}", fix) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are there once: of two, a reader could see one and the signature count for the other."""
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a key is there twice")
    return found


async def check(path: Path, signer: str, repository: Path | None) -> Verdict:
    """Checks a receipt.

    Args:
        signer: the fingerprint that its key must have; empty = any.
        repository: where its commits must be; None = not asked.

    Raises:
        NotFound, Invalid: as `read` does.
        Unavailable: the commits cannot be looked for.
    """
    receipt, plain = read(path)
    name, signature = fingerprint(receipt.key), plain.pop("signature")
    wrong = []
    whole = is_signed(plain, receipt.key, signature)
    if not whole:
        wrong.append("its signature does not fit: it was changed after it was signed")
    if signer and signer.removeprefix("SHA256:").lower() != name.removeprefix("SHA256:"):
        wrong.append(f"it was signed by {name}, not by {signer}")
    count = None
    if repository is not None:
        commits = dict.fromkeys(commit for task in receipt.record.tasks for commit in (task.merged,) if commit)
        strays = await _strays(repository, receipt.record, list(commits))
        wrong += strays
        count = len(commits) - len(strays)
    return Verdict(
        whole=whole, signer=name, session=receipt.record.session, state=receipt.record.state, commits=count, wrong=wrong
    )


async def _strays(repository: Path, record: Record, commits: list[str]) -> list[str]:
    """The merged commits that are not part of the session's work in a repository, in words."""
    git = Git(repository)
    if (await git.run("rev-parse", "--git-dir", ok=())).code:
        raise Unavailable(f"there is no git repository in {repository}", "Go to the repository, or leave out --commits.")
    if record.kind != "git":
        raise Unavailable(f"session {record.session} worked on a copy of a folder, not in a repository", "Leave out --commits.")
    found = []
    for commit in commits:
        if (await git.run("merge-base", "--is-ancestor", commit, record.tip, ok=())).code:
            found.append(f"the commit {commit} is not in the session's work in {repository}")
    return found
