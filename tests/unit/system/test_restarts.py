"""The pauses before the replacement of a failed thread."""

import time

import pytest

from pylsyncd.system import restarts
from pylsyncd.system.restarts import DelayedStart, RestartSchedule


def test_pauses_double_up_to_a_maximum_with_jitter() -> None:
    schedule = RestartSchedule()
    pauses = [schedule.next_pause() for _ in range(100)]
    for number, pause in enumerate(pauses):
        longest = min(restarts.MAX_PAUSE, restarts.MIN_PAUSE * 2.0 ** min(number, 20))
        assert 0.75 * longest <= pause <= longest
    assert len(set(pauses[-50:])) > 1


@pytest.mark.parametrize(
    ("seconds", "is_reset"), [(restarts.HEALTHY_AFTER - 10.0, False), (3700.0, True)]
)
def test_the_first_pause_follows_an_hour_without_a_failure(
    monkeypatch: pytest.MonkeyPatch, seconds: float, *, is_reset: bool
) -> None:
    schedule = RestartSchedule()
    for _ in range(5):
        last = schedule.next_pause()
    later = time.monotonic() + last + seconds
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert (schedule.next_pause() <= restarts.MIN_PAUSE) == is_reset


def test_a_hastened_start_comes_soon_and_never_later() -> None:
    now = time.monotonic()
    long, short = DelayedStart(100.0), DelayedStart(0.5)
    assert long.due_at >= now + 100.0
    due_at = short.due_at
    for start in (long, short):
        start.hasten()
    assert now + restarts.MIN_PAUSE <= long.due_at <= time.monotonic() + restarts.MIN_PAUSE
    assert short.due_at == due_at
