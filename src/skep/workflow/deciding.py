"""The part of the table of the workflow file that says who decides: votes."""

from __future__ import annotations

from skep.core.consensus import THRESHOLDS
from skep.workflow.kinds import Choice, Duration, MapOf, Number, Text
from skep.workflow.record import Field, Record
from skep.workflow.words import NAME

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
