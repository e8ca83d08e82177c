"""The benchmark's own arithmetic, and what it does about a runner that fails or does not finish."""

from __future__ import annotations

import sys

import pytest

from bench import run
from bench.table import PEERS, WORKLOADS, fixed, of_the_floor, over_the_disk, several_times


def test_targets_depend_on_the_peers_of_the_same_run() -> None:
    assert several_times(15_000, 5)({"huey+redis": 3_190.0, "langgraph in memory": 4_850.0}) == 15_950
    assert several_times(15_000, 5)({"dbos+sqlite": 197.0, "huey+sqlite": None}) == 15_000
    assert over_the_disk(2, 0.4)({"disk": 0.13}) == pytest.approx(0.66)
    assert over_the_disk(2, 0.4)({}) is None
    assert of_the_floor(0.9, 0.7)({"bare": 2_000.0, "bare, gated": 1_000.0}) == pytest.approx(1_400)
    assert of_the_floor(0.9, 0.7)({"bare": 2_000.0}) is None
    assert fixed(120)({}) == 120


def test_every_peer_of_the_table_has_a_module() -> None:
    assert {name for workload in WORKLOADS.values() for name in workload.peers} == PEERS.keys()
    for peer in PEERS.values():
        assert (run.ROOT / f"{peer.module.replace('.', '/')}.py").is_file()


def test_a_row_says_what_was_reached_and_what_others_reached() -> None:
    measured = {"": run.Subject("", (), 1, 1), "disk": run.Subject("", (), 1, 1), "ray": run.Subject("", (), 1, 1)}
    measured[""].numbers = {"p50": [0.9, 0.5, 0.6]}
    measured["disk"].numbers = {"value": [0.1, 0.2, 0.1]}
    (row,) = run.rows("single", WORKLOADS["single"], measured, "abc", "a machine")
    assert row["value"] == 0.6
    assert row["target"] == pytest.approx(0.6)
    assert row["holds"] is True
    assert row["peers"] == {"disk": 0.1, "ray": None}


def test_a_measurement_is_a_process_of_its_own() -> None:
    assert run.measure(sys.executable, "bench.peers.bare", "-", "fdatasync", limit=60)["value"] > 0


def test_what_fails_says_its_last_line() -> None:
    with pytest.raises(run.Failed, match="KeyError: 'nonsense'"):
        run.measure(sys.executable, "bench.peers.bare", "-", "nonsense", limit=60)


def test_what_does_not_finish_is_cut_off_and_not_measured_again() -> None:
    subject = run.Subject(sys.executable, ("http.server", "--bind", "127.0.0.1", "0", "--directory"), 1.0, 60.0)
    subject.again()
    spent = subject.spent
    subject.again()
    assert subject.trouble == "did not finish in 1 s"
    assert subject.spent == spent
    assert subject.median("value") is None
