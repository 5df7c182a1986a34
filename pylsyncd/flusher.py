"""Ends the windows of a source: takes the buffer, optimizes the changes, and fills the queues."""

import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NamedTuple

from pylsyncd.config.settings import SyncSettings
from pylsyncd.model.changes import EVERYTHING, MutableChangeset, format_changes
from pylsyncd.model.formatting import format_count
from pylsyncd.model.moments import Moment
from pylsyncd.model.scoped_paths import MutableScopedPaths
from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.pipeline.optimizer import EntryCounter, optimize
from pylsyncd.pipeline.work_queue import CATCH_UP, WorkItem
from pylsyncd.rsync.command import DeletionTime
from pylsyncd.rsync.entry_counts import EntryCounts
from pylsyncd.system import clock
from pylsyncd.watcher.hard_links import HardLinks
from pylsyncd.watcher.source_monitor import SourceMonitor, SourceRestart
from pylsyncd.watcher.watch_session import WatchSession
from pylsyncd.worker.hinted_deletions import missing_entries
from pylsyncd.worker.worker import Worker

log = logging.getLogger(__name__)

# Seconds that a flush waits for the watcher to put its changes into the buffer.
_DRAIN_TIMEOUT = 5.0

# Seconds that an urgent flush waits for the look for hard links, which is sooner in most sources.
_LOOK_TIMEOUT = 0.5

# Seconds between two reports of progress while a stop waits for names of hard links.
_PROGRESS_INTERVAL = 0.1

# How much earlier or later a periodic full sync may start, as a share of its interval.
_JITTER = 0.1

_FULL_SYNC = ("full sync",)


class Flush(NamedTuple):
    """The result of a flush."""

    serial: int
    """The serial number of the last work item: once confirmed, so is every change before."""
    is_complete: bool
    """True if the work items cover everything that changed before the flush."""
    held: frozenset[bytes] = frozenset()
    """The subtrees that were held; the release of one is a change after the flush."""


class _Drained(NamedTuple):
    """What is in the buffer after the watcher was drained."""

    complete_until: Moment
    """Every change before this moment."""
    is_complete: bool = False
    """Whether that is everything that had changed by then."""
    last_scan: Moment | None = None
    """The start of the last periodic scan whose changes are there."""


def _drain(
    session: WatchSession, polled_since: float | None, *, includes_open_files: bool
) -> _Drained:
    watcher = session.watcher
    if polled_since is not None:
        watcher.request_poll(polled_since)
    is_drained = watcher.drain(_DRAIN_TIMEOUT, includes_open_files=includes_open_files)
    # Read at once: what a scan finds from now on belongs to the next flush.
    is_complete = is_drained and not watcher.has_missed_events
    is_complete &= polled_since is None or watcher.has_polled_since(polled_since)
    if not is_drained:
        log.info("The watcher is busy: its latest changes are left for the next flush.")
    # Read before the changes are taken, which may be newer.
    return _Drained(watcher.complete_until, is_complete, watcher.last_scan)


