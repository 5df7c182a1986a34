"""From a window's changes to the orders of the destinations: when, and what."""

import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from pylsyncd.destination.crew import Crew
from pylsyncd.destination.orders import Order
from pylsyncd.model.changes import EVERYTHING, shown
from pylsyncd.model.moments import fresh_from
from pylsyncd.model.optimizer import optimize
from pylsyncd.model.wording import counted
from pylsyncd.rsync.filelist import count_entries
from pylsyncd.settings.settings import Sync
from pylsyncd.source.buffer import Buffer
from pylsyncd.source.links import Links
from pylsyncd.source.lookout import Lookout
from pylsyncd.source.watching import Watching
from pylsyncd.system import clock

log = logging.getLogger(__name__)

# Seconds that a flush waits for the watcher to hand over what it has.
_HAND_OVER = 5.0

# How much earlier or later a full sync may begin, as a share of the time between two.
_JITTER = 0.1


class Dispatch:
    """Ends the windows of one source, and gives the orders. Used by the source's own thread."""

    def __init__(
        self,
        sync: Sync,
        buffer: Buffer,
        lookout: Lookout,
        crew: Crew,
        progressed: Callable[[], None] = lambda: None,
    ) -> None:
        """Make one; ``progressed()`` is called now and then during what takes long.

        What that raises, :meth:`flush` and :meth:`learn_links` do, and nothing is lost.
        """
        self._sync = sync
        self._buffer = buffer
        self._lookout = lookout
        self._crew = crew
        self._links = Links(sync.source.path, sync.rules, progressed)
        self.serial = 0
        """Of the last order."""
        self._is_all_known = False
        self._window_closes = math.inf
        self._next_full_sync = math.inf
        self.until = clock.now()
        """Every change before this moment was given to the destinations, or is what they began
        with."""

    def begin(self, sync: Sync) -> None:
        """Begin to keep time, as a sync of the same source asks."""
        self._sync = sync
        self._plan_full_sync()

    @property
    def due(self) -> float:
        """When :meth:`do_what_is_due` has something to do, by the monotonic clock."""
        return min(self._window_closes, self._next_full_sync)

    def do_what_is_due(self) -> None:
        """End the window, and sync everything, if it is time to."""
        now = time.monotonic()
        if now >= self._window_closes:
            self.flush()
        if now >= self._next_full_sync:
            self._plan_full_sync()
            self.put(Order(EVERYTHING, self.until, titles=("full sync",)))

    def open_window(self) -> None:
        """Let the window begin, unless it is open."""
        if self._buffer and self._window_closes == math.inf:
            self._window_closes = time.monotonic() + self._sync.window
            self.learn_links()

    def flush_if_full(self) -> None:
        """End the window early, if so much has changed."""
        if self._buffer.is_full:
            self.flush()

    def learn_links(self) -> None:
        """Learn which files have several names, from scans or, where none was made, by looking.

        Not before something has changed: it takes as long as a scan, and a start should not.
        """
        if (watching := self._lookout.watching) is None:
            return
        tracker = watching.tracker
        if tracker.has_seen_files:
            watching.unsurveyed = None
        while not tracker.linked.empty():
            self._links.learn(tracker.linked.get())
        if self._buffer and not tracker.recovery.is_about_to_see_files:
            self._survey(watching)

    def _survey(self, watching: Watching) -> None:
        """Look for files that have, or had, several names, if nobody did since the start."""
        since = watching.unsurveyed
        if since is None:
            return
        # If the source is not to be opened now: the next time.
        with suppress(OSError):
            self._buffer.add(self._links.survey(fresh_from(since, clock.now())))
            watching.unsurveyed = None

    def flush(self, *, is_urgent: bool = False) -> int:
        """End the window: hand what changed in it to all destinations.

        Returns the serial number of the last order: with it, all that was seen is confirmed.
        """
        self._window_closes = math.inf
        scanned = None
        self._is_all_known = False
        if (watching := self._lookout.watching) is not None:
            watcher = watching.watcher
            is_drained = watcher.drain(_HAND_OVER)
            # Asked at once: what a scan finds from now on belongs to the next flush.
            self._is_all_known = is_drained and not watcher.has_missed_something
            if not is_drained:
                log.info("The watcher is busy: what it has not handed over waits.")
            # Read before the changes are taken, which may be newer.
            self.until, scanned = watcher.complete_until, watcher.scanned
            self.learn_links()
        since = self._buffer.since
        changes = self._buffer.take()
        if not changes and not is_urgent:
            return self.serial
        try:
            self._links.complete(changes)
        except BaseException:
            self._buffer.add(changes)
            raise
        changeset = optimize(changes, count_entries(self._sync.source.path))
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: %s", counted(len(changes), "change"), shown(changes))
            log.debug("reduced to %d: %s", len(changeset), shown(changeset))
        titles = ("full sync",) if changeset.is_everything else ()
        order = Order(changeset, self.until, scanned, titles, since, is_urgent=is_urgent)
        return self.put(order)

    def flush_all(self) -> int | None:
        """Flush; return what :meth:`flush` does, None if not all is known that has changed."""
        serial = self.flush(is_urgent=True)
        return serial if self._is_all_known else None

    def sync_everything(self, names: Sequence[str] = ()) -> None:
        """Have everything compared, now; ``names`` are the destinations', none for all."""
        self.put(Order(EVERYTHING, self.until, titles=("full sync",), is_urgent=True), names)

    def put(self, order: Order, names: Sequence[str] = ()) -> int:
        """Give the workers an order; return its serial number."""
        self.serial += 1
        since = order.since
        if since is None and order.changeset:
            since = time.monotonic()
        order = replace(order, serial=self.serial, since=since)
        for worker in self._crew.workers:
            if not names or worker.name in names:
                worker.put(order)
        return self.serial

    def _plan_full_sync(self) -> None:
        interval = self._sync.full_sync_interval
        self._next_full_sync = math.inf
        if interval:
            jitter = 1.0 + _JITTER * (2.0 * random.random() - 1.0)  # noqa: S311  # no secret
            self._next_full_sync = time.monotonic() + interval * jitter
