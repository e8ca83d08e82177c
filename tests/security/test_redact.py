"""Secrets are cut out of what is printed, wherever it is cut into pieces, however long they are."""

from __future__ import annotations

import random

import pytest

from skep.security.redact import MARK, Redactor


def pieces(secrets: list[str], data: list[bytes]) -> bytes:
    redactor = Redactor(secrets)
    return b"".join([*(redactor.feed(piece) for piece in data), redactor.feed(b"", final=True)])


@pytest.mark.parametrize("seed", range(50))
def test_a_secret_is_cut_out_the_same_wherever_the_output_is_cut(seed: int) -> None:
    dice = random.Random(seed)
    secret = "".join(dice.choice("ab") for _ in range(dice.randint(6, 12)))
    data = [bytes(dice.choice(b"ab") for _ in range(dice.randint(0, 20))) for _ in range(20)]
    found = pieces([secret], data)
    assert found == b"".join(data).replace(secret.encode(), MARK)
    assert pieces([secret], [bytes([byte]) for byte in b"".join(data)]) == found


def test_a_long_secret_that_comes_in_pieces_is_cut_out_and_its_beginning_alone_is_not() -> None:
    secret = "".join(random.Random(1).choice("ab\n") for _ in range(100_000)).strip("\n")
    shown = secret.replace("\n", "\r\n").encode()
    halves = [b"before ", shown[:70_001], shown[70_001:], b" after ", shown[:70_001], b"!"]
    assert pieces([secret], halves) == b"before " + MARK + b" after " + shown[:70_001] + b"!"
