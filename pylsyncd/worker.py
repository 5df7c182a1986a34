"""One destination: its queue, its debt, and when the next attempt is due."""

import logging
import queue
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from pylsyncd.carrier import Carrier
from pylsyncd.changes import EVERYTHING, NOTHING, Changes, Changeset
from pylsyncd.logs import NOTICE, counted
from pylsyncd.optimizer import optimize
from pylsyncd.outcomes import Outcome, Verdict
from pylsyncd.part import Part
from pylsyncd.retry import Pauses

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Order:
    changeset: Changeset
    title: str
    is_urgent: bool


class Worker(Part):
    """Has the changes that are put carried to one destination, one rsync at a time.

    What comes while rsync runs, or while the destination is away, is merged: one run carries it.
    """

    def __init__(self, carrier: Carrier, pauses: Pauses, failed: Callable[[str], None]) -> None:
        super().__init__(carrier.name, failed)
        self._carrier = carrier
        self._pauses = pauses
        self._queue: queue.Queue[_Order | None] = queue.Queue()
        self._debt: Changeset = NOTHING
        self._titles: list[str] = []
        self._due = 0.0
        self._failures = 0
        self._complaint = ""
        # Whether new changes need not wait for the pause after failures to end.
        self._is_reachable = True
        self._is_stopping = False
        self._is_ended = False

    # For other threads:

    def put(self, changeset: Changeset, title: str = "", *, is_urgent: bool = False) -> None:
        """Have changes carried, and a title logged when they are.

        What is urgent, somebody has asked for: it ends the pause after failures.
        """
        self._queue.put(_Order(changeset, title, is_urgent))

    def finish(self) -> None:
        """Let the worker end when what was put until now was carried, or tried once more."""
        self._queue.put(None)

    def end(self, number: signal.Signals) -> None:
        """Send a signal to the rsync that runs, and have no other one started."""
        self._is_ended = True
        self._carrier.runner.end(number)

    @property
    def debt(self) -> int:
        """How many changes are owed; exact once the worker has ended."""
        return len(self._debt)

    # For the worker's own thread:

    def work(self) -> None:
        """Carry what comes until told to finish."""
        while not self._is_ended:
            if not self._debt and self._queue.empty():
                self._probe_while_idle()
            self._receive()
            if self._debt and (self._is_stopping or time.monotonic() >= self._due):
                self._attempt()
            if self._is_stopping and (not self._debt or self._due > time.monotonic()):
                return

    def _receive(self) -> None:
        """Wait for orders, or until an attempt is due, and take all that there are."""
        if not self._is_stopping:
            pause = max(0.0, self._due - time.monotonic()) if self._debt else None
            try:
                self._take(self._queue.get(timeout=pause))
            except queue.Empty:
                return
        while not self._queue.empty():
            self._take(self._queue.get())

    def _take(self, order: _Order | None) -> None:
        if order is None:
            self._is_stopping = True
            return
        self._owe(order.changeset)
        if order.title and order.title not in self._titles:
            self._titles.append(order.title)
        if order.is_urgent or self._is_reachable:
            self._due = 0.0

    def _owe(self, changeset: Changeset) -> None:
        if not self._debt:
            self._debt = changeset
        elif changeset.is_everything or self._debt.is_everything:
            self._debt = EVERYTHING
        else:
            if not isinstance(self._debt, Changes):
                # What was put may be shared with other workers.
                shared, self._debt = self._debt, Changes()
                self._debt.merge(shared)
            self._debt.merge(changeset)

    def _attempt(self) -> None:
        owed, self._debt = self._debt, NOTHING
        if isinstance(owed, Changes):
            owed = optimize(owed)
        outcome = self._carrier.carry(owed)
        if outcome.verdict is Verdict.DONE:
            self._settle()
            return
        self._owe(outcome.owed)
        self._failures += 1
        self._is_reachable = outcome.verdict in {Verdict.AGAIN, Verdict.PARTIAL}
        jitter = random.random()  # noqa: S311  # no secret
        self._due = time.monotonic() + self._pauses.after(outcome.verdict, self._failures, jitter)
        self._complain(outcome)

    def _settle(self) -> None:
        if self._complaint:
            log.log(NOTICE, "[%s] works again.", self.name)
        self._complaint = ""
        self._failures = 0
        self._due = 0.0
        self._is_reachable = True
        titles, self._titles = self._titles, []
        for title in titles:
            log.log(NOTICE, "[%s] %s complete", self.name, title)

    def _complain(self, outcome: Outcome) -> None:
        """Log a failure: loudly when it is news, else for those who want to see every run."""
        pause = max(0.0, self._due - time.monotonic())
        held = "Held until somebody looks: " if outcome.verdict is Verdict.HELD else ""
        is_news = pause > 0.0 and outcome.reason != self._complaint
        log.log(
            logging.WARNING if is_news else logging.INFO,
            "[%s] %s %sOwed: %s; next attempt in %.0f s.",
            self.name, _in_words(outcome), held, _amount(self._debt), pause,
        )  # fmt: skip
        if is_news:
            self._complaint = outcome.reason

    def _probe_while_idle(self) -> None:
        """Learn what the destination is able to do before that is needed."""
        if not self._carrier.was_probed:
            outcome = self._carrier.probe()
            if outcome.verdict is not Verdict.DONE and not self._is_ended:
                log.warning("[%s] %s", self.name, _in_words(outcome))


def _amount(debt: Changeset) -> str:
    return "everything" if debt.is_everything else counted(len(debt), "change")


def _in_words(outcome: Outcome) -> str:
    said = f" ({outcome.message})" if outcome.message else ""
    return f"{outcome.reason}{said}."
