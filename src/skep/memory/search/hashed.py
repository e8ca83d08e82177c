"""The embedder that needs nothing: words and their trigrams, hashed into a vector. Close is what is written alike, not what is
meant alike: `real` is False, and "must" and "must not" are the same to it."""

from __future__ import annotations

import math
import struct
import time
import zlib
from collections.abc import Sequence
from functools import lru_cache

from skep.memory.search.terms import terms

SIZE = 384
#: Words of a text that count, and what a trigram of a word is worth beside the word itself.
_MOST, _PART = 400, 0.3

#: Seconds between two texts: whoever else has something to do in this process goes first.
PAUSE = 0.0001


class Hashed:
    """The port `Embedder` in plain Python."""

    name = "hashed"
    size = SIZE
    real = False

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        """See `Embedder.embed`. A text without a word has the vector of zeros."""
        found = []
        for at, text in enumerate(texts):
            if at:
                time.sleep(PAUSE)
            found.append(self._embed(text))
        return found

    def _embed(self, text: str) -> bytes:
        counts: dict[str, int] = {}
        for at, (term, _) in enumerate(terms(text)):
            counts[term] = counts.get(term, 0) + 1
            if at == _MOST:
                break
        vector = [0.0] * SIZE
        for term, count in counts.items():
            # Short words are mostly common ones.
            worth = (1 + math.log(count)) * min(len(term), 8) / 8
            for at, part in _parts(term):
                vector[at] += worth * part
        length = math.sqrt(sum(number * number for number in vector)) or 1.0
        return struct.pack(f"<{SIZE}f", *(number / length for number in vector))


@lru_cache(maxsize=4_096)
def _parts(term: str) -> list[tuple[int, float]]:
    """A word and its trigrams: where each goes, and what it is worth there."""
    whole = f"<{term}>"
    found = [_placed(term, 1.0)]
    return found + [_placed(whole[at : at + 3], _PART) for at in range(len(whole) - 2)]


def _placed(name: str, worth: float) -> tuple[int, float]:
    number = zlib.crc32(name.encode())
    return (number >> 1) % SIZE, worth if number & 1 else -worth
