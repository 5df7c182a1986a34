"""What attempts leave for the next ones: a release, a lost destination. With real rsyncs."""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.faults import exit_with, print_error_and_exit
from support.mounts import Mounts, can_mount
from support.waiting import wait_until
from support.worker_setup import LONG, WorkerParts, WorkerSetup, carry, entries

from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset, MutableChangeset
from pylsyncd.model.moves import NO_MOVES
from pylsyncd.model.notices import NoticeKind
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.model.status import Condition
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.system import clock
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.threads import Crash
from pylsyncd.worker.attempts import LargeFileWorkerError
from pylsyncd.worker.pending import CompleteTimes, Settlement
from pylsyncd.worker.publisher import MAX_WAIT_FOR_FAILED_PATHS, TransferConditions
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.transfer_result import TransferResult


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


def tree(*some: bytes) -> MutableChangeset:
    changes = MutableChangeset()
    for path in some:
        changes.add(path, Scope.TREE)
    return changes


def done(**changes: Changeset) -> TransferResult:
    return TransferResult(Outcome(Verdict.DONE), **changes)


def partial(**changes: Changeset) -> TransferResult:
    return TransferResult(Outcome(Verdict.PARTIAL, "some paths failed"), **changes)


RELEASE = WorkItem(NOTHING, is_release=True)


def test_nothing_is_released_before_something_is_held(place: WorkerSetup) -> None:
    attempts = place.parts().attempts
    assert (attempts.is_released, attempts.is_reachable, attempts.is_stopping) == (
        False, True, False,
    )  # fmt: skip
    for some in (WorkItem(NOTHING), WorkItem(NOTHING, is_urgent=True), RELEASE, item(b"f"),
                 WorkItem(entries(b"f"), is_release=True)):  # fmt: skip
        attempts.add(some, 0.0)
        assert not attempts.is_released


@pytest.mark.parametrize("was_held", [True, False])
@pytest.mark.parametrize("verdict", Verdict)
def test_a_release_applies_to_what_is_held_until_more_changes_arrive(
    place: WorkerSetup, verdict: Verdict, *, was_held: bool
) -> None:
    parts = place.parts(was_held=was_held)
    attempts, work = parts.attempts, parts.work
    for queue in (work.next_run, *work.retried_apart):
        attempts.is_released = False
        queue.backlog.add(entries(b"f"))
        queue.schedule_retry(verdict)
        attempts.add(WorkItem(NOTHING, is_urgent=True), 0.0)
        assert not attempts.is_released
        attempts.add(RELEASE, 0.0)
        is_held = was_held or verdict in {Verdict.HELD, Verdict.SOURCE_UNSAFE}
        assert attempts.is_released is is_held
        attempts.add(WorkItem(NOTHING), 0.0)
        assert attempts.is_released is is_held
        attempts.add(item(b"g"), 0.0)
        assert not attempts.is_released
        queue.reset()


def test_changes_wait_for_the_longer_window_of_a_destination_that_works(
    place: WorkerSetup,
) -> None:
    parts = place.parts()
    parts.attempts.add(item(b"f"), 1000.0)
    assert parts.work.next_run.due_at > time.monotonic() + 300.0


def test_the_last_work_item_is_remembered(place: WorkerSetup) -> None:
    attempts = place.parts().attempts
    attempts.add(WorkItem(NOTHING, is_final=True), 0.0)
    attempts.add(WorkItem(NOTHING), 0.0)
    assert attempts.is_stopping


@pytest.mark.parametrize(
    ("some", "is_pending", "is_checked"),
    [
        (WorkItem(NOTHING, is_urgent=True), False, True),
        (WorkItem(NOTHING), False, False),
        (WorkItem(entries(b"f"), is_urgent=True), False, False),
        (WorkItem(NOTHING, is_urgent=True), True, False),
    ],
)
def test_a_request_looks_at_a_replaced_destination_if_nothing_else_does(
    place: WorkerSetup, some: WorkItem, *, is_pending: bool, is_checked: bool
) -> None:
    parts = place.parts()
    carry(place, entries(b""))
    parts.attempts.add(WorkItem(NOTHING, is_urgent=True), 0.0)
    assert parts.work.pending_count == 0
    place.copy.rename(place.copy.with_name("away"))
    place.copy.mkdir()
    if is_pending:
        parts.work.failed_paths.backlog.add(entries(b"bad"))
    parts.attempts.add(some, 0.0)
    found = {change.path for change in parts.work.next_run.backlog.changes}
    assert found == ({b""} if is_checked else {change.path for change in some.changeset})


