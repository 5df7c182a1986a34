"""When to try again: pauses grow, are bounded, and never end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.destination.attempts import Attempts
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.retry import Pauses

PAUSES = Pauses()
LONGEST = {
    Verdict.LATER: PAUSES.longest,
    Verdict.PARTIAL: PAUSES.longest,
    Verdict.GUARDED: PAUSES.guarded,
    Verdict.AGAIN: PAUSES.again,
}
failures = st.one_of(st.integers(1, 100), st.integers(1, 10**12))
jitters = st.floats(0.0, 1.0)


@given(st.sampled_from(Verdict), failures, jitters)
def test_every_pause_is_bounded_however_often_it_failed(
    verdict: Verdict, count: int, jitter: float
) -> None:
    assert 0.0 <= PAUSES.after(verdict, count, jitter) <= PAUSES.held


@given(st.sampled_from(list(LONGEST)), failures, jitters)
def test_a_pause_never_shrinks_as_failures_add_up(
    verdict: Verdict, count: int, jitter: float
) -> None:
    pause = PAUSES.after(verdict, count, jitter)
    assert pause <= PAUSES.after(verdict, count + 1, jitter) <= LONGEST[verdict]


@given(st.sampled_from(list(LONGEST)), jitters)
def test_the_longest_pause_is_reached(verdict: Verdict, jitter: float) -> None:
    assert PAUSES.after(verdict, 1000, jitter) == LONGEST[verdict] * (1 - jitter / 4)


@given(st.sampled_from(Verdict), failures, jitters)
def test_jitter_takes_away_a_quarter_at_most(verdict: Verdict, count: int, jitter: float) -> None:
    whole = PAUSES.after(verdict, count, 0.0)
    assert 0.75 * whole <= PAUSES.after(verdict, count, jitter) <= whole


@given(failures, jitters)
def test_what_is_held_is_tried_slowly_from_the_first_time_on(count: int, jitter: float) -> None:
    assert PAUSES.after(Verdict.HELD, count, jitter) >= 600.0


@pytest.mark.parametrize("verdict", [Verdict.LATER, Verdict.PARTIAL])
def test_pauses_double(verdict: Verdict) -> None:
    pauses = Pauses(first=1.0, longest=300.0)
    found = [pauses.after(verdict, count, 0.0) for count in (1, 2, 3, 4, 9, 10)]
    assert found == [1.0, 2.0, 4.0, 8.0, 256.0, 300.0]


def test_a_source_that_changes_under_rsync_is_looked_at_again_at_once_but_not_endlessly() -> None:
    pauses = Pauses(first=1.0, again=4.0, at_once=3)
    counts = (1, 3, 4, 10_000)
    assert [pauses.after(Verdict.AGAIN, count, 0.0) for count in counts] == [0.0, 0.0, 4.0, 4.0]


def test_failures_add_up_as_long_as_they_are_of_one_kind() -> None:
    attempts = Attempts()
    counts = []
    for verdict in (Verdict.LATER, Verdict.LATER, Verdict.AGAIN, Verdict.LATER, Verdict.LATER):
        attempts.put_off(PAUSES, verdict)
        counts.append(attempts.failures)
    assert counts == [1, 2, 1, 1, 2]
    attempts.start_anew()
    attempts.put_off(PAUSES, Verdict.LATER)
    assert attempts.failures == 1


def test_what_is_owed_waits_since_the_first_of_its_changes() -> None:
    attempts = Attempts()
    for moment in (None, 2.0, 1.0, 3.0, None):
        attempts.waits_since(moment)
    assert attempts.since == 1.0
    attempts.start_anew()
    assert attempts.since is None
