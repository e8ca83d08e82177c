"""What may be said to a session: by a person, by a node that carries attempts out, by the clock.

`at` is wall-clock milliseconds, stamped where the input came in.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from skep.core.fleet import Fleet, Standing, Used
from skep.core.intent import MergeIntent
from skep.core.model import AgentSpec, Answer, Cause, Cost, Credit, Output, Plan, Priority, Proposal, Resources, Task, TaskState
from skep.core.rules import Action, Do


class OpenSession(Struct, frozen=True, kw_only=True, gc=False, tag="open"):
    """Begin the session (only as its first input)."""

    at: int
    session: str
    plan: Plan
    base: str = ""
    kind: str = "none"
    branch: str = ""
    by: str = ""
    left_out: int = 0


class SetBase(Struct, frozen=True, kw_only=True, gc=False, tag="set-base"):
    """The session's branch was made at this commit (once, before the first task that works in a worktree)."""

    at: int
    base: str
    kind: str
    branch: str = ""
    left_out: int = 0


class ForkSession(Struct, frozen=True, kw_only=True, gc=False, tag="fork"):
    """Go on under another name from a copy of the log (only as the first input after the copy)."""

    at: int
    session: str
    origin: str
    by: str = ""


class Submit(Struct, frozen=True, kw_only=True, gc=False, tag="submit"):
    """Accept these tasks.

    `known` tells the fates (terminal states) of archived tasks: those that are needed, and those whose ids the tasks want.
    """

    at: int
    tasks: tuple[Task, ...]
    key: str = ""
    known: dict[str, TaskState] = field(default_factory=dict)
    by: str = ""


class DeclareAgents(Struct, frozen=True, kw_only=True, gc=False, tag="declare-agents"):
    """Add kinds of agents, or change the ones of the same name."""

    at: int
    specs: tuple[AgentSpec, ...]


class ChangePlan(Struct, frozen=True, kw_only=True, gc=False, tag="change-plan"):
    """Go on with another version of the file. Tasks that are not kept are replaced by what the plan says, or by nothing.

    `keep`: ids of tasks whose definition and ancestors are unchanged. `known`: fates of archived tasks, as in Submit.
    `all`: every task stays, whatever came meanwhile.
    """

    at: int
    plan: Plan
    keep: tuple[str, ...] = ()
    all: bool = False
    known: dict[str, TaskState] = field(default_factory=dict)
    by: str = ""


class JoinNode(Struct, frozen=True, kw_only=True, gc=False, tag="join-node"):
    """A node is there, with a fresh `boot`. `credit` is the part of it that the session may use, None = all of it."""

    at: int
    node: str
    boot: str
    capacity: Resources
    slots: int
    labels: dict[str, str] = field(default_factory=dict)
    credit: Credit | None = None


class GrantCredit(Struct, frozen=True, kw_only=True, gc=False, tag="grant-credit"):
    """A node gives the session another part of itself to use, None = all of it."""

    at: int
    node: str
    credit: Credit | None


class LoseNode(Struct, frozen=True, kw_only=True, gc=False, tag="lose-node"):
    """A node's lease ran out. `boot`: the start of it that is over; empty = whichever is there."""

    at: int
    node: str
    why: str = ""
    boot: str = ""


class Spawned(Struct, frozen=True, kw_only=True, gc=False, tag="spawned"):
    """Report: the attempt's process exists, not yet let go."""

    at: int
    task: str
    n: int
    nonce: str
    pid: int
    born: int
    confinement: str = ""


class Spoke(Struct, frozen=True, kw_only=True, gc=False, tag="spoke"):
    """Report: the attempt works in this thread of its client's own."""

    at: int
    task: str
    n: int
    nonce: str
    conversation: str


class Spent(Struct, frozen=True, kw_only=True, gc=False, tag="spent"):
    """Report: the attempt has cost so much since its last such report. `number` counts its reports from 1, and each number once;
    0 = it is not counted. `owing`: these are tokens, and what they cost is told later.
    """

    at: int
    task: str
    n: int
    nonce: str
    cost: Cost
    model: str = ""
    number: int = 0
    owing: bool = False


