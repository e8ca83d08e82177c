"""Any name becomes a legal ref, and the same name comes back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.errors import Invalid
from skep.workspace.names import decode, encode, quote

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=120)


@given(NAMES, st.integers(1, 99))
def test_an_id_comes_back_from_a_ref_that_git_and_file_systems_take(name: str, n: int) -> None:
    ref = encode(f"wip/{name}/{n}")
    assert decode(ref) == f"wip/{name}/{n}"
    assert re.fullmatch(r"[A-Za-z0-9_%/-]+", ref)
    assert all(0 < len(part) <= 255 for part in ref.split("/"))


@given(NAMES, NAMES)
def test_different_ids_never_share_a_ref_nor_stand_in_each_others_way(one: str, two: str) -> None:
    first, second = encode(f"wip/{one}/1"), encode(f"wip/{two}/1")
    assert (first == second) == (one == two)
    assert not f"{first}/".startswith(f"{second}/") or one == two


def test_plain_ids_stay_readable() -> None:
    assert encode("wip/build-api_2/3") == "wip/build-api_2/3"
    assert encode("task/each[name]/1") == "task/each%5Bname%5D/1"
    assert encode("task/a/b/1") == "task/a%2Fb/1"


def test_an_empty_part_is_refused() -> None:
    for name in ("", "wip/", "/1", "wip//1"):
        with pytest.raises(Invalid):
            encode(name)
    with pytest.raises(Invalid):
        quote("")
