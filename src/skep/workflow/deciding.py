"""The part of the table of the workflow file that says who decides: votes, and the gates of phases."""

from __future__ import annotations

from skep.core.consensus import THRESHOLDS
from skep.workflow.kinds import Choice, Duration, Flag, MapOf, Number, Text
from skep.workflow.record import Field, Record
from skep.workflow.words import COMMAND, NAME, WORDS

VOTE = Record(
    "Vote",
    "How the best of several candidates is chosen. Voters see what each did, not who did it.",
    {
        "by": Field(NAME, "The agent of `agents` that votes; each of its `count` has one vote.", required=True),
        "rule": Field(
            Choice(tuple(THRESHOLDS)),
            "Whether a share of all voters decides, all of them, or more than half of their weight; `delegated`, "
            "`distributed` and `centralized` need a `topology` that decides so.",
            "`quorum`",
        ),
        "threshold": Field(
            Text("a fraction from 1/2 to 1, such as 2/3 or 0.75", r"1|0?\.[0-9]{1,9}|1\.0*|[0-9]{1,4}/[0-9]{1,4}"),
            "The share of all voters, not of the votes that came, that wins.",
            "2/3; 1 when unanimous; more than 1/2 when weighted",
        ),
        "weights": Field(
            MapOf(NAME, Number(0, 1_000_000_000)), "Voter (`judge-2`) -> its weight, for `rule: weighted`.", "1 for each"
        ),
        "otherwise": Field(Choice(("ask", "fail")), "Without a decision: ask a person, or the task fails.", "`ask`"),
        "timeout": Field(Duration(), "After this the votes are counted as they stand.", "when everybody has voted"),
    },
)

GATE = Record(
    "Gate",
    "What must hold before the next phase opens, beside all tasks of the phase being done: the command or the vote, then a "
    "person's yes.",
    {
        "verify": Field(COMMAND, "Must succeed in a clean checkout of all that is merged."),
        "vote": Field(VOTE, "Agents vote whether the next phase may begin; without a decision `ask` asks a person."),
        "approve": Field(Flag(), "Whether a person's yes is needed, last.", "`false`"),
        "timeout": Field(Duration(), "How long the command may take; 0 = no limit.", "0"),
    },
)

PHASE = Record(
    "Phase",
    "A part of the session. Its tasks begin when the gate of the phase before it was passed. A gate that fails closes what "
    "follows; `skep retry gate:NAME` judges it again.",
    {
        "objective": Field(WORDS, "What it is for, for people and for those who vote on it."),
        "gate": Field(GATE, "What must hold before the next phase opens.", "all its tasks are done"),
    },
)
