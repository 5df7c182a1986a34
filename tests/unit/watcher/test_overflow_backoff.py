"""When a scan is due after overflows: once for a storm, in limited time, with growing pauses."""

import pytest

from pylsyncd.watcher.overflow_backoff import OverflowBackoff

STORM_END_DELAY, MAX_SCAN_DELAY = 0.5, 30.0
MIN_PAUSE, MAX_PAUSE = 1.0, 60.0


def scanned(overflows: OverflowBackoff, began: float, seconds: float) -> None:
    overflows.record_scan_start()
    overflows.record_scan_end(began, began + seconds)


def due_after(overflows: OverflowBackoff, now: float) -> float:
    """Return when a scan is due after an overflow now."""
    overflows.record_overflow(now)
    assert overflows.due_at is not None
    return overflows.due_at


def test_no_scan_is_due_before_an_overflow() -> None:
    assert OverflowBackoff().due_at is None


def test_a_scan_waits_for_the_end_of_a_storm() -> None:
    overflows = OverflowBackoff()
    for now in (100.0, 100.3, 100.6, 100.9):
        assert due_after(overflows, now) == now + STORM_END_DELAY


def test_an_endless_storm_delays_a_scan_only_to_a_limit() -> None:
    overflows = OverflowBackoff()
    dues = [due_after(overflows, 100.0 + 0.1 * step) for step in range(1000)]
    assert max(dues) == 100.0 + MAX_SCAN_DELAY


def test_only_the_first_overflow_of_a_storm_is_reported_as_first() -> None:
    overflows = OverflowBackoff()
    assert [overflows.record_overflow(now) for now in (100.0, 100.1, 150.0)] == [True, False, False]
    scanned(overflows, 151.0, 1.0)
    assert overflows.record_overflow(200.0)


def test_a_storm_needs_one_scan() -> None:
    overflows = OverflowBackoff()
    for now in (100.0, 100.1, 100.2):
        overflows.record_overflow(now)
    scanned(overflows, 101.0, 1.0)
    assert overflows.due_at is None


def test_an_overflow_during_a_scan_needs_another_one() -> None:
    overflows = OverflowBackoff()
    overflows.record_overflow(100.0)
    overflows.record_scan_start()
    overflows.record_overflow(101.0)
    overflows.record_scan_end(100.5, 102.5)
    assert overflows.due_at == pytest.approx(102.5 + 4 * 2.0)


def test_a_short_scan_is_followed_by_the_shortest_pause() -> None:
    overflows = OverflowBackoff()
    overflows.record_overflow(100.0)
    scanned(overflows, 101.0, 0.01)
    assert due_after(overflows, 101.02) == pytest.approx(101.01 + MIN_PAUSE)


def test_pauses_between_scans_in_a_row_double_up_to_a_limit() -> None:
    overflows, now, pauses = OverflowBackoff(), 100.0, []
    overflows.record_overflow(now)
    for _ in range(9):
        scanned(overflows, now, 0.0)
        due = due_after(overflows, now)
        pauses.append(due - now)
        now = due
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_pause_after_a_long_scan_is_proportional_up_to_a_limit() -> None:
    for seconds, pause in ((3.0, 12.0), (100.0, MAX_PAUSE)):
        overflows = OverflowBackoff()
        overflows.record_overflow(0.0)
        scanned(overflows, 1.0, seconds)
        assert due_after(overflows, 1.0 + seconds) == 1.0 + seconds + pause


def test_after_a_quiet_time_the_first_pause_is_short_again() -> None:
    overflows, now = OverflowBackoff(), 0.0
    for _ in range(5):
        overflows.record_overflow(now)
        scanned(overflows, now, 0.0)
        now += 40.0
    now += 2 * MAX_PAUSE
    assert due_after(overflows, now) == now + STORM_END_DELAY
    scanned(overflows, now + STORM_END_DELAY, 0.0)
    now += STORM_END_DELAY
    assert due_after(overflows, now) == now + MIN_PAUSE
