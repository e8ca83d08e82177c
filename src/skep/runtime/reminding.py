"""What a prompt tells of memory: the few entries that help its task, each with how far to trust it, within a budget.

Those are what earlier attempts at the same task came to, in any session of the same file, and what a search for the task's words
finds. What nobody vouches for (`untrusted`) is left out, and so is all of it for who votes. To the agent it is data: each entry
stands in a fence of its own, also its key, which somebody chose. A memory that is slow or broken costs a prompt nothing but that.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

from msgspec.structs import replace

from skep.agents.brief import fenced
from skep.core.commands import StartAttempt
from skep.core.placement import kind_of
from skep.core.state import State
from skep.core.terms import MemoryGrant
from skep.errors import SkepError
from skep.memory import Entry, Filter, Search
from skep.memory.bank import Bank
from skep.memory.scope import Scope
from skep.memory.trust import rank
from skep.runtime.environment import Told
from skep.runtime.episode import episodes_of
from skep.runtime.recall import granted, origin, scope_of, spelled

#: Characters that count as a token: a rough figure for English and code.
PER_TOKEN = 4
#: Seconds that a prompt waits for memory.
PATIENCE = 1.0
#: Earlier attempts at the same task that are told; keys that are looked at for them; entries that are searched for; words that
#: are searched by.
ATTEMPTS, LOOKED_AT, FOUND, WORDS = 5, 500, 20, 24
#: Characters of one entry, and of what an agent said in an episode.
MAX_ENTRY, MAX_SAID = 3_000, 1_000
_TRUST = {
    "observed": "Seen by Skep itself; titles, names and words that it quotes are those of others.",
    "person": "Written by a person.",
    "agent": "Words of an agent: check them before you rely on them.",
}
_WORD = re.compile(r"[^\W_]{4,}")


async def put_before(bank: Bank | None, session: str, state: State, command: StartAttempt, told: Told) -> Told:
    """What an attempt is told, with what memory has for its prompt, and a remark if that had to be left out."""
    grant = granted(state.plan, state.specs.get(command.spec))
    off = grant is not None and (grant.mode == "off" or not grant.prompt)
    if bank is None or off or command.task.ballot or kind_of(command.task) != "prompt":
        return told
    budget = (grant or MemoryGrant()).prompt
    scope = scope_of(session, grant)
    try:
        async with asyncio.timeout(PATIENCE):
            found = await chosen(bank, scope, state.plan.name, told)
    except TimeoutError:
        return replace(told, remark=f"memory is left out of the prompt: it took longer than {PATIENCE:g} s")
    except SkepError as error:
        return replace(told, remark=f"memory is left out of the prompt: {error.message}")
    except Exception as error:  # whatever is wrong with it, the attempt goes on without
        return replace(told, remark=f"memory is left out of the prompt: {type(error).__name__}: {error}")
    memory, count = fitting(found, budget)
    words = f"{count} {'entry' if count == 1 else 'entries'} of memory in the prompt, about {tokens(memory)} tokens"
    return replace(told, memory=memory, remark=words if count else "")


async def chosen(bank: Bank, scope: Scope, plan: str, told: Told) -> list[Entry]:
    """The entries that help a task, what matters most first."""
    names = scope.readable(await bank.namespaces())
    if not names:
        return []
    found: dict[str, Entry] = {}
    before: list[Entry] = []
    for name in names:
        before += await bank.beginning(name, episodes_of(plan, told.task.id), LOOKED_AT)
    for entry in sorted(before, key=lambda entry: -entry.updated)[:ATTEMPTS]:
        if entry.kind == "episodic" and entry.trust == "observed":  # nobody else's, whatever its key
            found[entry.id] = entry
    words = dict.fromkeys(word.lower() for word in _WORD.findall(f"{told.task.objective} {told.prompt}"[: WORDS * 60]))
    if text := " ".join(list(words)[:WORDS]):
        search = Search(text=text, filter=Filter(namespaces=names, trust="agent"), limit=FOUND)
        hits = [hit.entry for hit in (await bank.search(search)).hits if scope.may_read(hit.entry.namespace)]
        # All of these fit: then whom to believe counts, and what is newest.
        for entry in sorted(hits, key=lambda entry: (-rank(entry.trust), -entry.updated)):
            found.setdefault(entry.id, entry)
    return list(found.values())


def fitting(entries: Iterable[Entry], budget: int) -> tuple[str, int]:
    """As many of the entries, from the first on, as go into so many tokens, as text; and how many those are."""
    parts: list[str] = []
    left = budget
    for entry in entries:
        part = f"{len(parts) + 1}. {_TRUST.get(entry.trust, 'Nobody vouches for this.')}\n{fenced(_written(entry), MAX_ENTRY)}"
        if (left := left - tokens(part)) < 0:
            break
        parts.append(part)
    return "\n\n".join(parts), len(parts)


def tokens(text: str) -> int:
    """How many tokens a text has, roughly: models count each in their own way."""
    return -(-len(text) // PER_TOKEN)


def _written(entry: Entry) -> str:
    value = entry.value
    if entry.kind == "episodic" and isinstance(value, dict):
        said = value.get("said") or {}
        lines = [f"{name}: {_line(value[name])}" for name in ("tried", "observed") if value.get(name)]
        lines += [f"said: {_line(said)[:MAX_SAID]}"] if said else []
        text = "\n".join(lines)
    else:
        text = f"({entry.size} bytes: recall the key)" if entry.blob and value is None else spelled(value)
    return f"{entry.key} (in {entry.namespace}; {origin(entry)})\n{text}"


def _line(facts: object) -> str:
    """What is quoted begins no line of its own: it could pass for what Skep saw."""
    if isinstance(facts, dict):
        said = ", ".join(f"{name} {spelled(value)}" for name, value in facts.items() if value not in ("", None, [], {}, 0))
    else:
        said = spelled(facts)
    return "\n| ".join(said.splitlines())
