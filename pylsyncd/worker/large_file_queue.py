"""The pending large files of one destination, and how their runs and the worker's avoid conflicts.

Measured with rsync 3.5.0, with a run of a list or of everything beside one that sends a large file:

* a listed directory or a full sync deletes the temporary file (``.name.XXXXXX``), and the file's
  own run fails (exit 23, ``rename ... failed``); it does not where a rule protects these names and
  the file itself is excluded;
* at its end, the file's run resets times and modes of the directories above to those at its begin:
  these directories have to be sent again afterwards.
"""

import contextlib
import signal
from collections.abc import Set as AbstractSet

from pylsyncd.model import paths
from pylsyncd.model.changes import NOTHING, Changeset, MutableChangeset, union
from pylsyncd.model.moments import earliest
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.pipeline.optimizer import split_below, with_hints_of
from pylsyncd.rsync.file_list import regular_files, smallest_file
from pylsyncd.rsync.outcomes import Verdict, has_failed_in_file
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.rsync.temporary_names import temporary_regex
from pylsyncd.system import walk
from pylsyncd.worker.large_file_worker import LargeFileWorker
from pylsyncd.worker.retry_queue import MAX_QUICK_RETRIES, RetryQueue
from pylsyncd.worker.session import STOPPED
from pylsyncd.worker.transfer_result import TransferResult

MAX_BATCH_FILES = 100
"""How many files one run sends: each costs three arguments of the worker's own runs."""

# rsync ignores longer patterns; and the limit of the arguments for all files of a batch together.
_MAX_PATH_BYTES = 4_000
_MAX_BATCH_BYTES = 100_000