class Flusher:
    """Ends the windows of one source, and fills the queues. Used by the replication's thread."""

    def __init__(
        self,
        sync: SyncSettings,
        buffer: Buffer,
        source_monitor: SourceMonitor,
        get_workers: Callable[[], Sequence[Worker]],
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Create one; ``on_progress()`` is called during searches for hard links.

        An exception that it raises ends the flush or search, and no change is lost.
        """
        self._sync = sync
        self._buffer = buffer
        self._source_monitor = source_monitor
        self._get_workers = get_workers
        self._on_progress = on_progress
        self._hard_links = HardLinks(sync.source.path, sync.rules, on_progress)
        self._entry_counts = EntryCounts(sync.source.path)
        # Those of the changes that are in the buffer.
        self._titles: tuple[str, ...] = ()
        self.last_serial = 0
        """The serial number of the last work item."""
        self.taken_count = 0
        """The number of changes that are neither in the buffer nor in the queues at the moment."""
        self._window_closes_at = math.inf
        self._next_full_sync = math.inf
        self.complete_until = clock.now()
        """The moment before which every change is in a work item."""

    def start(self, complete_until: Moment) -> None:
        """Start the timers; the first work items cover every change before a moment."""
        self.complete_until = complete_until
        self._schedule_full_sync()

    def restart(self, restart: SourceRestart) -> None:
        """Queue a full sync of a source whose watches were replaced."""
        started = self.complete_until = restart.started
        self.enqueue(WorkItem(restart.changes, started, started, _FULL_SYNC, is_urgent=True))

    def apply_settings(self, sync: SyncSettings) -> None:
        """Use the window and the full sync interval of other settings from now on."""
        self._sync = sync
        self._schedule_full_sync()

    @property
    def due_at(self) -> float:
        """The monotonic time at which :meth:`run_due` has something to do."""
        return min(self._window_closes_at, self._next_full_sync)

    def run_due(self) -> None:
        """End the window, and start a full sync, if it is time."""
        now = time.monotonic()
        if now >= self._window_closes_at:
            self.flush()
        if now >= self._next_full_sync:
            self._schedule_full_sync()
            self.enqueue(WorkItem(EVERYTHING, self.complete_until, titles=_FULL_SYNC))

    def open_window(self) -> None:
        """Open a window, unless one is open."""
        if self._buffer and self._window_closes_at == math.inf:
            self._window_closes_at = time.monotonic() + self._sync.window
            self.take_scanned()

    def flush_if_full(self) -> None:
        """End the window early if the buffer is full."""
        if self._buffer.is_full:
            self.flush()

    def take_scanned(self) -> None:
        """Take what scans have found by now, and look for hard links after the first change."""
        if (session := self._source_monitor.session) is not None:
            self._take_scanned(session)

    def _take_scanned(self, session: WatchSession, *, waits: bool = False) -> None:
        was_catching_up = session.is_catching_up
        session.take_scanned(self._hard_links)
        if was_catching_up and not session.is_catching_up and self._buffer:
            self._titles = (CATCH_UP,)
        if self._buffer or session.awaits_hard_links or self._hard_links.defers_searches:
            session.look_for_hard_links(self._hard_links)
        if waits and (look := session.hurry_hard_links()) is not None:
            look.join(_LOOK_TIMEOUT)
            session.take_scanned(self._hard_links)

    @property
    def deferred_count(self) -> int:
        """The number of queued changes that may concern other names, too. Thread-safe."""
        return self._hard_links.deferred_count

    def flush_for_stop(self) -> None:
        """End the window with all changes, and a further one with names that are found later."""
        self.flush(includes_open_files=True)
        session = self._source_monitor.session
        if session is None or not self.deferred_count:
            return
        while (look := session.hurry_hard_links()) is not None:
            self._on_progress()
            look.join(_PROGRESS_INTERVAL)
            session.take_scanned(self._hard_links)
        self.flush(includes_open_files=True)

    def flush(
        self,
        *,
        is_urgent: bool = False,
        includes_open_files: bool = False,
        polled_since: float | None = None,
    ) -> Flush:
        """End the window: queue its changes for all destinations.

        Without changes no work item is queued, unless it is urgent. An urgent flush includes the
        files that were modified and not closed, and another one if that is asked for. With
        ``polled_since``, a monotonic time, directories without events are scanned first, unless
        they were since then.
        """
        try:
            return self._flush(
                is_urgent=is_urgent,
                includes_open_files=is_urgent or includes_open_files,
                polled_since=polled_since,
            )
        finally:
            self.taken_count = 0

    def _flush(
        self, *, is_urgent: bool, includes_open_files: bool, polled_since: float | None
    ) -> Flush:
        self._window_closes_at = math.inf
        session = self._source_monitor.session
        drained = _Drained(self.complete_until)
        if session is not None:
            drained = _drain(session, polled_since, includes_open_files=includes_open_files)
            self._take_scanned(session, waits=is_urgent)
        since = self._buffer.since
        self.taken_count = len(self._buffer)
        changes = self._buffer.take()
        if session is not None and changes:
            session.look_for_hard_links(self._hard_links)
        if session is not None and session.awaits_scan:
            # The next start, too, has to find what has changed, or under names not known yet.
            drained = drained._replace(complete_until=self.complete_until, is_complete=False)
        self.complete_until = drained.complete_until
        if not changes and not is_urgent:
            return Flush(self.last_serial, drained.is_complete)
        try:
            self._hard_links.add_other_names(changes)
        except BaseException:
            # The buffer may have later changes by now, and takes these for the latest.
            changes.moves = None
            self._buffer.add(changes)
            raise
        self._note_deletions(changes)
        with self._counting() as count_entries:
            changeset = optimize(changes, count_entries)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: %s", format_count(len(changes), "change"), format_changes(changes))
            log.debug("reduced to %d: %s", len(changeset), format_changes(changeset))
        titles, self._titles = self._titles, ()
        if changeset.is_everything:
            titles = _FULL_SYNC
        item = WorkItem(
            changeset, drained.complete_until, drained.last_scan, titles, since,
            is_urgent=is_urgent,
        )  # fmt: skip
        return Flush(self.enqueue(item), drained.is_complete)

    def _note_deletions(self, changes: MutableChangeset) -> None:
        """Add the hint of what was deleted, if only that is deleted at the destinations."""
        if self._sync.delete_only is not DeletionTime.RUNNING:
            changes.deletable = MutableScopedPaths()
            return
        changes.deletable.add_all(missing_entries(self._sync.source.path, changes.entries))

    def _counting(self) -> AbstractContextManager[EntryCounter | None]:
        """Return what decides whether a listing replaces names; None in it if none may.

        What a listing deletes is known only when rsync runs, which is too late where some files go
        last.
        """
        if any(settings.rsync.last for settings in self._sync.destinations):
            return nullcontext()
        return self._entry_counts.opened()

    def start_full_sync(self, names: Sequence[str] = ()) -> None:
        """Queue a full sync, to be run at once; for some destinations, or for all."""
        item = WorkItem(EVERYTHING, self.complete_until, titles=_FULL_SYNC, is_urgent=True)
        self.enqueue(item, names)

    def enqueue(self, item: WorkItem, names: Sequence[str] = ()) -> int:
        """Put a work item into the queues of some destinations, or all; return its serial."""
        self.last_serial += 1
        since = item.since
        if since is None and item.changeset:
            since = time.monotonic()
        item = replace(item, serial=self.last_serial, since=since)
        for worker in self._get_workers():
            if not names or worker.name in names:
                worker.put(item)
        return self.last_serial

    def _schedule_full_sync(self) -> None:
        interval = self._sync.full_sync_interval
        self._next_full_sync = math.inf
        if interval:
            jitter = 1.0 + _JITTER * (2.0 * random.random() - 1.0)  # noqa: S311  # no secret
            self._next_full_sync = time.monotonic() + interval * jitter
