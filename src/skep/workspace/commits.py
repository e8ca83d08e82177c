"""Makes commits: the same content, parents, words and time give the same id, whoever runs it and whenever."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from skep.workspace.command import EMAIL, NAME, Git

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")


def worded(message: str, trailers: Mapping[str, str]) -> bytes:
    """A commit message with its trailers as the last paragraph. A value cannot break out of its line."""
    body = message.replace("\0", "").strip() or "(no title)"
    lines = [f"{_CONTROL.sub(' ', key)}: {_CONTROL.sub(' ', value).strip()}" for key, value in trailers.items()]
    text = body + "\n" + ("\n" + "\n".join(lines) + "\n" if lines else "")
    return text.encode("utf-8", "replace")


async def commit(git: Git, tree: str, parents: Sequence[str], message: bytes, at: int | None, author: str = "") -> str:
    """Makes a commit and returns its id.

    Args:
        git: the repository.
        tree: id of what it holds.
        parents: ids, in order.
        message: as `worded` makes it.
        at: wall-clock milliseconds that author and committer date say; None = now.
        author: "Name <mail>" of the person it is made for; empty = Skep.
    """
    name, email = NAME, EMAIL
    if author:
        name, _, rest = author.partition(" <")
        email = rest.rstrip(">")
    env = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", name), ("EMAIL", email))}
    if at is not None:
        env |= {"GIT_AUTHOR_DATE": f"@{at // 1000} +0000", "GIT_COMMITTER_DATE": f"@{at // 1000} +0000"}
    arguments = [argument for parent in parents for argument in ("-p", parent)]
    ran = await git.run("commit-tree", "--no-gpg-sign", *arguments, "-F", "-", tree, stdin=message, env=env)
    return ran.text


async def person(git: Git) -> str:
    """ "Name <mail>" of the user, as git is configured; empty if it is not."""
    ran = await git.run("var", "GIT_AUTHOR_IDENT", config=("user.useConfigOnly=true",), ok=())
    return ran.text.rpartition(">")[0] + ">" if ran.code == 0 else ""