class LargeFileQueue:
    """The large files of one destination: pending, in flight, deferred. Used by its worker.

    Changes that touch a file in flight wait until its run has ended. If the file is no regular file
    any more, that run is cancelled first.
    """

    def __init__(self, worker: LargeFileWorker | None, policy: RetryPolicy) -> None:
        """Create the queue; without a worker it stays empty."""
        self.worker = worker
        self.retry_queue = RetryQueue(policy)
        """The files that are pending and not in flight."""
        self.aborting_files = RetryQueue(policy)
        """Files at which their runs broke off, for example because they do not fit there."""
        # Since the queue was empty.
        self._aborted_batches = 0
        self._in_flight: Changeset = NOTHING
        # What the destination's worker has to carry: after the current batch, and now.
        self._deferred = MutableChangeset()
        self._returned = MutableChangeset()
        self._returned_since: float | None = None
        # Reset to 1 when a batch is cancelled because one of its files is gone.
        self._batch_size = 1
        self.accepts_files = True
        """Whether the worker may leave large files to this queue.

        If not, the worker carries them itself, because it can set failed paths apart. The queue
        accepts files again when the worker has nothing pending.
        """

    # For other threads:

    def abort(self, number: signal.Signals) -> None:
        """Send a signal to the running rsync and start no other one."""
        if self.worker is not None:
            self.worker.abort(number)

    # For the worker's thread:

    def start(self) -> None:
        """Start the thread for large files."""
        if self.worker is not None:
            self.worker.start()

    def stop(self) -> None:
        """Stop the thread after its current batch, and wait for it."""
        if self.worker is not None:
            self.worker.request_stop()
            self.worker.join()

    def stop_now(self) -> None:
        """Stop the thread and the rsync that it runs; what that has not carried stays pending."""
        if self.worker is not None:
            self.worker.stop_now()
            if self._in_flight:
                self._handle_result(self.worker.take_result() or TransferResult(STOPPED))

    @property
    def has_failed(self) -> bool:
        """True if an unforeseen error has ended the thread."""
        return self.worker is not None and self.worker.crash is not None

    def __bool__(self) -> bool:
        return bool(self.retry_queue.backlog or self._in_flight or self._deferred or self._returned)

    @property
    def in_flight(self) -> frozenset[bytes]:
        """The files being sent, which the worker's rsync must leave alone."""
        return frozenset(change.path for change in self._in_flight)

    @property
    def is_sending(self) -> bool:
        """Whether a batch is being sent; any thread may ask."""
        worker = self.worker
        return bool(self._in_flight) and worker is not None and not worker.is_preparing

    @property
    def due_at(self) -> float | None:
        """When a batch can start, by the monotonic clock; None if there is none to start."""
        if self._in_flight:
            return None
        parts = self.retry_queue, self.aborting_files
        return earliest(*(part.due_at for part in parts if part.backlog))

    @property
    def pending_count(self) -> int:
        """The number of changes that are not confirmed; any thread may ask."""
        changesets: tuple[Changeset, ...] = (self._in_flight, self._deferred, self._returned)
        return len(self.retry_queue.backlog) + sum(len(changeset) for changeset in changesets)

    @property
    def pending(self) -> MutableChangeset:
        """All changes that are not confirmed."""
        return union(
            self.retry_queue.backlog.changes, self._in_flight, self._deferred, self._returned
        )

    def add(self, files: Changeset, since: float | None = None) -> None:
        """Add files that the worker left out of a run."""
        if files:
            self.retry_queue.backlog.add(files)
            self.retry_queue.include_since(since)

    def defer_conflicts(self, changeset: Changeset) -> Changeset:
        """Return the changes that the worker's run may carry now, and defer the others.

        The result may contain changes that were deferred before. No batch may start until that run
        has ended.
        """
        in_flight = self.in_flight
        if self.worker is None or not in_flight:
            return changeset
        if gone := _files_gone(self.worker.source, changeset, in_flight):
            self._handle_cancelled(self.worker.cancel_batch(), gone)
            returned, _ = self.take_returned()
            return union(changeset, returned)
        inside, outside = split_below(changeset, in_flight)
        # Later changes may be carried before these.
        self._deferred.merge(inside.with_moves(None))
        for path in in_flight:
            directory, _ = paths.split(path)
            if changeset.new_content.includes_entry(path):
                self._deferred.new_content.add(path, Scope.ENTRY)
            # The batch's rsync may be writing to a temporary file with one of these names.
            is_temporary = temporary_regex(path).fullmatch
            names = frozenset(filter(is_temporary, outside.entries.get(directory, ())))
            self._deferred.add_entries(directory, names)
            hinted = outside.new_content.entries.get(directory, frozenset())
            self._deferred.new_content.add_entries(directory, names & hinted)
            outside = _without_names(outside, directory, names)
            if _lists_directory(outside, directory):
                self._deferred.add(directory, Scope.LISTING)
        return outside

    def start_due_batch(self) -> None:
        """Start a batch if one is due and none is running. Not during a run of the worker."""
        if self.worker is None or self._in_flight:
            return
        if self.retry_queue.is_due():
            batch = self._take_batch()
        elif self.aborting_files.is_due():
            # If the smallest one fails, the others do, too.
            files = self.aborting_files.backlog.take()
            batch, rest = split_below(files, {smallest_file(self.worker.source, files)})
            self.aborting_files.backlog.add(rest)
        else:
            return
        if batch:
            self._in_flight = batch
            self.worker.start_batch(batch)

    def _take_batch(self) -> Changeset:
        batch, rest, returned = MutableChangeset(), MutableChangeset(), MutableChangeset()
        room = _MAX_BATCH_BYTES
        waiting = self.retry_queue.backlog.take()
        for change in sorted(waiting):
            if change.scope is not Scope.ENTRY or len(change.path) > _MAX_PATH_BYTES:
                # A directory stands in for too many files, or the path is too long for a pattern.
                returned.add(*change)
                self.accepts_files = False
            elif len(batch) < self._batch_size and len(change.path) <= room:
                batch.add(*change)
                room -= len(change.path)
            else:
                rest.add(*change)
        hints = waiting.new_content
        self._returned.merge(with_hints_of(returned, hints))
        self.retry_queue.backlog.add(with_hints_of(rest, hints))
        return with_hints_of(batch, hints)

    def take_result(self) -> TransferResult | None:
        """Return the result of a batch, once, if it has ended."""
        result = self.worker.take_result() if self.worker is not None and self._in_flight else None
        if result is not None:
            self._handle_result(result)
        return result

    def take_returned(self) -> tuple[Changeset, float | None]:
        """Return the changes that the worker has to carry now, and since when they are pending."""
        returned, self._returned = self._returned, MutableChangeset()
        return returned, self._returned_since

    def _handle_cancelled(self, result: TransferResult, gone: AbstractSet[bytes]) -> None:
        """Return the files that are gone to the worker, and send the others again."""
        self._handle_result(result)
        inside, outside = split_below(self.retry_queue.backlog.take(), gone)
        self._returned.merge(inside)
        self.retry_queue.backlog.add(outside)
        self.retry_queue.failure_count = 0
        self.retry_queue.make_due()
        self._batch_size = 1

    def _handle_result(self, result: TransferResult) -> None:
        batch, self._in_flight = self._in_flight, NOTHING
        if result.pending:
            # Those that need no comparison after all have no hint any more.
            batch = batch.with_new_content(result.pending.new_content)
        run = None if result.run is None else result.run.result
        is_aborted = run is not None and has_failed_in_file(run.exit_status, run.messages)
        # A temporary file may be left there, unless rsync has removed it.
        self._return_directories(
            batch, lists_parents=result.verdict is not Verdict.DONE and not is_aborted
        )
        self._returned.merge(self._deferred)
        self._returned.merge(result.failed)
        self._deferred = MutableChangeset()
        if result.verdict is Verdict.DONE:
            if not self._aborted_batches:
                self._batch_size = min(2 * self._batch_size, MAX_BATCH_FILES)
            self.retry_queue.failure_count = 0
            self.retry_queue.make_due()
        elif result.verdict is Verdict.PARTIAL:
            self._returned.merge(batch)
            self.accepts_files = False
        elif is_aborted:
            self._handle_aborted(batch, result)
        else:
            self.retry_queue.backlog.add(batch)
            self.retry_queue.schedule_retry(result.verdict)
        self._returned_since = self.retry_queue.since
        if not self.retry_queue.backlog:
            self.retry_queue.reset()
            self._aborted_batches = 0
        if not self.aborting_files.backlog:
            self.aborting_files.reset()

    def _return_directories(self, batch: Changeset, *, lists_parents: bool) -> None:
        for change in batch:
            for directory in paths.ancestors(change.path):
                self._returned.add(directory, Scope.ENTRY)
            if lists_parents:
                self._returned.add(paths.split(change.path)[0], Scope.LISTING)

    def _handle_aborted(self, batch: Changeset, result: TransferResult) -> None:
        """Set a file aside at which a run has broken off, and send the others one by one."""
        since = self.retry_queue.since
        if len(batch) == 1:
            self.aborting_files.backlog.add(batch)
            self.aborting_files.include_since(since)
            self.aborting_files.schedule_retry(Verdict.PARTIAL)
        else:
            self.retry_queue.backlog.add(batch)
        self._batch_size = 1
        self._aborted_batches += 1
        if self._aborted_batches > MAX_QUICK_RETRIES and self.retry_queue.backlog:
            self.retry_queue.schedule_retry(result.verdict)


