"""The conventions of the house, checked; and that each check sees what it is there to see."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tidy import order, rooms, shape
from tests.tidy.tree import Project, Rule, read

ROOT = Path(__file__).parents[1]
RULES: tuple[Rule, ...] = (
    rooms.imports_run_one_way,
    rooms.core_is_pure,
    rooms.nothing_stands_about,
    order.core_shows_no_set_order,
    shape.nothing_is_long,
    shape.names_say_something,
    shape.public_things_are_documented,
    shape.nothing_is_unfinished,
    shape.silence_has_a_reason,
    shape.tests_wait_for_signals,
    shape.nothing_swallows_a_cancellation,
    shape.nothing_names_a_machine,
)
CORE, TEST, LOOP = "src/skep/core/state.py", "tests/test_some.py", "src/skep/runtime/loop.py"
PORT = '"""A."""\nclass A(Protocol):\n    """B."""\n    async def f(self): ...'
POPPED = "class A:\n    b: set[int]\ndef f(a):\n    return a.b.pop()"
BLIND = "def f(a: set[str]):\n    return sorted(a), len(a), {x for x in a}, any(x for x in a), {*a}"
COUNTED = "def f(a: set[str]):\n    # tidy: unordered because each is only counted\n    for x in a: ..."
LONG = "x = 1\n" * 71
#: (rule, file, its text, what the finding says): each must be found.
PLANTED: tuple[tuple[Rule, str, str, str], ...] = (
    (rooms.imports_run_one_way, "src/skep/store/sqlite.py", "from skep.runtime import loop", "which lies above"),
    (rooms.imports_run_one_way, "src/skep/store/sqlite.py", "def f():\n    import skep.app", "which lies above"),
    (rooms.imports_run_one_way, "src/skep/store/sqlite.py", "from skep.agents.shell import Shell", "inner part of its sibling"),
    (rooms.imports_run_one_way, "src/skep/store/sqlite.py", "from ..agents.shell import Shell", "inner part of its sibling"),
    (rooms.imports_run_one_way, "src/skep/runtime/loop.py", "from skep import Task", "public names"),
    (rooms.imports_run_one_way, "src/skep/attic/box.py", "", "no room 'attic'"),
    (rooms.core_is_pure, CORE, "import asyncio", "imports asyncio"),
    (rooms.core_is_pure, CORE, "from os.path import join", "imports os.path"),
    (rooms.core_is_pure, CORE, "from skep.store import Log", "imports skep.store"),
    (rooms.core_is_pure, CORE, "x = datetime.datetime.now()", "calls datetime.datetime.now()"),
    (rooms.core_is_pure, CORE, "key = hash('a')", "calls hash()"),
    (rooms.nothing_stands_about, "src/skep/store/sqlite.py", "", "nothing imports"),
    (rooms.nothing_stands_about, "tests/store/left.py", "", "nothing imports"),
    (order.core_shows_no_set_order, CORE, "def f(a: set[str]):\n    for x in a: ...", "order of a set shows: a"),
    (order.core_shows_no_set_order, CORE, "def f():\n    a = {1, 2}\n    return [x for x in a]", "order of a set shows: a"),
    (order.core_shows_no_set_order, CORE, "def f(a, b):\n    return tuple(set(a) - b)", "order of a set shows: set(a) - b"),
    (order.core_shows_no_set_order, CORE, "def f(a, b):\n    return [*(a.keys() & b)]", "order of a set shows: a.keys() & b"),
    (
        order.core_shows_no_set_order,
        CORE,
        POPPED,
        "order of a set shows: a.b",
    ),
    (order.core_shows_no_set_order, CORE, "def f() -> set[int]: ...\nx = list(f())", "order of a set shows: f()"),
    (shape.nothing_is_long, CORE, "x = 1\n" * 501, "the file has 501 lines"),
    (shape.nothing_is_long, TEST, f"def f():\n{LONG.replace('x', '    x')}", "f has 72 lines"),
    (shape.nothing_is_long, TEST, f"# tidy: long because\ndef f():\n{LONG.replace('x', '    x')}", "f has 72 lines"),
    (shape.names_say_something, "src/skep/core/utils.py", "", "named 'utils'"),
    (shape.names_say_something, "tests/helpers/some.py", "", "named 'helpers'"),
    (shape.names_say_something, CORE, "class TaskManager: ...", "named TaskManager"),
    (shape.public_things_are_documented, CORE, "x = 1", "module has no docstring"),
    (shape.public_things_are_documented, CORE, '"""A."""\ndef f(): ...', "f has no docstring"),
    (shape.public_things_are_documented, CORE, '"""A."""\nclass A: ...', "A has no docstring"),
    (
        shape.public_things_are_documented,
        CORE,
        PORT,
        "A.f has no",
    ),
    (shape.nothing_is_unfinished, "docs/some.md", "TO" + "DO: more", "in the project"),
    (shape.silence_has_a_reason, CORE, "import a  # " + "noqa: F401", "without a reason"),
    (shape.silence_has_a_reason, CORE, "f()  # type: " + "ignore[misc]", "without a reason"),
    (shape.tests_wait_for_signals, TEST, "import time\ntime.sleep(0)", "calls time.sleep"),
    (shape.tests_wait_for_signals, TEST, "async def f():\n    await asyncio.sleep(0.1)", "calls asyncio.sleep"),
    (shape.tests_wait_for_signals, TEST, "from time import sleep", "imports sleep"),
    (
        shape.nothing_swallows_a_cancellation,
        LOOP,
        "async def f():\n    await asyncio.wait_for(g(), 1)",
        "waits by asyncio.wait_for",
    ),
    (shape.nothing_swallows_a_cancellation, LOOP, "from asyncio import wait_for", "waits by asyncio.wait_for"),
    (shape.nothing_names_a_machine, "docs/some.md", "see https://py" + "pi.org/simple", "names the host"),
    (shape.nothing_names_a_machine, TEST, 'x = "/ro' + 'ot/.cache"', "names a path"),
)
#: (rule, file, its text): none may be reported.
SPARED: tuple[tuple[Rule, str, str], ...] = (
    (rooms.imports_run_one_way, "src/skep/store/sqlite.py", "from skep.agents import Runtime\nfrom skep.core.model import Task"),
    (rooms.imports_run_one_way, "src/skep/__init__.py", "from skep.app import open"),
    (rooms.core_is_pure, CORE, "import msgspec\nfrom collections.abc import Iterator\nfrom skep.errors import Bug"),
    (rooms.core_is_pure, CORE, "from urllib.parse import quote"),
    (
        order.core_shows_no_set_order,
        CORE,
        BLIND,
    ),
    (
        order.core_shows_no_set_order,
        CORE,
        COUNTED,
    ),
    (order.core_shows_no_set_order, CORE, "def f(a: dict[str, int]):\n    for x in a: ..."),
    (shape.nothing_is_long, TEST, f"# tidy: long because it is one table\ndef f():\n{LONG.replace('x', '    x')}"),
    (shape.public_things_are_documented, CORE, '"""A."""\ndef _f(): ...'),
    (shape.silence_has_a_reason, CORE, "import a  # " + "noqa: F401 - the plugins look for it here"),
    (shape.tests_wait_for_signals, TEST, "async def f():\n    await asyncio.sleep(0)"),
    (shape.tests_wait_for_signals, TEST, "# tidy: sleeps because the kernel tells nobody\ntime.sleep(1)"),
    (shape.tests_wait_for_signals, "tests/simulation/world.py", "async def f():\n    await asyncio.sleep(0.1)"),
    (shape.nothing_swallows_a_cancellation, TEST, "async def f():\n    await asyncio.wait_for(g(), 1)"),
    (shape.nothing_names_a_machine, "docs/some.md", "the folder work/main, ./home/some/thing"),
)


@pytest.fixture(scope="module")
def house() -> Project:
    """The project as it is."""
    return read(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_house(rule: Rule, house: Project) -> None:
    findings = [str(finding) for finding in rule(house)]
    assert not findings, f"{rule.__doc__}\n" + "\n".join(findings)


@pytest.mark.parametrize(("rule", "path", "text", "said"), PLANTED)
def test_a_planted_violation_is_found(rule: Rule, path: str, text: str, said: str, tmp_path: Path) -> None:
    assert any(re.search(re.escape(said), str(finding)) for finding in rule(plant(tmp_path, path, text)))


@pytest.mark.parametrize(("rule", "path", "text"), SPARED)
def test_what_is_right_is_spared(rule: Rule, path: str, text: str, tmp_path: Path) -> None:
    assert [str(finding) for finding in rule(plant(tmp_path, path, text))] == []


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule for rule, *_ in PLANTED} == set(RULES)


def test_what_is_imported_or_named_does_not_stand_about(tmp_path: Path) -> None:
    plant(tmp_path, "src/skep/store/sqlite.py", "")
    plant(tmp_path, "src/skep/wiring.py", "from skep.store.sqlite import Log")
    plant(tmp_path, "src/skep/agents/worker.py", "")
    plant(tmp_path, "src/skep/interfaces/doctor.py", "")
    plant(tmp_path, "src/skep/interfaces/registry.py", 'COMMANDS = {"check": "doctor"}')
    project = plant(tmp_path, "src/skep/agents/python.py", 'COMMAND = ("-m", "skep.agents.worker")\nfrom skep import wiring')
    assert {finding.path for finding in rooms.nothing_stands_about(project)} == {
        "src/skep/agents/python.py",
        "src/skep/interfaces/registry.py",
    }


def plant(folder: Path, path: str, text: str) -> Project:
    """A project with one more file in it."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text, encoding="utf-8")
    return read(folder)
