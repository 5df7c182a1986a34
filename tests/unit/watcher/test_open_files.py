"""When files that were modified and not closed become changes, and what is known of the others."""

import pytest

from pylsyncd.model.moments import Moment
from pylsyncd.watcher import open_files
from pylsyncd.watcher.open_files import OpenFiles

WINDOW, INTERVAL = 5.0, 50.0


def moment(seconds: float) -> Moment:
    return Moment(1e9 + seconds, seconds, "boot")


def opened(*modified_at: float, window: float = WINDOW, interval: float = INTERVAL) -> OpenFiles:
    """Return open files with one file that was modified at certain times."""
    files = OpenFiles(window, interval)
    for time in modified_at:
        files.record(1, [b"f"], time, moment(time))
    return files


def due_times(files: OpenFiles, until: float) -> list[float]:
    """Return the times, in steps of a second, at which a file is due."""
    return [float(now) for now in range(int(until) + 1) if files.take_due(float(now))]


def test_a_file_is_due_when_it_was_not_modified_for_a_window() -> None:
    assert due_times(opened(0.0), 100.0) == [5.0]
    assert due_times(opened(0.0, 3.0, 6.0), 100.0) == [11.0]


def test_a_file_that_is_always_modified_is_due_a_window_before_the_end_of_the_interval() -> None:
    files = OpenFiles(WINDOW, INTERVAL)
    due = []
    for now in range(150):
        files.record(1, [b"f"], float(now), moment(now))
        due += [now] * bool(files.take_due(float(now)))
    # What is due waits for the end of a window. The next modification is a second later.
    assert due == [45, 91, 137]


@pytest.mark.parametrize("interval", [0.0, 1.0, WINDOW])
def test_with_an_interval_up_to_the_window_a_modified_file_is_due_at_once(interval: float) -> None:
    assert due_times(opened(0.0, interval=interval), 100.0) == [0.0]


def test_the_next_due_time_is_never_too_late() -> None:
    files = opened(0.0)
    assert files.due_at == 5.0
    files.record(1, [b"f"], 4.0, moment(4))
    assert files.due_at is not None
    assert files.due_at <= 9.0
    assert not files.take_due(8.9)
    assert files.due_at == 9.0
    assert files.take_due(9.0) == {1: {b"f"}}
    assert files.due_at is None


def test_an_older_modification_that_is_recorded_later_changes_nothing() -> None:
    files = opened(4.0, 2.0)
    assert not files.take_due(8.0)
    assert files.take_due(9.0)


def test_files_are_due_each_at_its_time() -> None:
    files = OpenFiles(WINDOW, INTERVAL)
    files.record(1, [b"late"], 3.0, moment(3))
    files.record(2, [b"early"], 1.0, moment(3))
    assert files.take_due(6.0) == {2: {b"early"}}
    assert files.take_due(8.0) == {1: {b"late"}}


def test_what_happens_after_a_look_at_a_directory_is_unknown_until_the_next_one() -> None:
    files = opened(0.0)
    files.set_looked_at(1, 2.0)
    files.next_look = 8.0
    assert not files.take_due(7.0)
    assert files.due_at == 8.0
    # The look is due and was not made yet.
    assert not files.take_due(9.0)
    files.set_looked_at(1, 9.0)
    files.next_look = 13.0
    assert files.take_due(files.due_at or 0.0)


def test_a_look_in_the_second_half_of_the_window_is_enough() -> None:
    files = opened(0.0)
    files.set_looked_at(1, 2.5)
    files.next_look = 1e6
    assert due_times(files, 100.0) == [5.0]


def test_a_directory_that_reports_modifications_again_needs_no_look() -> None:
    files = opened(0.0)
    files.set_looked_at(1, 2.0)
    files.next_look = 8.0
    files.set_looked_at(1, None)
    assert due_times(files, 100.0) == [5.0]


