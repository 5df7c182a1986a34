"""What is pending for one destination, what is confirmed, and which syncs were asked for."""

import time
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import NamedTuple

from pylsyncd.model import paths
from pylsyncd.model.changes import NOTHING, Changeset, union
from pylsyncd.model.moments import Moment, earliest
from pylsyncd.model.scoped_paths import NO_PATHS, Change, Scope
from pylsyncd.model.status import PathSummary, SetAside
from pylsyncd.pipeline.backlog import Backlog
from pylsyncd.pipeline.optimizer import split_below, without_covered
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.state.checkpoint import Checkpoint
from pylsyncd.worker.large_file_queue import LargeFileQueue
from pylsyncd.worker.retry_queue import MAX_QUICK_RETRIES, REACHING, RetryQueue, WideningQueue
from pylsyncd.worker.transfer_result import MAX_EXCLUDED_PATHS, TransferResult
from pylsyncd.worker.verification import Verification

# For all excluded paths together. Linux starts no program with more than 2 MB of arguments, and
# each path is in two of them, perhaps with an escape before each byte.
_MAX_EXCLUDED_BYTES = 400_000

# With more of them, nothing is moved at the destination: something is wrong there.
_MAX_UNSETTLED_PATHS = 10_000

# rsync ignores longer patterns, with a warning only.
_MAX_EXCLUDED_PATH_BYTES = 4_000


class CompleteTimes(NamedTuple):
    """The time up to which all changes are known, and the start of the last scan included in it."""

    until: Moment | None = None
    last_scan: Moment | None = None

    def updated(self, until: Moment | None, last_scan: Moment | None) -> "CompleteTimes":
        """Return the newer times; what is None stays."""
        return CompleteTimes(until or self.until, last_scan or self.last_scan)


class Settlement(NamedTuple):
    """What was confirmed when nothing was left to try at once."""

    serial: int = 0
    """The serial number of the last work item that is confirmed, except for ``set_aside``."""
    set_aside: SetAside = SetAside()


