"""`doctor`: checks what Skep needs; each finding that is not fine says how to mend it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from skep.interfaces.cli import exits, place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import command, json_option

if TYPE_CHECKING:
    from skep.store.redis.doctor import Report

MARKS = {"ok": ("done", "green"), "warning": ("needs-you", "yellow"), "error": ("failed", "red")}


@command(
    "doctor",
    ("skep doctor", "all checks"),
    ("skep doctor --login", "and try the login of each client by a call of its model"),
    ("skep doctor --redis", "is the Redis of this workspace set as it must be?"),
    ("skep doctor --redis redis://skep@db", "another one"),
    ("skep doctor --json | jq '.findings[]|select(.state!=\"ok\")'", "for scripts"),
)
@click.option(
    "--login", is_flag=False, flag_value="", metavar="[RUNTIME]", help="Try logins by a real call, of one client or all."
)
@click.option(
    "--redis", is_flag=False, flag_value="", metavar="[URL]", help="Check a Redis instead, by default that of the workspace."
)
@json_option
def doctor(login: str | None, redis: str | None, as_json: bool) -> int:
    """Check the machine, the runtimes, this workspace, its store and its owner.

    Ends with 1 if something does not work, else with 0. With --login each client that is installed is asked for one word, which
    costs what such a turn costs; without it none is called.

    With --redis each durability and safety setting of all its servers is checked, and which promises hold with them. Skep's own
    user may not read settings: a user that may is named by SKEP_REDIS_ADMIN_USER and SKEP_REDIS_ADMIN_PASSWORD (or
    SKEP_REDIS_ADMIN_PASSWORD_FILE); without one, what cannot be known otherwise is said to be unknown.
    """
    if redis is not None:
        if login is not None:
            raise click.UsageError("--login is about clients, --redis about a store: give one of them.")
        return _redis(redis, as_json)
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


def _redis(url: str, as_json: bool) -> int:
    """Checks a Redis."""
    from skep import config
    from skep.errors import Invalid
    from skep.store.redis.doctor import examine
    from skep.store.redis.shared import large_blobs

    folder = place.workspace()
    store = config.load(folder).store
    if not url and not store.url.startswith(config.REDIS):
        raise Invalid("no Redis is named, and this workspace's store is none", "skep doctor --redis URL")
    mine = url in ("", store.url)
    large = partial(large_blobs, store, folder / config.STATE) if mine else None
    report = place.go(examine(url or store.url, store.replicas, given=bool(url), large=large))
    out = Out()
    if as_json:
        out.json(document(ok=report.ok, store=report.store, findings=report.findings, promises=report.promises))
    elif out.terminal:
        _table(out, report)
    else:
        _plain(out, report)
    return 0 if report.ok else exits.FAILED


#: State of a finding about a Redis, or of a promise -> mark and colour, as above.
REDIS_MARKS = MARKS | {
    "unknown": ("needs-you", "yellow"),
    "holds": MARKS["ok"],
    "partly": MARKS["warning"],
    "fails": MARKS["error"],
}


def _table(out: Out, report: Report) -> None:
    """For eyes: settings with how to mend them, then promises with what they lack."""
    out.line((report.store, "bold"))
    wide = max(len(one.name) for one in report.findings)
    for one in report.findings:
        mark, colour = REDIS_MARKS[one.state]
        out.line((out.mark(mark), colour), (f" {one.name:{wide}}  ", "bold"), f"{one.state:7}  {one.text}")
        if one.fix:
            out.line(f"  {'':{wide}}           Fix: {one.fix}")
    out.line("")
    for promise in report.promises:
        mark, colour = REDIS_MARKS[promise.state]
        why = f" ({', '.join(promise.because) or promise.fix})" if promise.fix else ""
        out.line((out.mark(mark), colour), (f" {promise.name:3}  ", "bold"), f"{promise.state:7}  {promise.text}{why}")


def _plain(out: Out, report: Report) -> None:
    """For pipes: a line for each finding and each promise, with all that is to be said of it."""
    for one in report.findings:
        out.line(f"{one.name}: {one.state}: {one.text}" + (f". Fix: {one.fix}" if one.fix else ""))
    for promise in report.promises:
        why = f" (by {', '.join(promise.because)})" if promise.because else ""
        fix = f". {'Set' if promise.because else 'Not yet'}: {promise.fix}" if promise.fix else ""
        out.line(f"{promise.name}: {promise.state}: {promise.text}{why}{fix}")
