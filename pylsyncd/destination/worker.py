"""One destination: its queue, its debt, and when the next attempt is due."""

import logging
import queue
import random
import signal
import time
from collections.abc import Callable

from pylsyncd.destination.carrier import MOST_LEFT_OUT, Carrier
from pylsyncd.destination.orders import Order, Orders
from pylsyncd.model import paths
from pylsyncd.model.changes import NOTHING, Changeset, Scope
from pylsyncd.model.debt import Debt
from pylsyncd.model.moments import Moment
from pylsyncd.model.optimizer import apart, optimize
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.retry import Pauses
from pylsyncd.state.checkpoint import Checkpoint
from pylsyncd.system.logs import NOTICE, counted
from pylsyncd.system.part import Part

log = logging.getLogger(__name__)

# These wait for somebody to look.
_HELD = frozenset([Verdict.HELD, Verdict.GUARDED])

# So many different complaints are remembered, so as not to be repeated.
_COMPLAINTS_KEPT = 1_000

# After these the destination works, so new changes need not wait for the pause to end.
_REACHED = frozenset([Verdict.DONE, Verdict.AGAIN, Verdict.PARTIAL, Verdict.GUARDED])


class _Attempts:
    """Changes that are owed, and when they are tried the next time."""

    def __init__(self) -> None:
        self.debt = Debt()
        self.due = 0.0
        self.failures = 0
        self.verdict = Verdict.DONE

    def is_due(self) -> bool:
        return bool(self.debt) and time.monotonic() >= self.due

    def put_off(self, pauses: Pauses, verdict: Verdict) -> None:
        # Pauses grow with failures of one kind: that the source changed says nothing of a network.
        self.failures = self.failures + 1 if verdict is self.verdict else 1
        self.verdict = verdict
        jitter = random.random()  # noqa: S311  # no secret
        self.due = time.monotonic() + pauses.after(verdict, self.failures, jitter)

    def start_anew(self) -> None:
        self.failures = 0
        self.verdict = Verdict.DONE
        self.due = 0.0


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
    ) -> None:
        super().__init__(carrier.name, failed)
        self._carrier = carrier
        carrier.pulse = self.pulse
        self._pauses = pauses
        self._checkpoint = checkpoint
        self._queue = Orders()
        self._fresh = _Attempts()
        self._aside = _Attempts()
        # What the queue said last, and what it said when all before that was confirmed.
        self._until: Moment | None = None
        self._scanned: Moment | None = None
        self._confirmed: Moment | None = None
        self._confirmed_scan: Moment | None = None
        self._titles: list[str] = []
        # What was complained of since all was well, and about which paths.
        self._complaints: set[tuple[str, frozenset[bytes]]] = set()
        self._is_reachable = True
        self._is_released = False
        self._is_stopping = False
        self._is_ended = False

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

    @property
    def debt(self) -> int:
        """How many changes are owed; exact once the worker has ended."""
        return len(self._fresh.debt) + len(self._aside.debt)

    # For the worker's own thread:

    def work(self) -> None:
        """Carry what comes until told to finish."""
        while not (self._is_ended or self._is_stopping):
            if not self.debt and self._queue.empty():
                self._probe_while_idle()
            self._receive()
            if self._is_stopping:
                self._work_off()
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
        due = [attempts.due for attempts in (self._fresh, self._aside) if attempts.debt]
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
        is_held = {self._fresh.verdict, self._aside.verdict} & _HELD
        self._is_released = (self._is_released and not order.changeset) or (
            order.is_release and bool(is_held)
        )
        self._until = order.until or self._until
        self._scanned = order.scanned or self._scanned
        self._titles += [title for title in order.titles if title not in self._titles]
        if order.changeset:
            self._fresh.debt.add(self._rejoined(order.changeset))
            self._fresh.debt.add(order.changeset)
            if self._is_reachable:
                self._fresh.due = 0.0
        if order.is_urgent or order.is_release:
            self._fresh.due = self._aside.due = 0.0

    def _rejoined(self, changeset: Changeset) -> Changeset:
        """Take back what was set aside and these changes touch: they may have mended it.

        So nothing that is fresh lies at or below what is left out of its run.
        """
        if not self._aside.debt:
            return NOTHING
        aside = self._aside.debt.take()
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
        outcome = self._carrier.carry(
            optimize(owed) if was_merged else owed, without, is_released=self._is_released
        )
        self._is_reachable = outcome.verdict in _REACHED
        self._fresh.debt.add(outcome.owed)
        self._set_aside(outcome)
        if self._fresh.debt:
            self._fresh.put_off(self._pauses, outcome.verdict)
            self._complain(outcome, self._fresh)
            return
        self._confirmed = until or self._confirmed
        self._confirmed_scan = scanned or self._confirmed_scan
        self._is_released = False
        self._settle(self._fresh, outcome)

    def _set_aside(self, outcome: Outcome) -> None:
        if not outcome.failed:
            return
        self._aside.debt.add(outcome.failed)
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
        outcome = self._carrier.carry(self._aside.debt.take(), is_released=self._is_released)
        self._aside.debt.add(outcome.owed)
        self._aside.debt.add(outcome.failed)
        if self._aside.debt:
            self._aside.put_off(self._pauses, outcome.verdict)
        self._settle(self._aside, outcome)

    def _settle(self, attempts: _Attempts, outcome: Outcome) -> None:
        """Write down what is confirmed, and say how it stands."""
        if not attempts.debt:
            attempts.start_anew()
        if self._checkpoint is not None and self._confirmed is not None and not self._fresh.debt:
            self._checkpoint.confirm(self._confirmed, self._aside.debt.owed, self._confirmed_scan)
        if self._aside.debt:
            self._complain(outcome, self._aside)
        elif self._complaints:
            log.log(NOTICE, "[%s] works again.", self.name)
            self._complaints.clear()
        if not self._fresh.debt:
            titles, self._titles = self._titles, []
            but = f", but for {counted(len(self._aside.debt), 'path')}" if self._aside.debt else ""
            for title in titles:
                log.log(NOTICE, "[%s] %s complete%s", self.name, title, but)

    def _complain(self, outcome: Outcome, attempts: _Attempts) -> None:
        """Log a failure: loudly when it is news, else for those who want to see every run."""
        if outcome.verdict is Verdict.DONE:
            return
        pause = max(0.0, attempts.due - time.monotonic())
        held = "Held until somebody looks. " if outcome.verdict is Verdict.HELD else ""
        # Not what rsync says: there may be a random name in it.
        complaint = outcome.reason, frozenset(change.path for change in outcome.failed)
        is_news = pause > 0.0 and complaint not in self._complaints
        log.log(
            logging.WARNING if is_news else logging.INFO,
            "[%s] %s %sOwed: %s; next attempt in %.0f s.",
            self.name, _in_words(outcome), held, _amount(attempts.debt), pause,
        )  # fmt: skip
        if is_news and len(self._complaints) < _COMPLAINTS_KEPT:
            self._complaints.add(complaint)

    def _probe_while_idle(self) -> None:
        """Learn what the destination is able to do before that is needed."""
        if not self._carrier.was_probed:
            outcome = self._carrier.probe()
            if outcome.verdict is not Verdict.DONE and not self._is_ended:
                log.warning("[%s] %s", self.name, _in_words(outcome))


def _amount(debt: Debt) -> str:
    return "everything" if debt.is_everything else counted(len(debt), "change")


def _in_words(outcome: Outcome) -> str:
    said = f" ({outcome.message})" if outcome.message else ""
    return f"{outcome.reason}{said}."
