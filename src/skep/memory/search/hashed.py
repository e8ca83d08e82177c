"""The embedder that needs nothing: words and their trigrams, hashed into a vector. Close is what is written alike, not what is
meant alike: `real` is False, and "must" and "must not" are the same to it."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence

from skep.memory.search.terms import terms

SIZE = 384
#: Words of a text that count, and what a trigram of a word is worth beside the word itself.
_MOST, _PART = 400, 0.3


class Hashed:
    """The port `Embedder` in plain Python."""

    name = "hashed"
    size = SIZE
    real = False

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        """See `Embedder.embed`. A text without a word has the vector of zeros."""
        return [self._embed(text) for text in texts]

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
            _add(vector, term, worth)
            whole = f"<{term}>"
            for at in range(len(whole) - 2):
                _add(vector, whole[at : at + 3], worth * _PART)
        length = math.sqrt(sum(number * number for number in vector)) or 1.0
        return struct.pack(f"<{SIZE}f", *(number / length for number in vector))


def _add(vector: list[float], name: str, worth: float) -> None:
    number = zlib.crc32(name.encode())
    vector[(number >> 1) % SIZE] += worth if number & 1 else -worth