class Ask(Struct, frozen=True, kw_only=True, gc=False, tag="ask"):
    """Report: the attempt wants to do something. The same `key` again is the same question.

    `otherwise`: what holds where no rule says anything. `can_ask` false: it cannot wait for an answer, so `ask` means no.
    """

    at: int
    task: str
    n: int
    nonce: str
    key: str
    action: Action
    about: str
    arguments: str
    digest: str
    shape: str
    otherwise: Do
    can_ask: bool = True


class Use(Struct, frozen=True, kw_only=True, gc=False, tag="use"):
    """Report: the attempt is about to do what it was allowed to; only if this is accepted it may."""

    at: int
    task: str
    n: int
    nonce: str
    number: int
    digest: str


class Inquired(Struct, frozen=True, kw_only=True, gc=False, tag="inquired"):
    """Somebody asked the agent of a task something after its end, and that has cost so much."""

    at: int
    task: str
    cost: Cost
    model: str = ""
    by: str = ""


class Worked(Struct, frozen=True, kw_only=True, gc=False, tag="worked"):
    """Report: the agent ended well and left this commit, which is to be verified. Its processes are gone."""

    at: int
    task: str
    n: int
    nonce: str
    commit: str
    result: Any = None
    exit_code: int | None = None
    outputs: dict[str, Output] | None = None
    proposal: Proposal | None = None


class Ended(Struct, frozen=True, kw_only=True, gc=False, tag="ended"):
    """Report: the attempt ended, well or not. `interrupted` = through no doing of its own; `until` parks it until then."""

    at: int
    task: str
    n: int
    nonce: str
    outcome: Literal["ok", "failed", "interrupted"]
    cause: Cause = ""
    detail: str = ""
    feedback: str = ""
    result: Any = None
    exit_code: int | None = None
    commit: str = ""
    outputs: dict[str, Output] | None = None
    until: int = 0
    gone: bool = True
    proposal: Proposal | None = None


class Gone(Struct, frozen=True, kw_only=True, gc=False, tag="gone"):
    """Report: no process of the attempt is left; `wip` is a commit with what it left, if anything."""

    at: int
    task: str
    n: int
    nonce: str
    wip: str = ""


class MergeEnded(Struct, frozen=True, kw_only=True, gc=False, tag="merge-ended"):
    """Report: how far the intent's stack came. The branch holds `commits` now, the merges of its lowest candidates.

    With a `cause` the candidate right above them is refused: conflict, protected, verify-failed, infrastructure (nobody could
    judge it, or the branch is where nobody of us put it). Nothing is said of the others. Without one `detail` is what there is to
    say of the merges that were made.
    """

    at: int
    intent: MergeIntent
    commits: tuple[str, ...] = ()
    cause: Cause = ""
    detail: str = ""
    feedback: str = ""


class Cancel(Struct, frozen=True, kw_only=True, gc=False, tag="cancel"):
    """Cancel tasks and whatever cannot go on without them; with `subtree` everything that depends on them."""

    at: int
    tasks: tuple[str, ...]
    subtree: bool = False
    by: str = ""


class Retry(Struct, frozen=True, kw_only=True, gc=False, tag="retry"):
    """Send a task round again: a dead letter, or a rejected result (with a comment that the agent gets to read)."""

    at: int
    task: str
    comment: str = ""
    agent: str = ""
    by: str = ""


class Say(Struct, frozen=True, kw_only=True, gc=False, tag="answer"):
    """A person's answer to a task that needs one. `choice` names the candidate when the answer is to choose one;
    `fingerprint` the proposal that is meant, empty = whichever it is.
    """

    at: int
    task: str
    answer: Answer
    comment: str = ""
    by: str = ""
    choice: str = ""
    fingerprint: str = ""


class Send(Struct, frozen=True, kw_only=True, gc=False, tag="send"):
    """A message to an agent or to a person (`you`). The same `id` again is the same message; empty = it gets one. `ttl` in ms;
    `kind` is the type of the message. With a `task` it comes from that attempt, and is refused once that is over.
    """

    at: int
    kind: str
    source: str
    target: str
    payload: Any = None
    id: str = ""
    priority: Priority = "normal"
    correlation: str = ""
    retry: int = 0
    ttl: int = 0
    task: str = ""
    n: int = 0
    nonce: str = ""