def test_the_end_of_the_interval_waits_for_no_look() -> None:
    files = opened(0.0)
    files.set_looked_at(1, 0.0)
    files.next_look = 1e6
    assert due_times(files, 100.0) == [45.0]


def test_a_discarded_file_is_not_due_until_it_is_modified_again() -> None:
    files = opened(0.0)
    files.discard(2, [b"f"])
    files.discard(1, [b"g", b"f"])
    assert len(files) == 0
    files.record(1, [b"f"], 4.0, moment(4))
    assert due_times(files, 100.0) == [9.0]


def test_all_files_can_be_taken_at_once() -> None:
    files = OpenFiles(WINDOW, INTERVAL)
    files.record(1, [b"a", b"b"], 0.0, moment(0))
    files.record(1, [b"b", b"c"], 0.0, moment(0))
    files.record(2, [b"a"], 0.0, moment(0))
    files.record(3, [], 0.0, moment(0))
    assert len(files) == 4
    assert files.holds_back(2, b"a")
    assert not files.holds_back(2, b"b")
    assert files.take_all() == {1: {b"a", b"b", b"c"}, 2: {b"a"}}
    assert len(files) == 0
    assert files.due_at is None


def test_more_files_than_can_be_held_back_are_due_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files, "_MAX_HELD_BACK", 3)
    files = OpenFiles(WINDOW, INTERVAL)
    names = {b"%d" % number for number in range(4)}
    files.record(1, names - {b"0"}, 0.0, moment(0))
    assert files.take_due(0.0) == {}
    files.record(1, names, 0.0, moment(0))
    assert files.take_due(0.0) == {1: names}


def test_of_discarded_files_nothing_is_left() -> None:
    files = OpenFiles(WINDOW, INTERVAL)
    assert files.discard(1, [b"f"]) == set()
    files.record(1, [b"f"], 0.0, moment(0))
    assert files.discard(1, [b"f", b"g"]) == {b"f"}
    assert files.take_all() == {}


def test_files_that_come_and_go_leave_no_memory_behind() -> None:
    files = OpenFiles(WINDOW, INTERVAL)
    for number in range(10_000):
        files.record(1, [b"%d" % number], 0.0, moment(0))
        files.discard(1, [b"%d" % number])
    assert len(files._queue) < 2_000  # noqa: SLF001  # its memory has no other sign


def test_other_times_apply_to_the_files_that_are_held_back() -> None:
    files = opened(0.0)
    files.set_times(2.0, INTERVAL)
    assert files.due_at == 2.0
    later_first = OpenFiles(WINDOW, INTERVAL)
    for name, time in ((b"later", 10.0), (b"earlier", 5.0)):
        later_first.record(1, [name], time, moment(time))
    later_first.set_times(2.0, INTERVAL)
    assert later_first.due_at == 7.0
    files.set_times(WINDOW, 0.0)
    assert files.take_due(0.0)


def test_the_oldest_modification_is_that_of_a_file_that_is_held_back() -> None:
    files = OpenFiles(WINDOW, INTERVAL)
    assert files.oldest_modification(0.0) is None
    files.record(1, [b"old"], 1.0, moment(1))
    files.record(1, [b"old"], 2.0, moment(2))
    files.record(2, [b"new"], 3.0, moment(3))
    assert files.oldest_modification(3.0) == moment(1)
    files.discard(1, [b"old"])
    # It is looked for once a second.
    assert files.oldest_modification(3.9) == moment(1)
    assert files.oldest_modification(4.0) == moment(3)
    # A look at a directory finds modifications that are older than others.
    files.record(3, [b"found"], 4.6, moment(2))
    assert files.oldest_modification(4.6) == moment(2)
    # It is held back with its first modification.
    files.record(3, [b"found"], 4.7, moment(0))
    assert files.oldest_modification(4.7) == moment(2)
    files.take_all()
    assert files.oldest_modification(4.6) is None
