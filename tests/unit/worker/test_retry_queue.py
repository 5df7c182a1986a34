"""Changes to carry, and when."""

import time

from pylsyncd.model.changes import EVERYTHING
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.worker.retry_queue import RetryQueue

LATER, NOW = Verdict.RETRY_LATER, Verdict.RETRY_NOW


def test_failures_add_up_as_long_as_their_verdict_is_the_same() -> None:
    attempts = RetryQueue(RetryPolicy())
    counts = []
    for verdict in (LATER, LATER, NOW, LATER, LATER):
        attempts.schedule_retry(verdict)
        counts.append(attempts.failure_count)
    assert counts == [1, 2, 1, 1, 2]
    attempts.reset()
    attempts.schedule_retry(LATER)
    assert attempts.failure_count == 1


def test_since_is_the_time_of_the_first_change_until_reset() -> None:
    attempts = RetryQueue(RetryPolicy())
    for since in (None, 2.0, 1.0, 3.0, None):
        attempts.include_since(since)
    assert attempts.since == 1.0
    attempts.reset()
    assert attempts.since is None


def test_an_empty_queue_is_never_due() -> None:
    attempts = RetryQueue(RetryPolicy())
    assert not attempts.is_due()
    attempts.backlog.add(EVERYTHING)
    assert attempts.is_due()


def test_after_a_failure_changes_are_due_when_the_pause_of_the_policy_has_passed() -> None:
    attempts = RetryQueue(RetryPolicy(first_pause=600.0, max_pause=600.0))
    attempts.backlog.add(EVERYTHING)
    failed_at = time.monotonic()
    attempts.schedule_retry(LATER)
    assert not attempts.is_due()
    # Jitter shortens a pause by a quarter at most.
    assert 450.0 <= attempts.due_at - failed_at <= 601.0
    attempts.schedule_retry(NOW)
    assert attempts.is_due()
