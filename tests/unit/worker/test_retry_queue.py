"""A retry queue counts the failures of its changes, and knows since when they wait."""

from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.worker.retry_queue import RetryQueue


def test_failures_are_counted_while_they_have_the_same_verdict() -> None:
    attempts = RetryQueue()
    counts = []
    for verdict in (
        Verdict.RETRY_LATER,
        Verdict.RETRY_LATER,
        Verdict.RETRY_NOW,
        Verdict.RETRY_LATER,
        Verdict.RETRY_LATER,
    ):
        attempts.schedule_retry(RetryPolicy(), verdict)
        counts.append(attempts.failure_count)
    assert counts == [1, 2, 1, 1, 2]
    attempts.reset()
    attempts.schedule_retry(RetryPolicy(), Verdict.RETRY_LATER)
    assert attempts.failure_count == 1


def test_pending_changes_are_waiting_since_the_first_of_them() -> None:
    attempts = RetryQueue()
    for moment in (None, 2.0, 1.0, 3.0, None):
        attempts.include_since(moment)
    assert attempts.since == 1.0
    attempts.reset()
    assert attempts.since is None
