"""A Python program that hands over what the types do not allow hears which field it was, and nothing is started."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import skep
from tests.workspace.repository import Repository

Anything: Any = skep.Task


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: Anything(run=5), ["tasks[0].run", "int", "str | list | None"]),
        (lambda: "echo hello", ["tasks[0]", "str", "Task"]),
        (lambda: {"run": "true"}, ["tasks[0]", "dict", "Task"]),
        (lambda: Anything(call=math.sqrt), ["tasks[0].call", "str | None", 'call="math:sqrt"']),
        (lambda: Anything(run="true", retries="z"), ["tasks[0].retries", "str", "int | record"]),
        (lambda: Anything(run="true", retries=skep.Retries(max=Anything)), ["tasks[0].retries.max", "must be int"]),
        (lambda: Anything(run="true", condition=4), ["tasks[0].condition", "int", "str"]),
        (lambda: Anything(run="true", needs="ab"), ["tasks[0].needs", "list"]),
        (lambda: Anything(run="true", env={"A": 1}), ["tasks[0].env[...]", "int", "str"]),
        (lambda: Anything(run="true", mode="alone"), ["tasks[0].mode", "'alone'", "'isolated', 'shared', 'none'"]),
        (lambda: Anything(run="\ud800"), ["tasks[0].run"]),
        (lambda: Anything(call="math:sqrt", args={"x": math.nan}), ["tasks[0].args['x'] is nan"]),
        (lambda: Anything(call="math:sqrt", args={"x": [1, b"2"]}), ["tasks[0].args['x'][1]", "bytes"]),
        (lambda: Anything(call="math:sqrt", args={"x": {1: 2}}), ["tasks[0].args['x'] has the key 1"]),
        (lambda: Anything(call="math:sqrt", args={"x": {1, 2}}), ["tasks[0].args['x']", "set"]),
        (lambda: Anything(run="true", metadata={"x": math}), ["tasks[0].metadata"]),
    ],
)
async def test_a_task_of_wrong_types_is_refused_by_field_and_nothing_is_started(
    session: skep.Session, made: Callable[[], Any], words: list[str]
) -> None:
    before = (await session.status()).seq
    with pytest.raises(skep.Invalid) as refused:
        await session.submit(made())
    for word in words:
        assert word in str(refused.value)
    assert refused.value.fix
    assert (await session.status()).seq == before


@pytest.mark.parametrize(
    ("calling", "words"),
    [
        (lambda hive, session: hive.session(5), ["name", "int", "str"]),
        (lambda hive, session: hive.start("f.yaml"), ["plan", "str"]),
        (lambda hive, session: hive.start(skep.Plan(name="p", tasks=(Anything(run=5),))), ["plan.tasks[0].run", "int"]),
        (lambda hive, session: hive.load(5), ["path", "int"]),
        (lambda hive, session: session.submit(skep.Task(run="true"), key=7), ["key", "int", "str"]),
        (lambda hive, session: session.submit_many(7), ["tasks", "int"]),
        (lambda hive, session: session.submit_many([skep.Task(run="true"), None]), ["tasks[1]", "NoneType"]),
        (lambda hive, session: session.gather([7]), ["handles[0]", "int", "Handle"]),
        (lambda hive, session: session.cancel(7), ["tasks[0]", "int", "str"]),
        (lambda hive, session: session.answer("t1", "perhaps"), ["answer", "'perhaps'", "'approve'"]),
        (lambda hive, session: session.at("1"), ["number", "str", "int"]),
        (lambda hive, session: session.merge(squash="yes"), ["squash", "str", "bool"]),
    ],
)
async def test_a_call_with_wrong_types_is_refused_by_name(
    hive: skep.Skep, session: skep.Session, calling: Callable[[Any, Any], Awaitable[Any]], words: list[str]
) -> None:
    before = (await session.status()).seq
    with pytest.raises(skep.Invalid) as refused:
        await calling(hive, session)
    for word in words:
        assert word in str(refused.value)
    assert (await session.status()).seq == before


async def test_a_workspace_or_configuration_that_is_none_is_refused(repo: Repository) -> None:
    opening: Any = skep.open
    for given in ({"workspace": 5}, {"workspace": repo.top, "config": {"agents": 2}}):
        with pytest.raises(skep.Invalid, match="must be"):
            opening(**given)
    with pytest.raises(skep.Invalid, match="agents is of type str, and must be int"):
        async with opening(repo.top, agents="z") as hive:
            await hive.session("s")
    assert not (Path(repo.top) / "s").exists()


async def test_lists_do_for_tuples(session: skep.Session) -> None:
    result = await (await session.submit(Anything(run=["echo", "a b"], mode="none", exit_codes=[0]))).result()
    assert result.value == "a b"
