"""`candidates`: what several agents made of one task, and how they were voted on."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import TYPE_CHECKING

import click

from skep.interfaces.cli import picture, place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option, session_option
from skep.interfaces.cli.words import COLOURS, Line, count, one_line, short

if TYPE_CHECKING:
    from skep.runtime.choice import BallotView, CandidateView, ChoiceView


@command(
    "candidates",
    ("skep candidates build", "who tried, what the voters said, which one was taken"),
    ("skep candidates build --json | jq '.candidates[]|select(.chosen)'", "for scripts"),
)
@click.argument("task")
@session_option
@json_option
def candidates(task: str, session: str, as_json: bool) -> None:
    """Show the candidates of TASK: how each ended, the votes it got, which one was chosen, and where to look at it."""

    async def work() -> None:
        async with place.session(session) as found:
            view = await found.candidates(task)
            out = Out()
            if as_json:
                import msgspec

                out.json(document(**msgspec.to_builtins(view)))
                return
            out.lines(list(_lines(view, out)))

    place.go(work())


def _lines(view: ChoiceView, out: Out) -> Iterator[Line]:
    wide = max((len(one_line(one.id, 40)) for one in view.candidates), default=0)
    for one in view.candidates:
        state = "done" if one.chosen else one.state
        name = f" {one_line(one.id, 40):{wide}}  "
        yield [(out.mark(state), COLOURS.get(state, "")), (name, "bold" if one.chosen else ""), (_told(one, view.ballot), "")]
    if view.ballot is not None:
        yield from _ballot(view.ballot)
    if view.chosen and view.why:
        yield [(f"{view.chosen} was taken: {one_line(view.why)}", "")]
    if not view.candidates:  # a gate
        return
    kept = next((one for one in view.candidates if (one.commit or one.wip) and not one.chosen), view.candidates[0])
    yield [(f"look: skep diff {quote(kept.id)}", "dim")]
    if view.question == "vote":
        yield [(f"choose: skep approve {quote(view.task)} --choose N", "dim")]


def _told(one: CandidateView, ballot: BallotView | None) -> str:
    parts = [one.agent or "-"]
    if one.option and ballot is not None:
        parts.append(f"{one.option}: {count(one.votes, 'vote')}")
    if one.chosen:
        parts.append("chosen")
    elif one.refused:
        parts.append(f"chosen, then passed over: {one_line(one.refused)}")
    else:
        parts.append(one.state if not one.cause else f"{one.state}: {picture.reason(one.cause, one.detail)}")
    if one.commit or one.wip:
        parts.append(short(one.commit or one.wip))
    return "  ".join(parts)


def _ballot(ballot: BallotView) -> Iterator[Line]:
    about = f"vote {ballot.id}: {ballot.rule}, {count(ballot.electorate, 'voter')}"
    yield [(f"{about}: {ballot.result or 'open'}", "")]
    for vote in ballot.votes:
        said = "has not voted" if not vote.cast else f"{vote.choice or 'abstained'}  {one_line(vote.reason)}".rstrip()
        yield [(f"  {vote.elector}  {said}", "dim")]
