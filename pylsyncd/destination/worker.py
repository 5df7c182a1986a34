"""One destination: its queue, its debt, and when the next attempt is due."""

import logging
import queue
import signal
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from pylsyncd.destination.account import Account
from pylsyncd.destination.attempts import Attempts, earliest
from pylsyncd.destination.carrier import Carrier
from pylsyncd.destination.complaints import HELD, Complaints, in_words
from pylsyncd.destination.lane import Lane
from pylsyncd.destination.orders import Order, Orders
from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset
from pylsyncd.model.notices import Notice
from pylsyncd.model.optimizer import optimize
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
        carrier.runs.pulse = self.pulse
        carrier.runs.is_ended = lambda: self._is_ended
        self._pauses = pauses
        self._checkpoint = checkpoint
        self._queue = Orders()
        splits = carrier.largest is not None
        self._lane = Lane(carrier.bulk(self._wake, failed) if splits else None, pauses)
        self._account = Account(self._lane, pauses)
        self._fresh, self._aside = self._account.fresh, self._account.aside
        self._complaints = Complaints(carrier.destination, carrier.source, tell)
        # What rsync is carrying.
        self._in_hand: Changeset = NOTHING
        self._is_paused = False
        self._is_reachable = True
        self._is_released = False
        self._is_stopping = False
        self._is_ended = False
        self.delay = 0.0
        """How many seconds its window is longer than the source's."""

    # For other threads:

    @property
    def parts(self) -> list[Part]:
        """The threads that serve the destination."""
        return [self, *([self._lane.bulk] if self._lane.bulk is not None else [])]

    def put(self, order: Order) -> None:
        """Have changes carried."""
        self._queue.put(order)

    def finish(self) -> None:
        """Let the worker end when what was put until now was carried, or tried once more."""
        self._queue.put(Order(NOTHING, is_last=True))

    def end(self, number: signal.Signals) -> None:
        """Send a signal to the rsync that runs, and have no other one started."""
        self._is_ended = True
        self._carrier.runs.runner.end(number)
        self._lane.end(number)
        # It may just have begun to wait for what the lane does not do any more.
        self._wake()

    def pause(self, *, is_paused: bool = True) -> None:
        """Have no rsync started, and what comes owed, until that is taken back."""
        self._is_paused = is_paused
        self._wake()

    def _wake(self) -> None:
        self._queue.put(Order(NOTHING))

    @property
    def debt(self) -> int:
        """How many changes are owed; exact once the worker has ended."""
        return self._account.debt

    @property
    def confirmed_serial(self) -> int:
        """The last order that is confirmed with all before it, by its serial number."""
        return self._account.confirmed_serial

    def status(self) -> DestinationStatus:
        """Return how it stands."""
        now = time.monotonic()
        in_hand = self._in_hand
        waiting = self.debt + self._queue.waiting + len(in_hand)
        since = earliest(self._account.since, self._queue.since)
        failed = [part for part in self._account.parts if part.failures and part.debt]
        return DestinationStatus(
            self.name,
            self._carrier.destination.written,
            self._condition(waiting),
            behind=now - since if since is not None else 0.0,
            waiting=waiting,
            owes_everything=self._fresh.debt.is_everything or in_hand.is_everything,
            last_run=self._carrier.runs.tally.last_run,
            next_attempt=max(0.0, min(part.due for part in failed) - now) if failed else None,
            error=self._complaints.error,
            counts=self._carrier.runs.tally.counts(),
        )

    def handed_over(self) -> Order:
        """Return all that is not confirmed, once the worker has ended: for who comes after it."""
        if self.is_alive():
            # It waits for a file system, perhaps for ever: nobody knows what it has done.
            return Order(EVERYTHING, titles=("full sync",))
        if not self._queue.empty():
            self._take(self._queue.get_nowait())
        return self._account.handed_over()

    def _condition(self, waiting: int) -> Condition:
        verdicts = {part.verdict for part in self._account.parts if part.failures}
        if self._is_paused:
            return Condition.PAUSED
        if self._in_hand or self._lane.in_flight:
            return Condition.SYNCING
        if verdicts & HELD:
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
            self._lane.finish()
            self._carrier.runs.close()
        if self._checkpoint is not None:
            self._checkpoint.stop()

    def _work(self) -> None:
        while not (self._is_ended or self._is_stopping):
            if not (self.debt or self._is_paused) and self._queue.empty():
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
        self._lane.begin()

    def _land(self) -> None:
        """Take what the lane for large files has done, and what it leaves to this one."""
        outcome = self._lane.land()
        if outcome is not None and outcome.verdict is not Verdict.DONE:
            self._complaints.complain(outcome, self._lane.attempts, None)
        back = self._lane.back()
        if back:
            self._account.refresh(back, self._lane.landed_since)
            if self._is_reachable:
                self._fresh.due = 0.0

    def _work_off(self) -> None:
        """Carry what is left, as long as that succeeds; tried once more, whatever the pause is."""
        self._fresh.due = 0.0
        while not self._is_ended:
            if self._fresh.is_due():
                self._attempt()
            self._lane.begin()
            if self._lane.in_flight:
                self._receive()
                self._land()
            elif not self._fresh.is_due():
                break

    def _receive(self) -> None:
        """Wait for an order, or until an attempt is due."""
        due = None if self._is_paused else self._account.due
        saving = self._checkpoint.due if self._checkpoint is not None else None
        first = earliest(due, saving)
        pause = None if first is None else max(0.0, first - time.monotonic())
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
        self._complaints.is_ending = self._is_stopping
        # It is for what is held: not for what comes afterwards.
        is_held = {self._fresh.verdict, self._aside.verdict} & HELD
        self._is_released = (self._is_released and not order.changeset) or (
            order.is_release and bool(is_held)
        )
        self._account.take(order, is_reachable=self._is_reachable, delay=self.delay)

    def _attempt(self) -> None:
        was_merged, put = self._fresh.debt.is_merged, self._account.put
        owed = self._fresh.debt.take()
        without = frozenset(change.path for change in self._aside.debt.owed)
        if self._checkpoint is not None:
            self._checkpoint.note_source(is_everything=owed.is_everything)
        owed = self._lane.beside(optimize(owed) if was_merged else owed)
        outcome = self._carry(owed, without, is_split=self._lane.is_open)
        self._lane.add(self._carrier.large, self._fresh.since)
        self._is_reachable = outcome.verdict in _REACHED
        self._fresh.debt.add(outcome.owed)
        self._account.set_aside(outcome)
        if self._fresh.debt:
            self._fresh.put_off(self._pauses, outcome.verdict)
            if not self._is_ended:
                self._complaints.complain(outcome, self._fresh, self._carrier.runs.ran)
            return
        self._lane.is_open = True
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
                is_released=self._is_released, in_flight=self._lane.in_flight, is_split=is_split,
            )  # fmt: skip
        finally:
            self._in_hand = NOTHING
        self._complaints.carried(changeset, self._carrier.runs.ran)
        return outcome

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
                self._carrier.runs.tally.confirmed(time.monotonic() - attempts.since)
            attempts.start_anew()
        if self._checkpoint is not None:
            self._account.write(self._checkpoint)
        if self._aside.debt:
            self._complaints.complain(outcome, self._aside, self._carrier.runs.ran)
        else:
            self._complaints.settle()
        if not self._fresh.debt:
            self._complete()

    def _complete(self) -> None:
        """Say what was asked for and is done, but for what is set aside."""
        but = f", but for {counted(len(self._aside.debt), 'path')}" if self._aside.debt else ""
        if self._carrier.is_trial:
            but += " (dry run: nothing was changed)"
        for title in self._account.completed():
            log.log(NOTICE, "[%s] %s complete%s", self.name, title, but)
            self._carrier.runs.tally.completed(title)

    def _probe_while_idle(self) -> None:
        """Learn what the destination is able to do before that is needed."""
        if not self._carrier.was_probed:
            outcome = self._carrier.probe()
            if outcome.verdict is not Verdict.DONE and not self._is_ended:
                log.warning("[%s] %s", self.name, in_words(outcome))
