"""What a destination begins with: a full sync, what has changed since it was left, or nothing."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from pylsyncd.destination.orders import Order
from pylsyncd.model.changes import EVERYTHING, NOTHING, Changes, Changeset, Scope
from pylsyncd.model.moments import Moment
from pylsyncd.model.wording import counted
from pylsyncd.state.checkpoint import Checkpoint, Remembered
from pylsyncd.system.logs import NOTICE

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Beginning:
    """How one destination begins, decided before the source is surveyed."""

    name: str
    checkpoint: Checkpoint | None
    remembered: Remembered
    title: str = ""
    """Of a full sync; empty for none."""
    reason: str = ""
    """Why everything is compared, where nobody has asked for it."""

    @property
    def moment(self) -> int | None:
        """The ctime in nanoseconds since which changes are to be found, if that is enough."""
        state = self.remembered.state
        return None if self.title or state is None else state.confirmed.since_ns

    @property
    def scanned(self) -> Moment | None:
        """When the last scan began whose findings this destination has; None for the start."""
        state = self.remembered.state
        return None if self.title or state is None else state.scanned

    def order(self, caught_up: Mapping[int, Changes], start: Moment) -> Order:
        """Return the first order, of all that may differ, and see that no restart forgets it.

        ``start`` is a moment before the source was surveyed.
        """
        state = self.remembered.state
        if self.title:
            if self.reason:
                reason = self.reason.rstrip(".")
                log.log(NOTICE, "[%s] Everything is compared: %s.", self.name, reason)
            return self._first(EVERYTHING, start, (self.title,))
        if state is None or self.moment is None:
            log.log(
                NOTICE, "[%s] No initial sync (-i), and no state of an earlier run: what differs "
                "already stays as it is.", self.name,
            )  # fmt: skip
            return self._first(NOTHING, start, ())
        changes = Changes()
        changes.merge(caught_up[self.moment])
        changes.merge(state.debt)
        for path in self.checkpoint.remounted(state) if self.checkpoint is not None else []:
            changes.add(path, Scope.TREE)
        log.log(
            NOTICE, "[%s] catching up with %s: made while pylsyncd did not run, or owed before",
            self.name, counted(len(changes), "change"),
        )  # fmt: skip
        if self.checkpoint is not None:
            self.checkpoint.resume(state)
        titles = ("catch-up",) if changes else ()
        return Order(changes, start, state.scanned, titles)

    def order_while_running(self, start: Moment) -> Order:
        """Return the first order of a destination that comes to a source which is watched."""
        if self.title or self.remembered.state is None:
            return self.order({}, start)
        return replace(self, title="full sync", reason="it was not served").order({}, start)

    def _first(self, changeset: Changeset, start: Moment, titles: tuple[str, ...]) -> Order:
        if self.checkpoint is not None:
            self.checkpoint.confirm(start, changeset)
        return Order(changeset, start, start, titles)


def begin(
    name: str,
    checkpoint: Checkpoint | None,
    remembered: Remembered,
    *,
    forced: str,
    is_vacant: bool,
) -> Beginning:
    """Decide how a destination begins.

    ``forced`` is the title of a full sync that was asked for, empty if none was; ``is_vacant``
    tells that the source is empty. The guard must have accepted the source.
    """
    state = remembered.state
    reason = remembered.fault
    if state is not None and checkpoint is not None:
        if state.debt.is_everything:
            reason = "the last full sync was not completed"
        else:
            reason = checkpoint.doubt(state) or ("the source is empty" if is_vacant else "")
    title = forced or ("full sync" if reason else "")
    return Beginning(name, checkpoint, remembered, title, "" if forced else reason)


def moments(beginnings: Collection[Beginning]) -> Sequence[int]:
    """Return the moments since which changes have to be found."""
    return sorted({each.moment for each in beginnings if each.moment is not None})