def _files_gone(source: bytes, changeset: Changeset, in_flight: AbstractSet[bytes]) -> set[bytes]:
    """Return the files in flight that the changes touch and that are no regular files any more."""
    changed = {change.path for change in changeset}
    inside, _ = split_below(changeset, in_flight)
    above_changed = {above for change in inside for above in paths.ancestors(change.path)}
    touched = {
        path
        for path in in_flight
        if path in changed or path in above_changed or not changed.isdisjoint(paths.ancestors(path))
    }
    found: AbstractSet[bytes] = touched
    # The source guard reports a source that cannot be opened.
    with contextlib.suppress(OSError), walk.opened_root(source) as root:
        found = regular_files(root, touched)
    return touched - found


def _without_names(changeset: Changeset, directory: bytes, names: AbstractSet[bytes]) -> Changeset:
    if not names:
        return changeset
    remaining = union(changeset)
    remaining.moves = None
    remaining.entries[directory] -= names
    if not remaining.entries[directory]:
        del remaining.entries[directory]
    return remaining


def _lists_directory(changeset: Changeset, directory: bytes) -> bool:
    """Return True if a run for these changes lists the directory."""
    at_or_above = {directory, *paths.ancestors(directory)}
    return directory in changeset.listings or not at_or_above.isdisjoint(changeset.trees)
