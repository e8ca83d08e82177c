"""Who may read and write which namespace."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.errors import Denied
from skep.memory.limits import check_namespace
from skep.memory.scope import PROJECT, Scope, namespace_of

OWN = namespace_of("fix-7")


def test_without_a_grant_a_session_has_its_own_and_reads_the_workspaces() -> None:
    scope = Scope(OWN)
    assert (scope.may_read(OWN), scope.may_write(OWN)) == (True, True)
    assert (scope.may_read(PROJECT), scope.may_write(PROJECT)) == (True, False)
    assert not scope.may_read("session/other-1")
    with pytest.raises(Denied, match="'lessons' is not yours to read"):
        scope.check_read("lessons")
    with pytest.raises(Denied, match="'project' is not yours to write") as refused:
        scope.check_write(PROJECT)
    assert "You write session/fix-7. `memory:` of the workflow file grants it" in refused.value.fix
    assert scope.shared == OWN


def test_grants_add_and_what_may_be_written_may_be_read() -> None:
    scope = Scope(OWN, read=("session/*",), write=("team/*", "lessons"))
    assert scope.may_read("session/other-1")
    assert not scope.may_write("session/other-1")
    assert scope.may_read("team/a")
    assert scope.may_write("team/a")
    assert not scope.may_read("team")
    assert scope.shared == "lessons"
    there = ["lessons", "session/b", PROJECT, OWN, "secret", "session/a"]
    assert scope.readable(there) == (OWN, PROJECT, "lessons", "session/a", "session/b")


def test_what_skep_keeps_of_earlier_states_is_nobodys() -> None:
    scope = Scope(OWN, read=("*",), write=("*",))
    for name in (f"{OWN}@pin", "project@1", "@"):
        assert not scope.may_read(name)
        assert not scope.may_write(name)


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_no_two_sessions_have_one_namespace_and_none_is_a_copy(a: str, b: str) -> None:
    assert (namespace_of(a) == namespace_of(b)) == (a == b)
    assert "@" not in namespace_of(a)


def test_a_sessions_namespace_is_one() -> None:
    check_namespace(namespace_of("a@b%c"))
