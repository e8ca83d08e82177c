"""2,000 passages and 400 queries, each with the one passage that answers it: known since both were made of the same fact.

Nothing here knows of any way to search. Each run makes the same. The six kinds of queries: `same` (words of the passage), `other`
(a paraphrase), `long` (a question around the same words), `code` (the identifier in another spelling, with the service), `typo`
(a letter wrong in each of two words), `mixed` (two words and the number).
"""

from __future__ import annotations

import random

from msgspec import Struct

from tests.memory.retrieval.topics import NOISE, SERVICES, TOPICS

SEED, QUERIES = 20_261_122, 400
KINDS = ("same", "other", "long", "code", "typo", "mixed")


class Query(Struct, frozen=True):
    """What is asked, of which kind, and the key of the passage that answers it."""

    text: str
    kind: str
    answer: str


class Labelled(Struct, frozen=True):
    """`passages`: key -> text; the keys say nothing."""

    passages: dict[str, str]
    queries: list[Query]


def labelled() -> Labelled:
    """The set."""
    chance = random.Random(SEED)
    texts: list[tuple[str, Query | None]] = []
    for at, service in enumerate(SERVICES):
        for number, (name, first, second, same, other) in enumerate(TOPICS):
            n = chance.randint(2, 900)
            identifier = f"{service}_{name}" if chance.random() < 0.5 else _camel(f"{service}_{name}")
            text = (first, second)[chance.randint(0, 1)].format(s=service, n=n, i=identifier)
            kind = KINDS[(at + number) % len(KINDS)]
            asked = _asked(chance, kind, same.format(s=service), other.format(s=service), identifier, n, service)
            texts.append((text, Query(asked, kind, "")))
        texts += [(line.format(s=service, n=chance.randint(2, 900)), None) for line in NOISE]
    chance.shuffle(texts)
    passages = {f"note-{number:04}": text for number, (text, _) in enumerate(texts)}
    queries = [Query(query.text, query.kind, key) for key, (_, query) in zip(passages, texts, strict=True) if query is not None]
    return Labelled(passages, queries[:QUERIES])


def shuffled(given: Labelled) -> Labelled:
    """The control: the same texts under other keys, so that whoever still finds the answers does not find them by the texts."""
    texts = list(given.passages.values())
    random.Random(SEED).shuffle(texts)
    return Labelled(dict(zip(given.passages, texts, strict=True)), given.queries)


def _asked(chance: random.Random, kind: str, same: str, other: str, identifier: str, n: int, service: str) -> str:
    words = [word for word in same.split() if word != service]
    if kind == "other":
        return other
    if kind == "long":
        return f"what do we know about the {same}, and where is that said in the notes of the team"
    if kind == "code":
        parts = identifier.split("_") if "_" in identifier else _snake(identifier).split("_")
        return _camel("_".join(parts)) if "_" in identifier else "_".join(parts)
    if kind == "typo":
        wrong = sorted(words, key=len)[-2:]
        return " ".join([service, *(_mistyped(chance, word) if word in wrong else word for word in words)])
    if kind == "mixed":
        return f"{service} {' '.join(sorted(words, key=len)[-2:])} {n}"
    return same


def _mistyped(chance: random.Random, word: str) -> str:
    """Two letters in the middle change places."""
    at = chance.randint(1, max(1, len(word) - 3))
    return word[:at] + word[at + 1 : at + 2] + word[at : at + 1] + word[at + 2 :]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _snake(name: str) -> str:
    return "".join(f"_{sign.lower()}" if sign.isupper() else sign for sign in name)
