"""What is tried with every agent, and which agent cannot do it, for what reason: the manual has it as a table."""

from __future__ import annotations

from typing import Any

from tests.clients.agents import AGENTS, each

NEVER_ASKS = "it has no way to ask"
BY_ITSELF = "tries again for minutes by itself, and does not say so"
REFUSES = {"codex": "its sandbox refuses, and it does not tell"}
ONE_WAY = dict.fromkeys(("codex", "gemini", "opencode"), NEVER_ASKS)
PATIENT = dict.fromkeys(("gemini", "gemini-acp", "opencode", "opencode-acp"), BY_ITSELF)
WAITS = dict.fromkeys(("opencode", "opencode-acp"), "waits it out by itself, and does not say so")

#: Idea, as the manual has it -> agent -> why it cannot.
LINES: dict[str, dict[str, str]] = {
    "a task, to its merge": {},
    "a refused tool is a denial": REFUSES,
    "asks before it acts": ONE_WAY,
    "a budget ends the task": {},
    "429 or 500, then an answer": {},
    "a reply that breaks off": {},
    "an outage that lasts is no failure": PATIENT,
    "a used-up plan parks the task until its time": WAITS,
    "another agent takes over when its provider refuses it": WAITS,
    "stop keeps the work, resume goes on": {},
    "`kill -9` of Skep, then resume": {},
    "a death, a hang and long thinking are told apart": {},
    "four at once": {},
    "best of three, by a vote": {},
}


def able(line: str) -> list[Any]:
    """Parameters: the agents that can do this."""
    return each(*(name for name in AGENTS if name not in LINES[line]))


def written() -> str:
    """The table of the manual."""
    rows = ["| tried with the real client | " + " | ".join(f"`{name}`" for name in AGENTS) + " |"]
    rows.append("|---" * (len(AGENTS) + 1) + "|")
    notes = list(dict.fromkeys(why for line in LINES.values() for why in line.values()))
    for line, cannot in LINES.items():
        cells = [f"no ({notes.index(cannot[name]) + 1})" if name in cannot else "yes" for name in AGENTS]
        rows.append(f"| {line} | " + " | ".join(cells) + " |")
    return "\n".join([*rows, "", *(f"({number}) {why}." for number, why in enumerate(notes, 1))])
