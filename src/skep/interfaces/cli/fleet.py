"""`fleet`: many swarms, each a session, among which tasks are distributed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from skep.interfaces.cli import exits, place
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.registry import Command, Finite, Group, json_option, redis_option
from skep.interfaces.cli.tables import table
from skep.interfaces.cli.words import count, duration, one_line

if TYPE_CHECKING:
    from skep.core.health import Resize, Word
    from skep.core.model import Task
    from skep.runtime.swarms import FleetView, FormedView, SwarmView

#: State of a fleet -> its colour.
COLOURS = {"healthy": "green", "degraded": "yellow", "unhealthy": "red"}


@click.group("fleet", cls=Group)
def fleet() -> None:
    """Many swarms, each a session, among which tasks are distributed."""


@fleet.command(
    "init",
    cls=Command,
    examples=(
        ("skep fleet init farm.yaml", "form the fleet, or change it to what the file says now"),
        ("skep fleet init farm.yaml --dry-run", "say what would change"),
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would change; change nothing.")
@click.option("--adopt", is_flag=True, help="Take sessions that have the names of its swarms' for these, with their tasks.")
@redis_option
@json_option
def init(file: Path, dry_run: bool, adopt: bool, as_json: bool) -> None:
    """Make a fleet what FILE says, and a session for each of its swarms. The same file again changes nothing."""
    from skep import fleets

    async def work() -> FormedView:
        wanted = fleets.read(file)
        async with place.hive(found=False) as hive:
            return await fleets.init(hive, wanted, dry=dry_run, adopt=adopt)

    made, out = place.go(work()), Out()
    if as_json:
        out.json(document(fleet=made.fleet, dry_run=dry_run, changes=made.changes, notes=made.notes))
    else:
        _changed(made, dry_run, out)


def _changed(made: FormedView, dry: bool, out: Out) -> None:
    said = ("would change" if dry else "changed") if made.changes else "nothing changes" if dry else "is as it was"
    out.line(("fleet ", ""), (made.fleet, "bold"), f": {said}")
    for change in made.changes:
        out.line(f"  {one_line(change, 400)}")
    for note in made.notes:
        out.line(("note: ", "yellow"), one_line(note, 400))


@fleet.command("remove", cls=Command, examples=(("skep fleet remove farm", "its sessions stay, with their tasks"),))
@click.argument("name")
@redis_option
@json_option
def remove(name: str, as_json: bool) -> None:
    """Forget a fleet; the sessions of its swarms stay."""
    from skep import fleets

    async def work() -> tuple[str, ...]:
        async with place.hive() as hive:
            return await fleets.remove(hive, name)

    left, out = place.go(work()), Out()
    if as_json:
        out.json(document(fleet=name, sessions=left))
        return
    out.line(("fleet ", ""), (name, "bold"), ": removed")
    for session in left:
        out.line(f"  session {session} stays; once it ended, `skep prune` takes it away")


@fleet.command("list", cls=Command, examples=(("skep fleet list", "the fleets, and how they stand"),))
@redis_option
@json_option
def list_(as_json: bool) -> None:
    """Show all fleets."""
    found, out = _look(""), Out()
    if as_json:
        out.json(document(fleets=found))
        return
    rows = [
        (
            one.name,
            one.health.state,
            str(len(one.swarms)),
            f"{one.health.held}/{one.health.slots}",
            str(sum(swarm.running for swarm in one.swarms)),
            str(sum(swarm.waiting for swarm in one.swarms)),
        )
        for one in found
    ]
    table(("fleet", "health", "swarms", "slots", "running", "waiting"), rows, out)
    if not rows:
        out.line("there is no fleet; `skep fleet init FILE` forms one")


@fleet.command("status", cls=Command, examples=(("skep fleet status farm", "its swarms, and what they do"),))
@click.argument("name", default="")
@redis_option
@json_option
def status(name: str, as_json: bool) -> None:
    """Show the swarms of a fleet (without a name: of all), and what they do."""
    found, out = _look(name), Out()
    if as_json:
        out.json(document(fleets=found))
        return
    for one in found:
        _head(one, out)
        rows = [_swarm(swarm) for swarm in one.swarms]
        table(("swarm", "session", "state", "slots", "running", "waiting", "done", "failed", "labels"), rows, out)
        if one.owed:
            out.line(f"{count(one.owed, 'task')} still to be handed over to their sessions: whoever carries sessions out does it")
    if not found:
        out.line("there is no fleet; `skep fleet init FILE` forms one")


def _swarm(one: SwarmView) -> tuple[str, ...]:
    labels = ", ".join(f"{name}={value}" if value != "true" else name for name, value in sorted(one.labels.items()))
    figures = (str(one.running), str(one.waiting), str(one.done), str(one.failed))
    return (one.name, one.session, one.state or "not made yet", f"{one.held}/{one.slots}", *figures, labels)


@fleet.command(
    "health",
    cls=Command,
    examples=(("skep fleet health", "all fleets, with causes"), ("skep fleet health farm --json", "for a monitor")),
)
@click.argument("name", default="")
@redis_option
@json_option
def health(name: str, as_json: bool) -> int:
    """Say how well a fleet stands, and all of them together, with causes. Ends with 1 unless all is healthy."""
    from skep.core.health import worst

    found, out = _look(name), Out()
    total = worst([one.health.state for one in found])
    if as_json:
        out.json(document(state=total, fleets=[one.health for one in found]))
    else:
        for one in found:
            _head(one, out)
            for cause in one.health.causes:
                out.line(f"  {one_line(cause, 400)}")
        if not found:
            out.line("there is no fleet; `skep fleet init FILE` forms one")
        elif len(found) > 1:
            out.line("in total: ", _word(total))
    return 0 if total == "healthy" else exits.FAILED


@fleet.command(
    "resources",
    cls=Command,
    examples=(
        ("skep fleet resources farm", "what its swarms use of their slots, and what they should have"),
        ("skep fleet resources farm --apply", "give them that"),
    ),
)
@click.argument("name")
@click.option("--apply", "apply_", is_flag=True, help="Give the swarms the slots that are recommended.")
@redis_option
@json_option
def resources(name: str, apply_: bool, as_json: bool) -> None:
    """Show what the swarms of a fleet use of their slots; less than 0.7 is too little, and the saving is said."""
    from skep import fleets

    async def work() -> tuple[FleetView, FormedView | None]:
        async with place.hive() as hive:
            (found,) = await fleets.status(hive, name)
            return found, await fleets.resize(hive, name) if apply_ else None

    (found, made), out = place.go(work()), Out()
    sizes = [one.resize for one in found.swarms]
    if as_json:
        out.json(document(fleet=name, swarms=sizes, changes=made.changes if made is not None else ()))
        return
    rows = [
        (one.swarm, str(one.slots), f"{one.used:.0%}" if one.used >= 0 else "-", duration(one.watched / 1000), _advice(one))
        for one in sizes
    ]
    table(("swarm", "slots", "used", "watched", ""), rows, out)
    if made is not None:
        _changed(made, False, out)


def _advice(one: Resize) -> str:
    if one.used < 0:
        return "watched for too short a time to say"
    if one.to == one.slots:
        return "well used" if one.used >= 0.7 else "as small as it can be"
    saved = [count(one.slots - one.to, "slot")]
    saved += [f"{one.cpu:g} cpu"] if one.cpu else []
    saved += [f"{one.memory / 2**30:.1f} GiB"] if one.memory else []
    return f"{one.to} would do; saves {', '.join(saved)}"


@fleet.command(
    "submit",
    cls=Command,
    examples=(
        ("skep fleet submit farm --run 'make test'", "a command, for the best swarm"),
        ('skep fleet submit farm "fix the flaky test" --label gpu', "a prompt, for a swarm that carries the label"),
        ("skep fleet submit farm --run ./nightly.sh --key nightly-7 --wait", "safe to repeat; ends as the task does"),
    ),
)
@click.argument("name")
@click.argument("prompt", required=False)
@click.option("--run", "line", metavar="CMD", help="A command, run by bash.")
@click.option("--agent", default="", metavar="A", help="The agent that is to do it.")
@click.option("--title", default="", help="What it is for.")
@click.option("--label", "labels", multiple=True, metavar="L", help="A label, or name=value, of its node; may be repeated.")
@click.option("--capability", "capabilities", multiple=True, metavar="C", help="What its agent must be able to do.")
@click.option("--cpu", type=Finite(min=0.0), default=0.0, metavar="C", help="Cores that it needs.")
@click.option("--memory", default="", metavar="M", help="Memory that it needs, such as 4GB.")
@click.option("--retries", type=click.IntRange(0, 100), default=0, metavar="N", help="Further tries if it fails.")
@click.option("--key", default="", metavar="K", help="Repeating a call with the same key submits nothing twice.")
@click.option("--wait", is_flag=True, help="Carry it out, or wait until others have; end as the task does.")
@redis_option
@json_option
def submit(
    name: str,
    prompt: str | None,
    line: str | None,
    agent: str,
    title: str,
    labels: tuple[str, ...],
    capabilities: tuple[str, ...],
    cpu: float,
    memory: str,
    retries: int,
    key: str,
    wait: bool,
    as_json: bool,
) -> int:
    """Send a task, a PROMPT or a command, to the best swarm of a fleet, and say why that one.

    What no swarm could ever do is refused. What finds no free slot waits in the session of its swarm.
    """
    if (prompt is None) == (line is None):
        raise click.UsageError("Give either a PROMPT or --run CMD.")
    from skep.core.model import Resources, Task
    from skep.interfaces.cli.node import bytes_of, labels_of

    room = Resources(cpu, bytes_of(memory)) if cpu or memory else None
    asked = labels_of(",".join(labels))
    task = Task(
        run=line, prompt=prompt, agent=agent, objective=title, constraints=asked, capabilities=capabilities, resources=room
    )
    return place.go(_submit(name, task, retries, key, wait, as_json))


async def _submit(name: str, task: Task, retries: int, key: str, wait: bool, as_json: bool) -> int:
    from msgspec.structs import replace

    from skep import fleets

    out = Out()
    async with place.hive() as hive:
        # Without somebody who stays, it only waits there: this command is over at once.
        sent = await fleets.submit(hive, name, replace(task, retries=retries), key, carry=wait or not hive.owner)
        route = sent.route
        if not as_json:
            out.line(f"task {route.id} goes to ", (route.session, "bold"), f", score {route.score:g}: {', '.join(route.reasons)}")
            if route.queued:
                out.line(("  waits: ", "yellow"), route.queued)
            for other in route.alternatives:
                out.line(f"  next: {other.swarm} {other.score:g}")
            for swarm, why in route.refused.items():
                out.line(f"  not {swarm}: {why}")
        result = await sent.task.result() if wait else None
        if as_json:
            out.json(document(session=route.session, task=route.id, route=route, result=result))
        elif result is not None:
            out.line(f"task {route.id} {result.state}", f": {one_line(result.detail)}" if result.detail else "")
    return 0 if result is None or result.ok else exits.FAILED


def _look(name: str) -> list[FleetView]:
    from skep import fleets

    async def work() -> list[FleetView]:
        async with place.hive() as hive:
            return await fleets.status(hive, name)

    return place.go(work())


def _head(one: FleetView, out: Out) -> None:
    held = f"  {one.health.held} of {count(one.health.slots, 'slot')}"
    out.line((one.name, "bold"), "  ", _word(one.health.state), held)


def _word(state: Word) -> tuple[str, str]:
    return state, COLOURS[state]
