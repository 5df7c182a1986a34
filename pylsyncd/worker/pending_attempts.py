"""Carries each part of what is pending for one destination."""

import time
from dataclasses import replace

from pylsyncd.model.changes import NOTHING, union
from pylsyncd.pipeline.optimizer import optimize, split_below
from pylsyncd.rsync.file_list import smallest_file
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.state.checkpoint import Checkpoint
from pylsyncd.worker.attempts import Attempts
from pylsyncd.worker.pending import PendingWork
from pylsyncd.worker.publisher import TransferConditions
from pylsyncd.worker.repairs import Repairs
from pylsyncd.worker.session import RsyncSession
from pylsyncd.worker.transfer import Transfer
from pylsyncd.worker.transfer_result import TransferResult

# After these the destination works, so new changes need not wait for the pause to end.
_REACHED = frozenset([Verdict.DONE, Verdict.RETRY_NOW, Verdict.PARTIAL, Verdict.SOURCE_UNSAFE])


class PendingAttempts:
    """The attempts to carry what is pending for one destination. Used by its worker's thread."""

    def __init__(  # noqa: PLR0913, PLR0917  # its collaborators
        self,
        attempts: Attempts,
        session: RsyncSession,
        transfer: Transfer,
        work: PendingWork,
        checkpoint: Checkpoint | None,
        repairs: Repairs | None,
    ) -> None:
        self._attempts = attempts
        self._session = session
        self._transfer = transfer
        self._work = work
        self._checkpoint = checkpoint
        self._repairs = repairs

    def carry_next_run(self) -> None:
        """Carry all changes that are neither set aside nor held."""
        next_run, large_files = self._work.next_run, self._work.large_files
        self._work.include_released(self._transfer.find_held_subtrees())
        if not self._check_new_mounts():
            return
        is_merged, times = next_run.backlog.is_merged, self._work.received_times
        started_at = time.time()
        changeset = next_run.backlog.take()
        if self._checkpoint is not None:
            self._checkpoint.record_run(changeset)
        changeset = large_files.defer_conflicts(optimize(changeset) if is_merged else changeset)
        excluded = self._work.excluded_from(changeset)
        conditions = TransferConditions(
            excluded,
            exclude_large=large_files.accepts_files,
            awaits_failed_paths=self._work.has_failed_paths and self._attempts.holds_last_back(),
            unsettled=None if self._attempts.is_held else self._work.unsettled_paths(),
        )
        result = self._attempts.carry(changeset, conditions)
        self._attempts.was_held = False
        large_files.add(result.large_files, next_run.since)
        self._attempts.is_reachable = result.verdict in _REACHED
        self._work.finish_next_run(excluded, result)
        if self._work.has_failed_paths and self._attempts.paths_failed_at is None:
            self._attempts.paths_failed_at = time.monotonic()
        if next_run.backlog and result.verdict is Verdict.DONE:
            return
        if next_run.backlog:
            if not self._session.is_aborted:
                self._attempts.report_failure(result, next_run)
            return
        large_files.accepts_files = True
        self._work.confirm(times)
        is_complete = result.confirms_everything and result.verdict is Verdict.DONE
        if self._repairs is not None and is_complete:
            self._repairs.record_full_sync(started_at)
        self._attempts.is_released = False
        self._attempts.finish(next_run, result, next_run.since)

    def _check_new_mounts(self) -> bool:
        """Look at the copies of the directories over which file systems were mounted, once.

        Returns False if the destination could not be asked: the next run has to wait.
        """
        # If a check raises, nothing was taken from what is pending.
        self._attempts.interrupted = NOTHING
        check = Outcome(Verdict.DONE)
        if self._attempts.mount_checks.has_unchecked:
            check = self._transfer.prepare(NOTHING).outcome
        if check.verdict is Verdict.DONE:
            check = self._attempts.mount_checks.update()
        self._attempts.interrupted = None
        if check.verdict is Verdict.DONE:
            return True
        self._attempts.is_reachable = False
        self._work.next_run.schedule_retry(check.verdict)
        if not self._session.is_aborted:
            self._attempts.report_failure(TransferResult(check), self._work.next_run)
        return False

    def retry_failed_paths(self) -> None:
        """Retry the paths that failed while all others succeeded."""
        failed_paths = self._work.failed_paths
        changeset, since = failed_paths.backlog.take(), failed_paths.since
        # Nothing but files at which runs break off.
        excluded = self._work.excluded_from(changeset)
        result = self._attempts.carry(
            changeset, TransferConditions(excluded, deletes_by_listing=True)
        )
        count = failed_paths.failure_count
        failed_paths.backlog.add(result.pending)
        self._work.aborting_files.backlog.add(result.aborting)
        self._work.record_failures(excluded, result, since)
        if failed_paths.backlog:
            failed_paths.failure_count = count
            failed_paths.schedule_retry(_with_pause(result.verdict))
        self._attempts.finish(failed_paths, result, since)

    def retry_aborting_file(self) -> None:
        """Retry the smallest file at which a run broke off: if that fails, the others do, too."""
        aborting_files = self._work.aborting_files
        since = aborting_files.since
        files = aborting_files.backlog.take()
        changeset, others = split_below(files, {smallest_file(self._transfer.source, files)})
        aborting_files.backlog.add(others)
        large_files = self._work.large_files
        result = self._attempts.carry(
            changeset, TransferConditions(exclude_large=large_files.accepts_files)
        )
        large_files.add(result.large_files, since)
        aborting_files.backlog.add(union(result.pending, result.aborting))
        if result.pending or result.aborting:
            aborting_files.schedule_retry(_with_pause(result.verdict))
        else:
            self._work.record_failures(frozenset(), result, since)
            aborting_files.make_due()
        self._attempts.finish(aborting_files, result, since)

    def retry_unexplained(self) -> None:
        """Retry changes of runs that failed without naming a path, and look at more each time."""
        unexplained = self._work.unexplained
        since = unexplained.since
        changeset, wider = unexplained.take_widened()
        if self._attempts.is_released:
            # A release is for the changes themselves: a wider run would be held again.
            wider = changeset
        excluded = self._work.excluded_from(wider)
        is_wider = wider is not changeset
        result = self._attempts.carry(wider, TransferConditions(excluded), is_wider=is_wider)
        if result.verdict is Verdict.HELD and is_wider:
            # Only the changes themselves are worth the question of an administrator.
            unexplained.stop_widening()
            result = TransferResult(replace(result.outcome, verdict=Verdict.PARTIAL), changeset)
        self._work.aborting_files.backlog.add(result.aborting)
        if result.pending:
            left = changeset if is_wider else union(changeset, result.pending)
            unexplained.add_failed(left, result.verdict)
        else:
            self._work.record_failures(excluded, result, since)
        self._attempts.finish(unexplained, result, since)


def _with_pause(verdict: Verdict) -> Verdict:
    """Return the verdict for the pause before a retry that waits for a cause to pass."""
    return Verdict.PARTIAL if verdict is Verdict.RETRY_NOW else verdict
