"""Offers directories to a destination once more, to undo what others changed there."""

import logging
import time

from pylsyncd.model.changes import Changeset, MutableChangeset, union
from pylsyncd.rsync.items import parse_items
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.runner import RunResult
from pylsyncd.worker.attempts import Attempts
from pylsyncd.worker.failure_reporter import FailureReporter, describe_failure
from pylsyncd.worker.pending import PendingWork
from pylsyncd.worker.publisher import TransferConditions
from pylsyncd.worker.repairs import Repairs, new_directories, repaired_changes
from pylsyncd.worker.retry_queue import REACHING
from pylsyncd.worker.session import RsyncSession
from pylsyncd.worker.transfer_result import TransferResult

log = logging.getLogger(__name__)


class RepairAttempts:
    """The attempts to carry the slices of repairs. Used by the worker's thread."""

    def __init__(
        self,
        attempts: Attempts,
        session: RsyncSession,
        work: PendingWork,
        reporter: FailureReporter,
        repairs: Repairs | None,
    ) -> None:
        self._attempts = attempts
        self._session = session
        self._work = work
        self._reporter = reporter
        self._repairs = repairs

    @property
    def due_at(self) -> float | None:
        """When a slice of a repair is due; None as long as it has to wait for something else."""
        work = self._work
        has_to_wait = work.next_run.backlog or work.held_repair.backlog
        return None if self._repairs is None or has_to_wait else self._repairs.due_at

    def is_due(self) -> bool:
        """Return True if the next slice is due now."""
        due_at = self.due_at
        return due_at is not None and time.monotonic() >= due_at

    def carry_next(self) -> None:
        """Carry the next slice."""
        if self._repairs is None:
            return
        if listings := self._repairs.next_slice():
            self._carry(listings)
        else:
            self._confirm_round()
            self._attempts.save()

    def carry_held(self) -> None:
        """Carry the slice that was held."""
        self._carry(self._work.held_repair.backlog.take())

    def _carry(self, listings: Changeset) -> None:
        """Offer directories to the destination, to undo what others changed there."""
        repairs, work = self._repairs, self._work
        if repairs is None:
            return
        options = repairs.options(self._session.options)
        excluded = work.excluded_from(listings)
        conditions = TransferConditions(
            excluded, exclude_large=work.large_files.accepts_files, options=options
        )
        result = self._attempts.carry(listings, conditions)
        work.large_files.add(result.large_files, None)
        if result.verdict is Verdict.HELD:
            work.held_repair.backlog.add(listings)
            work.held_repair.include_since(time.monotonic())
            work.held_repair.schedule_retry(result.verdict)
            self._attempts.report_failure(result, work.held_repair)
            return
        work.held_repair.reset()
        if result.verdict not in REACHING:
            to = self._session.destination
            failure = describe_failure(result.outcome, to)
            log.info("[%s] A repair waits: %s", to.name, failure)
            repairs.postpone_after_failure()
            return
        rest = union(result.pending, result.aborting)
        if not rest:
            work.record_failures(excluded, result, time.monotonic())
        else:
            # It is tried again and reported as any other change.
            rest.merge(result.failed)
        self._finish(repairs, result, rest)

    def _finish(self, repairs: Repairs, result: TransferResult, rest: MutableChangeset) -> None:
        """Go on with the round, and report what was repaired; ``rest`` failed."""
        done = RunResult() if result.run is None else result.run.result
        was_verified = self._work.verification.is_verified
        repairs.confirm_slice(done.deleted, is_released=self._attempts.is_released)
        self._attempts.is_released = False
        if result.run is not None and result.run.item_lines:
            items = parse_items(result.run.item_lines)
            rest.merge(new_directories(items))
            found = repairs.repaired(items)
            self._session.statistics.count_repaired(len(found))
            if found:
                self._reporter.report_repair(repaired_changes(found), result.run)
        if rest:
            self._work.add_changes(rest, None)
            self._work.next_run.make_due()
        if self._work.verification.is_verified and not was_verified:
            self._confirm_round()
        self._attempts.finish(self._work.held_repair, result, None)

    def _confirm_round(self) -> None:
        """Let the state know what a round has verified, although no change may have been carried.

        What has failed in it is pending; if that is carried next, the state has to wait for it.
        """
        if not self._work.next_run.backlog:
            self._work.confirm(self._work.received_times)
