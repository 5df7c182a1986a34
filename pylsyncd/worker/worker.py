"""The thread that serves one destination: takes work from its queue and carries it with rsync."""

import queue
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset, everything_with
from pylsyncd.model.moments import earliest
from pylsyncd.model.status import Condition, DestinationStatus
from pylsyncd.pipeline.work_queue import WorkItem, WorkQueue
from pylsyncd.state.checkpoint import Checkpoint
from pylsyncd.system.restarts import DelayedStart
from pylsyncd.system.threads import Crash, SupervisedThread
from pylsyncd.worker.attempts import Attempts
from pylsyncd.worker.failure_reporter import HELD_VERDICTS, FailureReporter
from pylsyncd.worker.mount_checks import MountCheck
from pylsyncd.worker.pending import PendingWork, Settlement
from pylsyncd.worker.pending_attempts import PendingAttempts
from pylsyncd.worker.repair_attempts import RepairAttempts
from pylsyncd.worker.repairs import Repairs
from pylsyncd.worker.session import RsyncSession
from pylsyncd.worker.transfer import Transfer

# For another worker, if it is unknown what is pending.
_FULL_SYNC = WorkItem(EVERYTHING, titles=("full sync",))


class Worker(SupervisedThread):
    """The thread of one destination. It runs one rsync at a time, for a full sync maybe several.

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
        self._work = work
        self._queue = work_queue
        self._reporter = reporter
        self._checkpoint = checkpoint
        if checkpoint is not None:
            work.unset_attributes.add(checkpoint.unset_attributes)
        self._extra_window = extra_window
        self._delayed_start = delayed_start
        self._repairs = repairs
        self._attempts = Attempts(session, transfer, work, reporter, checkpoint, was_held=was_held)
        self._pending_attempts = PendingAttempts(
            self._attempts, session, transfer, work, checkpoint, repairs
        )
        self._repair_attempts = RepairAttempts(self._attempts, session, work, reporter, repairs)
        self._is_paused = False
        self._is_failing = False

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
        return self._work.pending_count + self._queue.pending_count + len(self._attempts.carrying)

    @property
    def confirmed_serial(self) -> int:
        """The serial number of the last work item that is confirmed, with all before it."""
        return self._work.confirmed_serial

    @property
    def settlement(self) -> Settlement:
        """What was confirmed when nothing was left to try at once, and what was not."""
        return self._work.settlement

    @property
    def mount_checks(self) -> Mapping[bytes, MountCheck]:
        """The checks of the present mounts, by path."""
        return self._attempts.mount_checks.by_path

    @property
    def unset_attributes(self) -> Changeset:
        """The entries that are confirmed without some of their attributes."""
        return self._work.unset_attributes.changes

    def status(self) -> DestinationStatus:
        """Return the status of the destination."""
        now = time.monotonic()
        carrying = self._attempts.carrying
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
        owes_everything = (
            any(part.backlog.is_everything for part in self._work.retry_queues)
            or carrying.is_everything
            or self._queue.is_everything
        )
        verification = self._work.verification
        return DestinationStatus(
            self.name,
            self._session.destination.notation,
            self._condition(waiting),
            behind=now - since if since is not None else 0.0,
            waiting=waiting,
            owes_everything=owes_everything,
            last_run=self._session.statistics.last_run,
            last_success=self._session.statistics.last_success,
            next_attempt=None if next_attempt is None else max(0.0, next_attempt - now),
            error=self._reporter.last_error,
            failing_since=self._reporter.failing_since,
            set_aside=self._work.set_aside,
            unverified=verification.describe(self.name, owes_everything=owes_everything),
            compared_since=None if self._repairs is None else self._repairs.compared_since,
            counts=self._session.statistics.counts(),
        )

    def take_unconfirmed(self) -> WorkItem:
        """Return all work that is not confirmed, for another worker, after this one was stopped."""
        if self.is_alive():
            # It hangs in a system call: what it has carried is unknown.
            return replace(_FULL_SYNC, changeset=everything_with(self._attempts.carrying))
        if self.crash is not None:
            return self._take_unconfirmed_after_crash()
        if not self._queue.empty():
            self._attempts.add(self._queue.get_nowait(), self._extra_window)
        return self._work.take_unconfirmed()

    def _take_unconfirmed_after_crash(self) -> WorkItem:
        """Return all work, everything unless it is known what is not confirmed."""
        try:
            if self._attempts.interrupted is not None:
                self._work.add_changes(self._attempts.interrupted, None)
            is_release = False
            if not self._queue.empty():
                item = self._queue.get_nowait()
                is_release = item.is_release
                self._attempts.add(item, self._extra_window)
            item = replace(self._work.take_unconfirmed(), is_release=is_release)
        except BaseException:  # noqa: BLE001  # any error in a broken state
            return _FULL_SYNC
        if self._attempts.interrupted is None or not item.changeset:
            titles = item.titles or _FULL_SYNC.titles
            everything = everything_with(item.changeset, self._attempts.carrying)
            return replace(item, changeset=everything, titles=titles)
        return item

    def _condition(self, waiting: int) -> Condition:
        if self._is_failing or self.delayed_start is not None:
            return Condition.FAILED
        verdicts = {part.verdict for part in self._work.retry_queues if part.failure_count}
        if self._is_paused:
            return Condition.PAUSED
        is_sending = self._attempts.carrying and not self._session.is_preparing
        if is_sending or self._work.large_files.is_sending:
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
        self._attempts.interrupted = NOTHING
        self._work.large_files.start()
        self._attempts.interrupted = None
        try:
            self._serve()
            self._work.large_files.stop()
        except BaseException:
            self._is_failing = True
            # Another worker carries what these have not confirmed: everything if this raises, too.
            interrupted, self._attempts.interrupted = self._attempts.interrupted, None
            self._work.large_files.stop_now()
            self._attempts.interrupted = interrupted
            raise
        finally:
            self._queue.is_idle = True
            self._session.close()
        if self._checkpoint is not None:
            self._checkpoint.save_clean_stop()

    def _serve(self) -> None:
        while not (self._session.is_aborted or self._attempts.is_stopping):
            if not (self._work.pending_count or self._is_paused) and self._queue.empty():
                self._attempts.probe_while_idle()
            self._receive()
            self._attempts.take_finished_batch()
            if self._attempts.is_stopping:
                self._carry_rest()
            elif not self._is_paused:
                self._carry_due()
        self._work.settle()

    def _receive(self) -> None:
        """Wait for a work item, or until an attempt or the checkpoint is due."""
        due_at = (
            None if self._is_paused else earliest(self._work.due_at, self._repair_attempts.due_at)
        )
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
        self._attempts.add(item, self._extra_window)

    def _leave_idle(self) -> None:
        """Say that changes may be about to be taken from what is pending."""
        if self._work.pending_count:
            self._queue.is_idle = False

    def _carry_due(self) -> None:
        if self._work.next_run.is_due():
            self._pending_attempts.carry_next_run()
        elif self._work.failed_paths.is_due():
            self._pending_attempts.retry_failed_paths()
        elif self._work.aborting_files.is_due():
            self._pending_attempts.retry_aborting_file()
        elif self._work.unexplained.is_due():
            self._pending_attempts.retry_unexplained()
        elif self._work.held_repair.is_due():
            self._repair_attempts.carry_held()
        elif self._repair_attempts.is_due() and self._queue.empty():
            self._repair_attempts.carry_next()
        self._work.large_files.start_due_batch()

    def _carry_rest(self) -> None:
        """Carry what is left without waiting for pauses, until a run fails."""
        next_run, large_files = self._work.next_run, self._work.large_files
        next_run.make_due()
        while not self._session.is_aborted:
            if next_run.is_due():
                self._pending_attempts.carry_next_run()
            large_files.start_due_batch()
            if large_files.in_flight:
                self._receive()
                self._attempts.take_finished_batch()
            elif not next_run.is_due():
                break
