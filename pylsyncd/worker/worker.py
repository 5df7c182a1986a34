"""The thread that serves one destination: takes work from its queue and carries it with rsync."""

import logging
import queue
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from pylsyncd.model import paths
from pylsyncd.model.changes import (
    EVERYTHING,
    NOTHING,
    Changeset,
    MutableChangeset,
    everything_with,
    union,
)
from pylsyncd.model.directory_id import MountId
from pylsyncd.model.formatting import format_count
from pylsyncd.model.moments import earliest
from pylsyncd.model.status import Condition, DestinationStatus
from pylsyncd.pipeline.optimizer import optimize, split_below
from pylsyncd.pipeline.work_queue import WorkItem, WorkQueue
from pylsyncd.rsync.file_list import smallest_file
from pylsyncd.rsync.items import parse_items
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.runner import RunResult
from pylsyncd.state.checkpoint import Checkpoint
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.restarts import DelayedStart
from pylsyncd.system.threads import Crash, SupervisedThread
from pylsyncd.worker.failure_reporter import HELD_VERDICTS, FailureReporter, describe_failure
from pylsyncd.worker.pending import PendingWork, Settlement
from pylsyncd.worker.publisher import (
    MAX_WAIT_FOR_FAILED_PATHS,
    Publisher,
    TransferConditions,
)
from pylsyncd.worker.repairs import Repairs, new_directories, repaired_changes
from pylsyncd.worker.retry_queue import REACHING, RetryQueue
from pylsyncd.worker.session import RsyncSession
from pylsyncd.worker.transfer import Transfer
from pylsyncd.worker.transfer_result import TransferResult

log = logging.getLogger(__name__)

# After these the destination works, so new changes need not wait for the pause to end.
_REACHED = frozenset([Verdict.DONE, Verdict.RETRY_NOW, Verdict.PARTIAL, Verdict.SOURCE_UNSAFE])


# For another worker, if it is unknown what is pending.
_FULL_SYNC = WorkItem(EVERYTHING, titles=("full sync",))


_ROOT_ENTRY = Changeset({paths.ROOT: frozenset([b""])}, frozenset(), frozenset())


class MountCheck(NamedTuple):
    """What is at the copy of a directory over which a file system was mounted."""

    mount: MountId
    is_copy_empty: bool
    """Whether nothing of the copy can be lost."""


class LargeFileWorkerError(Exception):
    """The thread for large files has failed: its worker ends, and both are replaced."""


