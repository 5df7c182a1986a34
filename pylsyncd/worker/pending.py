"""What is pending for one destination, what is confirmed, and which syncs were asked for."""

import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from pylsyncd.model import paths
from pylsyncd.model.changes import NOTHING, Changeset, Scope, union
from pylsyncd.model.moments import Moment, earliest
from pylsyncd.model.status import PathSummary, SetAside
from pylsyncd.pipeline.backlog import Backlog
from pylsyncd.pipeline.optimizer import split_below
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.state.checkpoint import Checkpoint
from pylsyncd.worker.large_file_queue import LargeFileQueue
from pylsyncd.worker.retry_queue import RetryQueue
from pylsyncd.worker.transfer import MAX_EXCLUDED_PATHS, TransferResult

# A run names up to 500 failed paths.
_MAX_QUICK_RETRIES = 5


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

    ``next_run`` is carried next. ``failed_paths`` failed while all others succeeded, and are
    retried separately. ``large_files`` are sent by a thread of their own. ``held`` are the subtrees
    that no run may touch because their mounts have changed, and the changes in them.
    """

    def __init__(self, large_files: LargeFileQueue, policy: RetryPolicy) -> None:
        self.next_run = RetryQueue(policy)
        self.failed_paths = RetryQueue(policy)
        self.large_files = large_files
        self.held = Backlog()
        self._window_opened_at = 0.0
        self._pending_since: float | None = None
        self.received_times = CompleteTimes()
        """The times of all work received so far, to be confirmed when it is carried."""
        self._confirmed_times = CompleteTimes()
        # Since the last confirmation, runs that have to be repeated without some failed paths.
        self._partial_runs = 0
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
            + len(self.failed_paths.backlog)
            + self.large_files.pending_count
        )

    @property
    def retry_queues(self) -> Sequence[RetryQueue]:
        """The parts that are tried separately."""
        return self.next_run, self.failed_paths, self.large_files.retry_queue

    @property
    def pending_since(self) -> float | None:
        """When the first pending change was seen, by the monotonic clock; None if unknown.

        For a full sync it is unknown, since nothing may have changed; for one that failed, it is
        the time at which it was asked for.
        """
        is_failing = any(part.failure_count for part in self.retry_queues)
        asked_at = self._pending_since if is_failing else None
        return earliest(asked_at, *(part.since for part in self.retry_queues))

    @property
    def due_at(self) -> float | None:
        """When the next attempt is due, by the monotonic clock; None if nothing is pending."""
        due = [part.due_at for part in (self.next_run, self.failed_paths) if part.backlog]
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

    def _take_touched_failures(self, changeset: Changeset) -> Changeset:
        """Remove and return the failed paths that new changes touch: these may have fixed them.

        So the next run contains nothing at or below a path that is excluded from it.
        """
        if not self.failed_paths.backlog:
            return NOTHING
        failed = self.failed_paths.backlog.take()
        self.next_run.include_since(self.failed_paths.since)
        failed_paths = {change.path for change in failed}
        touched = {change.path for change in changeset if change.scope is not Scope.LISTING}
        below, _ = split_below(changeset, failed_paths)
        for change in below:
            touched |= failed_paths & {change.path, *paths.ancestors(change.path)}
        is_all_touched = paths.ROOT in touched
        taken, kept = (failed, NOTHING) if is_all_touched else split_below(failed, touched)
        self.failed_paths.backlog.add(kept)
        if not kept:
            self.failed_paths.reset()
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
        failed, held = self.failed_paths.backlog.changes, self.held.changes.trees
        self.set_aside = SetAside(
            failed=PathSummary.of(len(failed), (change.path for change in failed)),
            held=PathSummary.of(len(held), held),
        )
        is_tried = not (failed and self.failed_paths.is_due())
        if is_tried and not (self.next_run.backlog or self.large_files):
            self.settlement = Settlement(self._serial, self.set_aside)

    def add_failed_paths(self, result: TransferResult) -> None:
        """Set apart the paths that failed while all others succeeded."""
        if not result.failed:
            return
        self.failed_paths.backlog.add(result.failed)
        self.failed_paths.include_since(self.next_run.since)
        if len(self.failed_paths.backlog) > MAX_EXCLUDED_PATHS:
            self.next_run.backlog.add(self.failed_paths.backlog.take())
            self.failed_paths.reset()
            return
        if result.pending and result.verdict is Verdict.PARTIAL:
            # The next run excludes the failed paths, so it need not wait. But a destination that
            # names other paths each time must not keep the worker busy.
            self._partial_runs += 1
            if self._partial_runs <= _MAX_QUICK_RETRIES:
                self.next_run.failure_count = 0
        # Failures of other paths do not lengthen the pause of these.
        self.failed_paths.failure_count = 0
        self.failed_paths.schedule_retry(Verdict.PARTIAL)

    def confirm(self, times: CompleteTimes) -> None:
        """Confirm the work received up to these times, except for what is still pending."""
        self._confirmed_times = self._confirmed_times.updated(*times)
        self._partial_runs = 0

    def update_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Pass what is confirmed to the checkpoint, unless the next run has changes."""
        until, last_scan = self._confirmed_times
        if until is not None and not self.next_run.backlog:
            pending = union(
                self.failed_paths.backlog.changes, self.large_files.pending, self.held.changes
            )
            checkpoint.confirm(until, pending, last_scan)

    def take_completed_titles(self) -> list[str]:
        """Return the titles of the syncs that are complete, once. The next run must be empty."""
        if not (self.failed_paths.backlog or self.large_files):
            self._confirmed_serial = self._serial
        titles, self._titles = self._titles, []
        return titles

    def take_unconfirmed(self) -> WorkItem:
        """Return all work that is not confirmed, for another worker."""
        changes = union(
            self.next_run.backlog.take(), self.failed_paths.backlog.take(),
            self.large_files.pending, self.held.take(),
        )  # fmt: skip
        return WorkItem(
            changes, *self.received_times, tuple(self._titles), self.pending_since, self._serial
        )
