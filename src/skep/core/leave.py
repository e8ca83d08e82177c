"""Events of what attempts ask leave for; part of `core.events`, which names them."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class ApprovalAsked(Struct, frozen=True, array_like=True, gc=False, tag="approval.asked"):
    """An attempt wants to do something: a person is asked, as question `number` of the task, or a rule decided (`verdict`).

    `digest` is that of the tool and all its arguments; `arguments` are those as JSON, cut where they are long. `key` is the
    attempt's own name for the question. After `until` (wall-clock ms) the answer is no.
    """

    at: int
    task: str
    n: int
    number: int
    tool: str
    about: str
    digest: str
    until: int = 0
    arguments: str = ""
    verdict: Literal["", "yes", "no"] = ""
    rule: str = ""
    key: str = ""
    shape: str = ""


class ApprovalAnswered(Struct, frozen=True, array_like=True, gc=False, tag="approval.answered"):
    """The first answer to a question of an attempt, the only one that counts. Without `by` nobody answered in time. `always`: a
    person allows every action of this shape for the rest of the session."""

    at: int
    task: str
    n: int
    number: int
    allowed: bool
    comment: str = ""
    by: str = ""
    always: bool = False


class ApprovalUsed(Struct, frozen=True, array_like=True, gc=False, tag="approval.used"):
    """The attempt is about to do what was allowed, once: with the arguments of this digest."""

    at: int
    task: str
    n: int
    number: int
    digest: str
