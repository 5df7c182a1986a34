"""Every scenario of the table, on every kind of destination, with a count of the rsync runs.

One daemon serves all scenarios of a kind of destination; each has a directory of its own in the
source. Only SIGUSR1 closes the window, after a scenario's operations; then one rsync run must be
enough.
"""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from scenarios.table import TABLE
from support.destinations import make_destination
from support.operations import WorkArea
from support.replication import Replication
from support.scenario import Scenario, can_make_devices, unexpected_entries
from support.trees import snapshot
from support.waiting import wait_until

KINDS = ("ssh", "rsyncd", "refusing")
SLOW_KINDS: tuple[str, ...] = ()
EQUALITY_TIMEOUT = 45.0  # seconds

# A file of which a run may have carried an earlier content with the same time is compared by
# content, and where that would have many others compared, by a run of its own. No run may have
# carried a time later than its end by this, in nanoseconds: more than two ticks of the clock.
TIME_SLACK_NS = 50_000_000


class ScenarioRunner:
    """A daemon for all scenarios of one kind of destination, which are prepared already."""

    def __init__(self, replication: Replication, skip_reasons: Mapping[str, str]) -> None:
        self.replication = replication
        self.skip_reasons = skip_reasons
        self.runs_before = replication.run_count
        """The number of rsync runs when the trees were last equal."""
        self.previous = "the initial sync"
        self._ended_ns = time.time_ns()

    def begin(self) -> None:
        """Wait until size and time tell that a file is written which an earlier run has carried."""
        wait_until(lambda: time.time_ns() > self._ended_ns + TIME_SLACK_NS)

    def finish(self, what: str) -> int:
        """Note that a scenario has ended, and its last run; return the number of its rsync runs."""
        before, self.runs_before = self.runs_before, self.replication.run_count
        self.previous = what
        self._ended_ns = time.time_ns()
        return self.runs_before - before

    def area(self, scenario: Scenario) -> WorkArea:
        """Return the work area of a scenario."""
        return _work_area(self.replication, scenario)


def _work_area(replication: Replication, scenario: Scenario) -> WorkArea:
    name = os.fsencode(scenario.name)
    return WorkArea(replication.area.path(name), replication.area.outside_path(name))


def _skip_reason(scenario: Scenario, kind: str, directory: Path) -> str:
    """Return why a scenario is skipped; empty if it is not."""
    if scenario.needs_root and os.geteuid():
        return scenario.needs_root
    if "device" in scenario.name and not can_make_devices(os.fsencode(directory)):
        return "device nodes cannot be created here, not even by root"
    if kind in SLOW_KINDS and not scenario.runs_on_slow_transports:
        return "another scenario shows the same, and this kind of destination is slow"
    return ""


@pytest.fixture(
    scope="module",
    params=[pytest.param("local", marks=pytest.mark.both_methods), *KINDS],
)
def runner(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, watched_by: str
) -> Iterator[ScenarioRunner]:
    directory = tmp_path_factory.mktemp(f"{request.param}-{watched_by}")
    replication = Replication(directory)
    skip_reasons = {
        scenario.name: _skip_reason(scenario, request.param, directory) for scenario in TABLE
    }
    for scenario in TABLE:
        if not skip_reasons[scenario.name]:
            scenario.prepare(_work_area(replication, scenario))
    copy = directory / f"copy-{directory.name}"
    with replication.start(make_destination(request.param, copy, request)):
        yield ScenarioRunner(replication, skip_reasons)


def test_the_initial_sync_makes_the_trees_equal(runner: ScenarioRunner) -> None:
    runner.replication.expect_equal(EQUALITY_TIMEOUT)


@pytest.mark.parametrize("scenario", TABLE, ids=str)
def test_one_rsync_syncs_the_operations_of_a_window(
    runner: ScenarioRunner, scenario: Scenario
) -> None:
    if runner.skip_reasons[scenario.name]:
        pytest.skip(runner.skip_reasons[scenario.name])
    replication = runner.replication
    daemon = replication.daemon
    assert replication.run_count == runner.runs_before, (
        f"rsync was run again although nothing happened since {runner.previous}\n{daemon.log_tail}"
    )
    name = os.fsencode(scenario.name)
    area = runner.area(scenario)
    runner.begin()
    for operation in scenario.operations:
        operation(area)
    mark = daemon.log_length()
    daemon.flush()
    if scenario.during_sync:
        for operation in scenario.during_sync:
            operation(area)
        daemon.flush()
    try:
        replication.expect_equal(EQUALITY_TIMEOUT, name)
        # The trees may be equal before a run has ended, and after changes during one, another.
        if scenario.during_sync:
            replication.expect_confirmed(EQUALITY_TIMEOUT)
        else:
            replication.wait_synced(after=mark)
    finally:
        runs = runner.finish(scenario.name)
    assert _unexpected(runner, scenario) == []
    assert scenario.during_sync or runs == 1, f"rsync was run {runs} times\n{daemon.log_tail}"


def _unexpected(runner: ScenarioRunner, scenario: Scenario) -> list[str]:
    """Return the unexpected entries: at the destination, if it keeps all attributes."""
    (destination,) = runner.replication.destinations
    if destination.ignore:
        return unexpected_entries(scenario.expected, snapshot(runner.area(scenario).inside))
    top = os.path.join(destination.path, os.fsencode(scenario.name))
    return unexpected_entries(scenario.expected, snapshot(top))


def test_at_the_end_the_trees_are_equal(runner: ScenarioRunner) -> None:
    runner.replication.expect_equal(EQUALITY_TIMEOUT)


def test_at_the_end_every_directory_is_watched_under_its_name(runner: ScenarioRunner) -> None:
    replication = runner.replication
    probes = [
        os.path.join(directory, b"last") for directory, _, _ in os.walk(replication.area.inside)
    ]
    runner.begin()
    for probe in probes:
        with open(probe, "wb") as file:
            file.write(b"probe")
    mark = replication.daemon.log_length()
    replication.daemon.flush()
    try:
        replication.expect_equal(EQUALITY_TIMEOUT)
        replication.wait_synced(after=mark)
    finally:
        runs = runner.finish("a change in every directory")
    assert runs == 1, replication.daemon.log_tail
    # The probes must not be left to other tests with this daemon.
    for probe in probes:
        os.unlink(probe)
    replication.flush_and_wait()
    replication.expect_equal(0)
    runner.finish("the removal of the probes")