class PendingWork:
    """The pending changes of one destination, in parts. Used by its worker's thread.

    ``next_run`` is carried next. These are set aside, so that they hold up nothing else, and
    retried apart: ``failed_paths`` failed while all others succeeded; runs broke off at each of the
    ``aborting_files``, so these are excluded from all other runs; ``unexplained`` changes were in
    runs that failed without naming a path. ``large_files`` are sent by a thread of their own.
    ``held`` are the subtrees that no run may touch because their mounts have changed, and the
    changes in them.
    """

    def __init__(
        self,
        large_files: LargeFileQueue,
        policy: RetryPolicy,
        verification: Verification | None = None,
    ) -> None:
        self.next_run = RetryQueue(policy)
        self.failed_paths = RetryQueue(policy)
        self.aborting_files = RetryQueue(policy)
        self.unexplained = WideningQueue(policy)
        self.unset_attributes = Backlog()
        """Confirmed entries some of whose attributes the destination does not accept."""
        self.held_repair = RetryQueue(policy)
        """The slice of a repair that is held, because it would delete too much for example."""
        self.large_files = large_files
        self.verification = verification or Verification()
        self.held = Backlog()
        self._window_opened_at = 0.0
        self._pending_since: float | None = None
        self.received_times = CompleteTimes()
        """The times of all work received so far, to be confirmed when it is carried."""
        self._confirmed_times = CompleteTimes()
        self._policy = policy
        # Since the last confirmation.
        self._immediate_retries = policy.immediate_retries
        self._aborted_runs = 0
        self._titles: list[str] = []
        self._serial = 0
        self._confirmed_serial = 0
        self.confirmed_serial = 0
        """The serial number of the last work item that is confirmed, with all before it.

        Recorded when nothing is left to try at once; any thread may ask.
        """
        self.settlement = Settlement()
        """The last one; any thread may ask."""
        self.set_aside = SetAside()
        """What is set aside at present; any thread may ask."""

    @property
    def pending_count(self) -> int:
        """The number of pending changes; any thread may ask."""
        return (
            len(self.next_run.backlog)
            + sum(len(part.backlog) for part in self.retried_apart)
            + self.large_files.pending_count
        )

    @property
    def retry_queues(self) -> Sequence[RetryQueue]:
        """The parts that are tried separately."""
        return self.next_run, *self.retried_apart, self.large_files.retry_queue

    @property
    def has_failed_paths(self) -> bool:
        """True if paths are known that rsync cannot carry."""
        return any(part.backlog for part in self._failed_parts if part is not self.unexplained)

    @property
    def retried_apart(self) -> Sequence[RetryQueue]:
        """The parts whose failures hold up nothing else."""
        return *self._failed_parts, self.held_repair

    @property
    def _failed_parts(self) -> Sequence[RetryQueue]:
        """Those of them with changes that are to be kept; a repair is found again."""
        aborting_files = self.aborting_files, self.large_files.aborting_files
        return self.failed_paths, *aborting_files, self.unexplained

    @property
    def pending_since(self) -> float | None:
        """When the first pending change was seen, by the monotonic clock; None if unknown.

        For a full sync it is unknown, since nothing may have changed; for one that failed, it is
        the time at which it was asked for.
        """
        queues = self.next_run, *self._failed_parts, self.large_files.retry_queue
        is_failing = any(part.failure_count for part in queues)
        asked_at = self._pending_since if is_failing else None
        return earliest(asked_at, *(part.since for part in self.retry_queues))

    @property
    def due_at(self) -> float | None:
        """When the next attempt is due, by the monotonic clock; None if nothing is pending."""
        due = [part.due_at for part in (self.next_run, *self.retried_apart) if part.backlog]
        return earliest(*due, self.large_files.due_at)

    def add(self, item: WorkItem, *, is_reachable: bool, extra_window: float) -> None:
        """Add a work item, due ``extra_window`` seconds after the first change at the earliest."""
        self.received_times = self.received_times.updated(item.complete_until, item.last_scan)
        self._titles += [title for title in item.titles if title not in self._titles]
        self._serial = item.serial or self._serial
        if item.changeset:
            now = time.monotonic()
            if not self.pending_count:
                self._pending_since = now
            if not self.next_run.backlog:
                self._window_opened_at = now
            self.add_changes(item.changeset, item.since)
            if is_reachable:
                self.unexplained.hasten()
                is_requested = bool(item.titles)
                window_end = self._window_opened_at + extra_window
                self.next_run.due_at = 0.0 if is_requested else window_end
        elif not self.pending_count:
            self._confirmed_serial = self._serial
        if item.is_urgent or item.is_release:
            for part in self.retry_queues:
                part.make_due()

    def add_changes(self, changeset: Changeset, since: float | None) -> None:
        """Add changes, first seen at ``since``, to the next run."""
        self.next_run.backlog.add(self._take_touched_failures(changeset))
        self.next_run.backlog.add(changeset)
        self.next_run.include_since(since)

    def return_changes(self, changeset: Changeset, since: float | None) -> None:
        """Add changes that were received before: they are no sign that a failed path is fixed."""
        self.next_run.backlog.add(changeset)
        self.next_run.include_since(since)

    def _take_touched_failures(self, changeset: Changeset) -> Changeset:
        """Remove and return the failed paths that new changes touch: these may have fixed them."""
        queues = self.failed_paths, self.aborting_files, self.large_files.aborting_files
        return union(*(self._take_touched(queue, changeset) for queue in queues if queue.backlog))

    def _take_touched(self, queue: RetryQueue, changeset: Changeset) -> Changeset:
        failed = queue.backlog.take()
        self.next_run.include_since(queue.since)
        touched = {change.path for change in changeset if change.scope is not Scope.LISTING}
        if len(failed) <= MAX_EXCLUDED_PATHS:
            # So the next run contains nothing at or below a path that is excluded from it.
            failed_paths = {change.path for change in failed}
            below, _ = split_below(changeset, failed_paths)
            for change in below:
                touched |= failed_paths & {change.path, *paths.ancestors(change.path)}
            # A listing that stands in for them does not bring back their hints.
            touched |= {path for path in failed_paths if changeset.new_content.includes_entry(path)}
        is_all_touched = paths.ROOT in touched
        taken, kept = (failed, NOTHING) if is_all_touched else split_below(failed, touched)
        queue.backlog.add(kept)
        if not kept:
            queue.reset()
        return taken

    def include_released(self, held: AbstractSet[bytes]) -> None:
        """Have the next run carry what was held in subtrees other than those that are held now."""
        if released := self.held.changes.trees - held:
            free, kept = split_below(self.held.take(), released)
            self.next_run.backlog.add(free)
            self.held.add(kept)

    def settle(self) -> None:
        """Record what is set aside and, if nothing is left to try at once, what is confirmed."""
        self.confirmed_serial = self._confirmed_serial
        self.set_aside = SetAside(
            failed=_summary(*(part.backlog.changes for part in self.retried_apart)),
            held=PathSummary.of(len(self.held.changes.trees), self.held.changes.trees),
            unset_attributes=_summary(self.unset_attributes.changes),
        )
        is_tried = not any(part.is_due() for part in self.retried_apart)
        # If a full sync fails without naming a path, nothing is known.
        is_anything_known = not self.unexplained.backlog.is_everything
        if is_tried and is_anything_known and not (self.next_run.backlog or self.large_files):
            self.settlement = Settlement(self._serial, self.set_aside)

    def excluded_from(self, changeset: Changeset) -> frozenset[bytes]:
        """Return the paths that a run for a changeset must not touch.

        They are the aborting files, and the failed paths unless there are too many: without them,
        the run does the same, and names them once more.
        """
        queues = self.aborting_files, self.large_files.aborting_files
        aborting = [change for queue in queues for change in queue.backlog.changes]
        failed = self.failed_paths.backlog.changes
        if len(failed) <= MAX_EXCLUDED_PATHS:
            # To exclude a directory leaves out all below it, which has not failed with its entry.
            whole = [each for each in failed if not _is_part_of_tree(each, changeset)]
            excluded = _excludable((*aborting, *whole), changeset)
            if sum(map(len, excluded)) <= _MAX_EXCLUDED_BYTES:
                return excluded
        return _excludable(aborting, changeset)

    def unsettled_paths(self) -> frozenset[bytes] | None:
        """Return the paths whose copies may differ, apart from those of the next run.

        None stands for all: too many, or the destination was never compared as a whole.
        """
        parts = [part.backlog.changes for part in self.retried_apart]
        parts += [self.large_files.pending, self.held.changes]
        if not self.verification.is_verified or sum(map(len, parts)) > _MAX_UNSETTLED_PATHS:
            return None
        return frozenset(change.path for part in parts for change in part)

    def finish_next_run(self, excluded: frozenset[bytes], result: TransferResult) -> None:
        """Take over what a run of the next run's changes has left, and what has failed in it."""
        next_run = self.next_run
        if result.aborting:
            # What failed in a run before it is in the next one, with its hints.
            next_run.backlog.add(union(result.pending, result.failed))
            self._set_aside_aborting(result)
            return
        if result.verdict is Verdict.RETRY_NOW and self._immediate_retries > 0:
            # The source changed under rsync.
            self._immediate_retries -= 1
            next_run.backlog.add(result.failed)
            result = replace(result, failed=NOTHING)
        self.record_failures(excluded, result, next_run.since)
        if result.pending and result.verdict is Verdict.DONE:
            next_run.backlog.add(result.pending)
            next_run.await_others()
            return
        if result.pending and result.verdict in REACHING:
            self.unexplained.add_failed(result.pending, result.verdict)
            self.unexplained.include_since(next_run.since)
        else:
            next_run.backlog.add(result.pending)
        if next_run.backlog:
            next_run.schedule_retry(result.verdict)

    def _set_aside_aborting(self, result: TransferResult) -> None:
        """Set a file aside at which a run has broken off, and let the others be carried at once.

        If run after run breaks off, as on a full destination, the pauses grow.
        """
        queue = self.aborting_files
        queue.backlog.add(result.aborting)
        queue.include_since(self.next_run.since)
        queue.failure_count = 0
        queue.schedule_retry(Verdict.PARTIAL)
        if self.next_run.backlog:
            self._aborted_runs += 1
            self.next_run.schedule_retry(Verdict.PARTIAL)
            if self._aborted_runs <= MAX_QUICK_RETRIES:
                self.next_run.failure_count = 0
                self.next_run.make_due()

    def record_failures(
        self, excluded: frozenset[bytes], result: TransferResult, since: float | None
    ) -> None:
        """Record what failed in a run, and forget the earlier failures of what it has carried."""
        failed_paths = self.failed_paths
        failed_before = len(failed_paths.backlog)
        if not result.pending:
            _drop_covered(self.unset_attributes, result.carried)
            _drop_covered(self.unexplained.backlog, result.carried)
            if not self.unexplained.backlog:
                self.unexplained.reset()
            if not excluded:
                _drop_covered(failed_paths.backlog, result.carried)
        self.unset_attributes.add(result.unset_attributes)
        failed_paths.backlog.add(result.failed)
        if not failed_paths.backlog:
            failed_paths.reset()
        elif len(failed_paths.backlog) > failed_before:
            failed_paths.include_since(since)
            # Failures of other paths do not lengthen the pause of these.
            failed_paths.failure_count = 0
            failed_paths.schedule_retry(Verdict.PARTIAL)

    def confirm(self, times: CompleteTimes) -> None:
        """Confirm the work received up to these times, except for what is still pending."""
        self._confirmed_times = self._confirmed_times.updated(*times)
        self._immediate_retries = self._policy.immediate_retries
        self._aborted_runs = 0

    def update_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Pass what is confirmed to the checkpoint, unless the next run has changes.

        These may have failed in the full sync that has verified the destination: that it is
        verified is saved together with what is pending.
        """
        until, last_scan = self._confirmed_times
        if until is not None and not self.next_run.backlog:
            aside = (part.backlog.changes for part in self._failed_parts)
            pending = union(*aside, self.large_files.pending, self.held.changes)
            unset = self.unset_attributes.changes
            checkpoint.confirm(
                until, pending, last_scan, union(unset) if unset else NO_PATHS,
                is_verified=self.verification.is_verified,
            )  # fmt: skip

    def take_completed_titles(self) -> list[str]:
        """Return the titles of the syncs that are complete, once. The next run must be empty."""
        if self.unexplained.backlog.is_everything:
            return []
        if not (any(part.backlog for part in self.retried_apart) or self.large_files):
            self._confirmed_serial = self._serial
        titles, self._titles = self._titles, []
        return titles

    def take_unconfirmed(self) -> WorkItem:
        """Return all work that is not confirmed, for another worker."""
        parts = (self.next_run, *self._failed_parts)
        changes = union(
            *(part.backlog.take() for part in parts), self.large_files.pending, self.held.take()
        )
        return WorkItem(
            changes, *self.received_times, tuple(self._titles), self.pending_since, self._serial
        )


def _drop_covered(backlog: Backlog, carried: Changeset) -> None:
    if backlog:
        backlog.add(without_covered(backlog.take(), carried))


def _is_part_of_tree(failed: Change, changeset: Changeset) -> bool:
    """Return True if a run is also about what is below a path at which less than that failed."""
    return failed.scope is not Scope.TREE and changeset.includes_tree(failed.path)


def _excludable(some: Iterable[Change], changeset: Changeset) -> frozenset[bytes]:
    """Return the paths of ``some`` changes without those that a changeset is about."""
    excluded = {change.path for change in some if 0 < len(change.path) <= _MAX_EXCLUDED_PATH_BYTES}
    # Nothing that is excluded may have a change at or below it.
    for change in split_below(changeset, excluded)[0]:
        excluded.difference_update((change.path, *paths.ancestors(change.path)))
    return frozenset(excluded)


def _summary(*changesets: Changeset) -> PathSummary:
    found = (change.path for changeset in changesets for change in changeset)
    return PathSummary.of(sum(map(len, changesets)), found)
