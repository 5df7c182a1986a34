"""What a destination is owed, what of it is confirmed, and what was asked for by name."""

import time
from collections.abc import Sequence

from pylsyncd.model import paths
from pylsyncd.model.changes import NOTHING, Changeset, MutableChangeset, Scope
from pylsyncd.model.moments import Moment, earliest
from pylsyncd.pipeline.optimizer import split_below
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.state.checkpoint import Checkpoint
from pylsyncd.worker.large_file_queue import LargeFileQueue
from pylsyncd.worker.retry_queue import RetryQueue
from pylsyncd.worker.transfer import MAX_LEFT_OUT_PATHS

ReceivedTimes = tuple[Moment | None, Moment | None]
"""Until when all changes were put, and when the last scan began whose findings were."""


class PendingWork:
    """The account of one destination, in three parts. Kept by its worker's thread.

    What is fresh is carried next. What is aside failed while all else succeeded, and is tried by
    itself. What is in the lane are large files, which are sent beside all else.
    """

    def __init__(self, lane: LargeFileQueue, pauses: RetryPolicy) -> None:
        self.next_run = RetryQueue()
        self.failed_paths = RetryQueue()
        self.large_files = lane
        self._pauses = pauses
        self._opened = 0.0
        self._owing_since: float | None = None
        # What the queue said last, and what it said when all before that was confirmed.
        self._put: ReceivedTimes = None, None
        self._confirmed: ReceivedTimes = None, None
        self._titles: list[str] = []
        self._serial = 0
        self.confirmed_serial = 0
        """The last order that is confirmed with all before it, by its serial number."""

    @property
    def pending_count(self) -> int:
        """How many changes are owed; any thread may ask."""
        return (
            len(self.next_run.backlog)
            + len(self.failed_paths.backlog)
            + self.large_files.pending_count
        )

    @property
    def retry_queues(self) -> Sequence[RetryQueue]:
        """What is tried by itself."""
        return self.next_run, self.failed_paths, self.large_files.retry_queue

    @property
    def pending_since(self) -> float | None:
        """When the first of what is owed was seen, by the monotonic clock, if that is known.

        Of a full sync that is not: it may bring nothing new. But one that fails is owed since it
        was asked for.
        """
        is_failing = any(part.failure_count for part in self.retry_queues)
        asked = self._owing_since if is_failing else None
        return earliest(asked, *(part.since for part in self.retry_queues))

    @property
    def due_at(self) -> float | None:
        """When something is to be tried, by the monotonic clock; None for nothing."""
        owing = [part.due_at for part in (self.next_run, self.failed_paths) if part.backlog]
        return earliest(*owing, self.large_files.due_at)

    @property
    def received_times(self) -> ReceivedTimes:
        """What was put until now: to be confirmed when it was carried."""
        return self._put

    def add(self, order: WorkItem, *, is_reachable: bool, delay: float) -> None:
        """Owe what an order says, ``delay`` seconds after the first change at the earliest."""
        until, scanned = self._put
        self._put = order.complete_until or until, order.last_scan or scanned
        self._titles += [title for title in order.titles if title not in self._titles]
        self._serial = order.serial or self._serial
        if order.changeset:
            if not self.pending_count:
                self._owing_since = time.monotonic()
            if not self.next_run.backlog:
                self._opened = time.monotonic()
            self.add_changes(order.changeset, order.since)
            if is_reachable:
                self.next_run.due_at = 0.0 if order.titles else self._opened + delay
        elif not self.pending_count:
            self.confirmed_serial = self._serial
        if order.is_urgent or order.is_release:
            for part in self.retry_queues:
                part.due_at = 0.0

    def add_changes(self, changeset: Changeset, since: float | None) -> None:
        """Owe these changes, which were first seen at that time, as fresh ones."""
        self.next_run.backlog.add(self._rejoined(changeset))
        self.next_run.backlog.add(changeset)
        self.next_run.include_since(since)

    def _rejoined(self, changeset: Changeset) -> Changeset:
        """Take back what was set aside and these changes touch: they may have mended it.

        So nothing that is fresh lies at or below what is left out of its run.
        """
        if not self.failed_paths.backlog:
            return NOTHING
        aside = self.failed_paths.backlog.take()
        self.next_run.include_since(self.failed_paths.since)
        set_aside = {change.path for change in aside}
        touched = {change.path for change in changeset if change.scope is not Scope.LISTING}
        below, _ = split_below(changeset, set_aside)
        for change in below:
            touched |= set_aside & {change.path, *paths.ancestors(change.path)}
        rejoined, untouched = (
            (aside, NOTHING) if paths.ROOT in touched else split_below(aside, touched)
        )
        self.failed_paths.backlog.add(untouched)
        if not untouched:
            self.failed_paths.reset()
        return rejoined

    def add_failed_paths(self, outcome: Outcome) -> None:
        """Keep apart what failed by itself."""
        if not outcome.failed:
            return
        self.failed_paths.backlog.add(outcome.failed)
        self.failed_paths.include_since(self.next_run.since)
        if len(self.failed_paths.backlog) > MAX_LEFT_OUT_PATHS:
            # Too many to be left out of a run by name.
            self.next_run.backlog.add(self.failed_paths.backlog.take())
            self.failed_paths.reset()
            return
        if outcome.pending and outcome.verdict is Verdict.PARTIAL:
            # All else is carried soon, without these.
            self.next_run.failure_count = 0
        # However often others were tried: these have just failed, and may not do so again.
        self.failed_paths.failure_count = 0
        self.failed_paths.schedule_retry(self._pauses, Verdict.PARTIAL)

    def confirm(self, put: ReceivedTimes) -> None:
        """Take note that all that was put until then is carried, or stands aside or in the lane."""
        until, scanned = self._confirmed
        self._confirmed = put[0] or until, put[1] or scanned

    def update_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Have written down what is confirmed, if nothing fresh is owed."""
        until, scanned = self._confirmed
        if until is not None and not self.next_run.backlog:
            owed = MutableChangeset()
            owed.merge(self.failed_paths.backlog.changes)
            owed.merge(self.large_files.pending)
            checkpoint.confirm(until, owed, scanned)

    def take_completed_titles(self) -> list[str]:
        """Return, once, what was asked for by name and is done, when nothing fresh is owed."""
        if not (self.failed_paths.backlog or self.large_files):
            self.confirmed_serial = self._serial
        titles, self._titles = self._titles, []
        return titles

    def take_unconfirmed(self) -> WorkItem:
        """Return all that is not confirmed, for who goes on with it."""
        changes = MutableChangeset()
        changes.merge(self.next_run.backlog.take())
        changes.merge(self.failed_paths.backlog.take())
        changes.merge(self.large_files.pending)
        return WorkItem(changes, *self._put, tuple(self._titles), self.pending_since, self._serial)
