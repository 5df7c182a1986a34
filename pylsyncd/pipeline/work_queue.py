"""The queue of one destination. All items that wait are merged into one, so it is bounded."""

import queue
from dataclasses import dataclass, replace
from typing import Final

from pylsyncd.model.changes import NOTHING, Changeset
from pylsyncd.model.moments import Moment, earliest
from pylsyncd.pipeline.backlog import Backlog

CATCH_UP: Final = "catch-up"
"""The title of what has changed while pylsyncd was not running."""


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A changeset on its way to a worker, or a request without changes."""

    changeset: Changeset
    complete_until: Moment | None = None
    """All changes before this moment are in the items queued so far, this one included.

    None leaves the moment of earlier items in force.
    """
    last_scan: Moment | None = None
    """The start of the last scan whose findings are all in these items."""
    titles: tuple[str, ...] = ()
    """The names of the syncs to log as complete when no change is pending."""
    since: float | None = None
    """When the first of the changes was seen, by the monotonic clock; None if unknown."""
    serial: int = 0
    """Increases from item to item of a source; a worker reports the last confirmed one."""
    is_urgent: bool = False
    """Whether it is tried at once, even during the pause after failures."""
    is_release: bool = False
    """Whether a person releases what is held."""
    is_final: bool = False
    """Whether the worker ends when it has carried, or tried once more, what is pending."""


class WorkQueue(queue.Queue[WorkItem]):
    """A queue that merges all items put into it into one. Any number of changes can be put.

    It overrides ``_init``, ``_qsize``, ``_put`` and ``_get``, which :class:`queue.Queue` leaves to
    its subclasses and calls with its lock held.
    """

    is_idle: bool
    """False from the moment changes are taken until the worker says that it has nothing to do.

    Between the two, no count may include what was taken. So read the counts first, then this.
    """

    def wake(self) -> None:
        """Make a waiting worker look at its state again, by an empty item."""
        self.put(WorkItem(NOTHING))

    @property
    def pending_count(self) -> int:
        """The number of waiting changes; any thread may ask."""
        return len(self._backlog)

    @property
    def is_everything(self) -> bool:
        """True if the whole source waits; any thread may ask."""
        return self._backlog.is_everything

    @property
    def since(self) -> float | None:
        """When the first waiting change was seen, by the monotonic clock; None if unknown."""
        merged = self._merged
        return None if merged is None else merged.since

    def _init(self, maxsize: int) -> None:  # noqa: ARG002  # of the base class; the size is 0 or 1
        self._backlog = Backlog()
        self._merged: WorkItem | None = None
        self.is_idle = True

    def _qsize(self) -> int:
        return 0 if self._merged is None else 1

    def _put(self, item: WorkItem) -> None:
        self._backlog.add(item.changeset)
        item = replace(item, changeset=NOTHING)
        self._merged = item if self._merged is None else _merge(self._merged, item)

    def _get(self) -> WorkItem:
        assert self._merged is not None  # noqa: S101  # Queue has checked the size
        if self._backlog:
            self.is_idle = False
        item = replace(self._merged, changeset=self._backlog.take())
        self._merged = None
        return item


def _merge(earlier: WorkItem, later: WorkItem) -> WorkItem:
    """Return two items as one, without their changesets."""
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
