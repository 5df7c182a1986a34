"""Points in time, and when ctimes can be compared with them."""

import os
import time
from pathlib import Path

import pytest

from pylsyncd.model.moments import Moment, earliest, earliest_ctime_ns, reason_to_distrust
from pylsyncd.system import clock

THEN = Moment(wall=1_000_000.0, running=5000.0, boot="one")


@pytest.mark.parametrize(
    "present",
    [
        pytest.param(THEN, id="the same moment"),
        pytest.param(Moment(1_000_060.0, 5060.0, "one"), id="a minute later"),
        pytest.param(Moment(1_003_660.0, 5060.0, "one"), id="set forward"),
        pytest.param(Moment(1_000_059.1, 5060.0, "one"), id="set back by less than the slack"),
        pytest.param(Moment(1_000_100.0, 40.0, "two"), id="started since"),
        pytest.param(Moment(9_000_000.0, 7_999_999.0, "two"), id="started since, long running"),
    ],
)
def test_a_clock_that_was_not_set_back_is_trusted(present: Moment) -> None:
    assert reason_to_distrust(THEN, present) == ""


@pytest.mark.parametrize(
    ("present", "seconds"),
    [
        pytest.param(Moment(1_000_058.0, 5060.0, "one"), 2, id="set back a little"),
        pytest.param(Moment(996_400.0, 5000.0, "one"), 3600, id="set back by an hour"),
        pytest.param(Moment(100.0, 40.0, "two"), 999_940, id="no clock after the start"),
        pytest.param(Moment(1_000_030.0, 40.0, "two"), 10, id="late, but started too early"),
        pytest.param(Moment(1_000_100.0, 9000.0, "two"), 8900, id="another machine"),
    ],
)
def test_a_clock_that_went_backwards_is_not_trusted(present: Moment, seconds: int) -> None:
    assert reason_to_distrust(THEN, present) == f"the clock went backwards by {seconds} seconds"


def container(wall: float, running: float, *, age: float) -> Moment:
    """Return a moment in a container that has booted since ``THEN``, ``age`` seconds ago."""
    return Moment(wall, running, "two", running - age)


@pytest.mark.parametrize(
    "present",
    [
        pytest.param(container(1_000_100.0, 5100.0, age=40.0), id="the machine has gone on"),
        pytest.param(container(1_009_000.0, 14_000.0, age=8000.0), id="booted long ago"),
        pytest.param(container(1_003_700.0, 5100.0, age=40.0), id="clock set forward"),
        pytest.param(container(1_000_100.0, 90.0, age=40.0), id="the machine was rebooted, too"),
    ],
)
def test_a_container_that_was_rebooted_has_not_set_the_clock_back(present: Moment) -> None:
    assert reason_to_distrust(THEN, present) == ""


@pytest.mark.parametrize(
    ("present", "reason"),
    [
        pytest.param(container(1_000_100.0, 5200.0, age=40.0), "or this container is on another",
                     id="set back by 100 seconds"),
        pytest.param(container(1_000_100.0, 9000.0, age=40.0), "or this container is on another",
                     id="a machine that runs for longer"),
        pytest.param(container(1_000_100.0, 4000.0, age=40.0), "or this container is on another",
                     id="a machine that does not run for as long"),
        pytest.param(container(1_000_020.0, 5100.0, age=40.0), "went backwards by 20 seconds",
                     id="booted before"),
        pytest.param(container(100.0, 60.0, age=40.0), "went backwards by 999940 seconds",
                     id="no clock after the start"),
    ],
)  # fmt: skip
def test_a_container_with_clocks_that_contradict_each_other_is_not_trusted(
    present: Moment, reason: str
) -> None:
    assert reason in reason_to_distrust(THEN, present)


def test_a_machine_reset_to_a_snapshot_is_not_trusted() -> None:
    assert "earlier state" in reason_to_distrust(THEN, Moment(2_000_000.0, 4000.0, "one"))


def test_an_unknown_boot_is_not_trusted() -> None:
    unknown = Moment(1_000_060.0, 5060.0, "")
    assert reason_to_distrust(unknown, unknown)
    assert reason_to_distrust(THEN, unknown)
    assert reason_to_distrust(unknown, THEN)


def test_a_change_after_a_moment_has_a_ctime_since_that_moment(tmp_path: Path) -> None:
    moment = clock.now()
    (tmp_path / "file").touch()
    status = os.lstat(tmp_path / "file")
    assert moment.since_ns <= status.st_ctime_ns
    assert moment.since_ns > status.st_ctime_ns - 60 * 10**9


def test_within_a_run_changes_before_and_after_a_moment_are_distinguished(
    tmp_path: Path,
) -> None:
    (tmp_path / "before").touch()
    before = os.lstat(tmp_path / "before").st_ctime_ns
    while (moment := clock.now()).wall * 1e9 < before + 50_000_000:
        pass
    (tmp_path / "after").touch()
    fresh = earliest_ctime_ns(moment, clock.now())
    assert before < fresh <= os.lstat(tmp_path / "after").st_ctime_ns


@pytest.mark.parametrize("back", [0.3, 3600.0, -3600.0])
def test_within_a_run_the_earliest_ctime_allows_for_a_clock_that_was_set(back: float) -> None:
    # The clock may have been set before or after the change.
    ctime = (THEN.wall + 10.0 - max(0.0, back)) * 1e9
    assert (
        earliest_ctime_ns(THEN, Moment(THEN.wall + 20.0 - back, THEN.running + 20.0, "one"))
        <= ctime
    )


def test_the_present_moment_is_the_time_of_the_clock() -> None:
    first, second = clock.now(), clock.now()
    assert first.boot == second.boot != ""
    assert first.running <= second.running
    assert abs(first.wall - time.time()) < 60.0
    assert reason_to_distrust(first, second) == ""


def test_the_earliest_of_several_times_ignores_unknown_ones() -> None:
    assert earliest(3.0, None, 2.0) == 2.0
    assert earliest(None) is None
