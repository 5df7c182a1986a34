"""When a scan is due after overflows: once for a storm, in bounded time, and not ever faster."""

import pytest

from pylsyncd.watcher.overflow_backoff import OverflowBackoff

CALM, LONGEST_WAIT = 0.5, 30.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


def scanned(overflows: OverflowBackoff, began: float, seconds: float) -> None:
    overflows.record_scan_start()
    overflows.record_scan_end(began, began + seconds)


def due_after(overflows: OverflowBackoff, now: float) -> float:
    """Return when a scan is due for events that were dropped now."""
    overflows.record_overflow(now)
    assert overflows.due_at is not None
    return overflows.due_at


def test_nothing_is_due_before_anything_was_dropped() -> None:
    assert OverflowBackoff().due_at is None


def test_a_scan_waits_until_a_storm_has_passed() -> None:
    overflows = OverflowBackoff()
    for now in (100.0, 100.3, 100.6, 100.9):
        assert due_after(overflows, now) == now + CALM


def test_an_endless_storm_puts_a_scan_off_only_for_so_long() -> None:
    overflows = OverflowBackoff()
    dues = [due_after(overflows, 100.0 + 0.1 * step) for step in range(1000)]
    assert max(dues) == 100.0 + LONGEST_WAIT


def test_only_the_first_overflow_of_a_storm_is_news() -> None:
    overflows = OverflowBackoff()
    assert [overflows.record_overflow(now) for now in (100.0, 100.1, 150.0)] == [True, False, False]
    scanned(overflows, 151.0, 1.0)
    assert overflows.record_overflow(200.0)


def test_a_storm_costs_one_scan() -> None:
    overflows = OverflowBackoff()
    for now in (100.0, 100.1, 100.2):
        overflows.record_overflow(now)
    scanned(overflows, 101.0, 1.0)
    assert overflows.due_at is None


def test_what_is_dropped_during_a_scan_is_for_the_next_one() -> None:
    overflows = OverflowBackoff()
    overflows.record_overflow(100.0)
    overflows.record_scan_start()
    overflows.record_overflow(101.0)
    overflows.record_scan_end(100.5, 102.5)
    assert overflows.due_at == pytest.approx(102.5 + 4 * 2.0)


def test_after_a_short_scan_there_is_a_short_pause() -> None:
    overflows = OverflowBackoff()
    overflows.record_overflow(100.0)
    scanned(overflows, 101.0, 0.01)
    assert due_after(overflows, 101.02) == pytest.approx(101.01 + FIRST_PAUSE)


def test_scans_in_a_row_are_ever_further_apart_up_to_a_limit() -> None:
    overflows, now, pauses = OverflowBackoff(), 100.0, []
    overflows.record_overflow(now)
    for _ in range(9):
        scanned(overflows, now, 0.0)
        due = due_after(overflows, now)
        pauses.append(due - now)
        now = due
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_pause_after_a_long_scan_is_in_proportion_up_to_the_same_limit() -> None:
    for seconds, pause in ((3.0, 12.0), (100.0, LONGEST_PAUSE)):
        overflows = OverflowBackoff()
        overflows.record_overflow(0.0)
        scanned(overflows, 1.0, seconds)
        assert due_after(overflows, 1.0 + seconds) == 1.0 + seconds + pause


def test_after_a_time_of_quiet_a_storm_is_answered_as_fast_as_the_first_one() -> None:
    overflows, now = OverflowBackoff(), 0.0
    for _ in range(5):
        overflows.record_overflow(now)
        scanned(overflows, now, 0.0)
        now += 40.0
    now += 2 * LONGEST_PAUSE
    assert due_after(overflows, now) == now + CALM
    scanned(overflows, now + CALM, 0.0)
    now += CALM
    assert due_after(overflows, now) == now + FIRST_PAUSE
