"""One destination: its queue, its debt, and when the next attempt is due."""

import logging
import queue
import signal
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset
from pylsyncd.model.formatting import format_count
from pylsyncd.model.moments import earliest
from pylsyncd.model.notices import Notice
from pylsyncd.model.status import Condition, DestinationStatus
from pylsyncd.pipeline.optimizer import optimize
from pylsyncd.pipeline.work_queue import WorkItem, WorkQueue
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.state.checkpoint import Checkpoint
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.threads import SupervisedThread
from pylsyncd.worker.failure_reporter import HELD_VERDICTS, FailureReporter, describe_failure
from pylsyncd.worker.large_file_queue import LargeFileQueue
from pylsyncd.worker.pending import PendingWork
from pylsyncd.worker.retry_queue import RetryQueue
from pylsyncd.worker.transfer import Transfer

log = logging.getLogger(__name__)

# After these the destination works, so new changes need not wait for the pause to end.
_REACHED = frozenset([Verdict.DONE, Verdict.RETRY_NOW, Verdict.PARTIAL, Verdict.SOURCE_UNSAFE])


class Worker(SupervisedThread):
    """Has the changes that are put carried to one destination, one rsync at a time.

    What comes while rsync runs, or while the destination is away, is merged: one run carries it.
    Paths that fail while all else succeeds are set aside and tried again by themselves, so that
    one which nobody can read does not keep the others from being deleted or confirmed.
    """

    def __init__(
        self,
        carrier: Transfer,
        pauses: RetryPolicy,
        checkpoint: Checkpoint | None,
        on_failed: Callable[[str], None],
        on_notice: Callable[[Notice], None] = lambda _: None,
    ) -> None:
        """Make one; ``tell`` is called by its thread, and must not block."""
        super().__init__(carrier.name, on_failed)
        self._carrier = carrier
        carrier.session.activity = self.activity
        carrier.session.should_stop = lambda: self._is_ended
        self._pauses = pauses
        self._checkpoint = checkpoint
        self._queue = WorkQueue()
        splits = carrier.size_limit is not None
        self._lane = LargeFileQueue(
            carrier.create_large_file_worker(self._wake, on_failed) if splits else None, pauses
        )
        self._account = PendingWork(self._lane, pauses)
        self._fresh, self._aside = self._account.next_run, self._account.failed_paths
        self._complaints = FailureReporter(carrier.destination, carrier.source, on_notice)
        # What rsync is carrying.
        self._in_hand: Changeset = NOTHING
        self._is_paused = False
        self._is_reachable = True
        self._is_released = False
        self._is_stopping = False
        self._is_ended = False
        self.extra_window = 0.0
        """How many seconds its window is longer than the source's."""

    # For other threads:

    @property
    def threads(self) -> list[SupervisedThread]:
        """The threads that serve the destination."""
        return [self, *([self._lane.worker] if self._lane.worker is not None else [])]

    def put(self, order: WorkItem) -> None:
        """Have changes carried."""
        self._queue.put(order)

    def request_stop(self) -> None:
        """Let the worker end when what was put until now was carried, or tried once more."""
        self._queue.put(WorkItem(NOTHING, is_final=True))

    def abort(self, number: signal.Signals) -> None:
        """Send a signal to the rsync that runs, and have no other one started."""
        self._is_ended = True
        self._carrier.session.runner.send_signal(number)
        self._lane.abort(number)
        # It may just have begun to wait for what the lane does not do any more.
        self._wake()

    def pause(self, *, is_paused: bool = True) -> None:
        """Have no rsync started, and what comes owed, until that is taken back."""
        self._is_paused = is_paused
        self._wake()

    def _wake(self) -> None:
        self._queue.put(WorkItem(NOTHING))

    @property
    def pending_count(self) -> int:
        """How many changes are owed; exact once the worker has ended."""
        return self._account.pending_count

    @property
    def confirmed_serial(self) -> int:
        """The last order that is confirmed with all before it, by its serial number."""
        return self._account.confirmed_serial

    def status(self) -> DestinationStatus:
        """Return how it stands."""
        now = time.monotonic()
        in_hand = self._in_hand
        waiting = self.pending_count + self._queue.pending_count + len(in_hand)
        since = earliest(self._account.pending_since, self._queue.since)
        failed = [
            part for part in self._account.retry_queues if part.failure_count and part.backlog
        ]
        return DestinationStatus(
            self.name,
            self._carrier.destination.notation,
            self._condition(waiting),
            behind=now - since if since is not None else 0.0,
            waiting=waiting,
            owes_everything=self._fresh.backlog.is_everything or in_hand.is_everything,
            last_run=self._carrier.session.statistics.last_run,
            next_attempt=max(0.0, min(part.due_at for part in failed) - now) if failed else None,
            error=self._complaints.last_error,
            counts=self._carrier.session.statistics.counts(),
        )

    def take_unconfirmed(self) -> WorkItem:
        """Return all that is not confirmed, once the worker has ended: for who comes after it."""
        if self.is_alive():
            # It waits for a file system, perhaps for ever: nobody knows what it has done.
            return WorkItem(EVERYTHING, titles=("full sync",))
        if not self._queue.empty():
            self._take(self._queue.get_nowait())
        return self._account.take_unconfirmed()

    def _condition(self, waiting: int) -> Condition:
        verdicts = {part.verdict for part in self._account.retry_queues if part.failure_count}
        if self._is_paused:
            return Condition.PAUSED
        if self._in_hand or self._lane.in_flight:
            return Condition.SYNCING
        if verdicts & HELD_VERDICTS:
            return Condition.HELD
        if verdicts:
            return Condition.RETRYING
        return Condition.WAITING if waiting else Condition.IN_SYNC

    # For the worker's own thread:

    def work(self) -> None:
        """Carry what comes until told to finish."""
        self._lane.start()
        try:
            self._work()
        finally:
            self._lane.stop()
            self._carrier.session.close()
        if self._checkpoint is not None:
            self._checkpoint.save_clean_stop()

    def _work(self) -> None:
        while not (self._is_ended or self._is_stopping):
            if not (self.pending_count or self._is_paused) and self._queue.empty():
                self._probe_while_idle()
            self._receive()
            self._land()
            if self._is_stopping:
                self._work_off()
            elif not self._is_paused:
                self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        if self._fresh.is_due():
            self._attempt()
        elif self._aside.is_due():
            self._try_aside()
        self._lane.start_due_batch()

    def _land(self) -> None:
        """Take what the lane for large files has done, and what it leaves to this one."""
        outcome = self._lane.take_outcome()
        if outcome is not None and outcome.verdict is not Verdict.DONE:
            self._complaints.report_failure(outcome, self._lane.retry_queue, None)
        back = self._lane.take_returned()
        if back:
            self._account.add_changes(back, self._lane.finished_since)
            if self._is_reachable:
                self._fresh.due_at = 0.0

    def _work_off(self) -> None:
        """Carry what is left, as long as that succeeds; tried once more, whatever the pause is."""
        self._fresh.due_at = 0.0
        while not self._is_ended:
            if self._fresh.is_due():
                self._attempt()
            self._lane.start_due_batch()
            if self._lane.in_flight:
                self._receive()
                self._land()
            elif not self._fresh.is_due():
                break

    def _receive(self) -> None:
        """Wait for an order, or until an attempt is due."""
        due = None if self._is_paused else self._account.due_at
        saving = self._checkpoint.due_at if self._checkpoint is not None else None
        first = earliest(due, saving)
        pause = None if first is None else max(0.0, first - time.monotonic())
        try:
            with self.activity.waiting():
                order = self._queue.get(timeout=pause)
        except queue.Empty:
            if self._checkpoint is not None and saving is not None:
                self._checkpoint.save()
            return
        self._take(order)

    def _take(self, order: WorkItem) -> None:
        self._is_stopping |= order.is_final
        self._complaints.is_stopping = self._is_stopping
        # It is for what is held: not for what comes afterwards.
        is_held = {self._fresh.verdict, self._aside.verdict} & HELD_VERDICTS
        self._is_released = (self._is_released and not order.changeset) or (
            order.is_release and bool(is_held)
        )
        self._account.add(order, is_reachable=self._is_reachable, delay=self.extra_window)

    def _attempt(self) -> None:
        was_merged, put = self._fresh.backlog.is_merged, self._account.received_times
        owed = self._fresh.backlog.take()
        without = frozenset(change.path for change in self._aside.backlog.changes)
        if self._checkpoint is not None:
            self._checkpoint.record_source(is_everything=owed.is_everything)
        owed = self._lane.defer_conflicts(optimize(owed) if was_merged else owed)
        outcome = self._carry(owed, without, is_split=self._lane.accepts_files)
        self._lane.add(self._carrier.large_files, self._fresh.since)
        self._is_reachable = outcome.verdict in _REACHED
        self._fresh.backlog.add(outcome.pending)
        self._account.add_failed_paths(outcome)
        if self._fresh.backlog:
            self._fresh.schedule_retry(self._pauses, outcome.verdict)
            if not self._is_ended:
                self._complaints.report_failure(
                    outcome, self._fresh, self._carrier.session.last_run
                )
            return
        self._lane.accepts_files = True
        self._account.confirm(put)
        self._is_released = False
        self._settle(self._fresh, outcome)

    def _carry(
        self,
        changeset: Changeset,
        without: AbstractSet[bytes] = frozenset(),
        *,
        is_split: bool = False,
    ) -> Outcome:
        self._in_hand = changeset
        try:
            outcome = self._carrier.carry(
                changeset, without,
                is_released=self._is_released, in_flight=self._lane.in_flight,
                exclude_large=is_split,
            )  # fmt: skip
        finally:
            self._in_hand = NOTHING
        self._complaints.report_run(changeset, self._carrier.session.last_run)
        return outcome

    def _try_aside(self) -> None:
        """Carry, by themselves, the paths that failed."""
        outcome = self._carry(self._aside.backlog.take())
        self._aside.backlog.add(outcome.pending)
        self._aside.backlog.add(outcome.failed)
        if self._aside.backlog:
            self._aside.schedule_retry(self._pauses, outcome.verdict)
        self._settle(self._aside, outcome)

    def _settle(self, attempts: RetryQueue, outcome: Outcome) -> None:
        """Write down what is confirmed, and say how it stands."""
        if not attempts.backlog:
            if attempts.since is not None:
                self._carrier.session.statistics.count_confirmed(time.monotonic() - attempts.since)
            attempts.reset()
        if self._checkpoint is not None:
            self._account.update_checkpoint(self._checkpoint)
        if self._aside.backlog:
            self._complaints.report_failure(outcome, self._aside, self._carrier.session.last_run)
        else:
            self._complaints.report_recovery()
        if not self._fresh.backlog:
            self._complete()

    def _complete(self) -> None:
        """Say what was asked for and is done, but for what is set aside."""
        but = (
            f", but for {format_count(len(self._aside.backlog), 'path')}"
            if self._aside.backlog
            else ""
        )
        if self._carrier.is_dry_run:
            but += " (dry run: nothing was changed)"
        for title in self._account.take_completed_titles():
            log.log(NOTICE, "[%s] %s complete%s", self.name, title, but)
            self._carrier.session.statistics.count_full_sync(title)

    def _probe_while_idle(self) -> None:
        """Learn what the destination is able to do before that is needed."""
        if not self._carrier.was_probed:
            outcome = self._carrier.probe()
            if outcome.verdict is not Verdict.DONE and not self._is_ended:
                log.warning("[%s] %s", self.name, describe_failure(outcome))
