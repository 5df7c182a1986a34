"""How each attempt to carry changes begins and ends, and what all attempts share."""

import logging
import time
from dataclasses import replace

from pylsyncd.model import paths
from pylsyncd.model.changes import NOTHING, Changeset
from pylsyncd.model.formatting import format_count
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.state.checkpoint import Checkpoint
from pylsyncd.system.logs import NOTICE
from pylsyncd.worker.failure_reporter import HELD_VERDICTS, FailureReporter, describe_failure
from pylsyncd.worker.mount_checks import MountChecks
from pylsyncd.worker.pending import PendingWork
from pylsyncd.worker.publisher import (
    MAX_WAIT_FOR_FAILED_PATHS,
    Publisher,
    TransferConditions,
)
from pylsyncd.worker.retry_queue import RetryQueue
from pylsyncd.worker.session import RsyncSession
from pylsyncd.worker.transfer import Transfer
from pylsyncd.worker.transfer_result import TransferResult, put_off

log = logging.getLogger(__name__)

_ROOT_ENTRY = Changeset({paths.ROOT: frozenset([b""])}, frozenset(), frozenset())


class LargeFileWorkerError(Exception):
    """The thread for large files has failed: its worker ends, and both are replaced."""


class Attempts:
    """The attempts for one destination, one at a time. Used by its worker's thread."""

    def __init__(  # noqa: PLR0913  # its collaborators
        self,
        session: RsyncSession,
        transfer: Transfer,
        work: PendingWork,
        reporter: FailureReporter,
        checkpoint: Checkpoint | None,
        *,
        was_held: bool = False,
    ) -> None:
        """Create the attempts; ``was_held`` tells that the first changes are held."""
        self._session = session
        self._transfer = transfer
        self._publisher = Publisher(transfer)
        self._work = work
        self._reporter = reporter
        self._checkpoint = checkpoint
        self._name = session.destination.name
        self.mount_checks = MountChecks(transfer)
        self.interrupted: Changeset | None = None
        """What was carried when an exception ended that; None if it is unknown what is pending."""
        self.carrying: Changeset = NOTHING
        """What rsync is carrying now; any thread may ask."""
        self.paths_failed_at: float | None = None
        """When the first of the failed paths failed, by the monotonic clock."""
        self.was_held = was_held
        self.is_released = False
        """Whether a person has released the changes that are held."""
        self.is_reachable = True
        """Whether the destination works, so that new changes need not wait for a pause to end."""
        self.is_stopping = False
        """Whether the last work item was received."""

    def add(self, item: WorkItem, extra_window: float) -> None:
        """Add a work item to what is pending."""
        self.is_stopping |= item.is_final
        # A release is for the changes that are held now, not for later ones.
        queues = self._work.next_run, *self._work.retried_apart
        is_held = self.was_held or any(part.verdict in HELD_VERDICTS for part in queues)
        self.is_released = (self.is_released and not item.changeset) or (
            item.is_release and is_held
        )
        is_alone = not (item.changeset or self._work.pending_count)
        if item.is_urgent and is_alone and self._has_unchecked():
            item = replace(item, changeset=_ROOT_ENTRY)
        self._work.add(item, is_reachable=self.is_reachable, extra_window=extra_window)

    @property
    def is_held(self) -> bool:
        """Whether what is pending is held, or was until a person released it."""
        is_next_held = self._work.next_run.verdict in HELD_VERDICTS
        return self.was_held or self.is_released or is_next_held

    def _has_unchecked(self) -> bool:
        """Return True if there is something to check, although nothing has changed.

        If the destination is not the directory that it was, a run is held, and tells why.
        """
        return self.mount_checks.has_unchecked or self._transfer.is_destination_replaced

    def take_finished_batch(self) -> None:
        """Report a failed batch of large files, and take the changes that it returns.

        Raises LargeFileWorkerError if the thread for large files has failed.
        """
        large_files = self._work.large_files
        if large_files.has_failed:
            self.interrupted = NOTHING
            raise LargeFileWorkerError
        if (result := large_files.take_result()) is not None:
            parts = large_files.aborting_files, large_files.retry_queue
            self.report_failure(result, next((part for part in parts if part.backlog), parts[1]))
        returned, since = large_files.take_returned()
        if returned:
            self._work.return_changes(returned, since)
            if self.is_reachable:
                self._work.next_run.make_due()

    def probe_while_idle(self) -> None:
        """Find out what the destination's rsync can do before a run needs it."""
        # With a hook before each run, the destination may not be there until the hook has run.
        if not (self._transfer.was_probe_tried or self._session.before_hook.is_configured):
            # If that raises, nothing was taken from what is pending.
            self.interrupted = NOTHING
            outcome = self._transfer.probe()
            self.interrupted = None
            if outcome.verdict is not Verdict.DONE and not self._session.is_aborted:
                # No change waits yet. If the cause lasts, the next run warns.
                log.log(
                    NOTICE, "[%s] Not ready for the first run yet: %s",
                    self._name, describe_failure(outcome, self._session.destination),
                )  # fmt: skip

    def carry(
        self, changeset: Changeset, conditions: TransferConditions, *, is_wider: bool = False
    ) -> TransferResult:
        """Run rsync. A release does not apply to a changeset that ``is_wider`` than the changes."""
        # A repair carries no change that waits.
        self.carrying = changeset if conditions.options is None else NOTHING
        large_files, until = self._work.large_files, self._work.received_times.until
        conditions = replace(
            conditions,
            in_flight=large_files.in_flight,
            is_released=self.is_released and not is_wider,
            known_until=None if until is None else until.wall,
            awaits_large_files=bool(large_files.pending_count),
            is_strict=self.holds_last_back(),
        )
        try:
            preparation = self._transfer.prepare(changeset)
            if preparation.outcome.verdict is Verdict.DONE:
                result = self._publisher.carry(changeset, conditions)
            else:
                result = put_off(changeset, preparation)
        except BaseException:
            # Nothing but this changeset was taken from what is pending. A part may have arrived.
            self.interrupted = changeset.with_moves(None)
            raise
        self.carrying = NOTHING
        if result.confirms_everything:
            self._work.verification.record_complete()
        self._work.held.add(result.held)
        self._reporter.report_held(result)
        if conditions.options is None:
            self._reporter.report_run(changeset, result.run)
        self._reporter.report_unset_attributes(result, is_new=not self._work.unset_attributes)
        return result

    def finish(self, attempts: RetryQueue, result: TransferResult, since: float | None) -> None:
        """Save what is confirmed, and report a failure, a recovery or completed syncs.

        ``since`` is when the first of the carried changes was seen.
        """
        if not attempts.backlog:
            if since is not None and not result.pending:
                self._session.statistics.count_confirmed(time.monotonic() - since)
            attempts.reset()
        self.save()
        failing = [part for part in (attempts, *self._work.retried_apart) if part.backlog]
        if failing:
            self.report_failure(result, failing[0])
        else:
            self.paths_failed_at = None
            self._reporter.report_recovery()
        if not self._work.next_run.backlog:
            self._report_completed_syncs()

    def save(self) -> None:
        """Save what is confirmed."""
        if self._checkpoint is not None:
            self._work.update_checkpoint(self._checkpoint)

    def report_failure(self, result: TransferResult, attempts: RetryQueue) -> None:
        """Report the failure of an attempt, if it has failed."""
        self._reporter.report_failure(result, attempts, is_stopping=self.is_stopping)

    def holds_last_back(self) -> bool:
        """Return True if the files that go last wait for failed paths."""
        failed_at = self.paths_failed_at
        return failed_at is None or time.monotonic() < failed_at + MAX_WAIT_FOR_FAILED_PATHS

    def _report_completed_syncs(self) -> None:
        parts = [part.backlog for part in self._work.retried_apart]
        missing = sum(map(len, parts)) + len(self._work.held.changes.trees)
        suffix = f", except for {format_count(missing, 'path')}" if missing else ""
        if self._session.options.dry_run:
            suffix += " (dry run: nothing was changed)"
        for title in self._work.take_completed_titles():
            log.log(NOTICE, "[%s] %s complete%s", self._name, title, suffix)
            self._session.statistics.count_full_sync(title)
