"""What can be asked of the owner of a state folder. The same records go through the socket and within one process."""

from __future__ import annotations

from typing import Any, Literal, get_args

from msgspec import Struct

from skep.core.estimates import Estimate
from skep.core.fleet import Fleet, Route
from skep.core.inputs import Input
from skep.core.model import Plan, Task
from skep.core.placement import Explanation
from skep.runtime.choice import ChoiceView
from skep.runtime.costs import CostView
from skep.runtime.kept import BackupView, PruneView, RecordingView
from skep.runtime.mail import Handed, MailView
from skep.runtime.memory_requests import AboutMemory
from skep.runtime.ready import Readiness
from skep.runtime.request import Request as Request
from skep.runtime.swarms import FleetView, FormedView
from skep.runtime.views import Brief, ClaimView, InquiryView, Landing, Need, Result, SessionView, TaskView
from skep.terminals.pool import Stats


class OwnerView(Struct, frozen=True, kw_only=True):
    """Who owns the state folder: its process, when it began (ms), the sessions it works on, clients connected to it.

    `claims`: tasks that are held by hand. `store`: the address of the store that it shares with others, without a password.
    `terminals`: what the pool of them did since the owner began, and how long commands took.
    """

    pid: int
    since: int
    sessions: list[str]
    guests: int
    claims: int = 0
    terminals: Stats | None = None
    confinement: str = ""
    store: str = ""


class Who(Request[OwnerView], frozen=True, tag="who"):
    """Who is the owner?"""


class ListSessions(Request[list[Brief]], frozen=True, tag="sessions"):
    """All sessions, oldest first."""


class Create(Request[SessionView], frozen=True, tag="create"):
    """Opens a session for a plan and begins to carry it out.

    Raises Conflict if a session of the same file is unfinished, unless `new`. `name` is exact; empty = the plan's with a number.
    """

    plan: Plan
    name: str = ""
    new: bool = False
    start: bool = True
    by: str = ""


class Ensure(Request[SessionView], frozen=True, tag="ensure"):
    """The session of this name, made if it is not there, being carried out. For the Python API."""

    name: str
    agents: int = 0
    inprocess: bool = False
    by: str = ""


class Activate(Request[SessionView], frozen=True, tag="activate"):
    """Carries a session on: takes it over, resumes it if it is paused."""

    session: str
    by: str = ""


class Revise(Request[SessionView], frozen=True, tag="revise"):
    """Goes on with another version of the session's file: what is unchanged and did not fail stays, the rest is replaced.

    An empty name means the newest session of that file.
    """

    plan: Plan
    session: str = ""
    by: str = ""


class Stop(Request[int], frozen=True, tag="stop"):
    """Interrupts what runs of a session, keeps its work, and pauses it; answers with the number of attempts interrupted."""

    session: str
    why: str = "stopped"
    by: str = ""


class Submit(Request[tuple[str, ...]], frozen=True, tag="submit"):
    """Hands tasks over; answers with their ids once they are durable. The same key again is the same submission.

    `carry`: the session is carried out here from now on, if nobody else does.
    """

    session: str
    tasks: tuple[Task, ...]
    key: str = ""
    by: str = ""
    carry: bool = True


class Tell(Request[Any], frozen=True, tag="tell"):
    """An input for the core: cancel, retry, answer, pause, resume, close, checkpoint."""

    session: str
    input: Input


class Status(Request[SessionView], frozen=True, tag="status"):
    """The session as it stands; an empty name means the newest."""

    session: str = ""
    tasks: bool = True


class GetTask(Request[TaskView], frozen=True, tag="task"):
    """One task, from the live state or the archive."""

    session: str
    task: str


class Await(Request[list[Result]], frozen=True, tag="await"):
    """The results of tasks, in the given order, once all of them are finished."""

    session: str
    tasks: tuple[str, ...]


class Settle(Request[SessionView], frozen=True, tag="settle"):
    """The session once nothing goes on by itself: all finished, or a person is needed, or it is paused."""

    session: str


class Explain(Request[Explanation | None], frozen=True, tag="explain"):
    """Why the task would go to which agent now; None if no agent is free for it."""

    session: str
    task: str


class Proposed(Request[Plan], frozen=True, tag="proposed"):
    """What a task proposes, as a plan with the session's agents; of an empty name, the first that waits for an answer."""

    session: str
    task: str = ""


