"""The status of the daemon."""

from pylsyncd.model.status import LAG_BOUNDS, Condition, DestinationCounts


def test_the_words_for_conditions_are_those_of_the_manual() -> None:
    assert [condition.value for condition in Condition] == [
        "starting", "in sync", "waiting", "syncing", "retrying", "held", "paused", "failed",
    ]  # fmt: skip


def test_there_is_a_lag_count_for_each_bound_and_one_for_larger_lags() -> None:
    assert sorted(LAG_BOUNDS) == list(LAG_BOUNDS)
    assert len(DestinationCounts().lags) == len(LAG_BOUNDS) + 1
