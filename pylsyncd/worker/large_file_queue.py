"""What a worker owes of large files, and how their runs and its own keep out of each other's way.

Measured with rsync 3.5.0, a run with a list or of everything beside one that sends a large file:

* a directory that is listed, or a full sync, deletes what the file is written to until it is
  complete (``.name.XXXXXX``), and the file's own run fails (exit 23, ``rename ... failed``); but
  not where a rule protects these names, and the file itself is left out;
* at its end, the file's run gives the directories above it the times and modes that they had when
  it began: so they have to be sent again afterwards.
"""

import contextlib
import signal
from collections.abc import Set as AbstractSet

from pylsyncd.model import paths
from pylsyncd.model.changes import NOTHING, Changeset, MutableChangeset, Scope
from pylsyncd.pipeline.optimizer import split_below
from pylsyncd.rsync.file_list import regular_files
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.rsync.temporary_names import temporary_regex
from pylsyncd.system import walk
from pylsyncd.worker.large_file_worker import LargeFileWorker
from pylsyncd.worker.retry_queue import RetryQueue

MAX_BATCH_FILES = 100
"""How many files go in one run: each costs three arguments of the worker's own runs."""

# More bytes of paths would be too much for these arguments, of which longer ones are dropped.
_LONGEST_IN_FLIGHT = 4_000
_ALL_IN_FLIGHT = 100_000


class LargeFileQueue:
    """The account of one destination's large files. Used by its worker's thread.

    While a file is in flight, changes that touch it wait for its end; but if it is no regular file
    any more, its run is ended first.
    """

    def __init__(self, bulk: LargeFileWorker | None, pauses: RetryPolicy) -> None:
        """Make one; without a ``bulk`` there is nothing in it ever."""
        self.worker = bulk
        self._pauses = pauses
        self.retry_queue = RetryQueue()
        """The files that are owed and not in flight."""
        self._flight: Changeset = NOTHING
        # What the worker is to look at: when the flight has ended, and now.
        self._deferred = MutableChangeset()
        self._back = MutableChangeset()
        # How many are sent at a time: one after a run that was ended since one of them had gone.
        self._batch = 1
        self.finished_since: float | None = None
        """Since when something of the last flight was owed, by the monotonic clock, if known."""
        self.accepts_files = True
        """Whether the worker may leave files to this lane.

        If not, it carries all that it owes itself, since it can tell apart what fails, and opens
        the lane again when it owes nothing.
        """

    # For other threads:

    def abort(self, number: signal.Signals) -> None:
        """Send a signal to the rsync that runs, and have no other one started."""
        if self.worker is not None:
            self.worker.abort(number)

    # For the worker's thread:

    def start(self) -> None:
        """Be ready to begin."""
        if self.worker is not None:
            self.worker.start()

    def stop(self) -> None:
        """Return when nothing runs any more."""
        if self.worker is not None:
            self.worker.request_stop()
            self.worker.join()

    def __bool__(self) -> bool:
        return bool(self.retry_queue.backlog or self._flight or self._deferred or self._back)

    @property
    def in_flight(self) -> frozenset[bytes]:
        """The files that are being sent: what the worker's rsync has to be told."""
        return frozenset(change.path for change in self._flight)

    @property
    def due_at(self) -> float | None:
        """When there is something to begin, by the monotonic clock; None for nothing."""
        return self.retry_queue.due_at if self.retry_queue.backlog and not self._flight else None

    @property
    def pending_count(self) -> int:
        """How many changes are not confirmed; any thread may ask."""
        changesets: tuple[Changeset, ...] = (self._flight, self._deferred, self._back)
        return len(self.retry_queue.backlog) + sum(len(changeset) for changeset in changesets)

    @property
    def pending(self) -> MutableChangeset:
        """All that is not confirmed."""
        return _joined(self.retry_queue.backlog.changes, self._flight, self._deferred, self._back)

    def add(self, large: Changeset, since: float | None = None) -> None:
        """Owe files that the worker has left out of a run."""
        if large:
            self.retry_queue.backlog.add(large)
            self.retry_queue.include_since(since)

    def defer_conflicts(self, changeset: Changeset) -> Changeset:
        """Return what of these changes the worker's run may carry now; the rest is kept here.

        More than these may come back, and until that run has ended nothing may be begun here.
        """
        flight = self.in_flight
        if self.worker is None or not flight:
            return changeset
        if gone := _gone(self.worker.source, changeset, flight):
            self._call_back(self.worker.cancel_batch(), gone)
            return _joined(changeset, self.take_returned())
        inside, outside = split_below(changeset, flight)
        self._deferred.merge(inside)
        for path in flight:
            directory, _ = paths.split(path)
            # What a file in flight may be written to, that run does not delete.
            spared = frozenset(
                filter(temporary_regex(path).fullmatch, outside.entries.get(directory, ()))
            )
            self._deferred.add_entries(directory, spared)
            outside = _less(outside, directory, spared)
            if _is_listed(outside, directory):
                self._deferred.add(directory, Scope.LISTING)
        return outside

    def start_due_batch(self) -> None:
        """Send what is due, if nothing is in flight. Not while a run of the worker is."""
        if self.worker is None or self._flight or not self.retry_queue.is_due():
            return
        flight, rest = MutableChangeset(), MutableChangeset()
        room = _ALL_IN_FLIGHT
        for change in sorted(self.retry_queue.backlog.take()):
            if change.scope is not Scope.ENTRY or len(change.path) > _LONGEST_IN_FLIGHT:
                # It stands for too many to remember, or would be too long for a rule.
                self._back.add(*change)
                self.accepts_files = False
            elif len(flight) < self._batch and len(change.path) <= room:
                flight.add(*change)
                room -= len(change.path)
            else:
                rest.add(*change)
        self.retry_queue.backlog.add(rest)
        if flight:
            self._flight = flight
            self.worker.start_batch(flight)

    def take_outcome(self) -> Outcome | None:
        """Return how a flight went, once, when it has ended."""
        outcome = self.worker.take_outcome() if self.worker is not None and self._flight else None
        if outcome is not None:
            self._land(outcome)
        return outcome

    def take_returned(self) -> MutableChangeset:
        """Return what the worker is to carry now, once."""
        back, self._back = self._back, MutableChangeset()
        return back

    def _call_back(self, outcome: Outcome, gone: AbstractSet[bytes]) -> None:
        """Take a flight that was ended: what has gone is the worker's, the rest is sent anew."""
        self._land(outcome)
        inside, outside = split_below(self.retry_queue.backlog.take(), gone)
        self._back.merge(inside)
        self.retry_queue.backlog.add(outside)
        self.retry_queue.failure_count = 0
        self.retry_queue.due_at = 0.0
        self._batch = 1

    def _land(self, outcome: Outcome) -> None:
        flight, self._flight = self._flight, NOTHING
        for change in flight:
            for above in paths.ancestors(change.path):
                self._back.add(above, Scope.ENTRY)
            if outcome.verdict is not Verdict.DONE:
                # What the file was written to may be left there.
                self._back.add(paths.split(change.path)[0], Scope.LISTING)
        self._back.merge(self._deferred)
        self._back.merge(outcome.failed)
        self._deferred = MutableChangeset()
        if outcome.verdict is Verdict.DONE:
            self._batch = min(2 * self._batch, MAX_BATCH_FILES)
            self.retry_queue.failure_count = 0
            self.retry_queue.due_at = 0.0
        elif outcome.verdict is Verdict.PARTIAL:
            self._back.merge(flight)
            self.accepts_files = False
        else:
            self.retry_queue.backlog.add(flight)
            self.retry_queue.schedule_retry(self._pauses, outcome.verdict)
        self.finished_since = self.retry_queue.since
        if not self.retry_queue.backlog:
            self.retry_queue.reset()