class Escalate(Struct, frozen=True, kw_only=True, gc=False, tag="escalate"):
    """Report: the attempt's agent cannot decide something. Whom that goes to follows from the topology. `id` as in `Send`."""

    at: int
    task: str
    n: int
    nonce: str
    payload: Any
    id: str = ""


class Delivered(Struct, frozen=True, kw_only=True, gc=False, tag="delivered"):
    """Report: the target has got these messages, in whatever order they are named."""

    at: int
    ids: tuple[str, ...]
    target: str
    fingerprint: str = ""


class Permit(Struct, frozen=True, kw_only=True, gc=False, tag="permit"):
    """A person's answer to what an attempt asks (`task/number`); `always`: and to every action of its shape from now on."""

    at: int
    ask: str
    allowed: bool
    always: bool = False
    comment: str = ""
    by: str = ""


class Claim(Struct, frozen=True, kw_only=True, gc=False, tag="claim"):
    """Somebody takes a ready task by hand. Answered with the nonce of its attempt."""

    at: int
    task: str
    by: str = ""


class Interrupt(Struct, frozen=True, kw_only=True, gc=False, tag="interrupt"):
    """End the attempt of one task, keep its work, and leave the task to a person: nobody's failure."""

    at: int
    task: str
    by: str = ""


class Release(Struct, frozen=True, kw_only=True, gc=False, tag="release"):
    """Whoever took a task by hand gives it back."""

    at: int
    task: str
    nonce: str


class Pause(Struct, frozen=True, kw_only=True, gc=False, tag="pause"):
    """Start nothing new; with `stop` interrupt what runs."""

    at: int
    stop: bool = False
    why: str = ""
    by: str = ""


class Resume(Struct, frozen=True, kw_only=True, gc=False, tag="resume"):
    """Go on."""

    at: int
    by: str = ""


class Close(Struct, frozen=True, kw_only=True, gc=False, tag="close"):
    """End the session; what is open is cancelled."""

    at: int
    by: str = ""


class Landed(Struct, frozen=True, kw_only=True, gc=False, tag="landed"):
    """The session's work was brought to a branch of the user's."""

    at: int
    branch: str
    commit: str
    tip: str
    by: str = ""


class Mark(Struct, frozen=True, kw_only=True, gc=False, tag="checkpoint"):
    """Name this point of the log."""

    at: int
    name: str
    by: str = ""


class FormFleet(Struct, frozen=True, kw_only=True, gc=False, tag="form-fleet"):
    """A fleet is to be this. `used`: what its swarms used until now, by name."""

    at: int
    fleet: Fleet
    used: dict[str, Used] = field(default_factory=dict)
    by: str = ""


class RemoveFleet(Struct, frozen=True, kw_only=True, gc=False, tag="remove-fleet"):
    """A fleet is not to be there any more; the sessions of its swarms stay."""

    at: int
    fleet: str
    by: str = ""


class RouteTask(Struct, frozen=True, kw_only=True, gc=False, tag="route-task"):
    """Choose the swarm of a fleet for a task, by how its swarms stand. The same key again is the same submission."""

    at: int
    fleet: str
    key: str
    task: Task
    standings: dict[str, Standing]
    by: str = ""


class HandTask(Struct, frozen=True, kw_only=True, gc=False, tag="hand-task"):
    """A task that was routed is with its session, as `id`; or the session does not take it, for this reason (`refused`)."""

    at: int
    fleet: str
    key: str
    id: str = ""
    refused: str = ""


class Tick(Struct, frozen=True, kw_only=True, gc=False, tag="tick"):
    """Time has passed: what was parked until now or has a deadline is looked at."""

    at: int


Input = (
    OpenSession
    | SetBase
    | ForkSession
    | Submit
    | DeclareAgents
    | ChangePlan
    | JoinNode
    | GrantCredit
    | LoseNode
    | Spawned
    | Spoke
    | Spent
    | Ask
    | Use
    | Inquired
    | Worked
    | Ended
    | Gone
    | MergeEnded
    | Cancel
    | Retry
    | Say
    | Send
    | Escalate
    | Delivered
    | Permit
    | Claim
    | Release
    | Interrupt
    | Pause
    | Resume
    | Close
    | Landed
    | Mark
    | FormFleet
    | RemoveFleet
    | RouteTask
    | HandTask
    | Tick
)
