"""`make bench`: measures Skep and, if they are installed (`make bench-peers`), its peers, and says which targets hold.

Each measurement is a process of its own, in an empty folder on the disk that the project lies on. Skep and its peers take turns,
so that a busy minute of the machine strikes all of them; the table shows medians.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bench.shape import median
from bench.table import PEERS, THEIRS, WORKLOADS, Found, Metric, Peer, Workload
from tests import servers

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
PEERS_PYTHONS = ROOT / ".venv-bench"
LOCKS = ROOT / "requirements" / "peers"
REPEAT = 5
#: Seconds that one measurement of a peer may take, and all of its repetitions.
PEER_LIMIT = 60
#: Characters that the table needs.
WIDTH = 100
#: Seconds that one of Skep may take.
LIMIT = 600
#: The server that Skep's rows over Redis have, for the others too.
SERVER = servers.valkey_binary()
SETTINGS = {
    "BENCH_REDIS_SERVER": SERVER,
    "RAY_USAGE_STATS_ENABLED": "0",
    "LANGSMITH_TRACING": "false",
    "PYTHONDONTWRITEBYTECODE": "1",
}


class Failed(Exception):
    """A measurement did not come to its end."""


def measure(python: str, *words: str, limit: float) -> dict[str, float]:
    """Runs one measuring module and returns what it printed. Raises Failed."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(dir=RESULTS, prefix="run-")
    command, pipe = [python, "-m", *words, folder], subprocess.PIPE
    try:
        with subprocess.Popen(
            command, cwd=ROOT, env=os.environ | SETTINGS, stdout=pipe, stderr=pipe, start_new_session=True
        ) as process:
            try:
                said, complaint = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                raise Failed(f"did not finish in {limit:.0f} s") from None
            finally:
                # What it started goes with it, also when it was cut off.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    lines = said.decode(errors="replace").splitlines()
    if process.returncode or not lines:
        last = (complaint.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise Failed(last[:200])
    found: dict[str, float] = json.loads(lines[-1])
    return found


class Subject:
    """Somebody who is measured: its numbers so far, by metric, and why it has none."""

    def __init__(self, python: str, words: tuple[str, ...], limit: float, most: float) -> None:
        self.python, self.words, self.limit, self.most = python, words, limit, most
        self.numbers: dict[str, list[float]] = {}
        self.trouble = ""
        self.spent = 0.0

    def again(self) -> None:
        """Measures once more, unless it failed or had its time."""
        if self.trouble or self.spent >= self.most:
            return
        start = time.monotonic()
        try:
            for metric, number in measure(self.python, *self.words, limit=self.limit).items():
                self.numbers.setdefault(metric, []).append(number)
        except Failed as error:
            self.trouble = str(error)
        self.spent += time.monotonic() - start

    def median(self, metric: str) -> float | None:
        """The median of what was measured; None if nothing was."""
        return median(self.numbers[metric]) if metric in self.numbers else None


def subjects(name: str, workload: Workload, peers: bool) -> dict[str, Subject]:
    """Skep (under the empty name) and the peers that can be measured here."""
    found = {"": Subject(sys.executable, (workload.module, "-", workload.measure), LIMIT, LIMIT)}
    for other in workload.peers:
        peer: Peer = PEERS[other]
        if peer.ours or (peers and python_of(peer).exists()):
            python = sys.executable if peer.ours else str(python_of(peer))
            words = (peer.module, peer.variant, THEIRS.get((other, name), name))
            found[other] = Subject(python, words, PEER_LIMIT, PEER_LIMIT)
    return found


def python_of(peer: Peer) -> Path:
    """The interpreter that a peer is installed for."""
    return PEERS_PYTHONS / peer.venv / "bin" / "python"


def versions(chosen: Iterable[str]) -> str:
    """What the peers of these workloads are installed as, as their locks name it."""
    venvs = {PEERS[peer].venv for name in chosen for peer in WORKLOADS[name].peers if not PEERS[peer].ours}
    found = set()
    for venv in sorted(venvs):
        wanted = {re.split(r"[\[<>=]", line)[0] for line in (LOCKS / f"{venv}.in").read_text().split("\n") if line[:1] != "#"}
        locked = re.findall(r"^([\w-]+)(?:\[.*\])?==(\S+)", (LOCKS / f"{venv}.txt").read_text(), re.MULTILINE)
        found |= {f"{package} {version}" for package, version in locked if package in wanted}
    return ", ".join(sorted(found))


def rows(name: str, workload: Workload, measured: dict[str, Subject], commit: str, machine: str) -> list[dict[str, Any]]:
    """The results of one workload, a row for each metric."""
    others: Found = {other: subject.median("value") for other, subject in measured.items() if other}
    made = []
    for label, metric in workload.metrics.items():
        value, target = measured[""].median(label), metric.target(others)
        known = value is not None and target is not None
        made.append(
            {
                "workload": name,
                "metric": label,
                "value": value,
                "unit": metric.unit,
                "target": target,
                "holds": holds(metric, value or 0.0, target or 0.0) if known else None,
                "peers": dict(others) if metric.peers else {},
                "commit": commit,
                "machine": machine,
            }
        )
    return made


def holds(metric: Metric, value: float, target: float) -> bool:
    """Whether the target is reached."""
    return value >= target if metric.more else value <= target


def number(value: float | None) -> str:
    """Three digits that matter, for people."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def show(console: Console, made: list[dict[str, Any]], troubles: list[str]) -> None:
    """The table, and what went wrong."""
    table = Table("workload", "metric", "skep", "target", "", "peers", caption="* may lose what it acknowledged")
    for column in table.columns:
        column.no_wrap = True
    table.columns[2].justify = table.columns[3].justify = "right"
    for row in made:
        better = sorted(row["peers"].items(), key=lambda item: item[1] or 0.0, reverse=row["unit"].endswith("/s"))
        marks = {True: "[green]holds[/]", False: "[red]missed[/]", None: ""}
        peers = "\n".join(f"{number(value):>6} {label(peer)}" for peer, value in better)
        cells = (row["workload"], f"{row['metric']}, {row['unit']}", number(row["value"]), number(row["target"]))
        table.add_row(*cells, marks[row["holds"]], peers)
    console.print(table)
    for line in troubles:
        console.print(line, markup=False)


def label(peer: str) -> str:
    """Its name, with a star if what it acknowledged can be lost."""
    return peer if PEERS[peer].durable or PEERS[peer].ours else f"{peer}*"


def about() -> tuple[str, str]:
    """The commit, with a mark if files differ from it, and the machine with its load."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    commit = git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain") else "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = (
        f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} at the start"
    )
    return commit, machine


