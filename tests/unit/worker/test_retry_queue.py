"""Changes to carry, and when."""

import time

import pytest
from support.worker_setup import entries

from pylsyncd.model.changes import EVERYTHING
from pylsyncd.pipeline.widening import widened
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.worker.retry_queue import RetryQueue, WideningQueue

LATER, NOW, PARTIAL = Verdict.RETRY_LATER, Verdict.RETRY_NOW, Verdict.PARTIAL
SLOW = RetryPolicy(first_pause=600.0, max_pause=6000.0, max_retry_now_pause=600.0)


def test_failures_add_up_as_long_as_their_verdict_is_the_same() -> None:
    attempts = RetryQueue(RetryPolicy())
    counts = [attempts.failure_count]
    for verdict in (LATER, LATER, NOW, LATER, LATER):
        attempts.schedule_retry(verdict)
        counts.append(attempts.failure_count)
    assert counts == [0, 1, 2, 1, 1, 2]
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


def test_what_is_made_due_or_reset_waits_for_no_pause_of_before() -> None:
    attempts = RetryQueue(SLOW)
    attempts.backlog.add(EVERYTHING)
    assert attempts.verdict is Verdict.DONE
    for end_pause in (attempts.make_due, attempts.reset):
        attempts.schedule_retry(LATER)
        assert (attempts.verdict, attempts.is_due()) == (LATER, False)
        end_pause()
        assert attempts.is_due()
    assert attempts.verdict is Verdict.DONE


def test_changes_that_await_others_have_not_failed_and_are_due_after_a_long_time() -> None:
    attempts = RetryQueue(SLOW)
    attempts.backlog.add(EVERYTHING)
    attempts.schedule_retry(LATER)
    attempts.make_due()
    attempts.await_others()
    assert (attempts.failure_count, attempts.verdict) == (0, Verdict.DONE)
    assert 300.0 < attempts.due_at - time.monotonic() <= 600.0


def failed_steps(queue: WideningQueue, *verdicts: Verdict) -> list[int]:
    """Return the step that the attempt after each failed run takes."""
    found = []
    for verdict in verdicts:
        queue.add_failed(entries(b"a/b/f"), verdict)
        changes, wider = queue.take_widened()
        assert set(changes) == set(entries(b"a/b/f"))
        assert not queue.backlog
        found.append(next(step for step in range(4) if set(wider) == set(widened(changes, step))))
    return found


@pytest.mark.parametrize("verdict", [Verdict.DONE, PARTIAL])
def test_each_failure_widens_once_up_to_everything_and_then_no_more(verdict: Verdict) -> None:
    queue = WideningQueue(SLOW)
    assert failed_steps(queue, *[verdict] * 7) == [1, 2, 3, 0, 0, 0, 0]
    assert (queue.verdict, queue.failure_count) == (PARTIAL, 7)
    queue.reset()
    assert (queue.verdict, queue.failure_count) == (Verdict.DONE, 0)
    assert failed_steps(queue, *[verdict] * 5) == [1, 2, 3, 0, 0]


def test_a_run_that_never_reached_the_destination_widens_nothing() -> None:
    queue = WideningQueue(SLOW)
    assert failed_steps(queue, LATER, PARTIAL, LATER, Verdict.HELD, PARTIAL) == [0, 1, 1, 1, 2]
    assert (queue.verdict, queue.failure_count) == (PARTIAL, 1)


def test_a_source_that_changes_under_a_run_widens_nothing_the_first_times() -> None:
    queue = WideningQueue(SLOW)
    immediate = SLOW.immediate_retries
    for _ in range(2):
        for _ in range(immediate):
            assert failed_steps(queue, NOW) == [0]
            assert (queue.verdict, queue.due_at <= time.monotonic()) == (NOW, True)
        assert failed_steps(queue, NOW) == [1]
        assert (queue.verdict, queue.due_at > time.monotonic() + 300.0) == (PARTIAL, True)
        queue.reset()
    # What looks at more is not repeated as it was.
    assert failed_steps(queue, PARTIAL, NOW, NOW) == [1, 2, 3]


def test_after_it_stops_widening_a_queue_retries_the_changes_themselves() -> None:
    queue = WideningQueue(SLOW)
    assert failed_steps(queue, PARTIAL) == [1]
    queue.stop_widening()
    assert failed_steps(queue, PARTIAL, PARTIAL) == [0, 0]
    queue.reset()
    assert failed_steps(queue, PARTIAL) == [1]


def test_only_the_first_wider_attempt_is_hastened() -> None:
    queue = WideningQueue(SLOW)
    due = []
    for verdict in (LATER, PARTIAL, PARTIAL, PARTIAL, PARTIAL):
        queue.add_failed(entries(b"a/b/f"), verdict)
        queue.hasten()
        due.append(queue.is_due())
        queue.backlog.take()
    assert due == [False, True, False, False, False]
