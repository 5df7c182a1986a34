"""What a destination is owed, what of it is confirmed, and what was asked for by name."""

import time
from collections.abc import Sequence

from pylsyncd.destination.attempts import Attempts, earliest
from pylsyncd.destination.carrier import MOST_LEFT_OUT
from pylsyncd.destination.lane import Lane
from pylsyncd.destination.orders import Order
from pylsyncd.model import paths
from pylsyncd.model.changes import NOTHING, Changes, Changeset, Scope
from pylsyncd.model.moments import Moment
from pylsyncd.model.optimizer import apart
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.retry import Pauses
from pylsyncd.state.checkpoint import Checkpoint

Moments = tuple[Moment | None, Moment | None]
"""Until when all changes were put, and when the last scan began whose findings were."""


class Account:
    """The account of one destination, in three parts. Kept by its worker's thread.

    What is fresh is carried next. What is aside failed while all else succeeded, and is tried by
    itself. What is in the lane are large files, which are sent beside all else.
    """

    def __init__(self, lane: Lane, pauses: Pauses) -> None:
        self.fresh = Attempts()
        self.aside = Attempts()
        self.lane = lane
        self._pauses = pauses
        self._opened = 0.0
        self._owing_since: float | None = None
        # What the queue said last, and what it said when all before that was confirmed.
        self._put: Moments = None, None
        self._confirmed: Moments = None, None
        self._titles: list[str] = []
        self._serial = 0
        self.confirmed_serial = 0
        """The last order that is confirmed with all before it, by its serial number."""

    @property
    def debt(self) -> int:
        """How many changes are owed; any thread may ask."""
        return len(self.fresh.debt) + len(self.aside.debt) + self.lane.waiting

    @property
    def parts(self) -> Sequence[Attempts]:
        """What is tried by itself."""
        return self.fresh, self.aside, self.lane.attempts

    @property
    def since(self) -> float | None:
        """When the first of what is owed was seen, by the monotonic clock, if that is known.

        Of a full sync that is not: it may bring nothing new. But one that fails is owed since it
        was asked for.
        """
        is_failing = any(part.failures for part in self.parts)
        asked = self._owing_since if is_failing else None
        return earliest(asked, *(part.since for part in self.parts))

    @property
    def due(self) -> float | None:
        """When something is to be tried, by the monotonic clock; None for nothing."""
        owing = [part.due for part in (self.fresh, self.aside) if part.debt]
        return earliest(*owing, self.lane.due)

    @property
    def put(self) -> Moments:
        """What was put until now: to be confirmed when it was carried."""
        return self._put

    def take(self, order: Order, *, is_reachable: bool, delay: float) -> None:
        """Owe what an order says, ``delay`` seconds after the first change at the earliest."""
        until, scanned = self._put
        self._put = order.until or until, order.scanned or scanned
        self._titles += [title for title in order.titles if title not in self._titles]
        self._serial = order.serial or self._serial
        if order.changeset:
            if not self.debt:
                self._owing_since = time.monotonic()
            if not self.fresh.debt:
                self._opened = time.monotonic()
            self.refresh(order.changeset, order.since)
            if is_reachable:
                self.fresh.due = 0.0 if order.titles else self._opened + delay
        elif not self.debt:
            self.confirmed_serial = self._serial
        if order.is_urgent or order.is_release:
            for part in self.parts:
                part.due = 0.0

    def refresh(self, changeset: Changeset, since: float | None) -> None:
        """Owe these changes, which were first seen at that time, as fresh ones."""
        self.fresh.debt.add(self._rejoined(changeset))
        self.fresh.debt.add(changeset)
        self.fresh.waits_since(since)

    def _rejoined(self, changeset: Changeset) -> Changeset:
        """Take back what was set aside and these changes touch: they may have mended it.

        So nothing that is fresh lies at or below what is left out of its run.
        """
        if not self.aside.debt:
            return NOTHING
        aside = self.aside.debt.take()
        self.fresh.waits_since(self.aside.since)
        set_aside = {change.path for change in aside}
        touched = {change.path for change in changeset if change.scope is not Scope.LISTING}
        below, _ = apart(changeset, set_aside)
        for change in below:
            touched |= set_aside & {change.path, *paths.ancestors(change.path)}
        rejoined, untouched = (aside, NOTHING) if paths.ROOT in touched else apart(aside, touched)
        self.aside.debt.add(untouched)
        if not untouched:
            self.aside.start_anew()
        return rejoined

    def set_aside(self, outcome: Outcome) -> None:
        """Keep apart what failed by itself."""
        if not outcome.failed:
            return
        self.aside.debt.add(outcome.failed)
        self.aside.waits_since(self.fresh.since)
        if len(self.aside.debt) > MOST_LEFT_OUT:
            # Too many to be left out of a run by name.
            self.fresh.debt.add(self.aside.debt.take())
            self.aside.start_anew()
            return
        if outcome.owed and outcome.verdict is Verdict.PARTIAL:
            # All else is carried soon, without these.
            self.fresh.failures = 0
        # However often others were tried: these have just failed, and may not do so again.
        self.aside.failures = 0
        self.aside.put_off(self._pauses, Verdict.PARTIAL)

    def confirm(self, put: Moments) -> None:
        """Take note that all that was put until then is carried, or stands aside or in the lane."""
        until, scanned = self._confirmed
        self._confirmed = put[0] or until, put[1] or scanned

    def write(self, checkpoint: Checkpoint) -> None:
        """Have written down what is confirmed, if nothing fresh is owed."""
        until, scanned = self._confirmed
        if until is not None and not self.fresh.debt:
            owed = Changes()
            owed.merge(self.aside.debt.owed)
            owed.merge(self.lane.owed)
            checkpoint.confirm(until, owed, scanned)

    def completed(self) -> list[str]:
        """Return, once, what was asked for by name and is done, when nothing fresh is owed."""
        if not (self.aside.debt or self.lane):
            self.confirmed_serial = self._serial
        titles, self._titles = self._titles, []
        return titles

    def handed_over(self) -> Order:
        """Return all that is not confirmed, for who goes on with it."""
        changes = Changes()
        changes.merge(self.fresh.debt.take())
        changes.merge(self.aside.debt.take())
        changes.merge(self.lane.owed)
        return Order(changes, *self._put, tuple(self._titles), self.since, self._serial)
