"""The progress of a task as a log message and as the numbers beside its bar."""

import pytest
from support.terminals import HALF

from pylsyncd.rsync.output import RsyncProgress
from pylsyncd.terminal.progress_tasks import (
    Task,
    WatchProgress,
    format_details,
    format_elapsed,
    format_log_text,
)


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