class Foretell(Request[Estimate], frozen=True, tag="foretell"):
    """What carrying out a plan may cost, by what was spent in earlier sessions here."""

    plan: Plan


class Costs(Request[CostView], frozen=True, tag="costs"):
    """What a session has spent."""

    session: str


class Inbox(Request[list[Need]], frozen=True, tag="inbox"):
    """What waits for a person in any session, oldest first."""


class Ready(Request[list[Readiness]], frozen=True, tag="ready"):
    """What of a session is ready to be taken now, and why the rest waits."""

    session: str


class Claim(Request[ClaimView], frozen=True, tag="claim"):
    """Takes a ready task by hand, or, with its nonce, renews that claim; for `lease` seconds, 0 = as before or half an hour.

    Nothing else begins for it: a session that nobody carries out stays paused.
    """

    session: str
    task: str
    nonce: str = ""
    lease: float = 0.0
    by: str = ""


class Settled(Request[TaskView], frozen=True, tag="settled"):
    """Whoever holds a claim is done, failed, or gives the task back; answered once the work was judged and merged, or was not."""

    session: str
    task: str
    nonce: str
    how: Literal["done", "fail", "release"]
    message: str = ""


class Inquire(Request[InquiryView], frozen=True, tag="inquire"):
    """Asks the agent of a task something after its end; its conversation and its work stay as they are. It costs something.

    Raises Conflict while the task is at work, if it had no conversation, or a limit is reached; Unavailable if its client cannot.
    """

    session: str
    task: str
    question: str
    by: str = ""


class Recordings(Request[list[RecordingView]], frozen=True, tag="recordings"):
    """Where what the attempts at a task printed can be had, oldest first."""

    session: str
    task: str


class GetRecording(Request[bytes], frozen=True, tag="recording"):
    """A recording that is in the store, as a file holds it. Raises NotFound if it is not there."""

    session: str
    task: str
    attempt: int
    part: str = ""


class LookOn(Request[bytes], frozen=True, tag="look-on"):
    """What an attempt that runs on another node has printed so far, as a recording's file. Empty if that node shows nothing.

    It shows it while it is asked for, so the first answers are empty.
    """

    session: str
    task: str
    attempt: int


class Follow(Request[None], frozen=True, tag="follow"):
    """A stream of (number, event) after a number, without end."""

    session: str
    after: int = 0


class FormFleet(Request[FormedView], frozen=True, tag="form-fleet"):
    """Makes a fleet what it is to be; answers with what that changes. `dry`: nothing is changed.

    Raises Conflict if a session of a swarm is there already and is none of the fleet's, unless it may `adopt` such.
    """

    fleet: Fleet
    dry: bool = False
    adopt: bool = False
    by: str = ""


class RemoveFleet(Request[tuple[str, ...]], frozen=True, tag="remove-fleet"):
    """Forgets a fleet; answers with the sessions of its swarms, which stay. Raises NotFound; Conflict while tasks are owed."""

    fleet: str
    by: str = ""


class ResizeFleet(Request[FormedView], frozen=True, tag="resize-fleet"):
    """Gives the swarms of a fleet the slots that are recommended for them; answers with what that changes."""

    fleet: str
    by: str = ""


class Fleets(Request[list[FleetView]], frozen=True, tag="fleets"):
    """A fleet as it stands, or (an empty name) all of them, as they were formed. Raises NotFound."""

    fleet: str = ""


class SendTask(Request[Route], frozen=True, tag="send-task"):
    """Sends a task to the best swarm of a fleet; answers with why, and its id there. The same key again is the same submission.

    `carry`: that session is carried out here from now on, if nobody else does.
    """

    fleet: str
    task: Task
    key: str
    carry: bool = False
    by: str = ""


class Fork(Request[SessionView], frozen=True, tag="fork"):
    """A new session that goes on from a checkpoint or event number of this one; with `restore` it takes over its name."""

    session: str
    at: str = ""
    restore: bool = False
    by: str = ""


class Export(Request[int], frozen=True, tag="export"):
    """Writes a session whole into a file; answers with its size."""

    session: str
    path: str


class MakeReceipt(Request[bytes], frozen=True, tag="receipt"):
    """The signed record of a session, as a file holds it."""

    session: str