@click.command()
@click.argument("names", nargs=-1, metavar="[WORKLOAD]...")
@click.option("--quick", is_flag=True, help="One repetition, the floors alone as peers, no long workloads.")
@click.option("--repeat", default=REPEAT, show_default=True, help="Repetitions.")
@click.option("--json", "as_json", is_flag=True, help="Also append the rows to bench/results/rows.jsonl.")
@click.option("--no-peers", is_flag=True, help="Measure no other runner, only the floors.")
def main(names: tuple[str, ...], quick: bool, repeat: int, as_json: bool, no_peers: bool) -> None:
    """Measures the named workloads, or all of them."""
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown:
        raise click.UsageError(f"no workload '{unknown[0]}'; there are {', '.join(WORKLOADS)}")
    chosen = names or tuple(name for name, workload in WORKLOADS.items() if not (quick and workload.long))
    commit, machine = about()
    console, progress = Console(), Console(stderr=True)
    console.width = max(console.width, WIDTH)
    console.print(f"skep {commit} on {machine}", markup=False, highlight=False)
    if not (quick or no_peers):
        console.print(f"the others: {versions(chosen)}", markup=False, highlight=False)
    made: list[dict[str, Any]] = []
    troubles: list[str] = []
    for name in chosen:
        workload = WORKLOADS[name]
        measured = subjects(name, workload, not (quick or no_peers))
        for turn in range(1 if quick or workload.once else repeat):
            for other, subject in measured.items():
                progress.print(f"{name} {turn + 1}: {other or 'skep'}", style="dim", markup=False)
                subject.again()
        troubles += [f"{name}: {other or 'skep'}: {subject.trouble}" for other, subject in measured.items() if subject.trouble]
        made += rows(name, workload, measured, commit, machine)
    if not PEERS_PYTHONS.exists() and not (quick or no_peers):
        troubles.append("No other runner was measured: `make bench-peers` installs them.")
    show(console, made, troubles)
    if as_json:
        with (RESULTS / "rows.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in made)
        console.print(f"{len(made)} rows appended to bench/results/rows.jsonl", markup=False)


if __name__ == "__main__":
    main()
