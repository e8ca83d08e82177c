"""What is to become of what a namespace holds: the same said twice becomes one, what was seen three times becomes a fact, what is
over goes. Pure: records in, steps out; `consolidation` carries them out.

Only texts are merged, of some length: a short value means something by its key alone. So are only those that nobody but the
consolidation decides about: no key with several values, none that goes by a rule, is on its way out, or was seen by Skep itself.

A fact is made of what Skep observed, never of what was said: not of titles, results or names of files.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from skep.memory import Entry, Record
from skep.memory.limits import MAX_METADATA, MAX_TAGS, RUN, encode_value
from skep.memory.records import digest, identity, unexpired
from skep.memory.trust import HIGHEST, highest, lowest, rank

#: Words that a text has to have so that it says something without its key.
WORDS = 4
#: How close two texts have to lie, by an embedder that knows meaning.
CLOSE = 0.95
#: Keys that become one at once, sources that are named, episodes that make a fact, and that it counts.
MOST_MERGED, MOST_SOURCES, ENOUGH, MOST_COUNTED = 1_000, 20, 3, 20
#: How the keys of facts begin.
LEARNED = "learned/"
_NOT = re.compile(r"(?:not|no|never|none|nor|neither|without|cannot|nothing|nobody|\w+n['’]t)\Z")
_WORD = re.compile(r"[\w.'’-]+")

What = Literal["merge", "fact", "expire"]


class Write(Struct, frozen=True):
    """A record that is to be written in place of the one of this digest, with this value; without one, what expired goes."""

    key: str
    expect: str
    entry: Entry | None = None


class Step(Struct, frozen=True):
    """One thing to do, whole or not at all. `keys`: of a merge first the one that stays. `why`: in words."""

    what: What
    keys: tuple[str, ...]
    why: str
    writes: tuple[Write, ...]


def block(record: Record, now: int, across: bool) -> tuple[What, str] | None:
    """What a record is to be looked at for, and together with which others: those of the same text.

    Args:
        now: wall-clock ms.
        across: texts that are trusted differently may become one, which is trusted as the least of them.
    """
    if unexpired(record, now) is not record:
        return "expire", ""
    entry = record.entries[0] if len(record.entries) == 1 else None
    if entry is None:
        return None
    if (group := _attempted(entry)) is not None:
        return "fact", "\0".join(str(part) for part in group)
    return ("merge", f"{kindred(entry, across)}\0{normal(entry.value)}") if mergeable(entry) else None


def mergeable(entry: Entry) -> bool:
    """Whether a value may become one with another."""
    plain = not (entry.alias or entry.blob or entry.vector or entry.expires) and entry.rule == "siblings"
    text = isinstance(entry.value, str) and len(entry.value.split()) >= WORDS
    return plain and text and entry.kind in ("semantic", "vector") and entry.trust != "observed"


def kindred(entry: Entry, across: bool) -> str:
    """What two values must have in common, whatever they say."""
    return entry.kind if across else f"{entry.kind} {entry.trust}"


def normal(text: str) -> str:
    """A text without what makes no difference to what it says."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(" .")


def same_facts(one: str, other: str) -> bool:
    """Whether two texts have the same numbers, names with digits and negations: where they differ no closeness makes them one."""
    return _hard(one) == _hard(other)


def _hard(text: str) -> Counter[str]:
    words = (word.strip(".'’-") for word in _WORD.findall(normal(text)))
    return Counter(word for word in words if any(sign.isdigit() for sign in word) or _NOT.match(word))


def merged(records: Sequence[Record], run: int, why: str) -> Step | None:
    """Several records with one value each, as one; the other keys lead to it. None if they cannot be put together.

    It stays under the key that has taken in most, and else was there first. It is trusted as the least of them, has the tags of
    all, and says where it came from.

    Args:
        run: names the consolidation.
        why: in words.
    """
    entries = [record.entries[0] for record in records]
    order = sorted(range(len(entries)), key=lambda n: (-_taken(entries[n]), entries[n].created, entries[n].key))
    kept = entries[order[0]]
    tags = tuple(sorted({tag for entry in entries for tag in entry.tags}))
    if len(entries) < 2 or len(tags) > MAX_TAGS:
        return None
    sources = [source for n in order for source in _sources(entries[n])][:MOST_SOURCES]
    most = max((highest(entry) for entry in entries), key=rank)
    metadata = {**kept.metadata, "merged": sum(_taken(entry) for entry in entries), RUN: run, "sources": sources}
    metadata |= {HIGHEST: most} if most != lowest(entry.trust for entry in entries) else {}
    while sources and len(encode_value(metadata)) > MAX_METADATA:
        sources.pop()
    if len(encode_value(metadata)) > MAX_METADATA:
        return None
    trust = lowest(entry.trust for entry in entries)
    updated = max(entry.updated for entry in entries)
    writes = [
        Write(kept.key, digest(records[order[0]]), replace(kept, tags=tags, metadata=metadata, trust=trust, updated=updated))
    ]
    for n in order[1:]:
        old = entries[n]
        # The key stays as hard to write to as it was.
        lead = Entry(
            id=old.id, namespace=old.namespace, key=old.key, kind=old.kind, alias=kept.key, trust=old.trust,
            agent=old.agent, session=old.session, task=old.task, created=old.created, updated=old.updated,
            metadata={RUN: run}, version=old.version,
        )  # fmt: skip
        writes.append(Write(old.key, digest(records[n]), lead))
    if any(rank(entry.trust) > rank(trust) for entry in entries):
        why += f"; it is trusted as '{trust}' now"
    return Step("merge", tuple(write.key for write in writes), why, tuple(writes))