class Import(Request[SessionView], frozen=True, tag="import"):
    """Makes a session, paused, from an exported file."""

    path: str
    by: str = ""


class BackUp(Request[list[BackupView]], frozen=True, tag="back-up"):
    """Backs a session up, or all; answers with a view for each, whether it went well or not.

    `to`: a folder, empty = the one of the settings. `keep`: so many of each session stay; 0 = all.
    """

    session: str = ""
    all: bool = False
    to: str = ""
    keep: int = 0


class Backups(Request[list[BackupView]], frozen=True, tag="backups"):
    """The backups in a folder, newest first, each read whole and checked; of one session or (an empty name) of all."""

    session: str = ""
    folder: str = ""


class Restore(Request[SessionView], frozen=True, tag="restore"):
    """Makes a session, paused, from a backup; it takes over the name that the backup is of. Whoever had it keeps all but that.

    `path`: a file, or the folder whose newest good one is taken; empty = that of the settings. `until`: as it was
    then, wall-clock ms; 0 = at the end. Raises NotFound, naming what is damaged, if no file is good.
    """

    session: str
    path: str = ""
    until: int = 0
    by: str = ""


class Prune(Request[list[PruneView]], frozen=True, tag="prune"):
    """Removes sessions that ended so long ago, each once it is in an archive; answers with a view of each.

    `older`: such as 30d, empty = as the settings say. `dry`: nothing is done, only told. Raises Invalid if nothing says how
    old, Conflict while another process does the same.
    """

    older: str = ""
    dry: bool = False


class Land(Request[Landing], frozen=True, tag="land"):
    """Brings the session's branch to a branch of the user's."""

    session: str
    branch: str = ""
    squash: bool = False
    by: str = ""


class Discard(Request[list[str]], frozen=True, tag="discard"):
    """Drops the kept, unmerged work of a task (or of all finished tasks); answers with the refs that are gone."""

    session: str
    task: str = ""
    by: str = ""


class Drop(Request[list[str]], frozen=True, tag="drop"):
    """Removes the refs of a session whose state folder was deleted; answers with those that alone held work.

    Raises Conflict if there are such and `unmerged` is not said, or if the session is one of this state folder's.
    """

    session: str
    unmerged: bool = False


class Message(Request[Handed], frozen=True, tag="message"):
    """A person's message to an agent: handed over at once if the agent can hear now, otherwise it waits for its next attempt.

    `answers`: the id of the question that it answers.
    """

    session: str
    agent: str
    text: str
    ttl: float = 0.0
    key: str = ""
    answers: str = ""


class Messages(Request[MailView], frozen=True, tag="messages"):
    """The messages that wait, for one agent or for all (an empty name)."""

    session: str
    agent: str = ""


class Candidates(Request[ChoiceView], frozen=True, tag="candidates"):
    """The candidates of a task and the vote on them. Raises Conflict for a task that has none."""

    session: str
    task: str


class Diff(Request[str], frozen=True, tag="diff"):
    """What a task's newest commit changes, or, without a task, the whole session."""

    session: str
    task: str = ""
    color: bool = False
    stat: bool = False


class OpenTask(Request[str], frozen=True, tag="open-task"):
    """A folder with a task's newest work, to look at: the attempt's own while it runs, otherwise a fresh worktree."""

    session: str
    task: str


AnyRequest = (
    Who
    | ListSessions
    | Create
    | Ensure
    | Activate
    | Revise
    | Stop
    | Submit
    | Tell
    | Status
    | GetTask
    | Await
    | Settle
    | Explain
    | Foretell
    | Costs
    | Inbox
    | Proposed
    | Ready
    | Claim
    | Settled
    | Inquire
    | FormFleet
    | RemoveFleet
    | ResizeFleet
    | Fleets
    | SendTask
    | Follow
    | Fork
    | Export
    | MakeReceipt
    | Import
    | BackUp
    | Backups
    | Restore
    | Prune
    | Land
    | Discard
    | Drop
    | Message
    | Messages
    | Candidates
    | Diff
    | OpenTask
    | Recordings
    | GetRecording
    | LookOn
    | AboutMemory
)

#: Request -> type of its answer, for decoding what comes through the socket.
ANSWERS: dict[type, Any] = {asked: get_args(vars(asked)["__orig_bases__"][0])[0] for asked in get_args(AnyRequest)}
