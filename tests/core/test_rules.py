"""Rules: the first that fits decides, `always` covers what it surely means, and in doubt a person is asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.core.rules import Action, Do, ToolRule, judge, simple


def verdict(*rules: ToolRule, otherwise: Do = "ask", tool: str = "Bash", **action: Any) -> str:
    return judge(rules, Action(tool=tool, **action), otherwise)[0]


GIT = ToolRule(do="always", command="git *")
RM = ToolRule(do="never", command="rm *")


@pytest.mark.parametrize("command", ["git status", "git log --oneline -5", "git commit -m 'a b; c'", 'git commit -m "done"'])
def test_a_plain_command_is_allowed_by_its_words(command: str) -> None:
    assert verdict(GIT, command=command) == "always"


@pytest.mark.parametrize(
    "command",
    [
        "git status; rm -rf /",
        "git status && rm x",
        "git status || rm x",
        "git status | sh",
        "git status & rm x",
        "git status\nrm x",
        "git status\rrm x",
        "git $(rm x)",
        "git `rm x`",
        'git "$(rm x)"',
        "git $IFS",
        "git > ~/.bashrc",
        "git <(rm x)",
        "/tmp/git status",
        "./git status",
        "'git status' x",
        "GIT_SSH_COMMAND=evil git fetch",
        "git \\\nstatus",
        "git st*",
        "git ~/x",
        "git {a,b}",
        "git !!",
        "git status # rm",
        "sudo git status",
        "gitx status",
        "git 'unfinished",
        "git\u00a0status",
        "git\x00status",
        "",
        " ",
    ],
)
def test_whatever_else_a_shell_would_do_is_not_what_was_allowed(command: str) -> None:
    assert verdict(GIT, command=command) == "ask"


@pytest.mark.parametrize(
    "command", ["rm x", "rm", "ls; rm x", "a && rm x", "a\nrm x", "/bin/rm x", "(rm x)", "a | rm x", "'rm' x"]
)
def test_what_is_forbidden_is_found_among_other_commands(command: str) -> None:
    assert verdict(RM, command=command, otherwise="always") == "never"


@pytest.mark.parametrize(
    "command",
    [
        "sudo rm x",
        "bash -c 'rm x'",
        "r\\m x",
        "$(echo rm) x",
        "`echo rm` x",
        "ls | xargs rm",
        "X=rm; $X x",
        "rm x > y",
        "/b?n/r? x",
    ],
)
def test_what_may_be_forbidden_is_asked_about(command: str) -> None:
    assert verdict(RM, command=command, otherwise="always") in ("ask", "never")


def test_what_has_nothing_to_do_with_a_rule_goes_its_way() -> None:
    assert verdict(RM, command="ls -l", otherwise="always") == "always"
    assert verdict(ToolRule(do="never", command="git push *"), command="git status", otherwise="always") == "always"
    assert verdict(ToolRule(do="never", command="git push *"), command="git -C there push", otherwise="always") == "ask"


_words = st.text("abcrm-./ '\"", min_size=1, max_size=12)
_joints = st.sampled_from(
    [";", "&&", "||", "|", "&", "\n", "$(", "`", ">", "<", "(", ")", "{", "}", "\\", "$x", "*", "?", "~", "#", "!"]
)


@given(_words, _joints, _words)
def test_no_command_with_a_joint_outside_of_quotes_is_simple(before: str, joint: str, after: str) -> None:
    for quote in "'\"":
        before, after = before.replace(quote, ""), after.replace(quote, "")
    assert simple(f"git {before}{joint}{after}") is None
    assert verdict(GIT, command=f"git {before}{joint}{after}") == "ask"


@given(st.text(max_size=30))
def test_what_is_simple_is_read_as_a_shell_reads_it(command: str) -> None:
    """Against Python's own reader of shell words."""
    import shlex

    words = simple(command)
    assert words is None or words == shlex.split(command)


@given(st.text("abc ;|&\n", max_size=12), st.sampled_from([";", "&&", "|", "\n", "&", "("]), st.text("abc -", max_size=8))
def test_a_forbidden_command_is_never_allowed_wherever_it_stands(before: str, joint: str, after: str) -> None:
    assert verdict(RM, ToolRule(do="always"), command=f"{before}{joint}rm {after}", otherwise="always") != "always"


def test_files_are_known_by_every_name_they_have() -> None:
    inside = ToolRule(do="always", path="src/**")
    assert verdict(inside, tool="Edit", paths=("src/a.py",)) == "always"
    assert verdict(inside, tool="Edit", paths=("src/link", "/etc/passwd")) == "ask"
    assert verdict(inside, tool="Edit", paths=("src/../.env",)) == "ask"
    assert verdict(inside, tool="Edit", paths=("/x/src/a.py",)) == "ask"
    assert verdict(inside, tool="Edit") == "ask"
    keys = ToolRule(do="never", path="**/.env")
    assert verdict(keys, tool="Read", paths=("link", ".env"), otherwise="always") == "never"
    assert verdict(keys, tool="Read", paths=("/srv/.env",), otherwise="always") == "never"
    assert verdict(keys, command="cat ./sub/.env", otherwise="always") == "ask"
    assert verdict(keys, command="cat $X", otherwise="always") == "ask"
    assert verdict(ToolRule(do="never", path="/etc/**"), tool="Edit", paths=("etc/x",), otherwise="always") == "never"
    assert verdict(ToolRule(do="never", path="/etc/**"), command="cat /etc/passwd", otherwise="always") == "ask"


def test_hosts_are_those_that_are_addressed() -> None:
    npm = ToolRule(do="always", host="*.example.org")
    assert verdict(npm, tool="Fetch", hosts=("registry.example.org",)) == "always"
    assert verdict(npm, tool="Fetch", hosts=("registry.example.org.evil.com",)) == "ask"
    assert verdict(npm, command="curl https://registry.example.org/x") == "ask"
    evil = ToolRule(do="never", host="evil.com")
    assert verdict(evil, tool="Fetch", hosts=("EVIL.com",), otherwise="always") == "never"
    assert verdict(evil, command="curl https://evil.com/x", otherwise="always") == "ask"


def test_a_rule_about_a_part_of_an_action_does_not_allow_the_rest_of_it() -> None:
    assert verdict(ToolRule(do="always", path="src/**"), command="rm x", paths=("src/a",)) == "ask"
    assert verdict(GIT, command="git status", unknown=True) == "ask"
    assert verdict(ToolRule(do="always", tool="Bash"), command="anything; at all", unknown=True) == "always"


def test_the_first_rule_that_fits_decides_and_without_any_what_holds_otherwise() -> None:
    rules = (ToolRule(do="never", tool="mcp__*"), ToolRule(do="always", tool="*"), ToolRule(do="never"))
    assert verdict(*rules, tool="mcp__mail__send") == "never"
    assert verdict(*rules, tool="Read") == "always"
    assert verdict(ToolRule(do="never")) == "never"
    assert [verdict(otherwise=do) for do in ("always", "ask", "never")] == ["always", "ask", "never"]
    assert verdict(ToolRule(do="never", tool="bash"), tool="Bash") == "never"
    assert verdict(ToolRule(do="always", tool="bash"), tool="Bash") == "ask"
