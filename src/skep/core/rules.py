"""Rules: what an agent may do by itself, what a person is asked about first, what is refused. Pure.

The first rule that matches decides. A rule that says `always` matches only what it surely means; one that says `ask` or `never`
is met by whatever it may mean, and where that is not sure a person is asked. Rules are no walls: a command that is allowed can do
in its own ways what another rule forbids. Walls are the sandbox's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from skep.core.globs import matches

Do = Literal["always", "ask", "never"]
#: How a rule fits an action. Higher is surer.
NO, MAYBE, YES = 0, 1, 2
#: Characters of a command that is looked at; of a longer one everything is possible.
MAX_COMMAND = 20_000

_WORD = r"""(?:[A-Za-z0-9_@%+=:,./-]|'[^'\x00-\x1f\x7f]*'|"[^"$`\\!\x00-\x1f\x7f]*")+"""
_SIMPLE = re.compile(rf"[ \t]*{_WORD}(?:[ \t]+{_WORD})*[ \t]*")
_WORDS = re.compile(_WORD)
_JOINTS = re.compile(r"[;&|\n\r(){}`]")
_TOKENS = re.compile(r"[^\w@%+:,./-]+")
#: What a shell makes something else of before a program sees it.
_EXPANDED = re.compile(r"[$`*?\[{\\~]")


class ToolRule(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is done about actions that fit every pattern given here; without any it is every action.

    Args:
        do: always (it may), ask (a person, each time), never.
        tool: the tool's name; `*` stands for any text.
        command: words of a shell command: `npm install *`. A `*` at the end stands for any further words.
        path: files as in .gitignore: `src/**`; absolute ones begin with / or ~/.
        host: a host that is addressed: `*.example.org`.
    """

    do: Do
    tool: str = ""
    command: str = ""
    path: str = ""
    host: str = ""

    def words(self) -> str:
        """The rule in a line."""
        named = {"tool": self.tool, "command": self.command, "path": self.path, "host": self.host}
        return f"{self.do} " + (" ".join(f"{name}={value}" for name, value in named.items() if value) or "(everything)")


class Action(Struct, frozen=True, kw_only=True, gc=False):
    """What an agent is about to do, as far as Skep understands it.

    Args:
        command: for a shell, or empty.
        paths: every way in which its files are known: as said, and with links followed; relative ones lie in its worktree.
        hosts: that it addresses.
        unknown: whether there is more to it that Skep does not understand.
    """

    tool: str
    command: str = ""
    paths: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    unknown: bool = False


class Asking(Struct, kw_only=True, omit_defaults=True, gc=False):
    """A question of an attempt for a person: may it do this? `said` is the answer, and that it was used.

    Args:
        number: counted by task; `task/number` names the question.
        key: the attempt's own name for it: the same again is the same question.
        digest: of tool and arguments. The answer counts for these alone.
        shape: of the action; a standing yes is one to a shape.
        at, until: wall-clock ms at which it was asked, and after which the answer is no.
    """

    number: int
    key: str
    tool: str
    about: str
    digest: str
    shape: str
    at: int
    until: int
    arguments: str = ""
    said: Literal["", "yes", "no", "used"] = ""
    comment: str = ""
    by: str = ""


def waiting(asks: dict[int, Asking] | None) -> list[Asking]:
    """The questions of an attempt that nobody answered yet, oldest first."""
    return [asking for asking in (asks or {}).values() if not asking.said]


def judge(rules: Iterable[ToolRule], action: Action, otherwise: Do) -> tuple[Do, ToolRule | None]:
    """What is to be done about an action, and the rule that says so (None: none does, so it is `otherwise`)."""
    doubt: ToolRule | None = None
    for rule in rules:
        found = fit(rule, action)
        if found == YES:
            return (rule.do, rule) if doubt is None or rule.do == "never" else ("ask", doubt)
        if found == MAYBE and doubt is None:
            doubt = rule
    return ("ask", doubt) if doubt is not None and otherwise != "never" else (otherwise, None)


def fit(rule: ToolRule, action: Action) -> int:
    """Whether a rule means an action: NO, MAYBE, YES. Never MAYBE for a rule that says `always`."""
    if not (rule.tool or rule.command or rule.path or rule.host):
        return YES
    if rule.do == "always":
        return YES if _surely(rule, action) else NO
    found = YES
    if rule.tool:
        found = min(found, YES if _like(rule.tool.lower(), action.tool.lower()) else NO)
    if rule.command:
        found = min(found, _may_run(rule.command.split(), action.command))
    if rule.path:
        found = min(found, _may_touch(rule.path, action))
    if rule.host:
        found = min(found, _may_reach(rule.host.lower(), action))
    return found


def _surely(rule: ToolRule, action: Action) -> bool:
    if rule.tool and not _like(rule.tool, action.tool):
        return False
    named = (rule.command, rule.path, rule.host)
    if not any(named):
        return True
    # Who says how much of an action is allowed has spoken of all there is to it, or not of this one.
    if action.unknown or any(
        has and not said for has, said in zip((action.command, action.paths, action.hosts), named, strict=True)
    ):
        return False
    if rule.command:
        words = simple(action.command)
        if words is None or not _says(rule.command.split(), words):
            return False
    if rule.path and not (action.paths and all(_lies(path, rule.path) for path in action.paths)):
        return False
    return not rule.host or bool(action.hosts and all(_like(rule.host.lower(), host.lower()) for host in action.hosts))


def simple(command: str) -> list[str] | None:
    """The words of a command that is one program with its arguments and nothing else; None of any other.

    Whatever a shell would treat in a special way makes it another: joints, redirections, variables, patterns, escapes,
    assignments before the program.
    """
    if len(command) > MAX_COMMAND or not _SIMPLE.fullmatch(command):
        return None
    words = [re.sub(r"""'([^']*)'|"([^"]*)\"""", r"\1\2", word) for word in _WORDS.findall(command)]
    return None if "=" in words[0] or any(word.startswith("=") for word in words) else words


