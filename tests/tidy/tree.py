"""What the house rules look at: the files of the project as they are kept in git, Python ones parsed."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from msgspec import Struct

#: An exemption: `# tidy: WORD because REASON`, on the line itself or on the one before.
EXEMPTION = re.compile(r"#\s*tidy:\s*(?P<word>[a-z]+) because (?P<reason>\w.{9,})")


class Finding(Struct, frozen=True):
    """One broken rule: where, what, and what to do about it."""

    path: str
    line: int
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}. {self.fix}"


class Source(Struct, frozen=True, dict=True):
    """One text file. `path` is relative to the project, with slashes."""

    path: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        """Its lines, without their ends."""
        return self.text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree; only for Python."""
        return ast.parse(self.text, self.path)

    @cached_property
    def module(self) -> str:
        """Its dotted name: `skep.core.state` for `src/skep/core/state.py`, `tests.tidy.tree` for `tests/tidy/tree.py`."""
        return self.path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def python(self) -> bool:
        """Whether it is Python."""
        return self.path.endswith(".py")

    def exempt(self, word: str, line: int) -> bool:
        """Whether line `line` (from 1), or the one before it, says `# tidy: WORD because ...`."""
        found = (EXEMPTION.search(text) for text in self.lines[max(0, line - 2) : line])
        return any(match is not None and match["word"] == word for match in found)

    def finding(self, line: int, what: str, fix: str) -> Finding:
        """A finding in this file."""
        return Finding(self.path, line, what, fix)


class Project(Struct, frozen=True, dict=True):
    """All its text files."""

    sources: list[Source]

    @cached_property
    def python(self) -> list[Source]:
        """The Python ones."""
        return [source for source in self.sources if source.python]

    @cached_property
    def modules(self) -> dict[str, Source]:
        """The Python ones by dotted name."""
        return {source.module: source for source in self.python}

    def under(self, *folders: str) -> list[Source]:
        """The Python ones in folders, `src/skep/core/`."""
        return [source for source in self.python if source.path.startswith(folders)]


#: A rule of the house: finds what breaks it.
Rule = Callable[[Project], Iterator[Finding]]


def read(root: Path) -> Project:
    """The project in a folder: what git keeps or would keep, or, without git, every file."""
    if (root / ".git").exists():
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    else:
        names = [path.relative_to(root).as_posix() for path in root.rglob("*")]
    sources = []
    for name in sorted({*names}):
        path = root / name
        if name and path.is_file() and not path.is_symlink() and b"\0" not in (data := path.read_bytes()):
            sources.append(Source(name, data.decode(errors="replace")))
    return Project(sources)


def imports(source: Source) -> Iterator[tuple[int, str, str]]:
    """Every import of a file, wherever it stands: line, module, and the name taken from it (empty for `import module`)."""
    package = source.module if source.path.endswith("/__init__.py") else source.module.rpartition(".")[0]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                module = ".".join([*above, module] if module else above)
            for alias in node.names:
                yield node.lineno, module, alias.name


def called(node: ast.AST) -> str:
    """The dotted name of what a call calls, `time.sleep`; empty if it is not a name."""
    if not isinstance(node, ast.Call):
        return ""
    parts, part = [], node.func
    while isinstance(part, ast.Attribute):
        parts.append(part.attr)
        part = part.value
    return ".".join([part.id, *reversed(parts)]) if isinstance(part, ast.Name) else ""
