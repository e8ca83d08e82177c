"""Finds names that are imported and never used, the standard library being all it needs. With --fix it takes them out."""

import ast
import sys
from pathlib import Path


def unused(tree: ast.Module) -> list[tuple[ast.ImportFrom, list[str]]]:
    """The `from ... import` statements with unused names, and these names."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names if (alias.asname or alias.name) not in used]
            if names:
                found.append((node, names))
    return found


def fixed(text: str, found: list[tuple[ast.ImportFrom, list[str]]]) -> str:
    """The text without these names."""
    lines = text.splitlines(keepends=True)
    for node, names in reversed(found):
        node.names = [alias for alias in node.names if alias.name not in names]
        lines[node.lineno - 1 : node.end_lineno] = [ast.unparse(node) + "\n"] if node.names else []
    return "".join(lines)


left = 0
for path in sorted([*Path("receipts").glob("*.py"), *Path("tests").glob("*.py")]):
    source = path.read_text()
    problems = unused(ast.parse(source, str(path)))
    for statement, unused_names in problems:
        print(f"{path}:{statement.lineno}: imported and never used: {', '.join(unused_names)}")
    if problems and "--fix" in sys.argv:
        path.write_text(fixed(source, problems))
        print(f"{path}: taken out")
    else:
        left += len(problems)
sys.exit(left > 0)
