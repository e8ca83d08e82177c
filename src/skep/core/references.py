"""Names of things that are known when a task starts: paths, `${{ path }}` in prompts, and the items of a foreach.

A path is names joined by dots: `needs.plan.outputs.list`, `inputs.issue`, `item.name`. Nothing is computed, only looked up.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

import msgspec

from skep.core.model import Foreach
from skep.errors import Invalid

Path = tuple[str, ...]
#: Gives what a path names; raises LookupError when it is not there.
Lookup = Callable[[Path], Any]

#: What a path may begin with.
ROOTS = ("needs", "inputs", "item")
#: What may be asked of a task that came before: `needs.<task>.<one of these>`.
FACETS = ("state", "cause", "result", "exit_code", "outputs")
#: A rendered prompt is refused when it is longer, in characters.
MAX_RENDERED = 4 * 1024 * 1024
#: A task's key within its foreach is cut to this many characters; a cut one ends in `~` and a hash of the whole.
MAX_KEY = 80

NAME = r"[A-Za-z0-9_][A-Za-z0-9_-]*"
PATH = rf"[A-Za-z_][A-Za-z0-9_-]*(?:\.{NAME})*"
_PATH = re.compile(PATH)
_REFERENCE = re.compile(r"(?P<escaped>\$\$\{\{)|\$\{\{(?P<inner>[^\n]*?)\}\}|(?P<open>\$\{\{)")


class Reference(msgspec.Struct, frozen=True, gc=False):
    """One `${{ path }}` in a text, at `start` to `end` (offsets in characters)."""

    path: Path
    start: int
    end: int


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known word that is most like this one, or nothing when none is near.

    Only the first 300 known words and the first 40 characters are compared: this is help, and must not become work.
    """
    close = difflib.get_close_matches(word[:40], islice(known, 300), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def parse_path(text: str) -> Path:
    """Reads a path and checks its shape, as far as that can be known without a plan.

    Raises:
        Invalid: no path, another root than `ROOTS`, or a shape that can never be there.
    """
    if len(text) > 1000 or not _PATH.fullmatch(text):
        raise Invalid(f"{text[:60]!r} is not a path", "Write names joined by dots, such as needs.plan.outputs.list.")
    path = tuple(text.split("."))
    root, *rest = path
    if root not in ROOTS:
        raise Invalid(f"nothing is called {root!r} here{nearest(root, ROOTS)}", "A path begins with needs, inputs or item.")
    if root == "inputs" and len(rest) != 1:
        raise Invalid(f"{text!r} names no input", "Write inputs.NAME.")
    if root == "needs":
        _check_needs(text, rest)
    return path


def _check_needs(text: str, rest: list[str]) -> None:
    if len(rest) < 2:
        raise Invalid(f"{text!r} does not say what of the task is meant", f"Write needs.TASK.{{{'|'.join(FACETS)}}}.")
    facet = rest[1]
    if facet not in FACETS:
        raise Invalid(f"a task has no {facet!r}{nearest(facet, FACETS)}", f"Known are {', '.join(FACETS)}.")
    if facet in ("state", "cause", "exit_code") and len(rest) > 2:
        raise Invalid(f"{text!r} goes on after {facet!r}, which has no parts", f"Write needs.{rest[0]}.{facet}.")


def walk(value: Any, path: Sequence[str]) -> Any:
    """Follows names into mappings and numbers into lists; raises LookupError where that ends."""
    for name in path:
        if isinstance(value, Mapping):
            value = value[name]
        elif isinstance(value, list | tuple) and name.isdecimal() and name.isascii() and len(name) < 10:
            value = value[int(name)]
        else:
            raise LookupError(name)
    return value


def find(text: str) -> tuple[Reference, ...]:
    """All `${{ path }}` of a text, in order. `$${{` is a literal `${{`.

    Raises:
        Invalid: one that is not closed on its line, or holds something else than a path; the message names the line.
    """
    found = []
    for match in _REFERENCE.finditer(text):
        if match["escaped"]:
            continue
        line = text.count("\n", 0, match.start()) + 1
        if match["open"]:
            raise Invalid(f"line {line}: '${{{{' is not closed by '}}}}' on its line", "Write $${{ where a literal ${{ is meant.")
        try:
            path = parse_path(match["inner"].strip())
        except Invalid as error:
            raise Invalid(f"line {line}: {error.message}", error.fix) from None
        found.append(Reference(path, match.start(), match.end()))
    return tuple(found)


def spell(value: Any) -> str:
    """A value as it appears in a prompt: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def render(text: str, lookup: Lookup) -> str:
    """The text with every `${{ path }}` replaced by what it names. What is put in is never looked at again.

    Raises:
        Invalid: a name is not there, or the result is longer than `MAX_RENDERED` characters.
    """
    parts: list[str] = []
    end = 0
    size = len(text)
    for reference in find(text):
        try:
            value = spell(lookup(reference.path))
        except LookupError:
            raise Invalid(
                f"${{{{ {'.'.join(reference.path)} }}}} is not there", "Look at what the task named in it left behind."
            ) from None
        size += len(value)
        if size > MAX_RENDERED:
            raise Invalid(f"the text is longer than {MAX_RENDERED} characters after ${{{{ {'.'.join(reference.path)} }}}}")
        parts += (text[end : reference.start].replace("$${{", "${{"), value)
        end = reference.end
    parts.append(text[end:].replace("$${{", "${{"))
    return "".join(parts)


def child_id(parent: str, key: str) -> str:
    """The id of the task that a foreach makes for a key: `each[name]`."""
    return f"{parent}[{key}]"


def items(value: Any, foreach: Foreach) -> list[tuple[str, Any]]:
    """The items of a foreach with the keys that name their tasks; the same list gives the same keys every time.

    Args:
        value: a list, or text: a JSON list, else one item a line (blank lines do not count).
        foreach: which field is the key, and how many items there may be.

    Returns:
        (key, item) in the list's order. A key holds letters, digits and `_.-~` of ASCII, everything else percent-encoded.

    Raises:
        Invalid: no list, too many items, an item without a usable key, two items with one key.
    """
    found = _listed(value, foreach.source)
    if len(found) > foreach.max_items:
        raise Invalid(f"{foreach.source} has {len(found)} items, more than max_items: {foreach.max_items}", "Raise max_items.")
    result: dict[str, Any] = {}
    for index, item in enumerate(found):
        key = _escape(_key(item, index, foreach))
        if key in result:
            raise Invalid(f"{foreach.source}: item number {index + 1} has the key {key!r}, as one before it", "Make keys unique.")
        result[key] = item
    return list(result.items())


def _listed(value: Any, source: str) -> list[Any]:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Invalid(f"{source} looks like a JSON list and is none: {error}") from None
    if isinstance(value, str):
        return [line.strip() for line in value.splitlines() if line.strip()]
    if not isinstance(value, list | tuple):
        raise Invalid(f"{source} is not a list", "Write a JSON list, or one item a line.")
    return list(value)


def _key(item: Any, index: int, foreach: Foreach) -> str:
    if foreach.key:
        if not isinstance(item, Mapping) or foreach.key not in item:
            raise Invalid(f"{foreach.source}: item number {index + 1} has no field {foreach.key!r}, its key")
        key = item[foreach.key]
    else:
        key = item if isinstance(item, str | int | float | bool) else index
    if not isinstance(key, str | int | float | bool) or key == "":
        raise Invalid(f"{foreach.source}: the key of item number {index + 1} is no text and no number")
    return spell(key)


def _escape(key: str) -> str:
    escaped = quote(key, safe="", errors="surrogatepass")
    if len(escaped) <= MAX_KEY:
        return escaped
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{escaped[: MAX_KEY - 17]}~{digest}"
