"""The status of a worker, and how it reacts to requests. With real rsyncs."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import exit_with, hang, wait_for_file
from support.waiting import wait_until
from support.worker_setup import LONG, WorkerSetup, entries

from pylsyncd.model.changes import EVERYTHING, NOTHING, MutableChangeset
from pylsyncd.model.notices import NoticeKind
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.model.status import Condition, PathSummary, SetAside
from pylsyncd.pipeline.work_queue import WorkItem, WorkQueue
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.state.checkpoint import Checkpoint
from pylsyncd.system import clock
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.restarts import DelayedStart
from pylsyncd.system.threads import Crash
from pylsyncd.worker.attempts import Attempts
from pylsyncd.worker.pending import PendingWork, Settlement
from pylsyncd.worker.repairs import Repairs
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.retry_queue import RetryQueue
from pylsyncd.worker.worker import Worker


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


def new_worker(
    place: WorkerSetup,
    *,
    delayed_start: DelayedStart | None = None,
    checkpoint: Checkpoint | None = None,
    resources: SharedResources | None = None,
    repairs: Repairs | None = None,
) -> Worker:
    """Return a worker that is not started."""
    queue = WorkQueue()
    parts = place.parts(resources=resources, wake=queue.wake)
    return Worker(
        parts.session, parts.transfer, parts.work, queue,
        reporter=parts.reporter, checkpoint=checkpoint, on_failed=lambda _: None,
        delayed_start=delayed_start, repairs=repairs,
    )  # fmt: skip


def attempts_of(worker: Worker) -> Attempts:
    return worker._attempts  # noqa: SLF001


def work_of(worker: Worker) -> PendingWork:
    return worker._work  # noqa: SLF001


def queue_of(worker: Worker) -> WorkQueue:
    return worker._queue  # noqa: SLF001


@contextlib.contextmanager
def running(worker: Worker) -> Iterator[None]:
    worker.start()
    try:
        yield
    finally:
        worker.request_stop()
        worker.join()


@pytest.fixture
def with_large_files(tmp_path: Path) -> Iterator[WorkerSetup]:
    limit = SizeLimit(1_000, preserves_hard_links=False)
    top = tmp_path / "with-large-files"
    top.mkdir()
    with contextlib.closing(WorkerSetup(top, size_limit=limit)) as made:
        yield made


def test_attributes_that_could_not_be_set_are_known_from_the_last_state(
    place: WorkerSetup,
) -> None:
    assert not new_worker(place).unset_attributes
    assert new_worker(place).mount_checks == {}
    first = place.checkpoint()
    first.confirm(clock.now(), NOTHING, unset_attributes=entries(b"foreign"))
    first.save()
    checkpoint = place.checkpoint()
    state = checkpoint.load().state
    assert state is not None
    checkpoint.resume_from(state)
    worker = new_worker(place, checkpoint=checkpoint)
    assert set(worker.unset_attributes) == set(entries(b"foreign"))


def test_the_thread_for_large_files_serves_its_destination_and_ends_with_the_worker(
    place: WorkerSetup, with_large_files: WorkerSetup
) -> None:
    worker = new_worker(place)
    assert worker.threads == [worker]
    worker = new_worker(with_large_files)
    thread = work_of(worker).large_files.worker
    assert thread is not None
    assert worker.threads == [worker, thread]
    with running(worker):
        wait_until(thread.is_alive)
    assert not thread.is_alive()


def test_an_abort_stops_the_run_for_large_files(with_large_files: WorkerSetup) -> None:
    place = with_large_files
    (place.source / "large").write_bytes(bytes(2_000))
    worker = new_worker(place)
    place.faulty.add_fault(hang())
    with running(worker):
        worker.put(item(b"large"))
        wait_until(lambda: not place.faulty.pending_faults)
        worker.abort(signal.SIGTERM)
        wait_until(lambda: not worker.is_alive())


def test_a_worker_that_stops_waits_for_a_large_file_without_a_loop(
    with_large_files: WorkerSetup,
) -> None:
    place = with_large_files
    (place.source / "large").write_bytes(bytes(2_000))
    go = place.source.parent / "go"
    worker = new_worker(place)
    place.faulty.add_fault(wait_for_file(go))
    with running(worker):
        worker.put(item(b"large"))
        wait_until(lambda: not place.faulty.pending_faults)
        worker.request_stop()
        wait_until(lambda: attempts_of(worker).is_stopping)
        # It is not busy while it waits.
        wait_until(lambda: worker.activity.inactive_seconds == 0.0)
        go.touch()


def test_a_delayed_worker_counts_as_failed_until_it_is_started(place: WorkerSetup) -> None:
    delayed = DelayedStart(600.0)
    worker = new_worker(place, delayed_start=delayed)
    assert worker.delayed_start is delayed
    assert worker.status().condition is Condition.FAILED
    assert 300.0 < (worker.status().next_attempt or 0.0) <= 600.0
    worker.put(WorkItem(NOTHING))
    assert (worker.status().next_attempt or 0.0) > 300.0
    worker.put(WorkItem(NOTHING, is_urgent=True))
    assert (worker.status().next_attempt or 0.0) <= 1.0
    again = DelayedStart(600.0)
    worker.delay_start(again)
    assert worker.delayed_start is again
    with running(worker):
        assert worker.delayed_start is None
        wait_until(lambda: worker.status().condition is Condition.IN_SYNC)


def test_a_failure_of_the_thread_for_large_files_is_the_reason_of_its_worker(
    place: WorkerSetup, with_large_files: WorkerSetup
) -> None:
    own, others = Crash("of the worker"), Crash("of the thread for large files")
    worker = new_worker(place)
    assert worker.failure is None
    worker.crash = own
    assert worker.failure is own
    worker = new_worker(with_large_files)
    thread = work_of(worker).large_files.worker
    assert thread is not None
    for crash, thread_crash, failure in ((None, None, None), (None, others, None),
                                         (own, None, own), (own, others, others)):  # fmt: skip
        worker.crash, thread.crash = crash, thread_crash
        assert worker.failure is failure


@pytest.mark.parametrize("verdict", Verdict)
def test_changes_are_held_if_one_part_is(place: WorkerSetup, verdict: Verdict) -> None:
    worker = new_worker(place)
    for part in work_of(worker).retry_queues:
        assert not worker.has_held_changes
        part.backlog.add(entries(b"f"))
        part.schedule_retry(verdict)
        is_held = verdict in {Verdict.HELD, Verdict.SOURCE_UNSAFE}
        assert worker.has_held_changes is is_held
        word = Condition.HELD if is_held else Condition.RETRYING
        assert worker.status().condition is word
        part.reset()


def test_a_longer_window_applies_to_the_next_changes(place: WorkerSetup) -> None:
    worker = new_worker(place)
    with running(worker):
        worker.set_extra_window(3600.0)
        worker.put(item(b"f"))
        wait_until(lambda: work_of(worker).pending_count == 1)
        assert worker.status().condition is Condition.WAITING


def test_changes_are_pending_in_the_queue_in_parts_and_in_the_run(place: WorkerSetup) -> None:
    worker = new_worker(place)
    work_of(worker).next_run.backlog.add(entries(b"a"))
    worker.put(WorkItem(entries(b"b", b"c")))
    attempts_of(worker).carrying = entries(b"d", b"e", b"f", b"g")
    assert (worker.pending_count, worker.status().waiting) == (7, 7)


def test_a_destination_owes_everything_wherever_that_is_pending(place: WorkerSetup) -> None:
    worker = new_worker(place)
    assert not worker.status().owes_everything
    for part in work_of(worker).retry_queues:
        part.backlog.add(EVERYTHING)
        assert worker.status().owes_everything
        part.backlog.take()
    attempts_of(worker).carrying = EVERYTHING
    assert worker.status().owes_everything
    attempts_of(worker).carrying = NOTHING
    assert not worker.status().owes_everything
    worker.put(WorkItem(EVERYTHING))
    assert worker.status().owes_everything


def test_only_what_failed_and_is_pending_has_a_next_attempt(place: WorkerSetup) -> None:
    worker = new_worker(place)
    part = work_of(worker).failed_paths
    part.backlog.add(entries(b"f"))
    assert worker.status().next_attempt is None
    part.schedule_retry(Verdict.PARTIAL)
    assert 300.0 < (worker.status().next_attempt or 0.0) <= 600.0
    part.make_due()
    assert worker.status().next_attempt == 0.0
    part.backlog.take()
    assert worker.status().next_attempt is None


def test_the_status_has_the_time_since_which_all_was_compared(place: WorkerSetup) -> None:
    assert new_worker(place).status().compared_since is None
    repairs = place.repairs(0.0)
    repairs.record_full_sync(5.0)
    assert new_worker(place, repairs=repairs).status().compared_since == 5.0


def test_a_condition_is_the_first_that_applies(with_large_files: WorkerSetup) -> None:
    worker = new_worker(with_large_files)
    found = [worker.status().condition]
    queue_of(worker).is_idle = False
    found.append(worker.status().condition)
    worker.put(WorkItem(entries(b"f")))
    found.append(worker.status().condition)
    work_of(worker).failed_paths.schedule_retry(Verdict.PARTIAL)
    found.append(worker.status().condition)
    work_of(worker).aborting_files.schedule_retry(Verdict.HELD)
    found.append(worker.status().condition)
    large_files = work_of(worker).large_files
    large_files.add(entries(b"large"))
    large_files.start_due_batch()
    found.append(worker.status().condition)
    worker.set_paused(is_paused=True)
    found.append(worker.status().condition)
    worker._is_failing = True  # noqa: SLF001
    found.append(worker.status().condition)
    assert worker.status().next_attempt == 0.0
    assert found == [
        Condition.IN_SYNC, Condition.SYNCING, Condition.WAITING, Condition.RETRYING,
        Condition.HELD, Condition.SYNCING, Condition.PAUSED, Condition.FAILED,
    ]  # fmt: skip


def test_while_a_set_is_carried_it_is_syncing(place: WorkerSetup) -> None:
    worker = new_worker(place)
    attempts_of(worker).carrying = entries(b"f")
    assert worker.status().condition is Condition.SYNCING


def hinted(*names: bytes) -> MutableChangeset:
    changes = MutableChangeset()
    for name in names:
        changes.add_new_content(name, Scope.ENTRY)
    return changes


def test_of_a_worker_that_hangs_everything_is_taken_over(place: WorkerSetup) -> None:
    place.faulty.add_fault(wait_for_file(place.source.parent / "go"))
    worker = new_worker(place)
    with running(worker):
        worker.put(WorkItem(hinted(b"f")))
        wait_until(lambda: worker.status().condition is Condition.SYNCING)
        taken = worker.take_unconfirmed()
        (place.source.parent / "go").touch()
    assert taken.changeset.is_everything
    assert set(taken.changeset.new_content) == set(entries(b"f"))
    assert taken.titles == ("full sync",)


def test_of_a_worker_that_ended_the_queue_is_taken_over_as_well(place: WorkerSetup) -> None:
    worker = new_worker(place)
    work_of(worker).failed_paths.backlog.add(entries(b"a"))
    worker.put(WorkItem(entries(b"b"), serial=2))
    taken = worker.take_unconfirmed()
    assert (set(taken.changeset), taken.serial) == (set(entries(b"a", b"b")), 2)
    assert not taken.titles
    assert not worker.take_unconfirmed().changeset


@pytest.mark.parametrize(
    ("pending", "interrupted", "queued", "expected"),
    [
        ((b"a",), (), (), (b"a",)),
        ((b"a",), (b"b",), (b"c",), (b"a", b"b", b"c")),
        ((), (), (b"c",), (b"c",)),
        # It is unknown what was being done.
        ((b"a",), None, (b"c",), (b"",)),
        ((), None, (), (b"",)),
        # Something was taken from what is pending and is lost.
        ((), (), (), (b"",)),
    ],
)
@pytest.mark.parametrize("titles", [(), ("initial sync",)])
@pytest.mark.parametrize("is_release", [True, False])
def test_of_a_worker_that_failed_everything_is_taken_over_unless_it_is_known_what_is_pending(
    place: WorkerSetup, pending: tuple[bytes, ...], interrupted: tuple[bytes, ...] | None,
    queued: tuple[bytes, ...], expected: tuple[bytes, ...], titles: tuple[str, ...],
    *, is_release: bool,
) -> None:  # fmt: skip
    worker = new_worker(place)
    worker.crash = Crash("an error")
    work_of(worker).failed_paths.backlog.add(entries(*pending))
    attempts_of(worker).interrupted = None if interrupted is None else entries(*interrupted)
    attempts_of(worker).carrying = hinted(b"lost")
    worker.put(WorkItem(entries(*queued), titles=titles, serial=2, is_release=is_release))
    taken = worker.take_unconfirmed()
    assert {change.path for change in taken.changeset} == set(expected)
    is_everything = expected == (b"",)
    assert taken.changeset.is_everything is is_everything
    assert {change.path for change in taken.changeset.new_content} == (
        {b"lost"} if is_everything else set()
    )
    assert taken.titles == (titles or (("full sync",) if is_everything else ()))
    assert (taken.serial, taken.is_release) == (2, is_release)


def test_of_a_worker_that_failed_without_a_release_in_its_queue_none_is_taken_over(
    place: WorkerSetup,
) -> None:
    worker = new_worker(place)
    worker.crash = Crash("an error")
    attempts_of(worker).interrupted = entries(b"f")
    assert not worker.take_unconfirmed().is_release


def test_of_a_worker_whose_state_is_broken_everything_is_taken_over(place: WorkerSetup) -> None:
    worker = new_worker(place)
    worker.crash = Crash("an error")
    work_of(worker).next_run.backlog = None  # type: ignore[assignment]
    taken = worker.take_unconfirmed()
    assert (taken.changeset, taken.titles) == (EVERYTHING, ("full sync",))


def wait_for_end(worker: Worker) -> None:
    wait_until(lambda: not worker.is_alive())
    assert worker.crash is not None


def test_what_was_carried_when_a_worker_failed_is_known(with_large_files: WorkerSetup) -> None:
    def fail(_: str) -> None:
        raise LookupError

    place = with_large_files
    worker = new_worker(place, resources=SharedResources(on_progress_end=fail))
    thread = work_of(worker).large_files.worker
    assert thread is not None
    work_of(worker).failed_paths.backlog.add(entries(b"bad"))
    work_of(worker).failed_paths.schedule_retry(Verdict.PARTIAL)
    worker.put(WorkItem(entries(b"f")))
    worker.start()
    wait_for_end(worker)
    assert not thread.is_alive()
    assert worker.status().condition is Condition.FAILED
    assert queue_of(worker).is_idle
    assert set(worker.take_unconfirmed().changeset) == set(entries(b"f", b"bad"))


def test_of_a_worker_that_failed_between_its_runs_it_is_unknown_what_is_pending(
    place: WorkerSetup,
) -> None:
    worker = new_worker(place)
    worker.set_extra_window(None)  # type: ignore[arg-type]
    work_of(worker).failed_paths.backlog.add(entries(b"bad"))
    work_of(worker).failed_paths.schedule_retry(Verdict.PARTIAL)
    worker.put(WorkItem(entries(b"f")))
    worker.start()
    wait_for_end(worker)
    assert worker.take_unconfirmed().changeset.is_everything


def test_a_worker_that_could_not_start_has_taken_nothing(with_large_files: WorkerSetup) -> None:
    worker = new_worker(with_large_files)
    thread = work_of(worker).large_files.worker
    assert thread is not None
    # A thread cannot be started twice.
    thread.request_stop()
    thread.start()
    thread.join()
    work_of(worker).failed_paths.backlog.add(entries(b"bad"))
    worker.start()
    wait_for_end(worker)
    assert set(worker.take_unconfirmed().changeset) == set(entries(b"bad"))


@pytest.mark.parametrize("is_paused", [True, False])
def test_a_destination_is_probed_while_idle_unless_it_is_paused(
    tmp_path: Path, *, is_paused: bool
) -> None:
    with contextlib.closing(WorkerSetup(tmp_path, is_probed=False)) as place:
        place.faulty.add_fault(exit_with(30))
        worker = new_worker(place)
        worker.set_paused(is_paused=is_paused)
        with running(worker):
            for serial in (1, 2):
                worker.put(WorkItem(NOTHING, serial=serial))
                wait_until(lambda serial=serial: worker.confirmed_serial == serial)
        assert place.faulty.pending_faults == is_paused


def test_work_that_waits_is_carried_at_once_instead_of_a_probe(tmp_path: Path) -> None:
    with contextlib.closing(WorkerSetup(tmp_path, is_probed=False)) as place:
        place.faulty.add_fault(exit_with(30))
        worker = new_worker(place)
        worker.put(item(b"f"))
        with running(worker):
            wait_until(lambda: worker.status().condition is Condition.RETRYING)


def test_what_is_carried_before_a_stop_is_confirmed_and_saved(place: WorkerSetup) -> None:
    place.write("f")
    until = clock.now()
    worker = new_worker(place, checkpoint=place.checkpoint())
    with running(worker):
        worker.put(WorkItem(entries(b"f"), until, serial=3))
    assert (worker.confirmed_serial, worker.settlement) == (3, Settlement(3))
    state = place.state()
    assert state is not None
    assert (state.confirmed, state.is_clean_stop) == (until, True)


def test_without_a_checkpoint_changes_are_confirmed_all_the_same(place: WorkerSetup) -> None:
    place.write("f")
    worker = new_worker(place)
    with running(worker):
        worker.put(item(b"f"))
        wait_until(lambda: worker.confirmed_serial == 1)
    assert place.state() is None


def test_a_state_that_changed_again_soon_is_saved_a_little_later(place: WorkerSetup) -> None:
    worker = new_worker(place, checkpoint=place.checkpoint())
    with running(worker):
        for number in (1, 2):
            until = clock.now()
            worker.put(WorkItem(NOTHING, until, serial=number))
            worker.put(WorkItem(entries(b"f"), until, serial=number))
            wait_until(lambda until=until: (state := place.state()) and state.confirmed == until)


def test_a_state_that_has_not_changed_is_not_saved_again(place: WorkerSetup) -> None:
    file = place.source.parent / "state/copy.state"
    with place.worker() as worker:
        worker.put(item(b"f"))
        wait_until(lambda: place.saved_changes() == set())
        saved = file.stat()
        for _ in range(3):
            place.faulty.add_fault(exit_with(30))
        place.faulty.add_fault(hang())
        worker.put(item(b"g", serial=2))
        # Each retry ends a wait.
        wait_until(lambda: not place.faulty.pending_faults)
        assert file.stat() == saved


def test_a_worker_is_not_idle_while_it_may_take_what_is_pending(place: WorkerSetup) -> None:
    go = place.source.parent / "go"
    worker = new_worker(place)
    with running(worker):
        worker.put(WorkItem(NOTHING, serial=1))
        wait_until(lambda: worker.confirmed_serial == 1)
        assert queue_of(worker).is_idle
        place.faulty.add_fault(exit_with(30))
        worker.put(item(b"f", serial=2))
        wait_until(lambda: worker.status().condition is Condition.RETRYING)
        wait_until(lambda: queue_of(worker).is_idle)
        place.faulty.add_fault(wait_for_file(go))
        worker.put(WorkItem(NOTHING, is_urgent=True))
        wait_until(lambda: worker.status().condition is Condition.SYNCING)
        assert not queue_of(worker).is_idle
        go.touch()
        wait_until(lambda: queue_of(worker).is_idle)
        assert worker.confirmed_serial == 2


def test_a_worker_is_not_idle_when_a_pause_has_ended(place: WorkerSetup) -> None:
    go = place.source.parent / "go"
    place.faulty.add_fault(exit_with(30))
    place.faulty.add_fault(wait_for_file(go))
    with place.worker() as worker:
        worker.put(item(b"f"))
        wait_until(lambda: not place.faulty.pending_faults)
        assert not queue_of(worker).is_idle
        go.touch()
        wait_until(lambda: worker.confirmed_serial == 1)


@pytest.mark.parametrize("is_stopping", [True, False])
def test_a_large_file_is_sent_beside_the_worker_and_before_a_stop(
    with_large_files: WorkerSetup, *, is_stopping: bool
) -> None:
    place = with_large_files
    (place.source / "d").mkdir()
    (place.source / "d/large").write_bytes(bytes(2_000))
    worker = new_worker(place)
    with running(worker):
        worker.put(item(b"d/large"))
        if not is_stopping:
            wait_until(lambda: worker.confirmed_serial == 1)
    assert (place.copy / "d/large").exists()
    assert (worker.confirmed_serial, worker.pending_count) == (1, 0)


DUE_PARTS = ["failed_paths", "aborting_files", "unexplained", "held_repair"]


@pytest.mark.parametrize("name", DUE_PARTS)
def test_each_part_is_carried_when_it_is_due(place: WorkerSetup, name: str) -> None:
    place.write("d/f")
    worker = new_worker(place, repairs=place.repairs(0.0))
    part: RetryQueue = getattr(work_of(worker), name)
    changes = MutableChangeset()
    changes.add(b"d", Scope.LISTING)
    part.backlog.add(changes if name == "held_repair" else entries(b"d/f"))
    (place.copy / "d").mkdir()
    with running(worker):
        wait_until((place.copy / "d/f").exists)
        wait_until(lambda: worker.pending_count == 0)


def test_a_slice_of_a_repair_is_carried_when_it_is_due(place: WorkerSetup) -> None:
    place.write("f")
    repairs = place.repairs(3600.0)
    repairs.postpone(0.0)
    worker = new_worker(place, repairs=repairs)
    with running(worker):
        wait_until((place.copy / "f").exists)
