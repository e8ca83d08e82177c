"""The `if` language: paths, literals, `== != && || !`, success(), failure(), always(). Parsed, never evaluated as code.

    condition  := all { '||' all }
    all        := comparison { '&&' comparison }
    comparison := unary [ ('==' | '!=') unary ]
    unary      := '!' unary | '(' condition ')' | function '(' ')' | literal | path
    literal    := 'text' | "text" | number | true | false | null        (a quote in a text is written twice)

A path that is not there is null. Null, false, 0, blank text, the text `false` and empty lists count as false. Where text is
compared with a number or with true or false, the text is read as one (inputs are always text); values of different kinds are not
equal. Line ends at the end of a text do not count, because outputs are files.

A condition that says nothing about how earlier tasks ended (no function, no `needs.X.state`, no `needs.X.cause`) asks for
success() as well.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any, Literal, NoReturn

from msgspec import Struct

from skep.core.references import PATH, Lookup, Path, nearest, parse_path
from skep.errors import Invalid

#: Longest condition in characters, and deepest nesting of `!` and parentheses.
MAX_LENGTH = 1000
MAX_DEPTH = 30
FUNCTIONS = ("success", "failure", "always")

_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_TOKEN = re.compile(
    rf"""\s*(?:(?P<number>{_NUMBER})(?![\w.])|(?P<path>{PATH})|(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")"""
    r"""|(?P<sign>==|!=|&&|\|\||[!()])|(?P<end>\Z))""",
)
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
#: What people write who think of another language -> what is written here.
_FOREIGN = {"and": "&&", "or": "||", "not": "!", "True": "true", "False": "false", "None": "null", "is": "=="}


class Value(Struct, frozen=True, gc=False):
    """A literal."""

    value: str | int | float | bool | None


class Named(Struct, frozen=True, gc=False):
    """A path to be looked up."""

    path: Path


class Asked(Struct, frozen=True, gc=False):
    """A function; looked up as the path of one element, `success()`."""

    function: str


class Not(Struct, frozen=True, gc=False):
    """True when the inner condition counts as false."""

    inner: Condition


class Compared(Struct, frozen=True, gc=False):
    """Whether two values are equal, or are not."""

    sign: Literal["==", "!="]
    left: Condition
    right: Condition


class All(Struct, frozen=True, gc=False):
    """`&&`, left to right until one is false."""

    parts: tuple[Condition, ...]


class Some(Struct, frozen=True, gc=False):
    """`||`, left to right until one is true."""

    parts: tuple[Condition, ...]


Condition = Value | Named | Asked | Not | Compared | All | Some


@lru_cache(maxsize=4096)
def parse(text: str) -> Condition:
    """Reads a condition; an empty one is `success()`.

    Raises:
        Invalid: it is no condition; the message names the column, counted from 1.
    """
    if len(text) > MAX_LENGTH:
        raise Invalid(f"the condition is {len(text)} characters long, more than {MAX_LENGTH}")
    if not text.strip():
        return Asked("success")
    reader = _Reader(text)
    condition = reader.some(0)
    if reader.kind != "end":
        instead = _FOREIGN.get(reader.token)
        reader.fail(f"{reader.token!r} cannot follow here", f"Write {instead} instead." if instead else "")
    return condition


class _Reader:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.kind = self.token = ""
        self.start = self.after = 0
        self.next()

    def next(self) -> None:
        match = _TOKEN.match(self.text, self.after)
        if match is None:
            self.start = len(self.text) - len(self.text[self.after :].lstrip())
            self.fail(*_stray(self.text[self.start :]))
        self.kind = match.lastgroup or ""
        self.token = match[self.kind]
        self.start, self.after = match.start(self.kind), match.end()

    def fail(self, what: str, fix: str = "") -> NoReturn:
        raise Invalid(f"condition {self.text!r}, column {self.start + 1}: {what}", fix)

    def some(self, depth: int) -> Condition:
        parts = [self.all(depth)]
        while self.token == "||":
            self.next()
            parts.append(self.all(depth))
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def all(self, depth: int) -> Condition:
        parts = [self.comparison(depth)]
        while self.token == "&&":
            self.next()
            parts.append(self.comparison(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def comparison(self, depth: int) -> Condition:
        left = self.unary(depth)
        if self.token not in ("==", "!="):
            return left
        sign: Literal["==", "!="] = "==" if self.token == "==" else "!="
        self.next()
        right = self.unary(depth)
        if self.token in ("==", "!="):
            self.fail("comparisons cannot be chained", "Use parentheses.")
        return Compared(sign, left, right)

    def unary(self, depth: int) -> Condition:
        if depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} deep")
        if self.token == "!":
            self.next()
            return Not(self.unary(depth + 1))
        if self.token == "(":
            self.next()
            inner = self.some(depth + 1)
            self.expect(")")
            return inner
        return self.atom()

    def atom(self) -> Condition:
        kind, token = self.kind, self.token
        if kind == "path":
            return self.word()
        if kind not in ("text", "number"):
            self.fail(f"expected a value, found {'the end' if kind == 'end' else repr(token)}")
        if kind == "number" and (number := _number(token)) is None:
            self.fail(f"{token[:30]!r} is too large a number")
        self.next()
        return Value(number if kind == "number" else token[1:-1].replace(token[0] * 2, token[0]))

    def word(self) -> Condition:
        word, start = self.token, self.start
        self.next()
        if word in _WORDS:
            return Value(_WORDS[word])
        if self.token == "(":
            if word not in FUNCTIONS:
                self.start = start
                self.fail(f"there is no function {word!r}{nearest(word, FUNCTIONS)}", "Known are success(), failure(), always().")
            self.next()
            self.expect(")")
            return Asked(word)
        try:
            return Named(parse_path(word))
        except Invalid as error:
            self.start = start
            instead = f"{word}()" if word in FUNCTIONS else _FOREIGN.get(word, "")
            self.fail(error.message, f"Write {instead} instead." if instead else error.fix)

    def expect(self, sign: str) -> None:
        if self.token != sign:
            self.fail(f"expected {sign!r}, found {'the end' if self.kind == 'end' else repr(self.token)}")
        self.next()


def _stray(rest: str) -> tuple[str, str]:
    """What is wrong with text that no token begins with, and what to write."""
    if rest.startswith("${{"):
        return "a condition is written without ${{ }}", "Write what is inside of it alone."
    if rest[0] in "'\"":
        return f"the text that begins with {rest[0]} is not closed", ""
    instead = {"=": "==", "&": "&&", "|": "||"}.get(rest[0], "")
    return f"{rest[0]!r} means nothing here", f"Write {instead} instead." if instead else ""


def show(condition: Condition) -> str:
    """The condition as text that parses to the same condition."""
    match condition:
        case Value(value):
            return _literal(value)
        case Named(path):
            return ".".join(path)
        case Asked(function):
            return f"{function}()"
        case Not(inner):
            return f"!{_inner(inner)}"
        case Compared(sign, left, right):
            return f"{_inner(left)} {sign} {_inner(right)}"
        case All(parts):
            return " && ".join(_inner(part) for part in parts)
        case Some(parts):
            return " || ".join(_inner(part) for part in parts)


def _inner(condition: Condition) -> str:
    text = show(condition)
    return f"({text})" if isinstance(condition, Compared | All | Some) else text


def _literal(value: str | int | float | bool | None) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    for word, meaning in _WORDS.items():
        if value is meaning:
            return word
    return repr(value)


def paths(condition: Condition) -> tuple[Path, ...]:
    """Every path that the condition looks up, in the order of its text."""
    match condition:
        case Named(path):
            return (path,)
        case Not(inner):
            return paths(inner)
        case Compared(_, left, right):
            return paths(left) + paths(right)
        case All(parts) | Some(parts):
            return tuple(path for part in parts for path in paths(part))
        case _:
            return ()


def asks_outcome(condition: Condition) -> bool:
    """Whether the condition says itself for which outcome of earlier tasks it holds, so that success() is not implied."""
    match condition:
        case Asked():
            return True
        case Named(path):
            return path[0] == "needs" and path[2] in ("state", "cause")
        case Not(inner):
            return asks_outcome(inner)
        case Compared(_, left, right):
            return asks_outcome(left) or asks_outcome(right)
        case All(parts) | Some(parts):
            return any(asks_outcome(part) for part in parts)
        case _:
            return False


def evaluate(condition: Condition, lookup: Lookup) -> bool:
    """Whether the condition holds. Never fails: what is not there is null.

    Args:
        lookup: gives what a path names, and for `("success()",)` and `("failure()",)` whether all needs succeeded and whether
            one did not; raises LookupError for what is not there.
    """
    if not asks_outcome(condition) and not _value(Asked("success"), lookup):
        return False
    return _truth(_value(condition, lookup))


def _value(condition: Condition, lookup: Lookup) -> Any:
    match condition:
        case Value(value):
            return value
        case Named(path):
            return _found(path, lookup)
        case Asked(function):
            return function == "always" or _truth(_found((f"{function}()",), lookup))
        case Not(inner):
            return not _truth(_value(inner, lookup))
        case Compared(sign, left, right):
            return _equal(_value(left, lookup), _value(right, lookup)) == (sign == "==")
        case All(parts):
            return all(_truth(_value(part, lookup)) for part in parts)
        case Some(parts):
            return any(_truth(_value(part, lookup)) for part in parts)


def _found(path: Path, lookup: Lookup) -> Any:
    try:
        return lookup(path)
    except LookupError:
        return None


def _truth(value: Any) -> bool:
    return value.strip() not in ("", "false") if isinstance(value, str) else bool(value)


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left.rstrip("\r\n") == right.rstrip("\r\n")
    left, right = _read_as(left, right), _read_as(right, left)
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)


def _read_as(value: Any, other: Any) -> Any:
    """Text read as the kind of the value that it is compared with, or itself where it does not read as that."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if isinstance(other, bool):
        return _WORDS.get(text, value)
    if isinstance(other, int | float) and re.fullmatch(_NUMBER, text):
        number = _number(text)
        return value if number is None else number
    return value


def _number(text: str) -> int | float | None:
    """The number, whole where it is written so, or None when it is too large to be one."""
    if len(text) > 300:
        return None
    number = float(text) if set(text) & set(".eE") else int(text)
    return None if isinstance(number, float) and not math.isfinite(number) else number
