"""What `with` may say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.agents import RUNTIMES
from skep.agents.options import OPTIONS, wrong_options

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


def test_every_runtime_says_what_it_takes() -> None:
    assert set(RUNTIMES) <= set(OPTIONS)


@pytest.mark.parametrize(
    ("runtime", "options", "said"),
    [
        ("claude", {"max_turn": 3}, "did you mean 'max_turns'?"),
        ("claude", {"permissions": "yolo"}, "permissions"),
        ("claude", {"max_turns": -1}, "max_turns"),
        ("codex", {"permissions": "ask"}, "permissions"),
        ("python", {"run": "x"}, "It takes none."),
        ("acp", {}, "command"),
        ("acp", {"command": []}, "command"),
        ("shell", {"run": 3}, "run"),
    ],
)
def test_what_is_wrong_is_said(runtime: str, options: dict[str, Any], said: str) -> None:
    assert said in wrong_options(runtime, options)


@pytest.mark.parametrize(
    ("runtime", "options"),
    [
        ("claude", {"max_turns": 60, "tools": ["Edit"], "permissions": "all"}),
        ("shell", {"run": ["cat", "x"], "tty": True}),
        ("acp", {"command": ["some-agent"]}),
        ("a-plugin", {"anything": 1}),
    ],
)
def test_what_is_right_is_taken(runtime: str, options: dict[str, Any]) -> None:
    assert wrong_options(runtime, options) == ""


@given(st.sampled_from(sorted(OPTIONS)), st.dictionaries(st.text(), JSON))
def test_nothing_raises(runtime: str, options: dict[str, Any]) -> None:
    assert isinstance(wrong_options(runtime, options), str)