class Worker(SupervisedThread):
    """The thread of one destination. It runs one rsync at a time.

    Changes that arrive while rsync runs, or while the destination is unreachable, are merged: one
    run carries them. Paths that fail while all others succeed are retried separately, so that one
    unreadable file does not keep the others from being deleted or confirmed.

    When an unforeseen error ends it, the pool replaces it by another one, with a delayed start.
    """

    def __init__(  # noqa: PLR0913  # its collaborators
        self,
        session: RsyncSession,
        transfer: Transfer,
        work: PendingWork,
        work_queue: WorkQueue,
        *,
        reporter: FailureReporter,
        checkpoint: Checkpoint | None,
        on_failed: Callable[[str], None],
        extra_window: float = 0.0,
        delayed_start: DelayedStart | None = None,
        was_held: bool = False,
        repairs: Repairs | None = None,
    ) -> None:
        """Create a worker; its window is ``extra_window`` seconds longer than the source's.

        One with a ``delayed_start`` has the condition of a failed one until it is started;
        ``was_held`` tells that its first changes are held.
        """
        super().__init__(session.destination.name, on_failed, session.activity)
        self._session = session
        self._transfer = transfer
        self._publisher = Publisher(transfer)
        self._work = work
        self._queue = work_queue
        self._reporter = reporter
        self._checkpoint = checkpoint
        if checkpoint is not None:
            work.unset_attributes.add(checkpoint.unset_attributes)
        self._extra_window = extra_window
        self._delayed_start = delayed_start
        self._was_held = was_held
        self._repairs = repairs
        # What was carried when an exception ended that; None if it is unknown what is pending.
        self._interrupted: Changeset | None = None
        # What rsync is carrying now.
        self._carrying: Changeset = NOTHING
        # When the first of the failed paths failed, by the monotonic clock.
        self._paths_failed_at: float | None = None
        self.mount_checks: Mapping[bytes, MountCheck] = {}
        """The checks of the present mounts, by path; any thread may ask."""
        self._is_paused = False
        self._is_failing = False
        self._is_reachable = True
        self._is_released = False
        self._is_stopping = False

    # For other threads:

    @property
    def threads(self) -> list[SupervisedThread]:
        """The threads that serve the destination."""
        large_files = self._work.large_files.worker
        return [self] if large_files is None else [self, large_files]

    def put(self, item: WorkItem) -> None:
        """Put a work item into the queue; an urgent one shortens the delay of the start."""
        self._queue.put(item)
        if self._delayed_start is not None and item.is_urgent:
            self._delayed_start.hasten()

    @property
    def delayed_start(self) -> DelayedStart | None:
        """When the worker is to be started after a failure; None once it was."""
        return self._delayed_start if self.ident is None else None

    def delay_start(self, delayed_start: DelayedStart) -> None:
        """Delay the start again: the worker could not be started."""
        self._delayed_start = delayed_start

    @property
    def failure(self) -> Crash | None:
        """The unforeseen error that ended the worker, or its thread for large files."""
        large_files = self._work.large_files.worker
        if self.crash is not None and large_files is not None and large_files.crash is not None:
            return large_files.crash
        return self.crash

    @property
    def has_held_changes(self) -> bool:
        """True if changes are held until a person acts."""
        return any(part.verdict in HELD_VERDICTS for part in self._work.retry_queues)

    def request_stop(self) -> None:
        """Let the worker end when the queued work was carried, or tried once more."""
        self._queue.put(WorkItem(NOTHING, is_final=True))

    def abort(self, number: signal.Signals) -> None:
        """Send a signal to the running rsync and start no other one."""
        self._session.abort(number)
        self._work.large_files.abort(number)
        # It may be waiting for a batch that was just aborted.
        self._queue.wake()

    def set_paused(self, *, is_paused: bool) -> None:
        """Start no rsync and collect changes while paused."""
        self._is_paused = is_paused
        self._queue.wake()

    def set_extra_window(self, seconds: float) -> None:
        """Change by how much the window is longer than the source's."""
        self._extra_window = seconds

    @property
    def pending_count(self) -> int:
        """The number of pending changes; exact once the worker has ended."""
        return self._work.pending_count + self._queue.pending_count + len(self._carrying)

    @property
    def confirmed_serial(self) -> int:
        """The serial number of the last work item that is confirmed, with all before it."""
        return self._work.confirmed_serial

    @property
    def settlement(self) -> Settlement:
        """What was confirmed when nothing was left to try at once, and what was not."""
        return self._work.settlement

    @property
    def unset_attributes(self) -> Changeset:
        """The entries that are confirmed without some of their attributes."""
        return self._work.unset_attributes.changes

    def status(self) -> DestinationStatus:
        """Return the status of the destination."""
        now = time.monotonic()
        carrying = self._carrying
        waiting = self.pending_count
        since = earliest(self._work.pending_since, self._queue.since)
        failed = [part for part in self._work.retry_queues if part.failure_count and part.backlog]
        start = self.delayed_start
        next_attempt = earliest(
            *(part.due_at for part in failed), None if start is None else start.due_at
        )
        if self._is_failing:
            # The pool is about to replace the worker.
            next_attempt = now
        return DestinationStatus(
            self.name,
            self._session.destination.notation,
            self._condition(waiting),
            behind=now - since if since is not None else 0.0,
            waiting=waiting,
            owes_everything=any(part.backlog.is_everything for part in self._work.retry_queues)
            or carrying.is_everything
            or self._queue.is_everything,
            last_run=self._session.statistics.last_run,
            next_attempt=None if next_attempt is None else max(0.0, next_attempt - now),
            error=self._reporter.last_error,
            set_aside=self._work.set_aside,
            compared_since=None if self._repairs is None else self._repairs.compared_since,
            counts=self._session.statistics.counts(),
        )

    def take_unconfirmed(self) -> WorkItem:
        """Return all work that is not confirmed, for another worker, after this one was stopped."""
        if self.is_alive():
            # It hangs in a system call: what it has carried is unknown.
            return replace(_FULL_SYNC, changeset=everything_with(self._carrying))
        if self.crash is not None:
            return self._take_unconfirmed_after_crash()
        if not self._queue.empty():
            self._add(self._queue.get_nowait())
        return self._work.take_unconfirmed()

    def _take_unconfirmed_after_crash(self) -> WorkItem:
        """Return all work, everything unless it is known what is not confirmed."""
        try:
            if self._interrupted is not None:
                self._work.add_changes(self._interrupted, None)
            is_release = False
            if not self._queue.empty():
                item = self._queue.get_nowait()
                is_release = item.is_release
                self._add(item)
            item = replace(self._work.take_unconfirmed(), is_release=is_release)
        except BaseException:  # noqa: BLE001  # any error in a broken state
            return _FULL_SYNC
        if self._interrupted is None or not item.changeset:
            titles = item.titles or _FULL_SYNC.titles
            everything = everything_with(item.changeset, self._carrying)
            return replace(item, changeset=everything, titles=titles)
        return item

    def _condition(self, waiting: int) -> Condition:
        if self._is_failing or self.delayed_start is not None:
            return Condition.FAILED
        verdicts = {part.verdict for part in self._work.retry_queues if part.failure_count}
        if self._is_paused:
            return Condition.PAUSED
        if self._carrying or self._work.large_files.in_flight:
            return Condition.SYNCING
        if verdicts & HELD_VERDICTS:
            return Condition.HELD
        if verdicts:
            return Condition.RETRYING
        with_nothing_waiting = Condition.IN_SYNC if self._queue.is_idle else Condition.SYNCING
        return Condition.WAITING if waiting else with_nothing_waiting

    # For the worker's own thread:

    def report_crash(self, crash: Crash) -> None:
        """Leave the report to the pool, which knows when the next attempt is."""

    def work(self) -> None:
        """Carry queued work until asked to stop."""
        self._interrupted = NOTHING
        self._work.large_files.start()
        self._interrupted = None
        try:
            self._serve()
            self._work.large_files.stop()
        except BaseException:
            self._is_failing = True
            # Another worker carries what these have not confirmed: everything if this raises, too.
            interrupted, self._interrupted = self._interrupted, None
            self._work.large_files.stop_now()
            self._interrupted = interrupted
            raise
        finally:
            self._queue.is_idle = True
            self._session.close()
        if self._checkpoint is not None:
            self._checkpoint.save_clean_stop()

    def _serve(self) -> None:
        while not (self._session.is_aborted or self._is_stopping):
            if not (self._work.pending_count or self._is_paused) and self._queue.empty():
                self._probe_while_idle()
            self._receive()
            self._take_finished_batch()
            if self._is_stopping:
                self._carry_rest()
            elif not self._is_paused:
                self._carry_due()
        self._work.settle()

    def _receive(self) -> None:
        """Wait for a work item, or until an attempt or the checkpoint is due."""
        due_at = None if self._is_paused else earliest(self._work.due_at, self._repair_due_at)
        save_at = self._checkpoint.due_at if self._checkpoint is not None else None
        first = earliest(due_at, save_at)
        timeout = None if first is None else max(0.0, first - time.monotonic())
        self._queue.is_idle = True
        # Only now: who waits for this may ask for the status next.
        self._work.settle()
        try:
            with self.activity.waiting():
                item = self._queue.get(timeout=timeout)
        except queue.Empty:
            self._leave_idle()
            if self._checkpoint is not None and save_at is not None:
                self._checkpoint.save()
            return
        self._leave_idle()
        self._add(item)

    def _leave_idle(self) -> None:
        """Say that changes may be about to be taken from what is pending."""
        if self._work.pending_count:
            self._queue.is_idle = False

    def _add(self, item: WorkItem) -> None:
        self._is_stopping |= item.is_final
        # A release is for the changes that are held now, not for later ones.
        queues = self._work.next_run, *self._work.retried_apart
        is_held = self._was_held or any(part.verdict in HELD_VERDICTS for part in queues)
        self._is_released = (self._is_released and not item.changeset) or (
            item.is_release and is_held
        )
        if item.is_urgent and not (item.changeset or self._work.pending_count):
            item = replace(item, changeset=self._find_unchecked())
        self._work.add(item, is_reachable=self._is_reachable, extra_window=self._extra_window)

    def _find_unchecked(self) -> Changeset:
        """Return a change to try if there is something to check, although nothing has changed.

        If the destination is not the directory that it was, the run is held, and tells why.
        """
        unchecked = self._transfer.new_mounts.keys() - self.mount_checks.keys()
        return _ROOT_ENTRY if unchecked or self._transfer.is_destination_replaced else NOTHING

    def _take_finished_batch(self) -> None:
        """Report a failed batch of large files, and take the changes that it returns.

        Raises LargeFileWorkerError if the thread for large files has failed.
        """
        large_files = self._work.large_files
        if large_files.has_failed:
            self._interrupted = NOTHING
            raise LargeFileWorkerError
        if (result := large_files.take_result()) is not None:
            parts = large_files.aborting_files, large_files.retry_queue
            self._report_failure(result, next((part for part in parts if part.backlog), parts[1]))
        returned, since = large_files.take_returned()
        if returned:
            self._work.return_changes(returned, since)
            if self._is_reachable:
                self._work.next_run.make_due()

    def _carry_due(self) -> None:
        if self._work.next_run.is_due():
            self._carry_next_run()
        elif self._work.failed_paths.is_due():
            self._retry_failed_paths()
        elif self._work.aborting_files.is_due():
            self._retry_aborting_file()
        elif self._work.unexplained.is_due():
            self._retry_unexplained()
        elif self._work.held_repair.is_due():
            self._carry_repair(self._work.held_repair.backlog.take())
        elif self._repairs is not None and self._is_repair_due():
            self._carry_repair(self._repairs.next_slice())
        self._work.large_files.start_due_batch()

    def _carry_rest(self) -> None:
        """Carry what is left without waiting for pauses, until a run fails."""
        next_run, large_files = self._work.next_run, self._work.large_files
        next_run.make_due()
        while not self._session.is_aborted:
            if next_run.is_due():
                self._carry_next_run()
            large_files.start_due_batch()
            if large_files.in_flight:
                self._receive()
                self._take_finished_batch()
            elif not next_run.is_due():
                break

    def _carry_next_run(self) -> None:
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
            awaits_failed_paths=self._work.has_failed_paths and self._holds_last_back(),
        )
        result = self._carry(changeset, conditions)
        self._was_held = False
        large_files.add(result.large_files, next_run.since)
        self._is_reachable = result.verdict in _REACHED
        self._work.finish_next_run(changeset, excluded, result)
        if self._work.has_failed_paths and self._paths_failed_at is None:
            self._paths_failed_at = time.monotonic()
        if next_run.backlog and result.verdict is Verdict.DONE:
            return
        if next_run.backlog:
            if not self._session.is_aborted:
                self._report_failure(result, next_run)
            return
        large_files.accepts_files = True
        self._work.confirm(times)
        is_complete = changeset.is_everything and result.verdict is Verdict.DONE
        if self._repairs is not None and is_complete:
            self._repairs.record_full_sync(started_at)
        self._is_released = False
        self._finish_attempt(next_run, result, next_run.since)

    def _check_new_mounts(self) -> bool:
        """Look at the copies of the directories over which file systems were mounted, once.

        Returns False if the destination could not be asked: the next run has to wait.
        """
        check = self._ask_for_copies()
        if check.verdict is Verdict.DONE:
            return True
        self._is_reachable = False
        self._work.next_run.schedule_retry(check.verdict)
        if not self._session.is_aborted:
            self._report_failure(TransferResult(check), self._work.next_run)
        return False

    def _ask_for_copies(self) -> Outcome:
        """Ask what is at the copies that were not looked at; return a failure if there is one."""
        mounts = self._transfer.new_mounts
        checks = {
            path: check
            for path, check in self.mount_checks.items()
            if mounts.get(path) == check.mount
        }
        outcome = Outcome(Verdict.DONE)
        # If a check raises, nothing was taken from what is pending.
        self._interrupted = NOTHING
        for path in mounts.keys() - checks.keys():
            outcome = self._transfer.check_copy(path)
            if outcome.verdict in {Verdict.RETRY_NOW, Verdict.RETRY_LATER}:
                break
            checks[path] = MountCheck(mounts[path], outcome.verdict is Verdict.DONE)
        else:
            outcome = Outcome(Verdict.DONE)
        self._interrupted = None
        self.mount_checks = checks
        return outcome

    def _retry_failed_paths(self) -> None:
        failed_paths = self._work.failed_paths
        changeset, since = failed_paths.backlog.take(), failed_paths.since
        # Nothing but files at which runs break off.
        excluded = self._work.excluded_from(changeset)
        result = self._carry(changeset, TransferConditions(excluded, deletes_by_listing=True))
        count = failed_paths.failure_count
        failed_paths.backlog.add(result.pending)
        self._work.aborting_files.backlog.add(result.aborting)
        self._work.record_failures(changeset, excluded, result, since)
        if failed_paths.backlog:
            failed_paths.failure_count = count
            failed_paths.schedule_retry(_with_pause(result.verdict))
        self._finish_attempt(failed_paths, result, since)

    def _retry_aborting_file(self) -> None:
        """Retry the smallest file at which a run broke off: if that fails, the others do, too."""
        aborting_files = self._work.aborting_files
        since = aborting_files.since
        files = aborting_files.backlog.take()
        changeset, others = split_below(files, {smallest_file(self._transfer.source, files)})
        aborting_files.backlog.add(others)
        large_files = self._work.large_files
        result = self._carry(changeset, TransferConditions(exclude_large=large_files.accepts_files))
        large_files.add(result.large_files, since)
        aborting_files.backlog.add(union(result.pending, result.aborting))
        if result.pending or result.aborting:
            aborting_files.schedule_retry(_with_pause(result.verdict))
        else:
            self._work.record_failures(changeset, frozenset(), result, since)
            aborting_files.make_due()
        self._finish_attempt(aborting_files, result, since)

    def _retry_unexplained(self) -> None:
        unexplained = self._work.unexplained
        since = unexplained.since
        changeset, wider = unexplained.take_widened()
        excluded = self._work.excluded_from(wider)
        is_wider = wider is not changeset
        result = self._carry(wider, TransferConditions(excluded), is_wider=is_wider)
        if result.verdict is Verdict.HELD and is_wider:
            # Only the changes themselves are worth the question of an administrator.
            unexplained.stop_widening()
            result = TransferResult(replace(result.outcome, verdict=Verdict.PARTIAL), changeset)
        self._work.aborting_files.backlog.add(result.aborting)
        if result.pending:
            left = changeset if is_wider else union(changeset, result.pending)
            unexplained.add_failed(left, result.verdict)
        else:
            self._work.record_failures(wider, excluded, result, since)
        self._finish_attempt(unexplained, result, since)

    def _holds_last_back(self) -> bool:
        """Return True if the files that go last wait for failed paths."""
        failed_at = self._paths_failed_at
        return failed_at is None or time.monotonic() < failed_at + MAX_WAIT_FOR_FAILED_PATHS

    @property
    def _repair_due_at(self) -> float | None:
        """When a slice of a repair is due; None as long as it has to wait for something else."""
        work = self._work
        has_to_wait = work.next_run.backlog or work.held_repair.backlog
        return None if self._repairs is None or has_to_wait else self._repairs.due_at

    def _is_repair_due(self) -> bool:
        due_at = self._repair_due_at
        return due_at is not None and time.monotonic() >= due_at and self._queue.empty()

    def _carry_repair(self, listings: Changeset) -> None:
        """Offer directories to the destination, to undo what others changed there."""
        repairs, work = self._repairs, self._work
        if repairs is None or not listings:
            return
        options = repairs.options(self._session.options)
        excluded = work.excluded_from(listings)
        conditions = TransferConditions(
            excluded, exclude_large=work.large_files.accepts_files, options=options
        )
        result = self._carry(listings, conditions)
        work.large_files.add(result.large_files, None)
        if result.verdict is Verdict.HELD:
            work.held_repair.backlog.add(listings)
            work.held_repair.include_since(time.monotonic())
            work.held_repair.schedule_retry(result.verdict)
            self._report_failure(result, work.held_repair)
            return
        work.held_repair.reset()
        if result.verdict not in REACHING:
            log.info("[%s] A repair waits: %s", self.name, describe_failure(result.outcome))
            repairs.postpone_after_failure()
            return
        rest = union(result.pending, result.aborting)
        if not rest:
            work.record_failures(listings, excluded, result, time.monotonic())
        else:
            # It is tried again and reported as any other change.
            rest.merge(result.failed)
        self._finish_repair(repairs, result, rest)

    def _finish_repair(
        self, repairs: Repairs, result: TransferResult, rest: MutableChangeset
    ) -> None:
        """Go on with the round, and report what was repaired; ``rest`` failed."""
        done = RunResult() if result.run is None else result.run.result
        repairs.confirm_slice(done.deleted, is_released=self._is_released)
        self._is_released = False
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
        self._finish_attempt(self._work.held_repair, result, None)

    def _carry(
        self, changeset: Changeset, conditions: TransferConditions, *, is_wider: bool = False
    ) -> TransferResult:
        """Run rsync. A release does not apply to a changeset that ``is_wider`` than the changes."""
        # A repair carries no change that waits.
        self._carrying = changeset if conditions.options is None else NOTHING
        large_files, until = self._work.large_files, self._work.received_times.until
        conditions = replace(
            conditions,
            in_flight=large_files.in_flight,
            is_released=self._is_released and not is_wider,
            known_until=None if until is None else until.wall,
            awaits_large_files=bool(large_files.pending_count),
            is_strict=self._holds_last_back(),
        )
        try:
            result = self._publisher.carry(changeset, conditions)
        except BaseException:
            # Nothing but this changeset was taken from what is pending.
            self._interrupted = changeset
            raise
        self._carrying = NOTHING
        self._work.held.add(result.held)
        self._reporter.report_held(result)
        if conditions.options is None:
            self._reporter.report_run(changeset, result.run)
        self._reporter.report_unset_attributes(result, is_new=not self._work.unset_attributes)
        return result

    def _finish_attempt(
        self, attempts: RetryQueue, result: TransferResult, since: float | None
    ) -> None:
        """Save what is confirmed, and report a failure, a recovery or completed syncs.

        ``since`` is when the first of the carried changes was seen.
        """
        if not attempts.backlog:
            if since is not None and not result.pending:
                self._session.statistics.count_confirmed(time.monotonic() - since)
            attempts.reset()
        if self._checkpoint is not None:
            self._work.update_checkpoint(self._checkpoint)
        failing = [part for part in (attempts, *self._work.retried_apart) if part.backlog]
        if failing:
            self._report_failure(result, failing[0])
        else:
            self._paths_failed_at = None
            self._reporter.report_recovery()
        if not self._work.next_run.backlog:
            self._report_completed_syncs()

    def _report_failure(self, result: TransferResult, attempts: RetryQueue) -> None:
        self._reporter.report_failure(result, attempts, is_stopping=self._is_stopping)

    def _report_completed_syncs(self) -> None:
        parts = [part.backlog for part in self._work.retried_apart]
        missing = sum(map(len, parts)) + len(self._work.held.changes.trees)
        suffix = f", except for {format_count(missing, 'path')}" if missing else ""
        if self._session.options.dry_run:
            suffix += " (dry run: nothing was changed)"
        for title in self._work.take_completed_titles():
            log.log(NOTICE, "[%s] %s complete%s", self.name, title, suffix)
            self._session.statistics.count_full_sync(title)

    def _probe_while_idle(self) -> None:
        """Find out what the destination's rsync can do before a run needs it."""
        if not self._transfer.was_probe_tried:
            # If that raises, nothing was taken from what is pending.
            self._interrupted = NOTHING
            outcome = self._transfer.probe()
            self._interrupted = None
            if outcome.verdict is not Verdict.DONE and not self._session.is_aborted:
                log.warning("[%s] %s", self.name, describe_failure(outcome))


def _with_pause(verdict: Verdict) -> Verdict:
    """Return the verdict for the pause before a retry that waits for a cause to pass."""
    return Verdict.PARTIAL if verdict is Verdict.RETRY_NOW else verdict
