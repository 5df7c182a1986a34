"""One destination: its queue, its debt, and when the next attempt is due."""

import logging
import queue
import signal
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from pylsyncd.destination.attempts import Attempts, earliest
from pylsyncd.destination.carrier import MOST_LEFT_OUT, Carrier
from pylsyncd.destination.complaints import HELD, Complaints, in_words
from pylsyncd.destination.orders import Order, Orders
from pylsyncd.model import paths
from pylsyncd.model.changes import EVERYTHING, NOTHING, Changes, Changeset, Scope
from pylsyncd.model.moments import Moment
from pylsyncd.model.notices import Notice
from pylsyncd.model.optimizer import apart, optimize
from pylsyncd.model.status import Condition, DestinationStatus
from pylsyncd.model.wording import counted
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.retry import Pauses
from pylsyncd.state.checkpoint import Checkpoint
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.part import Part

log = logging.getLogger(__name__)

# After these the destination works, so new changes need not wait for the pause to end.
_REACHED = frozenset([Verdict.DONE, Verdict.AGAIN, Verdict.PARTIAL, Verdict.GUARDED])


class Worker(Part):
    """Has the changes that are put carried to one destination, one rsync at a time.

    What comes while rsync runs, or while the destination is away, is merged: one run carries it.
    Paths that fail while all else succeeds are set aside and tried again by themselves, so that
    one which nobody can read does not keep the others from being deleted or confirmed.
    """

    def __init__(
        self,
        carrier: Carrier,
        pauses: Pauses,
        checkpoint: Checkpoint | None,
        failed: Callable[[str], None],
        tell: Callable[[Notice], None] = lambda _: None,
    ) -> None:
        """Make one; ``tell`` is called by its thread, and must not block."""
        super().__init__(carrier.name, failed)
        self._carrier = carrier
        carrier.pulse = self.pulse
        carrier.is_ended = lambda: self._is_ended
        self._pauses = pauses
        self._checkpoint = checkpoint
        self._queue = Orders()
        self._fresh = Attempts()
        self._aside = Attempts()
        self._complaints = Complaints(carrier.destination, carrier.source, tell)
        # What the queue said last, and what it said when all before that was confirmed.
        self._until: Moment | None = None
        self._scanned: Moment | None = None
        self._confirmed: Moment | None = None
        self._confirmed_scan: Moment | None = None
        self._titles: list[str] = []
        self._serial = 0
        self._opened = 0.0
        self._is_carrying = False
        self._is_paused = False
        self._is_reachable = True
        self._is_released = False
        self._is_stopping = False
        self._is_ended = False
        self.delay = 0.0
        """How many seconds its window is longer than the source's."""
        self.confirmed_serial = 0
        """The last order that is confirmed with all before it, by its serial number."""

    # For other threads:

    def put(self, order: Order) -> None:
        """Have changes carried."""
        self._queue.put(order)

    def finish(self) -> None:
        """Let the worker end when what was put until now was carried, or tried once more."""
        self._queue.put(Order(NOTHING, is_last=True))

    def end(self, number: signal.Signals) -> None:
        """Send a signal to the rsync that runs, and have no other one started."""
        self._is_ended = True
        self._carrier.runner.end(number)

    def pause(self, *, is_paused: bool = True) -> None:
        """Have no rsync started, and what comes owed, until that is taken back."""
        self._is_paused = is_paused
        self._queue.put(Order(NOTHING))

    @property
    def debt(self) -> int:
        """How many changes are owed; exact once the worker has ended."""
        return len(self._fresh.debt) + len(self._aside.debt)

    def status(self) -> DestinationStatus:
        """Return how it stands."""
        now = time.monotonic()
        waiting = self.debt + self._queue.waiting
        since = earliest(self._fresh.since, self._aside.since, self._queue.since)
        failed = [each for each in (self._fresh, self._aside) if each.failures and each.debt]
        return DestinationStatus(
            self.name,
            self._carrier.destination.written,
            self._condition(waiting),
            behind=now - since if since is not None else 0.0,
            waiting=waiting,
            owes_everything=self._fresh.debt.is_everything,
            last_run=self._carrier.tally.last_run,
            next_attempt=max(0.0, min(each.due for each in failed) - now) if failed else None,
            error=self._complaints.error,
            counts=self._carrier.tally.counts(),
        )

    def handed_over(self) -> Order:
        """Return all that is not confirmed, once the worker has ended: for who comes after it."""
        if self.is_alive():
            # It waits for a file system, perhaps for ever: nobody knows what it has done.
            return Order(EVERYTHING, titles=("full sync",))
        if not self._queue.empty():
            self._take(self._queue.get_nowait())
        changes = Changes()
        changes.merge(self._fresh.debt.take())
        changes.merge(self._aside.debt.take())
        since = earliest(self._fresh.since, self._aside.since)
        return Order(changes, self._until, self._scanned, tuple(self._titles), since, self._serial)

    def _condition(self, waiting: int) -> Condition:
        verdicts = {each.verdict for each in (self._fresh, self._aside) if each.failures}
        if self._is_paused:
            return Condition.PAUSED
        if self._is_carrying:
            return Condition.SYNCING
        if verdicts & HELD:
            return Condition.HELD
        if verdicts:
            return Condition.RETRYING
        return Condition.WAITING if waiting else Condition.IN_SYNC

    # For the worker's own thread:

    def work(self) -> None:
        """Carry what comes until told to finish."""
        while not (self._is_ended or self._is_stopping):
            if not self.debt and self._queue.empty():
                self._probe_while_idle()
            self._receive()
            if self._is_stopping:
                self._work_off()
            elif self._is_paused:
                continue
            elif self._fresh.is_due():
                self._attempt()
            elif self._aside.is_due():
                self._try_aside()
        if self._checkpoint is not None:
            self._checkpoint.stop()

    def _work_off(self) -> None:
        """Carry what is left, as long as that succeeds; tried once more, whatever the pause is."""
        self._fresh.due = 0.0
        while self._fresh.is_due() and not self._is_ended:
            self._attempt()

    def _receive(self) -> None:
        """Wait for an order, or until an attempt is due."""
        due = [
            attempts.due
            for attempts in (self._fresh, self._aside)
            if attempts.debt and not self._is_paused
        ]
        saving = self._checkpoint.due if self._checkpoint is not None else None
        due += [saving] if saving is not None else []
        pause = max(0.0, min(due) - time.monotonic()) if due else None
        try:
            with self.pulse.waiting():
                order = self._queue.get(timeout=pause)
        except queue.Empty:
            if self._checkpoint is not None and saving is not None:
                self._checkpoint.save()
            return
        self._take(order)

    def _take(self, order: Order) -> None:
        self._is_stopping |= order.is_last
        # It is for what is held: not for what comes afterwards.
        is_held = {self._fresh.verdict, self._aside.verdict} & HELD
        self._is_released = (self._is_released and not order.changeset) or (
            order.is_release and bool(is_held)
        )
        self._until = order.until or self._until
        self._scanned = order.scanned or self._scanned
        self._titles += [title for title in order.titles if title not in self._titles]
        self._serial = order.serial or self._serial
        if order.changeset:
            if not self._fresh.debt:
                self._opened = time.monotonic()
            self._fresh.debt.add(self._rejoined(order.changeset))
            self._fresh.debt.add(order.changeset)
            self._fresh.waits_since(order.since)
            if self._is_reachable:
                self._fresh.due = 0.0 if order.titles else self._opened + self.delay
        elif not self.debt:
            self.confirmed_serial = self._serial
        if order.is_urgent or order.is_release:
            self._fresh.due = self._aside.due = 0.0

    def _rejoined(self, changeset: Changeset) -> Changeset:
        """Take back what was set aside and these changes touch: they may have mended it.

        So nothing that is fresh lies at or below what is left out of its run.
        """
        if not self._aside.debt:
            return NOTHING
        aside = self._aside.debt.take()
        self._fresh.waits_since(self._aside.since)
        set_aside = {change.path for change in aside}
        touched = {change.path for change in changeset if change.scope is not Scope.LISTING}
        below, _ = apart(changeset, set_aside)
        for change in below:
            touched |= set_aside & {change.path, *paths.ancestors(change.path)}
        rejoined, untouched = (aside, NOTHING) if paths.ROOT in touched else apart(aside, touched)
        self._aside.debt.add(untouched)
        return rejoined

    def _attempt(self) -> None:
        was_merged, until, scanned = self._fresh.debt.is_merged, self._until, self._scanned
        owed = self._fresh.debt.take()
        without = frozenset(change.path for change in self._aside.debt.owed)
        if self._checkpoint is not None:
            self._checkpoint.note_source(is_everything=owed.is_everything)
        outcome = self._carry(optimize(owed) if was_merged else owed, without)
        self._is_reachable = outcome.verdict in _REACHED
        self._fresh.debt.add(outcome.owed)
        self._set_aside(outcome)
        if self._fresh.debt:
            self._fresh.put_off(self._pauses, outcome.verdict)
            self._complaints.complain(outcome, self._fresh, self._carrier.ran)
            return
        self._confirmed = until or self._confirmed
        self._confirmed_scan = scanned or self._confirmed_scan
        self._is_released = False
        self._settle(self._fresh, outcome)

    def _carry(self, changeset: Changeset, without: AbstractSet[bytes] = frozenset()) -> Outcome:
        self._is_carrying = True
        try:
            outcome = self._carrier.carry(changeset, without, is_released=self._is_released)
        finally:
            self._is_carrying = False
        self._complaints.carried(changeset, self._carrier.ran)
        return outcome

    def _set_aside(self, outcome: Outcome) -> None:
        if not outcome.failed:
            return
        self._aside.debt.add(outcome.failed)
        self._aside.waits_since(self._fresh.since)
        if len(self._aside.debt) > MOST_LEFT_OUT:
            # Too many to be left out of a run by name.
            self._fresh.debt.add(self._aside.debt.take())
        elif outcome.owed and outcome.verdict is Verdict.PARTIAL:
            # All else is carried soon, without these.
            self._fresh.failures = 0
        # However often others were tried: these have just failed, and may not do so again.
        self._aside.failures = 0
        self._aside.put_off(self._pauses, Verdict.PARTIAL)

    def _try_aside(self) -> None:
        """Carry, by themselves, the paths that failed."""
        outcome = self._carry(self._aside.debt.take())
        self._aside.debt.add(outcome.owed)
        self._aside.debt.add(outcome.failed)
        if self._aside.debt:
            self._aside.put_off(self._pauses, outcome.verdict)
        self._settle(self._aside, outcome)

    def _settle(self, attempts: Attempts, outcome: Outcome) -> None:
        """Write down what is confirmed, and say how it stands."""
        if not attempts.debt:
            if attempts.since is not None:
                self._carrier.tally.confirmed(time.monotonic() - attempts.since)
            attempts.start_anew()
        if self._checkpoint is not None and self._confirmed is not None and not self._fresh.debt:
            self._checkpoint.confirm(self._confirmed, self._aside.debt.owed, self._confirmed_scan)
        if self._aside.debt:
            self._complaints.complain(outcome, self._aside, self._carrier.ran)
        else:
            self._complaints.settle()
        if not self._fresh.debt:
            self._complete()

    def _complete(self) -> None:
        """Say what was asked for and is done, but for what is set aside."""
        titles, self._titles = self._titles, []
        but = f", but for {counted(len(self._aside.debt), 'path')}" if self._aside.debt else ""
        for title in titles:
            log.log(NOTICE, "[%s] %s complete%s", self.name, title, but)
            self._carrier.tally.completed(title)
        if not self._aside.debt:
            self.confirmed_serial = self._serial

    def _probe_while_idle(self) -> None:
        """Learn what the destination is able to do before that is needed."""
        if not self._carrier.was_probed:
            outcome = self._carrier.probe()
            if outcome.verdict is not Verdict.DONE and not self._is_ended:
                log.warning("[%s] %s", self.name, in_words(outcome))
