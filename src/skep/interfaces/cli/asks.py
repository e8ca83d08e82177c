"""What tasks ask of people, in words, with the commands that answer."""

from __future__ import annotations

from shlex import quote

from skep.core.approvals import QUESTION
from skep.interfaces.cli.words import one_line

#: Question of the core -> its words, and the commands that answer it (`{}` is the task).
ASKED: dict[str, tuple[str, tuple[str, ...]]] = {
    "approve before": ("may it start?", ("skep approve {}", "skep deny {}")),
    "approve": ("is its result good?", ("skep approve {}", 'skep reject {} -m "why"')),
    "gate": ("may the next phase begin?", ("skep approve {}", 'skep reject {} -m "why"')),
    "merge": ("may its work be merged?", ("skep approve {}", 'skep reject {} -m "why"')),
    "conflict": ("its work does not merge; what now?", ("skep resume --decide {}=rerun", "skep resume --decide {}=skip")),
    "vote": (
        "the vote decided nothing; which candidate?",
        ("skep candidates {}", "skep approve {} --choose N", 'skep reject {} -m "why"'),
    ),
    "plan": ("may its plan be carried out?", ("skep plan {}", "skep approve {}", 'skep reject {} -m "why"')),
    "proposal": ("may the tasks that it proposes be added?", ("skep plan {}", "skep approve {}", "skep deny {}")),
    "login": (
        "its client is not logged in; log in, then say so",
        ("skep approve {}", "skep retry {} --with AGENT", "skep deny {}"),
    ),
    "held": ("it was interrupted; go on?", ("skep approve {}", "skep retry {} --with AGENT", "skep deny {}")),
    "rerun": ("it may have run already; run it again?", ("skep resume --decide {}=rerun", "skep resume --decide {}=skip")),
}


def words(question: str) -> str:
    """The question as a person would ask it."""
    return ASKED[question][0] if question in ASKED else question


def question(agent: str, ident: str) -> str:
    """The command line that answers what an agent asks a person."""
    return one_line(f"skep tell {quote(agent)} 'TEXT' --answers {quote(ident)}")


def leave(ask: str, tool: str) -> tuple[str, ...]:
    """The command lines that answer what an attempt asks, by its id."""
    words = ' -m "..."' if tool == QUESTION else ""
    return f"skep approve {one_line(quote(ask))}{words}", f"skep deny {one_line(quote(ask))}"


def answers(question: str, task: str) -> tuple[str, ...]:
    """The command lines that answer it."""
    lines = ASKED[question][1] if question in ASKED else ("skep status",)
    return tuple(one_line(line.format(quote(task))) for line in lines)
