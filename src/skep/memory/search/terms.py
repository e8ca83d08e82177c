"""What counts as a word: of prose, of code, of languages that put no spaces between words. The same for texts and for queries.

`getUserName`, `get_user_name` and "get user name" find each other; `3.11` stays whole; of runs of Chinese, Japanese and Korean
signs each two neighbours are a word. What comes out holds neither quotes nor spaces nor any other sign of FTS5's language.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

#: Letters and digits, held together by underscores; numbers also by dots.
_RUN = re.compile(r"\d+(?:\.\d+)+|[^\W_]+(?:_+[^\W_]+)*")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_SCRIPTS = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
#: Stands for the dot in a number: FTS5 takes it for a letter.
_DOT = "·"
#: Characters of a word that count; longer ones are digests and the like, whose beginning tells them apart.
MAX_TERM = 64


def terms(text: str) -> Iterator[tuple[str, str]]:
    """The words of a text in their order, each as (what it is found by, what stood there)."""
    if not text.isascii():
        text = _plain(text)
    for run in _RUN.findall(text):
        if run.isascii():
            yield from _known(run) if len(run) <= MAX_TERM else _latin(run)
        else:
            for piece in _SCRIPTS.findall(run):
                if _IS_UNSPACED.match(piece):
                    yield from _signs(piece)
                else:
                    yield from _latin(piece.strip("_"))


def _latin(run: str) -> list[tuple[str, str]]:
    parts = [part for word in run.split("_") for part in _HUMP.split(word) if part]
    found = [(stem(part.casefold().replace(".", _DOT)[:MAX_TERM]), part) for part in parts]
    if len(parts) > 1:
        found.append((stem("".join(parts).casefold()[:MAX_TERM]), run))
    return found


#: Texts have the same words again and again.
_known = lru_cache(maxsize=16_384)(_latin)


def _signs(piece: str) -> Iterator[tuple[str, str]]:
    for sign in piece:
        yield sign, sign
    for at in range(len(piece) - 1):
        yield piece[at : at + 2], piece[at : at + 2]


def _plain(text: str) -> str:
    """Without accents, and with one way to write each sign."""
    apart = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFC", "".join(sign for sign in apart if unicodedata.category(sign) != "Mn"))


@lru_cache(maxsize=16_384)
def stem(word: str) -> str:
    """An English word without its commonest endings; it need be no word, only the same for most forms of one."""
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("sses"):
        word = word[:-2]
    elif word.endswith("s") and word[-2] not in "sui":
        word = word[:-1]
    for ending, least in (("ing", 3), ("ed", 3), ("ion", 4)):
        if word.endswith(ending) and len(word) - len(ending) >= least and re.search("[aeiouy]", word[: -len(ending)]):
            if ending == "ion" and word[-4] not in "st":
                break
            word = word[: -len(ending)]
            if word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if len(word) > 4 and word.endswith("e") else word