def test_a_destination_is_probed_once_while_idle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(NOTICE)
    with contextlib.closing(WorkerSetup(tmp_path, is_probed=False)) as place:
        parts = place.parts()
        place.faulty.add_fault(exit_with(30))
        parts.attempts.probe_while_idle()
        assert not place.faulty.pending_faults
        assert caplog.text.count("[copy] ") == caplog.text.count("for the first run yet: ") == 1
        # Nothing waits for it.
        assert [record.levelno for record in caplog.records] == [NOTICE]
        assert parts.attempts.interrupted is None
        place.faulty.add_fault(exit_with(30))
        parts.attempts.probe_while_idle()
        assert place.faulty.pending_faults == 1


@pytest.mark.parametrize("is_aborted", [True, False])
def test_a_probe_that_ends_well_or_was_aborted_is_not_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_aborted: bool
) -> None:
    with contextlib.closing(WorkerSetup(tmp_path, is_probed=False)) as place:
        parts = place.parts()
        if is_aborted:
            parts.session.abort(signal.SIGTERM)
        parts.attempts.probe_while_idle()
        assert not caplog.text


class InterruptedRunError(Exception):
    """What no one foresaw."""


def interrupting(on_end: Callable[[], object] = lambda: None) -> SharedResources:
    """Return resources that fail after each run."""

    def fail(_: str) -> None:
        on_end()
        raise InterruptedRunError

    return SharedResources(on_progress_end=fail)


def test_a_probe_that_raises_has_taken_nothing_from_what_is_pending(tmp_path: Path) -> None:
    with contextlib.closing(WorkerSetup(tmp_path, is_probed=False)) as place:
        parts = place.parts(resources=interrupting())
        with pytest.raises(InterruptedRunError):
            parts.attempts.probe_while_idle()
        assert parts.attempts.interrupted == NOTHING


@pytest.mark.parametrize("is_repair", [True, False])
def test_what_is_carried_is_known_during_the_run_and_after_one_that_raises(
    place: WorkerSetup, *, is_repair: bool
) -> None:
    seen: list[Changeset] = []
    parts = place.parts(resources=interrupting(lambda: seen.append(parts.attempts.carrying)))
    assert parts.attempts.carrying == NOTHING
    changes = entries(b"f").with_moves(NO_MOVES)
    options = parts.session.options if is_repair else None
    with pytest.raises(InterruptedRunError):
        parts.attempts.carry(changes, TransferConditions(options=options))
    # A repair carries no change that waits.
    assert seen == [NOTHING if is_repair else changes]
    interrupted = parts.attempts.interrupted
    assert interrupted is not None
    assert list(interrupted) == list(changes)
    # They may have been carried.
    assert interrupted.moves is None


@pytest.mark.parametrize("is_repair", [True, False])
def test_a_run_is_reported_unless_it_is_a_repair(place: WorkerSetup, *, is_repair: bool) -> None:
    parts = place.parts()
    place.write("f")
    options = parts.session.options if is_repair else None
    result = parts.attempts.carry(entries(b"f"), TransferConditions(options=options))
    assert result.verdict is Verdict.DONE
    assert [notice.kind for notice in place.notices] == ([] if is_repair else [NoticeKind.BATCH])
    assert (parts.attempts.carrying, parts.attempts.interrupted) == (NOTHING, None)


