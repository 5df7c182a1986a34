"""What a worker tells of itself, and what it does when it is told to: real rsyncs."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.faults import exits, waits_for
from support.waiting import wait_until
from support.workplace import LONG, Workplace, entries

from pylsyncd.model.changes import EVERYTHING, NOTHING
from pylsyncd.model.notices import NoticeKind
from pylsyncd.model.status import Condition
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.system import clock


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    with contextlib.closing(Workplace(tmp_path)) as made:
        yield made


def order(*names: bytes, serial: int = 1, since: float | None = None) -> WorkItem:
    return WorkItem(entries(*names), clock.now(), since=since or time.monotonic(), serial=serial)


def removed(place: Workplace, *names: str, serial: int = 1) -> WorkItem:
    """Remove files, and return the order that carries that."""
    for name in names:
        (place.source / name).unlink()
    return order(*map(os.fsencode, names), serial=serial)


def test_a_destination_is_in_sync_when_all_is_confirmed(place: Workplace) -> None:
    place.write("f")
    with place.worker() as worker:
        assert worker.status().condition is Condition.IN_SYNC
        worker.put(order(b"f", since=time.monotonic() - 100))
        wait_until(lambda: worker.confirmed_serial == 1)
        status = worker.status()
    assert (status.condition, status.behind, status.waiting) == (Condition.IN_SYNC, 0.0, 0)
    assert status.last_run is not None
    assert (status.last_run.outcome, status.last_run.files) == ("done", 1)
    assert status.counts.outcomes == {"done": 1}
    # 100 s are more than the bound of 60 s, and less than the next.
    assert [number for number, count in enumerate(status.counts.lags) if count] == [7]
    assert 100 <= status.counts.lag_sum < 160


def test_while_rsync_runs_it_is_syncing(place: Workplace) -> None:
    place.write("f")
    place.faulty.order(waits_for(place.source.parent / "go"))
    with place.worker() as worker:
        worker.put(order(b"f"))
        wait_until(lambda: worker.status().condition is Condition.SYNCING)
        (place.source.parent / "go").touch()
        wait_until(lambda: worker.status().condition is Condition.IN_SYNC)


def test_after_a_failure_it_tells_why_and_when_it_tries_again(place: Workplace) -> None:
    place.write("f")
    place.faulty.order(exits(30))
    with place.worker(LONG) as worker:
        worker.put(order(b"f", since=time.monotonic() - 50))
        wait_until(lambda: worker.status().condition is Condition.RETRYING)
        status = worker.status()
        assert status.next_attempt is not None
        assert 300 < status.next_attempt <= 600
        assert status.waiting == 1
        assert 50 <= status.behind < 110
        assert status.error
        assert worker.confirmed_serial == 0
        worker.put(WorkItem(NOTHING, is_urgent=True, serial=2))
        wait_until(lambda: worker.confirmed_serial == 2)
        assert worker.status().error == ""
    assert [notice.kind for notice in place.notices] == [
        NoticeKind.ERROR,
        NoticeKind.BATCH,
        NoticeKind.RECOVERY,
    ]
    error, batch, _ = place.notices
    assert error.reason
    assert (error.code, batch.code, batch.files) == (30, 0, 1)
    assert list(batch.changeset) == list(entries(b"f"))


def test_new_changes_do_not_end_the_pause_of_a_destination_that_is_away(place: Workplace) -> None:
    place.write("f", "g", "h")
    place.faulty.order(exits(30))
    with place.worker(LONG) as worker:
        worker.put(order(b"f"))
        wait_until(lambda: worker.status().condition is Condition.RETRYING)
        for debt, name in enumerate((b"g", b"h"), start=2):
            worker.put(order(name, serial=debt))
            wait_until(lambda debt=debt: worker.pending_count == debt)
        assert (worker.status().next_attempt or 0.0) > 300
    assert place.faulty.waiting == 0


def test_new_changes_need_not_wait_where_it_is_the_source_that_changed(place: Workplace) -> None:
    place.write("f", "g")
    for _ in range(LONG.immediate_retries + 1):
        place.faulty.order(exits(24))
    with place.worker(LONG) as worker:
        worker.put(order(b"f"))
        wait_until(lambda: (worker.status().next_attempt or 0.0) > 300)
        worker.put(order(b"g", serial=2))
        wait_until(lambda: worker.confirmed_serial == 2)
    assert sorted(path.name for path in place.copy.iterdir()) == ["f", "g"]


def test_a_full_sync_that_fails_is_owed_since_it_was_asked_for(place: Workplace) -> None:
    place.write("f")
    place.faulty.order(exits(30))
    with place.worker(LONG) as worker:
        asked = time.monotonic()
        worker.put(WorkItem(EVERYTHING, clock.now(), titles=("full sync",), serial=1))
        wait_until(lambda: worker.status().condition is Condition.RETRYING)
        began = worker.status().behind
        assert 0.0 < began <= time.monotonic() - asked
        wait_until(lambda: worker.status().behind > began)
        worker.put(WorkItem(NOTHING, is_urgent=True, serial=2))
        wait_until(lambda: worker.confirmed_serial == 2)
        status = worker.status()
    assert status.behind == 0.0
    # How old the changes were that it has brought, nobody knows.
    assert status.counts.lag_sum == 0.0


def test_what_failed_alone_and_is_carried_with_a_change_of_it_is_in_sync(place: Workplace) -> None:
    place.write("bad")
    place.complains_of("bad")
    with place.worker(LONG) as worker:
        worker.put(order(b"bad"))
        wait_until(lambda: worker.status().condition is Condition.RETRYING)
        worker.put(order(b"bad", serial=2))
        wait_until(lambda: worker.confirmed_serial == 2)
        wait_until(lambda: worker.status().condition is Condition.IN_SYNC)
        assert worker.status().behind == 0.0


def test_what_only_a_person_can_mend_is_held(place: Workplace) -> None:
    place.write("f")
    place.faulty.order("echo '@ERROR: Unknown module' >&2; exit 5")
    with place.worker(LONG) as worker:
        worker.put(order(b"f"))
        wait_until(lambda: worker.status().condition is Condition.HELD)
        assert [notice.kind for notice in place.notices] == [NoticeKind.HELD]
        worker.put(WorkItem(NOTHING, is_urgent=True, is_release=True))
        wait_until(lambda: worker.status().condition is Condition.IN_SYNC)


def test_as_much_is_deleted_as_is_allowed_and_a_release_is_for_what_is_held_alone(
    place: Workplace,
) -> None:
    carrier = place._carrier  # noqa: SLF001  # as if it had been made so
    carrier._rsync = replace(carrier._rsync, max_delete=2)  # noqa: SLF001
    place.write(*"abcdefgh")
    for name in "abcdefgh":
        (place.copy / name).touch()
    with place.worker(LONG) as worker:
        worker.put(removed(place, "a", "b"))
        wait_until(lambda: worker.confirmed_serial == 1)
        worker.put(removed(place, "c", "d", "e", serial=2))
        wait_until(lambda: worker.status().condition is Condition.HELD)
        assert len(list(place.copy.iterdir())) == 6
        worker.put(WorkItem(NOTHING, is_urgent=True, is_release=True))
        wait_until(lambda: worker.confirmed_serial == 2)
        assert len(list(place.copy.iterdir())) == 3
        worker.put(removed(place, "f", "g", "h", serial=3))
        wait_until(lambda: worker.status().condition is Condition.HELD)
        assert len(list(place.copy.iterdir())) == 3


def test_a_release_does_not_hold_for_what_comes_before_it_was_used(place: Workplace) -> None:
    carrier = place._carrier  # noqa: SLF001  # as if it had been made so
    carrier._rsync = replace(carrier._rsync, max_delete=2)  # noqa: SLF001
    for name in "abcdef":
        (place.copy / name).touch()
    with place.worker(LONG) as worker:
        worker.put(order(b"a", b"b", b"c"))
        wait_until(lambda: worker.status().condition is Condition.HELD)
        place.faulty.order(exits(30))
        worker.put(WorkItem(NOTHING, is_urgent=True, is_release=True))
        wait_until(lambda: worker.status().condition is Condition.RETRYING)
        worker.put(order(b"d", b"e", b"f", serial=2))
        worker.put(WorkItem(NOTHING, is_urgent=True))
        wait_until(lambda: worker.status().condition is Condition.HELD)
        assert len(list(place.copy.iterdir())) == 6


def test_a_pause_lasts_until_it_is_taken_back(place: Workplace) -> None:
    place.write("f", "g")
    with place.worker() as worker:
        worker.pause()
        worker.put(order(b"f"))
        worker.put(order(b"g", serial=2))
        wait_until(lambda: worker.status().waiting == 2)
        assert worker.status().condition is Condition.PAUSED
        # An urgent one does not end it: somebody wants nothing sent.
        worker.put(WorkItem(NOTHING, is_urgent=True, serial=3))
        wait_until(lambda: not worker._queue.pending_count)  # noqa: SLF001  # nothing else tells it
        assert not (place.copy / "f").exists()
        worker.pause(is_paused=False)
        wait_until(lambda: worker.confirmed_serial == 3)
    assert sorted(path.name for path in place.copy.iterdir()) == ["f", "g"]


def test_a_longer_window_aggregates_what_comes_in_several_short_ones(place: Workplace) -> None:
    place.write("f", "g", "h")
    with place.worker() as worker:
        worker.extra_window = 3600.0
        worker.put(order(b"f"))
        worker.put(order(b"g", serial=2))
        wait_until(lambda: worker.status().waiting == 2)
        assert worker.status().condition is Condition.WAITING
        assert worker.status().next_attempt is None
        worker.put(WorkItem(NOTHING, is_urgent=True, serial=3))
        wait_until(lambda: worker.confirmed_serial == 3)
        # What was asked for by name does not wait.
        worker.put(WorkItem(EVERYTHING, clock.now(), titles=("full sync",), serial=4))
        wait_until(lambda: worker.confirmed_serial == 4)
        assert worker.status().counts.full_syncs == {"full sync": 1}
        assert worker.status().counts.outcomes == {"done": 2}


def test_a_stop_does_not_wait_for_a_longer_window(place: Workplace) -> None:
    place.write("f")
    with place.worker() as worker:
        worker.extra_window = 3600.0
        worker.put(order(b"f"))
        worker.request_stop()
        wait_until(lambda: not worker.is_alive())
    assert (place.copy / "f").exists()


def test_it_ends_although_it_waits_for_a_large_file_that_nobody_sends(place: Workplace) -> None:
    place._carrier.size_limit = SizeLimit(0, preserves_hard_links=False)  # noqa: SLF001  # as if made so
    place.write("f")
    with place.worker() as worker:
        # As if its end had come right before the file was handed over.
        worker._lane.abort(signal.SIGTERM)  # noqa: SLF001
        worker.put(order(b"f"))
        worker.request_stop()
        wait_until(lambda: worker._lane.in_flight and worker._queue.empty())  # noqa: SLF001
        worker.abort(signal.SIGTERM)
        worker.join(10.0)
        assert not worker.is_alive()


def test_what_is_not_confirmed_is_handed_over(place: Workplace) -> None:
    place.write("f", "g")
    place.faulty.order(exits(30))
    with place.worker(LONG) as worker:
        first = order(b"f")
        worker.put(first)
        wait_until(lambda: worker.status().condition is Condition.RETRYING)
        worker.pause()
        worker.put(order(b"g", serial=2))
        worker.request_stop()
        worker.abort(9)
        wait_until(lambda: not worker.is_alive())
        handed = worker.take_unconfirmed()
    assert {change.path for change in handed.changeset} == {b"f", b"g"}
    assert (handed.since, handed.serial) == (first.since, 2)
    assert handed.complete_until is not None


def test_an_order_without_changes_confirms_if_nothing_is_owed(place: Workplace) -> None:
    with place.worker() as worker:
        worker.put(WorkItem(NOTHING, serial=7))
        wait_until(lambda: worker.confirmed_serial == 7)
        assert worker.status().counts.outcomes == {}
