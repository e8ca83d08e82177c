"""`memory consolidate`: what says the same becomes one, what was seen again and again a fact, and the last time is undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skep.interfaces.cli import place
from skep.interfaces.cli.memory import bank, namespace_option
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option
from skep.interfaces.cli.words import count, one_line

if TYPE_CHECKING:
    from skep.runtime.memory_views import ConsolidatedView, UndoneView

#: Keys of one step that are printed, and keys that were left.
SHOWN = 5


@command(
    "consolidate",
    ("skep memory consolidate --dry-run", "what would become one, what would be learned, what would go"),
    ("skep memory consolidate -n session/feature-1", "in another namespace"),
    ("skep memory consolidate --undo", "as it was before the last time"),
)
@namespace_option
@click.option("--dry-run", "dry", is_flag=True, help="Only say what would be done.")
@click.option("--undo", "back", is_flag=True, help="Take back what the last time merged and learned there.")
@json_option
def consolidate(namespace: str, dry: bool, back: bool, as_json: bool) -> None:
    """Tidy a namespace: the same text under several keys becomes one, three episodes of one outcome become a fact, what expired
    goes.

    Keys that were merged lead to the one that stays. What is merged is trusted as the least of what it was made of. Texts that
    mean the same in other words are merged where a real embedder is set. Doing it twice is doing it once.
    """
    if dry and back:
        raise click.UsageError("Say --dry-run or --undo, not both.")
    out = Out()

    async def tidy() -> ConsolidatedView:
        async with bank() as there:
            return await there.consolidate(namespace=namespace, dry=dry)

    async def take_back() -> UndoneView:
        async with bank() as there:
            return await there.undo(namespace=namespace)

    if back:
        undone = place.go(take_back())
        if as_json:
            out.json(document(undone=undone))
            return
        out.line((namespace, "bold"), f": {count(len(undone.back), 'key')} as before")
        _left(out, undone.left)
        return
    done = place.go(tidy())
    if as_json:
        out.json(document(consolidated=done))
        return
    for step in done.steps:
        rest = f" and {len(step.keys) - SHOWN} more" if len(step.keys) > SHOWN else ""
        out.line((step.what, "bold"), f" {one_line(', '.join(step.keys[:SHOWN]))}{rest}: {one_line(step.why)}")
    would = "would be " if dry else ""
    told = f"{count(done.merged, 'key')} {would}merged, {count(done.learned, 'fact')} {would}learned, {done.expired} expired"
    out.line((namespace, "bold"), f": {told}")
    _left(out, done.left)
    for note in done.notes:
        out.line((note, "dim"))


def _left(out: Out, keys: tuple[str, ...]) -> None:
    if keys:
        rest = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
        out.line(f"left as they are, they were changed meanwhile: {one_line(', '.join(keys[:SHOWN]))}{rest}")


COMMANDS = (consolidate,)
