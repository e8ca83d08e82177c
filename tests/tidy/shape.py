"""Rules about the shape of files: length, names, documentation, what is unfinished, how tests wait, what is tied to a machine."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

from tests.tidy.tree import Finding, Project, Source, called

FILE_LINES = 500
FUNCTION_LINES = 70
FORBIDDEN_NAMES = re.compile(r"(utils?|common|helpers?|base|misc|.*manager)")
#: Written so that this file does not break its own rules.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
SILENCED = re.compile(r"#\s*(type:\s*ignore(\[[\w\-, ]*\])?|noqa(:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)?|pragma:\s*no cover)(?P<rest>.*)")
HOSTS = re.compile(r"\b(py" + r"pi|python" + r"hosted|npm" + r"js|crates)\.(org|io)\b")
MACHINE = re.compile(r"(?<![\w.}$~*-])/(work|farm|root|home/\w+|Users/\w+)/[\w.]")

Definition = ast.FunctionDef | ast.AsyncFunctionDef


def nothing_is_long(project: Project) -> Iterator[Finding]:
    """A file has at most 500 lines, a function 70; `# tidy: long because ...` on its first line exempts."""
    for source in project.python:
        if len(source.lines) > FILE_LINES and not source.exempt("long", 1):
            yield source.finding(
                1,
                f"the file has {len(source.lines)} lines",
                f"Split it by ideas ({FILE_LINES} is the limit), or say `# tidy: long because ...`.",
            )
        for node in ast.walk(source.tree):
            if isinstance(node, Definition):
                first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
                length = (node.end_lineno or first) - first + 1
                if length > FUNCTION_LINES and not source.exempt("long", first) and not source.exempt("long", node.lineno):
                    fix = f"Take a step out of it ({FUNCTION_LINES} is the limit), or say `# tidy: long because ...`."
                    yield source.finding(node.lineno, f"{node.name} has {length} lines", fix)


def names_say_something(project: Project) -> Iterator[Finding]:
    """No utils, common, helpers, base; no *Manager."""
    for source in project.python:
        for part in source.path.removesuffix(".py").split("/"):
            if FORBIDDEN_NAMES.fullmatch(part.lower()):
                yield source.finding(1, f"a file or folder is named '{part}'", "Name it after the one idea in it.")
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Manager"):
                yield source.finding(
                    node.lineno, f"a class is named {node.name}", "Name it after what it is, not that it manages."
                )


def public(body: list[ast.stmt]) -> Iterator[ast.ClassDef | Definition]:
    """The definitions without an underscore, overloads and properties aside."""
    for node in body:
        if isinstance(node, ast.ClassDef | Definition) and not node.name.startswith("_"):
            marks = {ast.unparse(each) for each in node.decorator_list}
            if not marks & {"overload", "typing.overload", "property"}:
                yield node


def public_things_are_documented(project: Project) -> Iterator[Finding]:
    """In src every module, every public class and function, and every method of a port says what it is for."""
    fix = "Say its purpose; arguments with units, what is returned and raised."
    for source in project.under("src/"):
        if source.text.strip() and not ast.get_docstring(source.tree):
            yield source.finding(1, "the module has no docstring", fix)
        for node in public(source.tree.body):
            if not ast.get_docstring(node):
                yield source.finding(node.lineno, f"{node.name} has no docstring", fix)
            if isinstance(node, ast.ClassDef) and any(ast.unparse(each) == "Protocol" for each in node.bases):
                for item in public(node.body):
                    if not ast.get_docstring(item):
                        yield source.finding(item.lineno, f"{node.name}.{item.name} has no docstring", fix)


def nothing_is_unfinished(project: Project) -> Iterator[Finding]:
    """No notes of what is still to be done; what is not there yet is an error that says so, or an issue."""
    for source in project.sources:
        for number, line in enumerate(source.lines, 1):
            if (found := UNFINISHED.search(line)) and not source.exempt("unfinished", number):
                yield source.finding(number, f"{found[0]} in the project", "Do it, or say in an issue what is left.")


def comments(source: Source) -> Iterator[tuple[int, str]]:
    """Its comments, with their lines."""
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def silence_has_a_reason(project: Project) -> Iterator[Finding]:
    """A checker is told to be quiet only with a reason on the same line."""
    for source in project.python:
        for line, comment in comments(source):
            found = SILENCED.search(comment)
            if found and len(found["rest"].strip(" #-:")) < 4:
                yield source.finding(
                    line, f"'{found[0].strip()}' without a reason", "Write why behind it, or mend what it hides."
                )


def tests_wait_for_signals(project: Project) -> Iterator[Finding]:
    """No test sleeps, but for `asyncio.sleep(0)` and in simulated worlds, whose time is virtual."""
    for source in project.under("tests/"):
        for node in ast.walk(source.tree):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module in ("time", "asyncio")
                and any(n.name == "sleep" for n in node.names)
            ):
                yield source.finding(
                    node.lineno, f"imports sleep from {node.module}", f"Call {node.module}.sleep by its full name."
                )
            name = called(node)
            if name not in ("time.sleep", "asyncio.sleep") or not isinstance(node, ast.Call):
                continue
            virtual = name == "asyncio.sleep" and source.path.startswith("tests/simulation/")
            zero = name == "asyncio.sleep" and ast.unparse(node.args[0]) == "0"
            if not zero and not virtual and not source.exempt("sleeps", node.lineno):
                fix = "Wait for what happens, or say `# tidy: sleeps because ...`."
                yield source.finding(node.lineno, f"a test calls {name}", fix)


def nothing_swallows_a_cancellation(project: Project) -> Iterator[Finding]:
    """Nothing of the product waits by `asyncio.wait_for`: before Python 3.12 it drops a cancellation that comes with the end."""
    for source in project.under("src/"):
        for node in ast.walk(source.tree):
            imported = (
                isinstance(node, ast.ImportFrom) and node.module == "asyncio" and any(n.name == "wait_for" for n in node.names)
            )
            if isinstance(node, ast.stmt | ast.expr) and (imported or called(node) == "asyncio.wait_for"):
                yield source.finding(node.lineno, "waits by asyncio.wait_for", "Write `async with asyncio.timeout(...)`.")


def nothing_names_a_machine(project: Project) -> Iterator[Finding]:
    """No host of a package registry and no absolute path of somebody's machine."""
    for source in project.sources:
        for number, line in enumerate(source.lines, 1):
            if found := HOSTS.search(line):
                yield source.finding(number, f"names the host {found[0]}", "Leave it to the user's own pip or npm settings.")
            if (found := MACHINE.search(line)) and not source.exempt("path", number):
                fix = "Make it relative to the file or the workspace."
                yield source.finding(number, f"names a path of one machine: {found[0]}...", fix)
