"""The status of the daemon."""

from pylsyncd.model.status import (
    LAG_BOUNDS,
    MAX_NAMED_PATHS,
    Condition,
    DestinationCounts,
    PathSummary,
    SetAside,
)


def test_the_words_for_conditions_are_those_of_the_manual() -> None:
    assert [condition.value for condition in Condition] == [
        "starting", "in sync", "waiting", "syncing", "retrying", "held", "paused", "failed",
    ]  # fmt: skip


def test_there_is_a_lag_count_for_each_bound_and_one_for_larger_lags() -> None:
    assert sorted(LAG_BOUNDS) == list(LAG_BOUNDS)
    assert len(DestinationCounts().lags) == len(LAG_BOUNDS) + 1


def test_a_summary_counts_all_paths_and_names_some_of_them_printable() -> None:
    found = [b"%03d" % number for number in range(100)]
    summary = PathSummary.of(len(found), iter(found))
    assert summary == PathSummary(100, tuple(f"{number:03}" for number in range(MAX_NAMED_PATHS)))
    assert PathSummary.of(2, [b"\xff\n", b""]).names == (".", r"\xff\n")


def test_held_subtrees_are_added_to_what_is_set_aside_and_counted_once() -> None:
    before = SetAside(failed=PathSummary(1, ("f",)), held=PathSummary(1, ("a",)))
    after = before.with_held({b"a", b"b"})
    assert after == SetAside(before.failed, PathSummary(2, ("a", "b")))
    assert after.count == 3
    assert before.with_held(set()) == before
