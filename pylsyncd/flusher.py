"""From a window's changes to the orders of the destinations: when, and what."""

import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from pylsyncd.config.settings import SyncSettings
from pylsyncd.model.changes import EVERYTHING, format_changes
from pylsyncd.model.formatting import format_count
from pylsyncd.model.moments import earliest_ctime_ns
from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.pipeline.optimizer import optimize
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.file_list import entry_counter
from pylsyncd.system import clock
from pylsyncd.watcher.hard_links import HardLinks
from pylsyncd.watcher.source_monitor import SourceMonitor
from pylsyncd.watcher.watching import WatchSession
from pylsyncd.worker.pool import WorkerPool

log = logging.getLogger(__name__)

# Seconds that a flush waits for the watcher to hand over what it has.
_HAND_OVER = 5.0

# How much earlier or later a full sync may begin, as a share of the time between two.
_JITTER = 0.1


class Flusher:
    """Ends the windows of one source, and gives the orders. Used by the source's own thread."""

    def __init__(
        self,
        sync: SyncSettings,
        buffer: Buffer,
        lookout: SourceMonitor,
        crew: WorkerPool,
        progressed: Callable[[], None] = lambda: None,
    ) -> None:
        """Make one; ``progressed()`` is called now and then during what takes long.

        What that raises, :meth:`flush` and :meth:`learn_links` do, and nothing is lost.
        """
        self._sync = sync
        self._buffer = buffer
        self._lookout = lookout
        self._crew = crew
        self._links = HardLinks(sync.source.path, sync.rules, progressed)
        self.last_serial = 0
        """Of the last order."""
        self._is_all_known = False
        self._window_closes = math.inf
        self._next_full_sync = math.inf
        self.complete_until = clock.now()
        """Every change before this moment was given to the destinations, or is what they began
        with."""

    def apply_settings(self, sync: SyncSettings) -> None:
        """Begin to keep time, as a sync of the same source asks."""
        self._sync = sync
        self._plan_full_sync()

    @property
    def due_at(self) -> float:
        """When :meth:`do_what_is_due` has something to do, by the monotonic clock."""
        return min(self._window_closes, self._next_full_sync)

    def run_due(self) -> None:
        """End the window, and sync everything, if it is time to."""
        now = time.monotonic()
        if now >= self._window_closes:
            self.flush()
        if now >= self._next_full_sync:
            self._plan_full_sync()
            self.enqueue(WorkItem(EVERYTHING, self.complete_until, titles=("full sync",)))

    def open_window(self) -> None:
        """Let the window begin, unless it is open."""
        if self._buffer and self._window_closes == math.inf:
            self._window_closes = time.monotonic() + self._sync.window
            self.update_hard_links()

    def flush_if_full(self) -> None:
        """End the window early, if so much has changed."""
        if self._buffer.is_full:
            self.flush()

    def update_hard_links(self) -> None:
        """Learn which files have several names, from scans or, where none was made, by looking.

        Not before something has changed: it takes as long as a scan, and a start should not.
        """
        if (watching := self._lookout.session) is None:
            return
        tracker = watching.event_processor
        if tracker.has_scanned_files:
            watching.links_unscanned_since = None
        while not tracker.found_hard_links.empty():
            self._links.remember(tracker.found_hard_links.get())
        if self._buffer and not tracker.rescanner.is_scan_pending:
            self._survey(watching)

    def _survey(self, watching: WatchSession) -> None:
        """Look for files that have, or had, several names, if nobody did since the start."""
        since = watching.links_unscanned_since
        if since is None:
            return
        # If the source is not to be opened now: the next time.
        with suppress(OSError):
            self._buffer.add(self._links.scan_source(earliest_ctime_ns(since, clock.now())))
            watching.links_unscanned_since = None

    def flush(self, *, is_urgent: bool = False) -> int:
        """End the window: hand what changed in it to all destinations.

        Returns the serial number of the last order: with it, all that was seen is confirmed.
        """
        self._window_closes = math.inf
        scanned = None
        self._is_all_known = False
        if (watching := self._lookout.session) is not None:
            watcher = watching.watcher
            is_drained = watcher.drain(_HAND_OVER)
            # Asked at once: what a scan finds from now on belongs to the next flush.
            self._is_all_known = is_drained and not watcher.has_missed_events
            if not is_drained:
                log.info("The watcher is busy: what it has not handed over waits.")
            # Read before the changes are taken, which may be newer.
            self.complete_until, scanned = watcher.complete_until, watcher.last_scan
            self.update_hard_links()
        since = self._buffer.since
        changes = self._buffer.take()
        if not changes and not is_urgent:
            return self.last_serial
        try:
            self._links.add_other_names(changes)
        except BaseException:
            self._buffer.add(changes)
            raise
        changeset = optimize(changes, entry_counter(self._sync.source.path))
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: %s", format_count(len(changes), "change"), format_changes(changes))
            log.debug("reduced to %d: %s", len(changeset), format_changes(changeset))
        titles = ("full sync",) if changeset.is_everything else ()
        order = WorkItem(
            changeset, self.complete_until, scanned, titles, since, is_urgent=is_urgent
        )
        return self.enqueue(order)

    def flush_all(self) -> int | None:
        """Flush; return what :meth:`flush` does, None if not all is known that has changed."""
        serial = self.flush(is_urgent=True)
        return serial if self._is_all_known else None

    def start_full_sync(self, names: Sequence[str] = ()) -> None:
        """Have everything compared, now; ``names`` are the destinations', none for all."""
        self.enqueue(
            WorkItem(EVERYTHING, self.complete_until, titles=("full sync",), is_urgent=True), names
        )

    def enqueue(self, order: WorkItem, names: Sequence[str] = ()) -> int:
        """Give the workers an order; return its serial number."""
        self.last_serial += 1
        since = order.since
        if since is None and order.changeset:
            since = time.monotonic()
        order = replace(order, serial=self.last_serial, since=since)
        for worker in self._crew.workers:
            if not names or worker.name in names:
                worker.put(order)
        return self.last_serial

    def _plan_full_sync(self) -> None:
        interval = self._sync.full_sync_interval
        self._next_full_sync = math.inf
        if interval:
            jitter = 1.0 + _JITTER * (2.0 * random.random() - 1.0)  # noqa: S311  # no secret
            self._next_full_sync = time.monotonic() + interval * jitter
