"""The progress of a task as a log message and as the numbers beside its bar."""

from dataclasses import replace

import pytest
from support.terminals import HALF

from pylsyncd.rsync.output import RsyncProgress
from pylsyncd.terminal.progress_tasks import (
    Task,
    WatchProgress,
    format_details,
    format_elapsed,
    format_estimate,
    format_log_text,
)
from pylsyncd.terminal.source_size import SourceSize


def task(state: WatchProgress | RsyncProgress, *, silent: float = 0.0) -> Task:
    return Task("web1", state, 0.0, 100.0 - silent)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            task(WatchProgress(120_000, 524_288)),
            "[web1] starting: 120000 directories watched so far (limit 524288)",
        ),
        (Task("", WatchProgress(1, 0), 0.0, 100.0), "starting: 1 directory watched so far"),
        (
            task(HALF),
            "[web1] syncing: 1204 files, 4.7 GB so far, 12.3 MB/s, 4500 of 10000 compared",
        ),
        (
            task(RsyncProgress(0, 0, 0.0, 0, 20, 1062)),
            "[web1] syncing: 0 files, 0 B so far, 1042 of 1062 or more compared",
        ),
        (
            task(HALF, silent=75.0),
            "[web1] syncing: 1204 files, 4.7 GB so far, 4500 of 10000 compared, silent 1:15",
        ),
        (task(RsyncProgress(), silent=5.0), "[web1] syncing: 0 files, 0 B so far"),
    ],
)
def test_a_task_is_formatted_as_a_log_message(given: Task, expected: str) -> None:
    assert format_log_text(given, 100.0) == expected


NEW = RsyncProgress(25_000_000, 50, 1e6, 500, 20, 520)
SIZE = SourceSize(entries=2050, files=2000, total_bytes=100_000_000)


@pytest.mark.parametrize(
    ("progress", "fraction"),
    [
        # rsync has only begun to list what it copies: half of what it knows is no measure.
        (NEW, 0.25),
        # Most files are there already: their number tells how far it is.
        (RsyncProgress(1_000_000, 1, 1e6, 10, 20, 1045), 0.5),
        (RsyncProgress(), 0.0),
        (RsyncProgress(200_000_000, 99, 1e6, 2000, 0, 2050), 1.0),
        (RsyncProgress(0, 0, 0.0, 0, 0, 4100), 1.0),
    ],
)
def test_a_total_tells_how_much_is_done(progress: RsyncProgress, fraction: float) -> None:
    assert replace(task(progress), size=SIZE).fraction == pytest.approx(fraction)


def test_an_empty_source_is_done_when_it_was_looked_at() -> None:
    empty = SourceSize(entries=1, files=0, total_bytes=0)
    progress = RsyncProgress(0, 0, 0.0, 0, 0, 1)
    assert replace(task(progress), size=empty).fraction == 1.0
    assert replace(task(RsyncProgress()), size=empty).fraction == 0.0


def test_what_is_left_is_estimated_once_there_is_something_to_go_by() -> None:
    new = replace(task(NEW), size=SIZE)
    assert new.seconds_left(100.0) == pytest.approx(300.0)
    assert new.seconds_left(1.0) is None
    assert replace(new, progress=RsyncProgress()).seconds_left(100.0) is None
    assert task(NEW).seconds_left(100.0) is None
    assert task(HALF).seconds_left(100.0) is None


def test_the_estimate_stays_when_a_line_has_no_room_for_all() -> None:
    new = replace(task(NEW), size=SIZE)
    lines = [format_estimate(new, 100.0, width) for width in (70, 50, 35, 10)]
    assert lines == [
        "    500 of 2,000 files   25.0 MB of 100.0 MB  1.0 MB/s    5:00 left",
        " 25.0 MB of 100.0 MB  1.0 MB/s    5:00 left",
        " 25.0 MB of 100.0 MB  5:00 left",
        "5:00 left",
    ]
    compared = replace(new, progress=RsyncProgress(0, 0, 0.0, 0, 25, 1050))
    assert format_estimate(compared, 100.0, 70).startswith("compared 1,025 of 2,050  ")


def test_control_characters_in_names_are_escaped() -> None:
    assert "\x1b" not in format_log_text(Task("a\x1b[2J\n", HALF, 0.0, 0.0), 0.0)


def test_the_columns_of_the_details_have_a_constant_width() -> None:
    states = [
        RsyncProgress(1, 0, 1.0, 0, 1, 2, is_list_complete=True),
        HALF,
        RsyncProgress(10**12, 99, 9e8, 999_999, 1, 2),
    ]
    assert len({len(format_details(task(state), 100.0)) for state in states}) == 1


def test_elapsed_time_is_formatted_as_minutes_and_seconds() -> None:
    assert [format_elapsed(seconds) for seconds in (7.9, 754, 3723)] == ["0:07", "12:34", "1:02:03"]
