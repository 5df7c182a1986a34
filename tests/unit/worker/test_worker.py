"""The status of a worker, and how it reacts to requests. With real rsyncs."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import exit_with, wait_for_file
from support.waiting import wait_until
from support.worker_setup import LONG, WorkerSetup, entries

from pylsyncd.model.changes import EVERYTHING, NOTHING
from pylsyncd.model.notices import NoticeKind
from pylsyncd.model.status import Condition, PathSummary, SetAside
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.system import clock
from pylsyncd.system.logs import NOTICE
from pylsyncd.worker.pending import Settlement


@pytest.fixture
def place(tmp_path: Path) -> Iterator[WorkerSetup]:
    with contextlib.closing(WorkerSetup(tmp_path)) as made:
        yield made


def item(*names: bytes, serial: int = 1, since: float | None = None) -> WorkItem:
    return WorkItem(entries(*names), clock.now(), since=since or time.monotonic(), serial=serial)


def test_a_destination_is_in_sync_when_all_is_confirmed(place: WorkerSetup) -> None:
    place.write("f")
    with place.worker() as worker:
        assert worker.status().condition is Condition.IN_SYNC
        worker.put(item(b"f", since=time.monotonic() - 100))
        wait_until(lambda: worker.confirmed_serial == 1)
        status = worker.status()
    assert (status.condition, status.behind, status.waiting) == (Condition.IN_SYNC, 0.0, 0)
    assert status.last_run is not None
    assert (status.last_run.outcome, status.last_run.files) == ("done", 1)
    assert status.counts.outcomes == {"done": 1}
    # 100 s are more than the bound of 60 s, and less than the next.
    assert [number for number, count in enumerate(status.counts.lags) if count] == [7]
    assert 100 <= status.counts.lag_sum < 160


def test_what_is_confirmed_is_shown_as_in_sync(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(NOTICE)
    seen: list[tuple[int, Condition]] = []
    with place.worker() as worker:
        # Between the end of the run and the wait for the next item.
        monkeypatch.setattr(
            caplog.handler,
            "emit",
            lambda _: seen.append((worker.confirmed_serial, worker.status().condition)),
        )
        worker.put(WorkItem(EVERYTHING, clock.now(), titles=("full sync",), serial=1))
        wait_until(lambda: worker.confirmed_serial == 1)
        assert worker.status().condition is Condition.IN_SYNC
    assert (0, Condition.SYNCING) in seen
    assert (1, Condition.SYNCING) not in seen


def test_while_rsync_runs_it_is_syncing(place: WorkerSetup) -> None:
    place.write("f")
    place.faulty.add_fault(wait_for_file(place.source.parent / "go"))
    with place.worker() as worker:
        worker.put(item(b"f"))
        wait_until(lambda: worker.status().condition is Condition.SYNCING)
        (place.source.parent / "go").touch()
        wait_until(lambda: worker.status().condition is Condition.IN_SYNC)


def test_after_a_failure_the_status_has_the_reason_and_the_time_of_the_next_attempt(
    place: WorkerSetup,
) -> None:
    place.write("f")
    place.faulty.add_fault(exit_with(30))
    with place.worker(LONG) as worker:
        worker.put(item(b"f", since=time.monotonic() - 50))
        # The reason is known a moment after the condition.
        wait_until(lambda: worker.status().error)
        status = worker.status()
        assert status.condition is Condition.RETRYING
        assert status.next_attempt is not None
        assert 300 < status.next_attempt <= 600
        assert status.waiting == 1
        assert 50 <= status.behind < 110
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


def test_new_changes_do_not_end_the_pause_of_an_unreachable_destination(place: WorkerSetup) -> None:
    place.write("f", "g", "h")
    place.faulty.add_fault(exit_with(30))
    with place.worker(LONG) as worker:
        worker.put(item(b"f"))
        wait_until(lambda: worker.status().condition is Condition.RETRYING)
        for count, name in enumerate((b"g", b"h"), start=2):
            worker.put(item(name, serial=count))
            wait_until(lambda count=count: worker.pending_count == count)
        assert (worker.status().next_attempt or 0.0) > 300
    assert place.faulty.pending_faults == 0


def test_new_changes_end_the_pause_if_the_source_changed_under_rsync(place: WorkerSetup) -> None:
    place.write("f", "g")
    for _ in range(LONG.immediate_retries + 1):
        place.faulty.add_fault(exit_with(24))
    with place.worker(LONG) as worker:
        worker.put(item(b"f"))
        wait_until(lambda: (worker.status().next_attempt or 0.0) > 300)
        worker.put(item(b"g", serial=2))
        wait_until(lambda: worker.confirmed_serial == 2)
    assert sorted(path.name for path in place.copy.iterdir()) == ["f", "g"]


def test_a_failed_full_sync_is_pending_since_it_was_requested(place: WorkerSetup) -> None:
    place.write("f")
    place.faulty.add_fault(exit_with(30))
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
    # The age of the changes that a full sync carries is unknown.
    assert status.counts.lag_sum == 0.0


def test_a_failed_path_is_in_sync_once_a_later_change_of_it_is_carried(place: WorkerSetup) -> None:
    place.write("bad")
    place.make_fail("bad")
    with place.worker(LONG) as worker:
        worker.put(item(b"bad"))
        wait_until(lambda: worker.status().condition is Condition.RETRYING)
        worker.put(item(b"bad", serial=2))
        wait_until(lambda: worker.confirmed_serial == 2)
        wait_until(lambda: worker.status().condition is Condition.IN_SYNC)
        assert worker.status().behind == 0.0


def test_failures_that_only_a_person_can_fix_are_held(place: WorkerSetup) -> None:
    place.write("f")
    place.faulty.add_fault("echo '@ERROR: Unknown module' >&2; exit 5")
    with place.worker(LONG) as worker:
        worker.put(item(b"f"))
        # The notice comes after the condition.
        wait_until(lambda: [notice.kind for notice in place.notices] == [NoticeKind.HELD])
        assert worker.status().condition is Condition.HELD
        worker.put(WorkItem(NOTHING, is_urgent=True, is_release=True))
        wait_until(lambda: worker.status().condition is Condition.IN_SYNC)


def test_a_pause_lasts_until_resumed(place: WorkerSetup) -> None:
    place.write("f", "g")
    with place.worker() as worker:
        worker.set_paused(is_paused=True)
        worker.put(item(b"f"))
        worker.put(item(b"g", serial=2))
        wait_until(lambda: worker.status().waiting == 2)
        assert worker.status().condition is Condition.PAUSED
        # An urgent item does not end a pause.
        worker.put(WorkItem(NOTHING, is_urgent=True, serial=3))
        wait_until(lambda: not worker._queue.pending_count)  # noqa: SLF001  # nothing else shows it
        assert not (place.copy / "f").exists()
        worker.set_paused(is_paused=False)
        wait_until(lambda: worker.confirmed_serial == 3)
    assert sorted(path.name for path in place.copy.iterdir()) == ["f", "g"]


def test_a_longer_window_aggregates_several_shorter_ones(place: WorkerSetup) -> None:
    place.write("f", "g", "h")
    with place.worker(extra_window=3600.0) as worker:
        worker.put(item(b"f"))
        worker.put(item(b"g", serial=2))
        wait_until(lambda: worker.status().waiting == 2)
        assert worker.status().condition is Condition.WAITING
        assert worker.status().next_attempt is None
        worker.put(WorkItem(NOTHING, is_urgent=True, serial=3))
        wait_until(lambda: worker.confirmed_serial == 3)
        # A requested sync does not wait for the window.
        worker.put(WorkItem(EVERYTHING, clock.now(), titles=("full sync",), serial=4))
        wait_until(lambda: worker.confirmed_serial == 4)
        assert worker.status().counts.full_syncs == {"full sync": 1}
        assert worker.status().counts.outcomes == {"done": 2}


def test_a_stop_does_not_wait_for_a_longer_window(place: WorkerSetup) -> None:
    place.write("f")
    with place.worker(extra_window=3600.0) as worker:
        worker.put(item(b"f"))
        worker.request_stop()
        wait_until(lambda: not worker.is_alive())
    assert (place.copy / "f").exists()


def test_a_worker_stops_while_it_waits_for_an_aborted_large_file(tmp_path: Path) -> None:
    limit = SizeLimit(0, preserves_hard_links=False)
    with contextlib.closing(WorkerSetup(tmp_path, size_limit=limit)) as place:
        place.write("f")
        with place.worker() as worker:
            large_files = worker._work.large_files  # noqa: SLF001
            # As if its thread had been aborted just before it got the file.
            large_files.abort(signal.SIGTERM)
            worker.put(item(b"f"))
            worker.request_stop()
            wait_until(lambda: large_files.in_flight and worker._queue.empty())  # noqa: SLF001
            worker.abort(signal.SIGTERM)
            worker.join(45.0)
            assert not worker.is_alive()


def test_unconfirmed_changes_can_be_taken_over(place: WorkerSetup) -> None:
    place.write("f", "g")
    place.faulty.add_fault(exit_with(30))
    with place.worker(LONG) as worker:
        first = item(b"f")
        worker.put(first)
        wait_until(lambda: worker.status().condition is Condition.RETRYING)
        worker.set_paused(is_paused=True)
        worker.put(item(b"g", serial=2))
        worker.request_stop()
        worker.abort(9)
        wait_until(lambda: not worker.is_alive())
        handed = worker.take_unconfirmed()
    assert {change.path for change in handed.changeset} == {b"f", b"g"}
    assert (handed.since, handed.serial) == (first.since, 2)
    assert handed.complete_until is not None


def test_what_fails_is_set_aside_once_all_else_is_confirmed_and_it_was_tried(
    place: WorkerSetup,
) -> None:
    place.write("bad", "good")
    failed = SetAside(failed=PathSummary(1, ("bad",)))
    with place.worker(LONG) as worker:
        place.make_fail("bad")
        worker.put(item(b"bad", b"good"))
        wait_until(lambda: worker.settlement == Settlement(1, failed))
        assert worker.status().set_aside == failed
        assert worker.confirmed_serial == 0
        # A request has the path tried once more before the rest counts as confirmed.
        place.make_fail("bad")
        place.faulty.add_fault(exit_with(30))
        worker.put(WorkItem(NOTHING, is_urgent=True, serial=2))
        wait_until(lambda: worker.settlement.serial == 2)
        assert place.faulty.pending_faults == 1
        place.faulty.discard_faults()
        worker.put(WorkItem(NOTHING, is_urgent=True, serial=3))
        wait_until(lambda: worker.settlement == Settlement(3))
        assert worker.status().set_aside == SetAside()


def test_while_paused_a_failed_path_cannot_be_tried_so_nothing_is_settled(
    place: WorkerSetup,
) -> None:
    place.write("bad")
    with place.worker(LONG) as worker:
        place.make_fail("bad")
        worker.put(item(b"bad"))
        wait_until(lambda: worker.settlement.serial == 1)
        worker.set_paused(is_paused=True)
        worker.put(WorkItem(NOTHING, is_urgent=True, serial=2))
        wait_until(lambda: worker.status().next_attempt == 0.0)
        assert worker.settlement.serial == 1
        worker.set_paused(is_paused=False)
        wait_until(lambda: worker.settlement == Settlement(2))


def test_an_empty_work_item_is_confirmed_if_nothing_is_pending(place: WorkerSetup) -> None:
    with place.worker() as worker:
        worker.put(WorkItem(NOTHING, serial=7))
        wait_until(lambda: worker.confirmed_serial == 7)
        assert worker.status().counts.outcomes == {}
