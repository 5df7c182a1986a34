"""Pauses between attempts grow, are bounded, and are never the last."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy

POLICY = RetryPolicy()
MAX_PAUSES = {
    Verdict.RETRY_LATER: POLICY.max_pause,
    Verdict.PARTIAL: POLICY.max_pause,
    Verdict.SOURCE_UNSAFE: POLICY.max_source_unsafe_pause,
    Verdict.RETRY_NOW: POLICY.max_retry_now_pause,
}
failures = st.one_of(st.integers(1, 100), st.integers(1, 10**12))
jitters = st.floats(0.0, 1.0)


@given(st.sampled_from(Verdict), failures, jitters)
def test_every_pause_is_bounded_after_any_number_of_failures(
    verdict: Verdict, count: int, jitter: float
) -> None:
    assert 0.0 <= POLICY.pause_after(verdict, count, jitter) <= POLICY.held_pause


@given(st.sampled_from(list(MAX_PAUSES)), failures, jitters)
def test_a_pause_never_shrinks_as_failures_accumulate(
    verdict: Verdict, count: int, jitter: float
) -> None:
    pause = POLICY.pause_after(verdict, count, jitter)
    assert pause <= POLICY.pause_after(verdict, count + 1, jitter) <= MAX_PAUSES[verdict]


@given(st.sampled_from(list(MAX_PAUSES)), jitters)
def test_the_maximum_pause_is_reached(verdict: Verdict, jitter: float) -> None:
    assert POLICY.pause_after(verdict, 1000, jitter) == MAX_PAUSES[verdict] * (1 - jitter / 4)


@given(st.sampled_from(Verdict), failures, jitters)
def test_jitter_shortens_a_pause_by_a_quarter_at_most(
    verdict: Verdict, count: int, jitter: float
) -> None:
    whole = POLICY.pause_after(verdict, count, 0.0)
    assert 0.75 * whole <= POLICY.pause_after(verdict, count, jitter) <= whole


@given(failures, jitters)
def test_a_held_destination_is_retried_slowly_from_the_first_failure_on(
    count: int, jitter: float
) -> None:
    assert POLICY.pause_after(Verdict.HELD, count, jitter) >= 600.0


@pytest.mark.parametrize("verdict", [Verdict.RETRY_LATER, Verdict.PARTIAL])
def test_pauses_double(verdict: Verdict) -> None:
    policy = RetryPolicy(first_pause=1.0, max_pause=300.0)
    found = [policy.pause_after(verdict, count, 0.0) for count in (1, 2, 3, 4, 9, 10)]
    assert found == [1.0, 2.0, 4.0, 8.0, 256.0, 300.0]


def test_a_source_that_changes_under_rsync_is_retried_at_once_a_few_times() -> None:
    policy = RetryPolicy(first_pause=1.0, max_retry_now_pause=4.0, immediate_retries=3)
    counts = (1, 3, 4, 10_000)
    assert [policy.pause_after(Verdict.RETRY_NOW, count, 0.0) for count in counts] == [
        0.0,
        0.0,
        4.0,
        4.0,
    ]
