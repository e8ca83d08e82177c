"""`doctor`: checks what Skep needs; each finding that is not fine says how to mend it."""

from __future__ import annotations

import click

from skep.interfaces.cli import exits, place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option

MARKS = {"ok": ("done", "green"), "warning": ("needs-you", "yellow"), "error": ("failed", "red")}


@command(
    "doctor",
    ("skep doctor", "all checks"),
    ("skep doctor --login", "and try the login of each client by a call of its model"),
    ("skep doctor --json | jq '.findings[]|select(.state!=\"ok\")'", "for scripts"),
)
@click.option(
    "--login", is_flag=False, flag_value="", metavar="[RUNTIME]", help="Try logins by a real call, of one client or all."
)
@json_option
def doctor(login: str | None, as_json: bool) -> int:
    """Check the machine, the runtimes, this workspace, its store and its owner.

    Ends with 1 if something does not work, else with 0. With --login each client that is installed is asked for one word, which
    costs what such a turn costs; without it none is called.
    """
    from skep.app import checkup

    findings = place.go(checkup(place.workspace(), login))
    bad = any(finding.state == "error" for finding in findings)
    out = Out()
    if as_json:
        out.json(document(ok=not bad, findings=findings))
    else:
        wide = max(len(finding.name) for finding in findings)
        for finding in findings:
            state, colour = MARKS[finding.state]
            out.line((out.mark(state), colour), (f" {finding.name:{wide}}  ", "bold"), finding.text)
            if finding.fix:
                out.line(f"  {'':{wide}}  Fix: {finding.fix}")
    return exits.FAILED if bad else 0