def test_attributes_that_cannot_be_set_are_a_warning_the_first_time(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    parts = place.parts()
    place.write("f")
    said = f'rsync: [generator] chown "{place.copy}/f" failed: Operation not permitted (1)'
    levels = []
    for _ in range(2):
        place.faulty.add_fault(f'rsync "$@"; {print_error_and_exit(said, 23)}')
        caplog.clear()
        result = parts.attempts.carry(entries(b"f"), TransferConditions())
        assert set(result.unset_attributes) == set(entries(b"f"))
        levels += [record.levelno for record in caplog.records if "1 path" in record.getMessage()]
        parts.work.unset_attributes.add(result.unset_attributes)
    assert levels == [logging.WARNING, logging.INFO]


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
def test_held_subtrees_are_kept_and_reported(place: WorkerSetup) -> None:
    nested = place.source / "nested"
    nested.mkdir()
    place.guard.accept()
    parts = place.parts()
    with Mounts() as mounts:
        mounts.mount_tmpfs(nested)
        place.write("nested/f")
        parts.transfer.find_held_subtrees()
        parts.attempts.carry(entries(b"nested/f"), TransferConditions())
        assert {Change(b"nested", Scope.TREE)} <= set(parts.work.held.changes)
        assert NoticeKind.HELD in [notice.kind for notice in place.notices]
        assert not (place.copy / "nested").exists()
        # A request has its copy looked at.
        parts.attempts.add(WorkItem(NOTHING, is_urgent=True), 0.0)
        assert set(parts.work.next_run.backlog.changes) == set(entries(b""))


@pytest.mark.parametrize("is_wider", [True, False])
@pytest.mark.parametrize("is_released", [True, False])
def test_a_release_does_not_apply_to_more_than_the_changes(
    limited: WorkerSetup, *, is_released: bool, is_wider: bool
) -> None:
    for name in "abc":
        (limited.copy / name).touch()
    attempts = limited.parts().attempts
    attempts.is_released = is_released
    conditions = TransferConditions()
    result = attempts.carry(entries(b"a", b"b", b"c"), conditions, is_wider=is_wider)
    is_deleted = is_released and not is_wider
    assert result.verdict is (Verdict.DONE if is_deleted else Verdict.HELD)
    assert len(list(limited.copy.iterdir())) == (0 if is_deleted else 3)


def finish(parts: WorkerParts, result: TransferResult, since: float | None) -> None:
    parts.attempts.finish(parts.work.next_run, result, since)


def test_what_is_confirmed_is_counted_with_its_age(place: WorkerSetup) -> None:
    parts = place.parts()
    since = time.monotonic() - 100.0
    finish(parts, done(pending=entries(b"f")), since)
    finish(parts, done(), None)
    parts.work.next_run.backlog.add(entries(b"f"))
    finish(parts, done(), since)
    assert sum(parts.session.statistics.counts().lags) == 0
    parts.work.next_run.backlog.take()
    finish(parts, done(), since)
    counts = parts.session.statistics.counts()
    assert sum(counts.lags) == 1
    assert 100.0 <= counts.lag_sum < 200.0


def test_the_failures_of_a_queue_are_forgotten_when_it_is_empty(place: WorkerSetup) -> None:
    parts = place.parts()
    queue = parts.work.next_run
    queue.backlog.add(entries(b"f"))
    for count in (1, 0):
        queue.schedule_retry(Verdict.RETRY_LATER)
        finish(parts, partial(), None)
        assert queue.failure_count == count
        queue.backlog.take()


def test_what_is_confirmed_is_saved(place: WorkerSetup) -> None:
    parts = place.parts()
    parts.work.confirm(CompleteTimes(clock.now()))
    finish(parts, done(), None)
    assert place.saved_changes() == set()


@pytest.mark.parametrize("is_own", [True, False])
def test_a_failure_is_reported_until_nothing_fails(place: WorkerSetup, *, is_own: bool) -> None:
    parts = place.parts()
    attempts, work = parts.attempts, parts.work
    queue = work.next_run if is_own else work.aborting_files
    queue.backlog.add(entries(b"f"))
    queue.schedule_retry(Verdict.PARTIAL)
    attempts.paths_failed_at = 5.0
    finish(parts, partial(failed=entries(b"f")), None)
    assert [notice.kind for notice in place.notices] == [NoticeKind.ERROR]
    assert attempts.paths_failed_at == 5.0
    queue.backlog.take()
    finish(parts, done(), None)
    assert [notice.kind for notice in place.notices] == [NoticeKind.ERROR, NoticeKind.RECOVERY]
    assert attempts.paths_failed_at is None


def test_the_last_files_wait_for_failed_paths_for_a_limited_time(place: WorkerSetup) -> None:
    attempts = place.parts().attempts
    assert attempts.holds_last_back()
    now = time.monotonic()
    for age, holds in ((0.0, True), (MAX_WAIT_FOR_FAILED_PATHS / 2, True),
                       (MAX_WAIT_FOR_FAILED_PATHS, False)):  # fmt: skip
        attempts.paths_failed_at = now - age
        assert attempts.holds_last_back() is holds


@pytest.mark.parametrize(
    ("failed", "held", "suffix"),
    [
        ((), (), ""),
        ((b"a", b"b"), (), ", except for 2 paths"),
        ((), (b"m",), ", except for 1 path"),
        ((b"a",), (b"m",), ", except for 2 paths"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_complete_sync_is_logged_with_what_it_lacks_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, failed: tuple[bytes, ...],
    held: tuple[bytes, ...], suffix: str, *, dry_run: bool,
) -> None:  # fmt: skip
    caplog.set_level(NOTICE)
    with contextlib.closing(WorkerSetup(tmp_path, dry_run=dry_run)) as place:
        parts = place.parts()
        parts.attempts.add(WorkItem(EVERYTHING, titles=("full sync",)), 0.0)
        parts.work.failed_paths.backlog.add(entries(*failed))
        parts.work.held.add(tree(*held))
        # As long as the next run is not empty, it is not complete.
        finish(parts, done(), None)
        assert not parts.session.statistics.counts().full_syncs
        parts.work.next_run.backlog.take()
        finish(parts, done(), None)
        finish(parts, done(), None)
        ending = " (dry run: nothing was changed)" if dry_run else ""
        messages = [record.getMessage() for record in caplog.records]
        assert messages == [f"[copy] full sync complete{suffix}{ending}"]
        assert parts.session.statistics.counts().full_syncs == {"full sync": 1}


@pytest.fixture
def with_large_files(tmp_path: Path) -> Iterator[WorkerSetup]:
    limit = SizeLimit(0, preserves_hard_links=False)
    with contextlib.closing(WorkerSetup(tmp_path, size_limit=limit)) as made:
        yield made


def start_batch(parts: WorkerParts, *names: bytes) -> None:
    """Start a batch, and wait until its result is there."""
    large_files = parts.work.large_files
    large_files.add(entries(*names), 5.0)
    large_files.start_due_batch()
    assert large_files.worker is not None
    wait_until(lambda: not large_files.worker._results.empty())  # noqa: SLF001


@pytest.mark.parametrize("is_reachable", [True, False])
def test_what_a_batch_returns_is_carried_at_once_if_the_destination_is_reachable(
    with_large_files: WorkerSetup, *, is_reachable: bool
) -> None:
    place = with_large_files
    parts = place.parts()
    place.write("d/f")
    with running_large_files(parts):
        parts.attempts.take_finished_batch()
        assert (parts.work.pending_count, parts.work.next_run.since) == (0, None)
        parts.attempts.is_reachable = is_reachable
        parts.work.next_run.schedule_retry(Verdict.RETRY_LATER)
        start_batch(parts, b"d/f")
        parts.attempts.take_finished_batch()
    found = {change.path for change in parts.work.next_run.backlog.changes}
    assert found == {b"d", b""}
    assert parts.work.next_run.since == 5.0
    assert parts.work.next_run.is_due() is is_reachable
    assert not place.notices


@pytest.mark.parametrize("status", [30, 11])
def test_a_batch_that_fails_is_reported_with_its_next_attempt(
    with_large_files: WorkerSetup, status: int
) -> None:
    place = with_large_files
    parts = place.parts()
    place.write("f")
    said = f'rsync: [receiver] write failed on "{place.copy}/f": File too large (27)'
    place.faulty.add_fault(print_error_and_exit(said, status) if status == 11 else exit_with(30))
    with running_large_files(parts):
        start_batch(parts, b"f")
        parts.attempts.take_finished_batch()
    assert [(notice.kind, notice.code) for notice in place.notices] == [(NoticeKind.ERROR, status)]
    large_files = parts.work.large_files
    failing = large_files.aborting_files if status == 11 else large_files.retry_queue
    assert set(failing.backlog.changes) == set(entries(b"f"))


def test_a_failed_thread_for_large_files_ends_its_worker(with_large_files: WorkerSetup) -> None:
    parts = with_large_files.parts()
    parts.attempts.take_finished_batch()
    worker = parts.work.large_files.worker
    assert worker is not None
    worker.crash = Crash("an error")
    with pytest.raises(LargeFileWorkerError):
        parts.attempts.take_finished_batch()
    # Nothing was taken from what is pending.
    assert parts.attempts.interrupted == NOTHING


@contextlib.contextmanager
def running_large_files(parts: WorkerParts) -> Iterator[None]:
    parts.work.large_files.start()
    try:
        yield
    finally:
        parts.work.large_files.stop()