def _gone(source: bytes, changeset: Changeset, flight: AbstractSet[bytes]) -> set[bytes]:
    """Return the files in flight that these changes touch and that are none any more."""
    changed = {change.path for change in changeset}
    inside, _ = split_below(changeset, flight)
    above_changed = {above for change in inside for above in paths.ancestors(change.path)}
    touched = {
        path
        for path in flight
        if path in changed or path in above_changed or not changed.isdisjoint(paths.ancestors(path))
    }
    # A source that is gone is the guard's to notice.
    with contextlib.suppress(OSError), walk.opened_root(source) as root:
        return touched - regular_files(root, touched)
    return set()


def _joined(*changesets: Changeset) -> MutableChangeset:
    joined = MutableChangeset()
    for changeset in changesets:
        joined.merge(changeset)
    return joined


def _less(changeset: Changeset, directory: bytes, names: AbstractSet[bytes]) -> Changeset:
    """Return the same without the entries of these names in a directory."""
    if not names:
        return changeset
    less = _joined(changeset)
    less.entries[directory] -= names
    if not less.entries[directory]:
        del less.entries[directory]
    return less


def _is_listed(changeset: Changeset, directory: bytes) -> bool:
    """Tell whether somebody who carries these changes lists a directory."""
    at_or_above = {directory, *paths.ancestors(directory)}
    return directory in changeset.listings or not at_or_above.isdisjoint(changeset.trees)
