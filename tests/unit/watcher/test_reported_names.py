"""What events have reported, and no later change, is not reported again."""

import pytest

from pylsyncd.watcher import reported_names
from pylsyncd.watcher.reported_names import ReportedNames

SECOND = 1_000_000_000
EVENT = 1_000 * SECOND
TICK = SECOND // 100


def test_a_change_before_the_last_event_of_its_name_was_reported() -> None:
    reported = ReportedNames()
    reported.add(1, [b"f"], EVENT)
    assert reported.has_reported(1, b"f", EVENT - SECOND)
    assert not reported.has_reported(1, b"f", EVENT)
    assert not reported.has_reported(1, b"f", EVENT + SECOND)


def test_a_change_within_a_tick_before_the_event_may_be_a_later_one() -> None:
    reported = ReportedNames()
    reported.add(1, [b"f"], EVENT)
    assert not reported.has_reported(1, b"f", EVENT - 10_000_000)
    assert reported.has_reported(1, b"f", EVENT - 10_000_001)


def test_an_event_tells_nothing_about_other_names_and_directories() -> None:
    reported = ReportedNames()
    reported.add(1, [b"f"], EVENT)
    assert not reported.has_reported(1, b"g", 0)
    assert not reported.has_reported(2, b"f", 0)


def test_an_event_tells_about_its_directory() -> None:
    reported = ReportedNames()
    reported.add(1, [], EVENT)
    assert reported.has_reported_directory(1, EVENT - SECOND)
    assert not reported.has_reported_directory(1, EVENT)
    assert not reported.has_reported_directory(2, 0)


def test_an_event_without_a_content_tells_nothing_about_contents() -> None:
    reported = ReportedNames()
    reported.add(1, [b"f"], EVENT, has_content=False)
    assert reported.has_reported(1, b"f", EVENT - SECOND)
    assert not reported.has_reported_content(1, b"f", 0)
    reported.add(1, [b"f"], EVENT + SECOND)
    assert reported.has_reported_content(1, b"f", EVENT)
    assert not reported.has_reported_content(1, b"f", EVENT + SECOND)
    reported.add(1, [b"f"], EVENT + 4 * SECOND, has_content=False)
    assert reported.has_reported(1, b"f", EVENT + 3 * SECOND)
    assert not reported.has_reported_content(1, b"f", EVENT + 2 * SECOND)


def test_the_last_event_counts() -> None:
    reported = ReportedNames()
    reported.add(1, [b"f"], EVENT)
    reported.start_period()
    reported.add(1, [b"f"], EVENT + 2 * SECOND)
    assert reported.has_reported(1, b"f", EVENT + SECOND)


def test_names_are_kept_for_three_periods() -> None:
    reported = ReportedNames()
    reported.add(1, [b"f"], EVENT)
    for _ in range(2):
        reported.start_period()
    assert reported.has_reported(1, b"f", 0)
    reported.start_period()
    assert not reported.has_reported(1, b"f", 0)


def test_after_a_clear_nothing_was_reported() -> None:
    reported = ReportedNames()
    reported.add(1, [b"f"], EVENT)
    reported.clear()
    assert not reported.has_reported(1, b"f", 0)
    reported.add(1, [b"f"], EVENT)
    assert reported.has_reported(1, b"f", 0)


def test_the_number_of_names_is_bounded() -> None:
    reported = ReportedNames()
    for wd in range(30_000):
        reported.add(wd, [b"a", b"b"], EVENT)
    kept = sum(reported.has_reported(wd, b"a", 0) for wd in range(30_000))
    assert 5_000 < kept < 10_000
    reported.start_period()
    reported.add(40_000, [b"a"], EVENT)
    assert reported.has_reported(40_000, b"a", 0)


def test_as_many_names_as_there_is_room_for_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    # A directory takes as much as a name.
    monkeypatch.setattr(reported_names, "_MAX_NAMES_PER_PERIOD", 3)
    reported = ReportedNames()
    reported.add(1, [b"a"], EVENT)
    assert not reported.is_incomplete
    reported.add(1, [b"b"], EVENT)
    assert reported.is_incomplete
    reported.add(1, [b"c"], EVENT)
    reported.add(2, [], EVENT)
    assert [reported.has_reported(1, name, 0) for name in (b"a", b"b", b"c")] == [
        True, True, False,
    ]  # fmt: skip
    assert not reported.has_reported_directory(2, 0)
    reported.start_period()
    assert reported.is_incomplete


def test_the_last_room_is_used_for_a_directory_and_leaves_names_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reported_names, "_MAX_NAMES_PER_PERIOD", 3)
    reported = ReportedNames()
    reported.add(1, [b"a"], EVENT)
    reported.start_period()
    assert not reported.is_incomplete
    reported.add(1, [b"a"], EVENT)
    reported.add(2, [], EVENT)
    assert reported.has_reported_directory(2, 0)


def test_a_content_was_reported_in_any_period_up_to_a_tick_before_the_event() -> None:
    reported = ReportedNames()
    reported.add(1, [b"f"], EVENT)
    reported.start_period()
    reported.add(1, [b"g"], EVENT)
    assert reported.has_reported_content(1, b"f", EVENT - TICK - 1)
    assert not reported.has_reported_content(1, b"f", EVENT - TICK)


def test_the_names_are_incomplete_while_there_were_too_many() -> None:
    reported = ReportedNames()
    assert not reported.is_incomplete
    reported.add(1, [b"%d" % number for number in range(20_000)], EVENT)
    assert reported.is_incomplete
    for _ in range(3):
        reported.start_period()
        assert reported.is_incomplete
    reported.start_period()
    assert not reported.is_incomplete
