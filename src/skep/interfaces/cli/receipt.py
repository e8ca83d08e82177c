"""`receipt` and `verify-receipt`: what a session did, signed, and whether such a file is as it was written."""

from __future__ import annotations

from pathlib import Path

import click

from skep.errors import Conflict, Denied
from skep.interfaces.cli import exits, place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option, session_argument


@command(
    "receipt",
    ("skep receipt", "of the newest session, into SESSION.receipt.json"),
    ("skep receipt feature-7 -o f7.json", "into this file"),
)
@session_argument
@click.option("-o", "--output", metavar="FILE", default="", help="Where to write it; a file that is there is never overwritten.")
@json_option
def receipt(name: str, output: str, as_json: bool) -> None:
    """Write a signed record of a session: its plan, tasks, commits, checks, answers, costs, and the head of its log.

    It holds the text of `verify` commands and titles; of other definitions it holds the SHA-256. The key that signs is made in
    `.skep/`. If no agent reported costs, the record says "none reported".
    """

    async def work() -> tuple[str, bytes]:
        async with place.session(name) as found:
            return found.name, await found.receipt()

    session, data = place.go(work())
    path = Path(output or f"{session}.receipt.json")
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise Conflict(f"{path} is there already", "Name another file with -o.") from None
    except OSError as error:
        raise Denied(f"cannot write {path}: {error.strerror}", "Name a file that you can write with -o.") from None
    from skep.app import verify_receipt as check

    signer, out = place.go(check(path)).signer, Out()
    if as_json:
        out.json(document(session=session, file=str(path), signer=signer))
        return
    out.line(f"the receipt of {session} is in {path}, signed by {signer}")
    out.line(f"next: skep verify-receipt {path} --signer {signer}")


@command(
    "verify-receipt",
    ("skep verify-receipt f7.json", "whole, and by whom?"),
    ("skep verify-receipt f7.json --signer SHA256:...", "and by this key?"),
    ("skep verify-receipt f7.json --commits", "and are its commits here?"),
)
@click.argument("file")
@click.option("--signer", default="", metavar="FINGERPRINT", help="The key that must have signed it.")
@click.option("--commits", is_flag=True, help="Also look for its merged commits in this repository.")
@json_option
def verify_receipt(file: str, signer: str, commits: bool, as_json: bool) -> int:
    """Check a receipt FILE, offline. Ends with 0 if all holds, with 1 if something does not, with 2 if it is no receipt.

    A receipt shows integrity: nothing in it was changed since it was signed. It shows who signed it only if you compare the
    fingerprint with one that you had from the signer (--signer).
    """
    from skep.app import verify_receipt as check

    verdict = place.go(check(Path(file), signer, place.workspace() if commits else None))
    out = Out()
    if as_json:
        out.json(document(ok=not verdict.wrong, **_fields(verdict)))
        return exits.FAILED if verdict.wrong else 0
    for line in verdict.wrong:
        out.line((out.mark("failed"), "red"), f" {line}")
    if verdict.whole:
        out.line((out.mark("done"), "green"), f" whole: session {verdict.session}, {verdict.state}; signed by {verdict.signer}")
        if not signer:
            out.line("  Who that is it does not say: compare the fingerprint with the signer's own (--signer).")
    if verdict.commits is not None:
        out.line(f"  {verdict.commits} merged commits are here")
    return exits.FAILED if verdict.wrong else 0


def _fields(verdict: object) -> dict[str, object]:
    import msgspec

    fields: dict[str, object] = msgspec.to_builtins(verdict)
    return fields
