"""Every scenario of the table, on every kind of destination, with its runs of rsync counted.

One daemon serves all scenarios of a kind of destination; each has a directory of its own in the
source. The window never closes by itself: a signal closes it when a scenario's operations are done,
and from then on one run of rsync has to do.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from scenarios.table import TABLE
from support.destinations import make_destination
from support.operations import WorkArea
from support.replication import Replication
from support.scenario import Scenario, can_make_devices, unexpected_entries
from support.trees import snapshot

KINDS = ("local", "ssh", "rsyncd", "refusing")
SLOW_KINDS: tuple[str, ...] = ()
EQUALITY_TIMEOUT = 20.0  # seconds until what is not equal is taken to stay so


class ScenarioRunner:
    """A daemon for all scenarios of one kind of destination, each of which is in place already."""

    def __init__(self, replication: Replication, left_out: Mapping[str, str]) -> None:
        self.replication = replication
        self.left_out = left_out
        self.settled_runs = replication.run_count
        """How many times rsync had been run when all was equal the last time."""
        self.previous = "the initial sync"

    def settle(self, what: str) -> int:
        """Take what has happened for done; return how many runs it took."""
        before, self.settled_runs = self.settled_runs, self.replication.run_count
        self.previous = what
        return self.settled_runs - before

    def area(self, scenario: Scenario) -> WorkArea:
        """Return where a scenario happens."""
        return _ground(self.replication, scenario)


def _ground(replication: Replication, scenario: Scenario) -> WorkArea:
    name = os.fsencode(scenario.name)
    return WorkArea(replication.area.path(name), replication.area.outside_path(name))


def _why_not(scenario: Scenario, kind: str, directory: Path) -> str:
    """Return why a scenario is left out, or nothing when it is not."""
    if scenario.needs_root and os.geteuid():
        return scenario.needs_root
    if "device" in scenario.name and not can_make_devices(os.fsencode(directory)):
        return "device nodes cannot be made here, not even by root"
    if kind in SLOW_KINDS and not scenario.runs_on_slow_transports:
        return "a sibling tells the same, and this kind of destination is slow"
    return ""


@pytest.fixture(scope="module", params=KINDS)
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ScenarioRunner]:
    directory = tmp_path_factory.mktemp(request.param)
    replication = Replication(directory)
    left_out = {scenario.name: _why_not(scenario, request.param, directory) for scenario in TABLE}
    for scenario in TABLE:
        if not left_out[scenario.name]:
            scenario.prepare(_ground(replication, scenario))
    copy = directory / f"copy-{directory.name}"
    with replication.start(make_destination(request.param, copy, request)):
        yield ScenarioRunner(replication, left_out)


def test_the_initial_sync_makes_all_equal(bench: ScenarioRunner) -> None:
    bench.replication.expect_equal(EQUALITY_TIMEOUT)


@pytest.mark.parametrize("scenario", TABLE, ids=str)
def test_one_rsync_makes_equal_what_happened_in_a_window(
    bench: ScenarioRunner, scenario: Scenario
) -> None:
    if bench.left_out[scenario.name]:
        pytest.skip(bench.left_out[scenario.name])
    replication = bench.replication
    daemon = replication.daemon
    assert replication.run_count == bench.settled_runs, (
        f"rsync was run again although nothing happened since {bench.previous}\n{daemon.log_tail}"
    )
    name = os.fsencode(scenario.name)
    area = bench.area(scenario)
    for operation in scenario.operations:
        operation(area)
    daemon.flush()
    if scenario.during_sync:
        for operation in scenario.during_sync:
            operation(area)
        daemon.flush()
    try:
        replication.expect_equal(EQUALITY_TIMEOUT, name)
        if scenario.during_sync:
            # After changes during a run, one more may be due, though all is equal.
            replication.expect_confirmed(EQUALITY_TIMEOUT)
    finally:
        runs = bench.settle(scenario.name)
    assert _unexpected(bench, scenario) == []
    assert scenario.during_sync or runs == 1, f"rsync was run {runs} times\n{daemon.log_tail}"


def _unexpected(bench: ScenarioRunner, scenario: Scenario) -> list[str]:
    """Return what is not as the table says, at the destination itself where it keeps everything."""
    (destination,) = bench.replication.destinations
    if destination.ignore:
        return unexpected_entries(scenario.expected, snapshot(bench.area(scenario).inside))
    top = os.path.join(destination.path, os.fsencode(scenario.name))
    return unexpected_entries(scenario.expected, snapshot(top))


def test_in_the_end_all_is_equal(bench: ScenarioRunner) -> None:
    bench.replication.expect_equal(EQUALITY_TIMEOUT)


def test_in_the_end_every_directory_is_watched_under_its_name(bench: ScenarioRunner) -> None:
    replication = bench.replication
    probes = [
        os.path.join(directory, b"last") for directory, _, _ in os.walk(replication.area.inside)
    ]
    for probe in probes:
        with open(probe, "wb") as file:
            file.write(b"probe")
    replication.daemon.flush()
    try:
        replication.expect_equal(EQUALITY_TIMEOUT)
    finally:
        runs = bench.settle("a change in every directory")
    assert runs == 1, replication.daemon.log_tail
    # Whoever runs the tests may have one of a scenario left for this daemon.
    for probe in probes:
        os.unlink(probe)
    replication.daemon.flush()
    replication.expect_equal(EQUALITY_TIMEOUT)
    bench.settle("the end of that")