def expired(record: Record, now: int) -> Step:
    """What is over goes for good."""
    why = "expired" if not unexpired(record, now).entries else "one of its values expired"
    return Step("expire", (record.key,), why, (Write(record.key, digest(record)),))


def fact_key(record: Record) -> str:
    """The key of the fact that an episode belongs to."""
    group = _attempted(record.entries[0])
    assert group is not None
    plan, task, work, outcome, cause = group
    return f"{LEARNED}{identity(plan, task)[:12]}/{work or 'any'}/{outcome}{'-' if cause else ''}{cause}"


def learned(episodes: Sequence[Record], there: Record | None, run: int) -> Step | None:
    """The fact that episodes of one task and one outcome make, if they are enough and there is something new in them.

    Args:
        there: the record of that fact, if there is one.
        run: names the consolidation.
    """
    old = there.entries[0] if there is not None and len(there.entries) == 1 else None
    if there is not None and there.entries and (old is None or old.trust != "observed"):
        return None  # somebody else's
    known = list(old.metadata.get("sources", ())) if old is not None else []
    entries = sorted((record.entries[0] for record in episodes), key=lambda entry: (entry.updated, entry.key))
    new = [entry for entry in entries if entry.key not in known][: MOST_COUNTED - len(known)]
    if not new or len(known) + len(new) < ENOUGH:
        return None
    group = _attempted(new[0])
    assert group is not None
    plan, task, work, outcome, cause = group
    before: Mapping[str, Any] = old.value if old is not None and isinstance(old.value, dict) else {}
    codes = {*before.get("exit_codes", ()), *(code for entry in new if (code := _exit_code(entry)) is not None)}
    times, first, last = len(known) + len(new), before.get("first", new[0].updated), new[-1].updated
    value = {
        "text": _told(plan, task, outcome, cause, times, sorted(codes), last),
        "plan": plan, "task": task, "work": work, "outcome": outcome, "cause": cause, "times": times,
        "exit_codes": sorted(codes), "first": first, "last": last,
    }  # fmt: skip
    key = fact_key(episodes[0])
    namespace = episodes[0].namespace
    entry = Entry(
        id=identity(namespace, key), namespace=namespace, key=key, value=value, tags=("learned", outcome), trust="observed",
        metadata={RUN: run, "sources": [*known, *(entry.key for entry in new)]}, rule="last", created=first, updated=last,
        version=old.version if old is not None else 0,
    )  # fmt: skip
    return Step("fact", (key,), value["text"], (Write(key, digest(there), entry),))


def _told(plan: str, task: str, outcome: str, cause: str, times: int, codes: Sequence[int], last: int) -> str:
    how = {"ok": "succeeded", "failed": "failed"}.get(outcome, f"ended as '{outcome}'")
    day = datetime.fromtimestamp(last / 1000, UTC).strftime("%Y-%m-%d")
    why = f" ({cause})" if cause else ""
    code = f", exit code {', '.join(map(str, codes))}" if any(codes) else ""
    often = f"{times} times" + (" or more" if times == MOST_COUNTED else "")
    return f"task {task} of {plan} {how} {often}{why}{code}, last on {day}"


def _attempted(entry: Entry) -> tuple[str, str, str, str, str] | None:
    """Of an episode that Skep wrote: workflow, task, what there was to do (as a digest), how it ended, and why."""
    if entry.kind != "episodic" or entry.trust != "observed" or not isinstance(entry.value, dict):
        return None
    tried, seen = entry.value.get("tried"), entry.value.get("observed")
    if not isinstance(tried, dict) or not isinstance(seen, dict) or not isinstance(seen.get("outcome"), str):
        return None
    named = entry.metadata.get("plan", ""), tried.get("task", ""), tried.get("digest", ""), seen["outcome"], seen.get("cause", "")
    return named if all(isinstance(one, str) for one in named) else None


def _exit_code(entry: Entry) -> int | None:
    code = entry.value["observed"].get("exit_code")
    return code if isinstance(code, int) else None


def _taken(entry: Entry) -> int:
    """How many keys a value stands for."""
    count = entry.metadata.get("merged", 1) if RUN in entry.metadata else 1
    return count if isinstance(count, int) and 1 <= count < 2**31 else 1


def _sources(entry: Entry) -> list[dict[str, Any]]:
    """Where a value came from: those that it was made of before, or itself."""
    before = entry.metadata.get("sources")
    if RUN in entry.metadata and isinstance(before, list):
        return [source for source in before if isinstance(source, dict)]
    told = {"key": entry.key, "trust": entry.trust, "updated": entry.updated}
    return [told | {name: of for name in ("agent", "session", "task") if (of := getattr(entry, name))}]
