"""What attempts leave for the next ones: a release, a lost destination. With real rsyncs."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import exit_with
from support.waiting import wait_until
from support.worker_setup import LONG, WorkerSetup, entries

from pylsyncd.model.changes import NOTHING
from pylsyncd.model.status import Condition
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.system import clock
from pylsyncd.worker.pending import Settlement


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[WorkerSetup]:
    """Return a workplace whose rsync may delete two files in a run."""
    with contextlib.closing(WorkerSetup(tmp_path, max_delete=2)) as made:
        yield made


def item(*names: bytes, serial: int = 1, since: float | None = None) -> WorkItem:
    return WorkItem(entries(*names), clock.now(), since=since or time.monotonic(), serial=serial)


def removed(place: WorkerSetup, *names: str, serial: int = 1) -> WorkItem:
    """Remove files, and return the work item for that."""
    for name in names:
        (place.source / name).unlink()
    return item(*map(os.fsencode, names), serial=serial)


def test_deletions_up_to_the_limit_are_made_and_a_release_applies_to_held_ones_only(
    limited: WorkerSetup,
) -> None:
    limited.write(*"abcdefgh")
    for name in "abcdefgh":
        (limited.copy / name).touch()
    with limited.worker(LONG) as worker:
        worker.put(removed(limited, "a", "b"))
        wait_until(lambda: worker.confirmed_serial == 1)
        worker.put(removed(limited, "c", "d", "e", serial=2))
        wait_until(lambda: worker.status().condition is Condition.HELD)
        assert len(list(limited.copy.iterdir())) == 6
        worker.put(WorkItem(NOTHING, is_urgent=True, is_release=True))
        wait_until(lambda: worker.confirmed_serial == 2)
        assert len(list(limited.copy.iterdir())) == 3
        worker.put(removed(limited, "f", "g", "h", serial=3))
        wait_until(lambda: worker.status().condition is Condition.HELD)
        assert len(list(limited.copy.iterdir())) == 3


def test_a_release_does_not_apply_to_changes_that_arrive_before_it_is_used(
    limited: WorkerSetup,
) -> None:
    for name in "abcdef":
        (limited.copy / name).touch()
    with limited.worker(LONG) as worker:
        worker.put(item(b"a", b"b", b"c"))
        wait_until(lambda: worker.status().condition is Condition.HELD)
        limited.faulty.add_fault(exit_with(30))
        worker.put(WorkItem(NOTHING, is_urgent=True, is_release=True))
        wait_until(lambda: worker.status().condition is Condition.RETRYING)
        worker.put(item(b"d", b"e", b"f", serial=2))
        worker.put(WorkItem(NOTHING, is_urgent=True))
        wait_until(lambda: worker.status().condition is Condition.HELD)
        assert len(list(limited.copy.iterdir())) == 6


@pytest.mark.parametrize("is_urgent", [True, False])
def test_a_lost_destination_is_held_at_a_request_even_if_nothing_has_changed(
    place: WorkerSetup, *, is_urgent: bool
) -> None:
    place.write("f")
    with place.worker() as worker:
        worker.put(item(b"f"))
        wait_until(lambda: worker.confirmed_serial == 1)
        away = place.copy.rename(place.copy.with_name("away"))
        worker.put(WorkItem(NOTHING, is_urgent=is_urgent, serial=2))
        if not is_urgent:
            wait_until(lambda: worker.confirmed_serial == 2)
            return
        wait_until(lambda: worker.status().condition is Condition.HELD)
        wait_until(
            lambda: "the destination is another directory than before" in worker.status().error
        )
        assert worker.settlement.serial == 1
        away.rename(place.copy)
        wait_until(lambda: worker.confirmed_serial == 2)
        assert worker.settlement == Settlement(2)