def _says(pattern: list[str], words: list[str]) -> bool:
    """Whether the words are those of the pattern, one by one; a `*` at its end stands for any further ones."""
    if pattern and pattern[-1] == "*":
        pattern, words = pattern[:-1], words[: len(pattern) - 1]
    return len(pattern) == len(words) and all(map(_like, pattern, words))


def _may_run(pattern: list[str], command: str) -> int:
    if not command:
        return NO
    if len(command) > MAX_COMMAND:
        return MAYBE
    parts = [simple(part) for part in _JOINTS.split(command) if part.strip()]
    if any(part is not None and (_says(pattern, part) or _says(pattern, [_base(part[0]), *part[1:]])) for part in parts):
        return YES
    if simple(command) is None and _EXPANDED.search(command):
        return MAYBE
    # `sudo rm`, `bash -c 'rm x'`, `git -C there push`: every word of it is there, in this order.
    tokens = iter(_base(token) for token in _TOKENS.split(command))
    named = [word for word in pattern if word != "*"]
    return MAYBE if all(any(_like(word, token) for token in tokens) for word in named) else NO


def _may_touch(pattern: str, action: Action) -> int:
    if any(_lies(path, pattern) or matches(path.lstrip("/"), [pattern]) for path in action.paths):
        return YES
    if not action.command:
        return NO
    named = any(matches(_plain(token), [pattern]) for token in _TOKENS.split(action.command) if token)
    return MAYBE if named or _EXPANDED.search(action.command) else NO


def _may_reach(pattern: str, action: Action) -> int:
    if any(_like(pattern, host.lower()) for host in action.hosts):
        return YES
    tokens = re.split(r"[^\w.-]+", action.command.lower())
    return MAYBE if action.command and (_EXPANDED.search(action.command) or any(_like(pattern, t) for t in tokens if t)) else NO


def _lies(path: str, pattern: str) -> bool:
    """Whether a path falls under a pattern of its own kind: absolute, or in the worktree."""
    if path.startswith("/") != pattern.startswith("/") or ".." in path.split("/"):
        return False
    return matches(path.lstrip("/"), [pattern])


def _plain(path: str) -> str:
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _base(program: str) -> str:
    return program.rsplit("/", 1)[-1]


def _like(pattern: str, text: str) -> bool:
    """Whether a text is a pattern's, in which `*` stands for any text, also none."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None
