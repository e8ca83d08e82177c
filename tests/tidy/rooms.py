"""Rules about rooms: who imports whom, what the core may know, and that nothing stands about unused."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.tidy.tree import Finding, Project, called, imports

#: Room -> floor: a room imports from lower floors only, and from itself. Rooms on one floor are siblings.
FLOORS = {
    "errors": 0,
    "config": 1,
    "disk": 1,
    "redis": 1,
    "core": 1,
    "workflow": 2,
    "store": 2,
    "memory": 2,
    "terminals": 2,
    "agents": 2,
    "workspace": 2,
    "security": 2,
    "observe": 2,
    "runtime": 3,
    "plugins": 4,
    "wiring": 4,
    "app": 5,
    "memories": 5,
    "nodes": 6,
    "fleets": 6,
    "interfaces": 7,
    "__main__": 8,
}
#: What the core may import besides itself and `skep.errors`: nothing that does I/O, tells time or is random.
PURE = re.compile(
    "__future__|abc|bisect|collections|contextlib|copy|dataclasses|difflib|enum|fnmatch|fractions|functools|graphlib|hashlib|heapq|itertools"
    r"|math|msgspec|operator|re|string|typing|types|urllib\.parse"
)
#: `core/learning.py` may also use this.
LEARNING = "numpy"
#: Calls that make the core depend on more than its input: I/O, the clock, and what differs from process to process.
IMPURE = re.compile(r"(open|print|input|exec|eval|compile|__import__|id|hash|breakpoint)|.*\.(now|utcnow|today)")


def room_of(module: str) -> str:
    """`core` for `skep.core.state`; empty for what is in no room (`skep` itself: the public names)."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "skep" else ""


def imports_run_one_way(project: Project) -> Iterator[Finding]:
    """core <- workflow, store, ... <- runtime <- wiring <- app <- interfaces; siblings see each other's doors only."""
    for source in project.under("src/skep/"):
        room = room_of(source.module)
        if not room:
            continue
        if room not in FLOORS:
            fix = "Put it into one, or add the room to FLOORS and the plan."
            yield source.finding(1, f"there is no room '{room}' in the house", fix)
            continue
        for line, module, name in imports(source):
            if module == "skep" and f"skep.{name}" not in project.modules and name != "__version__":
                yield source.finding(line, f"takes '{name}' from the public names", "Import it from where it lives.")
                continue
            target = f"{module}.{name}" if f"{module}.{name}" in project.modules else module
            other = room_of(target)
            if not other or other == room:
                continue
            if FLOORS.get(other, 9) > FLOORS[room]:
                fix = "Move what is shared down, or turn the call round."
                yield source.finding(line, f"{room} imports {target}, which lies above it", fix)
            elif FLOORS[other] == FLOORS[room] and target != f"skep.{other}":
                fix = f"Use the port at the door of skep.{other}; wiring gives the live part."
                yield source.finding(line, f"{room} imports {target}, an inner part of its sibling", fix)


def core_is_pure(project: Project) -> Iterator[Finding]:
    """Time, randomness, ids and I/O come into the core as input."""
    for source in project.under("src/skep/core/"):
        for line, module, _ in imports(source):
            top = module.partition(".")[0]
            learns = top == LEARNING and source.path.endswith("/learning.py")
            if top != "skep" and not learns and not PURE.fullmatch(top) and not PURE.fullmatch(module):
                yield source.finding(
                    line, f"the core imports {module}", "Let the runtime do it and bring in the outcome as input."
                )
            elif top == "skep" and not module.startswith(("skep.core", "skep.errors")):
                yield source.finding(line, f"the core imports {module}", "It knows itself and skep.errors only.")
        for node in ast.walk(source.tree):
            if (name := called(node)) and IMPURE.fullmatch(name):
                line = getattr(node, "lineno", 1)
                if not source.exempt("impure", line):
                    yield source.finding(line, f"the core calls {name}()", "Its answer must follow from the input alone.")


def nothing_stands_about(project: Project) -> Iterator[Finding]:
    """Every module is imported, run by pytest, or named: in full (an entry point, `python -m`) or by its own package."""
    used: set[str] = set()
    for source in project.python:
        for _, module, name in imports(source):
            used |= {module, f"{module}.{name}"} - {source.module}
    named = set(re.findall(r"[\w.]+", "\n".join(s.text for s in project.sources if not s.path.endswith((".md", ".txt")))))
    tables: dict[str, set[str]] = {}
    for source in project.under("src/", "bench/"):
        words = (node.value for node in ast.walk(source.tree) if isinstance(node, ast.Constant))
        tables.setdefault(source.module.rpartition(".")[0], set()).update(word for word in words if isinstance(word, str))
    for source in project.under("src/", "tests/", "bench/"):
        package, _, last = source.module.rpartition(".")
        name = source.path.rpartition("/")[2]
        run = name in ("__init__.py", "__main__.py", "conftest.py") or name.startswith("test_")
        spoken = source.module in named or f"{source.module}.main" in named or last in tables.get(package, ())
        by_file = source.path.startswith("tests/") and name in named
        if not (run or spoken or by_file or source.module in used):
            yield source.finding(1, "nothing imports this module", "Use it or delete it.")
