"""The queue of a destination: what waits in it is one order, however much is put."""

import queue
from dataclasses import dataclass, replace

from pylsyncd.model.changes import NOTHING, Changeset
from pylsyncd.model.moments import Moment, earliest
from pylsyncd.pipeline.backlog import Backlog


@dataclass(frozen=True, slots=True)
class WorkItem:
    """What a destination is told to do."""

    changeset: Changeset
    """What it is to be brought up to date with."""
    complete_until: Moment | None = None
    """All changes before this moment are in the sets that were put so far, this one included.

    None where that is not known: then what was known before still holds.
    """
    last_scan: Moment | None = None
    """When the last scan began, all of whose findings are in these sets, too."""
    titles: tuple[str, ...] = ()
    """What to log as complete when nothing is owed any more."""
    since: float | None = None
    """When the first of the changes was seen, by the monotonic clock; None if nobody knows."""
    serial: int = 0
    """Grows from order to order of a source: so it can be told when one is confirmed."""
    is_urgent: bool = False
    """Whether somebody has asked for it: it ends the pause after failures."""
    is_release: bool = False
    """Whether a person has looked at what is held, and lets it go on."""
    is_final: bool = False
    """Whether none follows: what is owed is carried, or tried once more."""


class WorkQueue(queue.Queue[WorkItem]):
    """A queue of at most one order, which all that are put are merged into, and of any size.

    So a destination that is away for a week has a bounded queue. ``_init``, ``_qsize``, ``_put``
    and ``_get`` are what :class:`queue.Queue` leaves to its subclasses, and calls under its lock.
    """

    @property
    def pending_count(self) -> int:
        """How many changes the order has that waits; any thread may ask."""
        return len(self._debt)

    @property
    def since(self) -> float | None:
        """Since when it waits, by the monotonic clock; None for no order, or if nobody knows."""
        rest = self._rest
        return None if rest is None else rest.since

    def _init(self, maxsize: int) -> None:  # noqa: ARG002  # theirs; one order is the most
        self._debt = Backlog()
        self._rest: WorkItem | None = None

    def _qsize(self) -> int:
        return 0 if self._rest is None else 1

    def _put(self, item: WorkItem) -> None:
        self._debt.add(item.changeset)
        rest = replace(item, changeset=NOTHING)
        self._rest = rest if self._rest is None else _both(self._rest, rest)

    def _get(self) -> WorkItem:
        assert self._rest is not None  # noqa: S101  # Queue has asked for the size
        order = replace(self._rest, changeset=self._debt.take())
        self._rest = None
        return order


def _both(earlier: WorkItem, later: WorkItem) -> WorkItem:
    """Return what two orders ask for, but for their changesets."""
    return WorkItem(
        NOTHING,
        complete_until=later.complete_until or earlier.complete_until,
        last_scan=later.last_scan or earlier.last_scan,
        titles=tuple(dict.fromkeys(earlier.titles + later.titles)),
        since=earliest(earlier.since, later.since),
        serial=max(earlier.serial, later.serial),
        is_urgent=earlier.is_urgent or later.is_urgent,
        is_release=earlier.is_release or later.is_release,
        is_final=earlier.is_final or later.is_final,
    )
