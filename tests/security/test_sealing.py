"""What was sealed for one process opens there, with the secret of both, about the same thing, and nowhere else."""

from __future__ import annotations

import pytest

from skep.security.sealing import Opener, seal

SECRET, ABOUT, TEXT = b"s" * 32, b"DEPLOY_TOKEN of attempt 1", b"tweet \x00\xff tweet"


def test_who_it_was_sealed_for_opens_it() -> None:
    opener = Opener()
    for text in (TEXT, b"", b"x" * 200_000):
        assert opener.open(seal(opener.public, SECRET, ABOUT, text), SECRET, ABOUT) == text


def test_nobody_else_does_nor_with_another_secret_nor_about_something_else() -> None:
    opener = Opener()
    sealed = seal(opener.public, SECRET, ABOUT, TEXT)
    assert Opener().open(sealed, SECRET, ABOUT) is None
    assert opener.open(sealed, b"t" * 32, ABOUT) is None
    assert opener.open(sealed, SECRET, ABOUT + b"0") is None
    assert opener.open(sealed, SECRET, ABOUT) == TEXT


def test_what_was_changed_or_cut_does_not_open() -> None:
    opener = Opener()
    sealed = seal(opener.public, SECRET, ABOUT, TEXT)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        assert opener.open(bytes(changed), SECRET, ABOUT) is None, place
    for size in range(len(sealed)):
        assert opener.open(sealed[:size], SECRET, ABOUT) is None, size
    assert opener.open(sealed + b"\0", SECRET, ABOUT) is None


def test_the_same_text_never_looks_the_same_and_is_not_in_it() -> None:
    opener = Opener()
    texts = {seal(opener.public, SECRET, ABOUT, TEXT) for _ in range(3)}
    assert len(texts) == 3
    assert not any(b"tweet" in text for text in texts)
    assert Opener().public != opener.public


@pytest.mark.parametrize("public", [b"", b"k" * 31, bytes(32)], ids=["none", "short", "of small order"])
def test_for_what_is_no_key_nothing_is_sealed(public: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        seal(public, SECRET, ABOUT, TEXT)
    assert Opener().open(public + TEXT * 4, SECRET, ABOUT) is None
