"""The statistics of a destination."""

import pytest

from pylsyncd.model.status import LAG_BOUNDS
from pylsyncd.rsync.outcomes import MissingCapability, Outcome, Verdict
from pylsyncd.rsync.runner import RunResult
from pylsyncd.worker.statistics import Statistics


def test_runs_are_counted_by_outcome_and_exit_status_and_their_numbers_are_summed() -> None:
    statistics = Statistics()
    statistics.count_run(Outcome(Verdict.DONE), RunResult(0, files=2, deleted=1, bytes_sent=10))
    statistics.count_run(Outcome(Verdict.RETRY_NOW), RunResult(24, files=3, bytes_sent=5))
    counts = statistics.counts()
    assert counts.outcomes == {"done": 1, "again": 1}
    assert counts.codes == {0: 1, 24: 1}
    assert (counts.files, counts.deleted, counts.bytes_sent) == (5, 1, 15)


def test_the_last_run_is_kept() -> None:
    statistics = Statistics()
    assert statistics.last_run is None
    statistics.count_run(Outcome(Verdict.RETRY_LATER), RunResult(30, seconds=1.5))
    last = statistics.last_run
    assert last is not None
    assert (last.outcome, last.code, last.seconds) == ("later", 30, 1.5)


def test_the_last_success_is_kept_beside_a_later_failure() -> None:
    statistics = Statistics()
    statistics.count_run(Outcome(Verdict.PARTIAL), RunResult(23))
    assert statistics.last_success is None
    statistics.count_run(Outcome(Verdict.DONE), RunResult(0))
    success = statistics.last_run
    assert success is not None
    statistics.count_run(Outcome(Verdict.RETRY_LATER), RunResult(30))
    assert statistics.last_success == success.ended


def test_a_run_that_finds_a_missing_capability_has_a_label_of_its_own() -> None:
    statistics = Statistics()
    outcome = Outcome(Verdict.RETRY_LATER, missing_capability=MissingCapability.MKPATH)
    statistics.count_run(outcome, RunResult(1))
    assert statistics.counts().outcomes == {"without_mkpath": 1}


@pytest.mark.parametrize("number", range(len(LAG_BOUNDS)))
def test_a_lag_is_counted_up_to_its_bound(number: int) -> None:
    statistics = Statistics()
    statistics.count_confirmed(LAG_BOUNDS[number])
    statistics.count_confirmed(LAG_BOUNDS[-1] + 1.0)
    counts = statistics.counts()
    assert [index for index, count in enumerate(counts.lags) if count] == [number, len(LAG_BOUNDS)]
    assert counts.lag_sum == LAG_BOUNDS[number] + LAG_BOUNDS[-1] + 1.0


def test_full_syncs_are_counted_by_title() -> None:
    statistics = Statistics()
    for title in ("initial sync", "full sync", "full sync"):
        statistics.count_full_sync(title)
    assert statistics.counts().full_syncs == {"initial sync": 1, "full sync": 2}


def test_moved_files_are_counted_apart() -> None:
    statistics = Statistics()
    statistics.count_moved(3, 100)
    statistics.count_moved(2, 50)
    counts = statistics.counts()
    assert (counts.moved_files, counts.moved_bytes, counts.files) == (5, 150, 0)
