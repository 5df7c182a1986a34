"""What becomes of large files, and of what conflicts with them. A test stands in for the thread."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import hang
from support.waiting import wait_until
from support.worker_setup import LONG, WorkerSetup, entries

from pylsyncd.model.changes import NOTHING, Changeset, MutableChangeset, union
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.output import RsyncMessages
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.rsync.runner import RunResult
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.system.threads import Crash
from pylsyncd.worker.large_file_queue import MAX_BATCH_FILES, LargeFileQueue
from pylsyncd.worker.retry_queue import MAX_QUICK_RETRIES
from pylsyncd.worker.session import SessionRun
from pylsyncd.worker.transfer_result import TransferResult

ENTRY, LISTING, TREE = Scope.ENTRY, Scope.LISTING, Scope.TREE
GROWING = RetryPolicy(first_pause=600.0, max_pause=60_000.0, max_retry_now_pause=600.0)


def changes(*some: tuple[bytes, Scope], hints: Changeset = NOTHING) -> MutableChangeset:
    found = MutableChangeset()
    for path, scope in some:
        found.add(path, scope)
    found.new_content.add_all(hints)
    return found


class Batches:
    """A queue, and what its thread answers."""

    def __init__(self, place: WorkerSetup) -> None:
        self.place = place
        self.queue = place.parts(GROWING).work.large_files
        worker = self.queue.worker
        assert worker is not None
        self.worker = worker

    def start(self, *names: bytes) -> list[bytes]:
        """Add files, and start a batch; return those in flight."""
        self.queue.add(entries(*names))
        self.queue.start_due_batch()
        return sorted(self.queue.in_flight)

    def end(
        self,
        verdict: Verdict = Verdict.DONE,
        *,
        pending: Changeset = NOTHING,
        failed: Changeset = NOTHING,
        status: int = 0,
    ) -> set[Change]:
        """End a batch; return what the worker has to carry."""
        outcome = Outcome(verdict)
        run = SessionRun(outcome, RunResult(status, messages=RsyncMessages()))
        result = TransferResult(outcome, pending=pending, failed=failed, run=run)
        self.worker._results.put(result)  # noqa: SLF001
        assert self.queue.take_result() is result
        assert self.queue.take_result() is None
        assert not self.queue.in_flight
        return set(self.queue.take_returned()[0])

    def abort(self) -> set[Change]:
        """End a batch at a file that does not fit."""
        return self.end(Verdict.RETRY_LATER, status=11)

    def grow(self) -> None:
        """Let batches succeed until they are as large as they get."""
        for number in range(8):
            self.start(b"grow/%d" % number)
            self.end()


@pytest.fixture
def batches(tmp_path: Path) -> Iterator[Batches]:
    limit = SizeLimit(0, preserves_hard_links=False)
    with contextlib.closing(WorkerSetup(tmp_path, size_limit=limit)) as place:
        yield Batches(place)


def paths_of(some: Changeset) -> list[bytes]:
    return sorted(change.path for change in some)


def test_without_a_thread_nothing_is_in_flight() -> None:
    queue = LargeFileQueue(None, LONG)
    queue.start()
    queue.abort(signal.SIGTERM)
    queue.stop_now()
    queue.stop()
    assert not queue
    assert not queue.has_failed
    assert queue.take_result() is None
    assert not queue.take_returned()[0]
    some = entries(b"f")
    assert queue.defer_conflicts(some) is some
    queue.add(some)
    queue.start_due_batch()
    assert (queue.in_flight, queue.pending_count) == (frozenset(), 1)


def test_the_thread_is_started_and_stopped(batches: Batches) -> None:
    queue, worker = batches.queue, batches.worker
    queue.start()
    assert worker.is_alive()
    queue.stop()
    assert not worker.is_alive()
    assert not queue.has_failed
    worker.crash = Crash("an error")
    assert queue.has_failed


def test_an_abort_ends_the_thread(batches: Batches) -> None:
    batches.queue.start()
    batches.queue.abort(signal.SIGTERM)
    batches.worker.join(45.0)
    assert not batches.worker.is_alive()


def test_what_a_thread_was_sending_when_it_is_stopped_at_once_stays_pending(
    batches: Batches,
) -> None:
    batches.place.write("large")
    batches.place.faulty.add_fault(hang())
    batches.queue.start()
    batches.start(b"large")
    wait_until(lambda: not batches.place.faulty.pending_faults)
    batches.queue.stop_now()
    assert not batches.worker.is_alive()
    assert not batches.queue.in_flight
    assert b"large" in paths_of(batches.queue.pending)


@pytest.mark.parametrize("is_in_flight", [True, False])
def test_a_result_that_was_not_taken_counts_when_the_thread_is_stopped_at_once(
    batches: Batches, *, is_in_flight: bool
) -> None:
    batches.queue.start()
    if is_in_flight:
        batches.start(b"large")
        wait_until(lambda: not batches.worker._results.empty())  # noqa: SLF001
    batches.queue.stop_now()
    # All that is left is to send the times of the directories above.
    assert paths_of(batches.queue.pending) == ([b""] if is_in_flight else [])


def test_the_queue_is_due_when_its_files_are(batches: Batches) -> None:
    queue = batches.queue
    assert queue.due_at is None
    queue.retry_queue.due_at = 10.0
    queue.aborting_files.due_at = 5.0
    assert queue.due_at is None
    queue.add(entries(b"a"))
    assert queue.due_at == 10.0
    queue.aborting_files.backlog.add(entries(b"b"))
    assert queue.due_at == 5.0
    batches.start()
    assert queue.due_at is None


def test_what_waits_is_in_flight_is_deferred_or_comes_back_is_pending(batches: Batches) -> None:
    queue = batches.queue
    batches.place.write("d/a")
    batches.start(b"d/a", b"d/b", b"d/c")
    assert (queue.pending_count, paths_of(queue.pending)) == (3, [b"d/a", b"d/b", b"d/c"])
    queue.defer_conflicts(entries(b"d/a"))
    assert (queue.pending_count, paths_of(queue.pending)) == (4, [b"d/a", b"d/b", b"d/c"])
    result = TransferResult(Outcome(Verdict.DONE))
    batches.worker._results.put(result)  # noqa: SLF001
    queue.take_result()
    # The directories above, the deferred file, and those that wait.
    assert (queue.pending_count, paths_of(queue.pending)) == (
        5, [b"", b"d", b"d/a", b"d/b", b"d/c"],
    )  # fmt: skip
    assert bool(queue)


def test_each_kind_of_pending_change_keeps_the_queue_busy(batches: Batches) -> None:
    queue = batches.queue
    batches.start(b"d/a")
    assert queue
    batches.worker._results.put(TransferResult(Outcome(Verdict.DONE)))  # noqa: SLF001
    queue.take_result()
    assert queue
    queue.take_returned()
    assert not queue
    queue.add(entries(b"d/a"))
    assert queue


def test_the_age_of_a_batch_is_that_of_its_first_file(batches: Batches) -> None:
    batches.queue.add(entries(b"a"), 7.0)
    batches.queue.add(NOTHING, 3.0)
    batches.queue.add(entries(b"b"), 5.0)
    batches.start()
    batches.worker._results.put(TransferResult(Outcome(Verdict.DONE)))  # noqa: SLF001
    batches.queue.take_result()
    assert batches.queue.take_returned()[1] == 5.0
    batches.start()
    batches.end()
    # The queue is empty.
    assert batches.queue.retry_queue.since is None
    batches.start(b"c")
    batches.end()
    assert batches.queue.take_returned()[1] is None


def test_changes_of_a_file_in_flight_wait_for_it_and_all_others_do_not(batches: Batches) -> None:
    batches.place.write("d/large", "d/other")
    batches.start(b"d/large")
    temporary = b"d/.large.abc123"
    hints = changes((b"d/large", ENTRY), (b"d/other", ENTRY), (temporary, ENTRY), (b"x", ENTRY))
    some = changes(
        (b"d/large", ENTRY), (b"d/other", ENTRY), (temporary, ENTRY),
        (b"d/.other.abc123", ENTRY), (b"e/.large.abc123", ENTRY), hints=hints,
    )  # fmt: skip
    carried = batches.queue.defer_conflicts(some)
    assert paths_of(carried) == [b"d/.other.abc123", b"d/other", b"e/.large.abc123"]
    returned = batches.end()
    deferred = returned - {Change(b"", ENTRY), Change(b"d", ENTRY)}
    assert deferred == set(entries(b"d/large", temporary))
    batches.start(b"d/large")
    batches.queue.defer_conflicts(some)
    batches.worker._results.put(TransferResult(Outcome(Verdict.DONE)))  # noqa: SLF001
    batches.queue.take_result()
    hinted = batches.queue.take_returned()[0].new_content
    assert set(hinted) == set(entries(b"d/large", temporary))


def test_a_temporary_name_alone_in_its_directory_leaves_nothing_of_it(batches: Batches) -> None:
    batches.place.write("d/large")
    batches.start(b"d/large")
    carried = batches.queue.defer_conflicts(entries(b"d/.large.abc123", b"f"))
    assert dict(carried.entries) == {b"": {b"f"}}


def test_the_hint_of_a_listing_for_a_file_in_flight_waits_for_it(batches: Batches) -> None:
    batches.place.write("d/large")
    batches.start(b"d/large")
    some = changes((b"d", LISTING), hints=changes((b"d", LISTING)))
    batches.queue.defer_conflicts(some)
    batches.worker._results.put(TransferResult(Outcome(Verdict.DONE)))  # noqa: SLF001
    batches.queue.take_result()
    returned, _ = batches.queue.take_returned()
    assert set(returned.new_content) == set(entries(b"d/large"))


@pytest.mark.parametrize(
    ("change", "is_listed"),
    [
        ((b"d", LISTING), True),
        ((b"d", TREE), True),
        ((b"", TREE), True),
        ((b"", LISTING), False),
        ((b"d/other", ENTRY), False),
        ((b"e", TREE), False),
    ],
)
def test_a_directory_that_is_listed_beside_a_batch_is_listed_again_after_it(
    batches: Batches, change: tuple[bytes, Scope], *, is_listed: bool
) -> None:
    batches.place.write("d/large", "d/other")
    batches.start(b"d/large")
    some = changes(change)
    assert set(batches.queue.defer_conflicts(some)) == set(some)
    assert (Change(b"d", LISTING) in batches.end()) is is_listed


@pytest.mark.parametrize(
    ("change", "is_noticed"),
    [
        ((b"d/e/large", ENTRY), True),
        ((b"d/e/large/below", ENTRY), True),
        ((b"d/e", TREE), True),
        ((b"d", ENTRY), True),
        ((b"", TREE), True),
        ((b"d/e/other", ENTRY), False),
        ((b"d/e/larger", ENTRY), False),
    ],
)
def test_a_batch_is_cancelled_if_a_change_touches_one_of_its_files_that_is_gone(
    batches: Batches, change: tuple[bytes, Scope], *, is_noticed: bool
) -> None:
    batches.place.write("d/e/large", "kept")
    batches.grow()
    batches.queue.retry_queue.schedule_retry(Verdict.RETRY_LATER)
    batches.queue.retry_queue.make_due()
    assert batches.start(b"d/e/large", b"kept") == [b"d/e/large", b"kept"]
    (batches.place.source / "d/e/large").unlink()
    carried = batches.queue.defer_conflicts(changes(change))
    if not is_noticed:
        assert batches.queue.in_flight
        assert set(carried) == {Change(*change)}
        return
    assert not batches.queue.in_flight
    # rsync may have left its temporary file there.
    expected = {Change(*change), Change(b"d/e/large", ENTRY), Change(b"d/e", LISTING)}
    assert expected <= set(carried)
    assert b"kept" not in paths_of(carried)
    assert paths_of(batches.queue.retry_queue.backlog.changes) == [b"kept"]
    assert batches.queue.retry_queue.failure_count == 0
    assert batches.start(b"another") == [b"another"]


def test_a_source_that_cannot_be_opened_cancels_no_batch(batches: Batches) -> None:
    batches.place.write("large")
    batches.start(b"large")
    away = batches.place.source.rename(batches.place.source.with_name("away"))
    assert not batches.queue.defer_conflicts(entries(b"large"))
    assert batches.queue.in_flight
    away.rename(batches.place.source)


def test_batches_grow_while_they_succeed(batches: Batches) -> None:
    names = [b"%03d" % number for number in range(400)]
    sizes = [len(batches.start(*names))]
    while batches.queue.in_flight:
        batches.end()
        sizes.append(len(batches.start()))
    assert sizes == [1, 2, 4, 8, 16, 32, 64, MAX_BATCH_FILES, MAX_BATCH_FILES, 73, 0]


def test_a_batch_is_bounded_by_the_bytes_of_its_paths(batches: Batches) -> None:
    batches.grow()
    names = [b"%04d" % number + b"x" * 3_996 for number in range(30)]
    assert len(batches.start(*names)) == 25
    batches.end()
    assert len(batches.start()) == 5


def test_a_directory_or_a_path_that_is_too_long_is_left_to_the_worker(batches: Batches) -> None:
    longest, too_long = b"x" * 4_000, b"x" * 4_001
    some = changes((b"d", TREE), (b"e", LISTING), hints=changes((b"d", TREE)))
    batches.queue.add(union(some, entries(longest, too_long)))
    assert batches.queue.accepts_files
    assert batches.start() == [longest]
    assert not batches.queue.accepts_files
    returned, _ = batches.queue.take_returned()
    assert set(returned) == {Change(b"d", TREE), Change(b"e", LISTING), Change(too_long, ENTRY)}
    assert set(returned.new_content) == {Change(b"d", TREE)}


def test_the_hints_of_files_go_with_them(batches: Batches) -> None:
    batches.queue.add(changes((b"a", ENTRY), (b"b", ENTRY), hints=entries(b"a", b"b")))
    batches.start()
    assert set(batches.queue._in_flight.new_content) == set(entries(b"a"))  # noqa: SLF001
    assert set(batches.queue.retry_queue.backlog.changes.new_content) == set(entries(b"b"))
    # What needs no comparison after all has no hint any more.
    batches.end(Verdict.RETRY_LATER, pending=entries(b"a"))
    assert set(batches.queue.retry_queue.backlog.changes.new_content) == set(entries(b"b"))
    batches.queue.retry_queue.make_due()
    batches.queue.add(changes((b"a", ENTRY), hints=entries(b"a")))
    batches.start()
    batches.end(Verdict.RETRY_LATER)
    assert set(batches.queue.retry_queue.backlog.changes.new_content) == set(entries(b"a", b"b"))


def test_after_a_batch_the_directories_above_get_their_times(batches: Batches) -> None:
    batches.start(b"d/e/large")
    assert batches.end() == {Change(b"d/e", ENTRY), Change(b"d", ENTRY), Change(b"", ENTRY)}
    assert not batches.queue


def test_what_a_batch_may_not_touch_is_left_to_the_worker(batches: Batches) -> None:
    batches.start(b"f")
    assert batches.end(failed=entries(b"mount/f")) == {
        Change(b"", ENTRY), Change(b"mount/f", ENTRY),
    }  # fmt: skip


def test_a_result_that_comes_too_late_counts_for_no_batch(batches: Batches) -> None:
    batches.worker._results.put(TransferResult(Outcome(Verdict.PARTIAL)))  # noqa: SLF001
    assert batches.queue.take_result() is None
    assert batches.queue.accepts_files


def test_after_a_success_the_next_batch_starts_at_once(batches: Batches) -> None:
    batches.start(b"a", b"b")
    batches.end(Verdict.RETRY_LATER)
    batches.queue.retry_queue.make_due()
    batches.start()
    batches.queue.retry_queue.schedule_retry(Verdict.RETRY_LATER)
    batches.end()
    assert batches.queue.retry_queue.is_due()
    assert batches.queue.retry_queue.failure_count == 0


def test_what_fails_in_part_is_left_to_the_worker(batches: Batches) -> None:
    batches.start(b"d/f")
    # A temporary file may be left there.
    assert batches.end(Verdict.PARTIAL, status=23) == {
        Change(b"d/f", ENTRY), Change(b"d", ENTRY), Change(b"d", LISTING), Change(b"", ENTRY),
    }  # fmt: skip
    assert not batches.queue.accepts_files
    assert not batches.queue


@pytest.mark.parametrize("verdict", [Verdict.RETRY_LATER, Verdict.RETRY_NOW, Verdict.HELD])
def test_a_batch_that_fails_is_sent_again_later(batches: Batches, verdict: Verdict) -> None:
    for count in (1, 2):
        batches.start(b"d/f")
        assert Change(b"d", LISTING) in batches.end(verdict, status=12)
        queue = batches.queue.retry_queue
        assert paths_of(queue.backlog.changes) == [b"d/f"]
        assert (queue.verdict, queue.failure_count) == (verdict, count)
        queue.make_due()
    batches.start()
    batches.end()
    assert (queue.verdict, queue.failure_count) == (Verdict.DONE, 0)


def test_a_batch_without_a_run_that_fails_is_sent_again_later(batches: Batches) -> None:
    batches.start(b"f")
    batches.worker._results.put(TransferResult(Outcome(Verdict.RETRY_LATER)))  # noqa: SLF001
    batches.queue.take_result()
    assert paths_of(batches.queue.retry_queue.backlog.changes) == [b"f"]


def test_of_a_batch_that_breaks_off_each_file_is_tried_alone(batches: Batches) -> None:
    batches.grow()
    batches.queue.add(entries(b"d/a", b"d/b"), 5.0)
    assert batches.start() == [b"d/a", b"d/b"]
    # rsync has removed its temporary file.
    assert batches.abort() == {Change(b"", ENTRY), Change(b"d", ENTRY)}
    assert batches.start() == [b"d/a"]
    batches.abort()
    aborting = batches.queue.aborting_files
    assert paths_of(aborting.backlog.changes) == [b"d/a"]
    assert (aborting.since, aborting.failure_count, aborting.is_due()) == (5.0, 1, False)
    assert aborting.verdict is Verdict.PARTIAL
    # As long as others wait, a success does not make batches grow.
    assert batches.start(b"d/c") == [b"d/b"]
    batches.end()
    assert batches.start(b"d/d") == [b"d/c"]
    batches.end()
    assert batches.start() == [b"d/d"]
    batches.end()
    assert batches.start(b"x", b"y") == [b"x"]
    batches.end()
    assert batches.start(b"z") == [b"y", b"z"]


def test_the_smallest_of_the_files_that_do_not_fit_is_tried_again_first(batches: Batches) -> None:
    for name, size in (("a", 300), ("b", 100), ("c", 200)):
        (batches.place.source / name).write_bytes(bytes(size))
    aborting = batches.queue.aborting_files
    aborting.backlog.add(entries(b"a", b"b", b"c"))
    assert batches.start() == [b"b"]
    assert paths_of(aborting.backlog.changes) == [b"a", b"c"]
    batches.end()
    aborting.schedule_retry(Verdict.PARTIAL)
    assert batches.start() == []
    # Other files are sent before them.
    aborting.make_due()
    assert batches.start(b"new") == [b"new"]
    batches.end()
    for name in (b"c", b"a"):
        assert batches.start() == [name]
        aborting.schedule_retry(Verdict.PARTIAL)
        batches.end()
        aborting.make_due()
    assert (aborting.verdict, aborting.failure_count) == (Verdict.DONE, 0)


def test_batches_that_break_off_are_repeated_at_once_until_there_were_too_many(
    batches: Batches,
) -> None:
    for _ in range(2):
        names = [b"%02d" % number for number in range(MAX_QUICK_RETRIES + 2)]
        batches.queue.add(entries(*names))
        for name in names[: MAX_QUICK_RETRIES + 1]:
            assert batches.start() == [name]
            batches.abort()
        queue = batches.queue.retry_queue
        assert queue.due_at > time.monotonic() + 300.0
        queue.make_due()
        assert batches.start() == [names[-1]]
        batches.abort()
        # The queue is empty: nothing is left to wait for.
        assert queue.failure_count == 0
        assert len(batches.queue.aborting_files.backlog) == len(names)
        batches.queue.aborting_files.backlog.take()


def test_one_batch_is_started_at_a_time(batches: Batches) -> None:
    assert batches.start(b"a") == [b"a"]
    assert batches.start(b"b") == [b"a"]
    batches.end()
    assert batches.start() == [b"b"]
