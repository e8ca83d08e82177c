"""The rule that the core never iterates a set where order shows: the same input must give the same events, in every process."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.tidy.tree import Finding, Project, Source

#: Calls to which the order of what they get does not matter.
BLIND = frozenset(("sorted", "len", "sum", "min", "max", "any", "all", "set", "frozenset", "Counter"))
#: Calls that keep the order of what they get.
KEEPING = frozenset(("list", "tuple", "iter", "enumerate", "next", "map", "filter", "zip", "dict", "reversed", "deque"))
SET_TYPES = frozenset(("set", "frozenset", "Set", "AbstractSet", "MutableSet"))


def set_typed(annotation: ast.AST | None) -> bool:
    """Whether an annotation says set."""
    if isinstance(annotation, ast.Subscript):
        return set_typed(annotation.value)
    if isinstance(annotation, ast.BinOp):
        return set_typed(annotation.left) or set_typed(annotation.right)
    return isinstance(annotation, ast.Name) and annotation.id in SET_TYPES


class Sets:
    """What is known to be a set in one function: by its annotation, by what was assigned to it, or by how it is written."""

    def __init__(self, fields: set[str], functions: set[str], body: ast.AST) -> None:
        self.fields = fields
        self.functions = functions
        self.names: set[str] = set()
        for node in ast.walk(body):
            if isinstance(node, ast.arg) and set_typed(node.annotation):
                self.names.add(node.arg)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and set_typed(node.annotation):
                self.names.add(node.target.id)
            elif isinstance(node, ast.Assign) and self.has(node.value):
                self.names |= {target.id for target in node.targets if isinstance(target, ast.Name)}

    def has(self, node: ast.AST) -> bool:
        """Whether an expression is known to be a set."""
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Name(id=name):
                return name in self.names
            case ast.Attribute(attr=name):
                return name in self.fields
            case ast.Call(func=ast.Name(id=name)):
                return name in ("set", "frozenset") or name in self.functions
            case ast.Call(func=ast.Attribute(value=value, attr=name)):
                meets = name in ("union", "intersection", "difference", "symmetric_difference", "copy")
                return (meets and self.has(value)) or name in self.functions
            case ast.BinOp(left=left, right=right, op=ast.BitAnd() | ast.BitOr() | ast.Sub() | ast.BitXor()):
                return self.has(left) or self.has(right) or self.keys(left) or self.keys(right)
            case ast.IfExp(body=body, orelse=orelse):
                return self.has(body) or self.has(orelse)
        return False

    @staticmethod
    def keys(node: ast.AST) -> bool:
        """Whether it is `x.keys()`, of which `&`, `|` and `-` make sets."""
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "keys"


def shown(body: ast.AST, sets: Sets) -> Iterator[ast.expr]:
    """The expressions in a function whose order shows although they are sets."""
    blind = {
        id(argument)
        for node in ast.walk(body)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BLIND
        for argument in node.args
    }
    for node in ast.walk(body):
        match node:
            case ast.For(iter=each) | ast.Starred(value=each) if sets.has(each) and id(node) not in blind:
                yield each
            case ast.ListComp() | ast.DictComp() | ast.GeneratorExp() if id(node) not in blind:
                yield from (part.iter for part in node.generators if sets.has(part.iter))
            case ast.Call(func=ast.Name(id=name), args=args) if name in KEEPING and id(node) not in blind:
                yield from (each for each in args if sets.has(each))
            case ast.Call(func=ast.Attribute(value=value, attr="pop"), args=[]) if sets.has(value):
                yield value
            case ast.Call(func=ast.Attribute(attr="join" | "extend"), args=[each]) if sets.has(each):
                yield each


def starred_in_set(body: ast.AST) -> set[int]:
    """`{*a, *b}`: nothing of the order stays."""
    return {
        id(item.value)
        for node in ast.walk(body)
        if isinstance(node, ast.Set)
        for item in node.elts
        if isinstance(item, ast.Starred)
    }


def functions_of(source: Source) -> Iterator[ast.AST]:
    """Its functions, each with what is nested in it, and then the module for what stands outside."""
    for node in source.tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        yield from inner


def core_shows_no_set_order(project: Project) -> Iterator[Finding]:
    """The core never iterates a set where order shows."""
    core = project.under("src/skep/core/")
    fields, functions = set(), set()
    for source in core:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                for item in node.body:
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and set_typed(item.annotation):
                        fields.add(item.target.id)
            elif isinstance(node, ast.FunctionDef) and set_typed(node.returns):
                functions.add(node.name)
    for source in core:
        for body in functions_of(source):
            spared = starred_in_set(body)
            for each in shown(body, Sets(fields, functions, body)):
                if id(each) not in spared and not source.exempt("unordered", each.lineno):
                    what = f"the order of a set shows: {ast.unparse(each)}"
                    fix = "Write sorted(...), keep a dict, or say `# tidy: unordered because ...`."
                    yield source.finding(each.lineno, what, fix)
