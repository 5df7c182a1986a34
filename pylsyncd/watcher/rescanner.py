"""Finds by scans the changes that events do not report: dropped events, unwatched directories."""

import errno
import logging
import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Generic

from pylsyncd.config.settings import DEFAULT_POLL_INTERVAL
from pylsyncd.model import paths
from pylsyncd.model.changes import NOTHING, Changeset, MutableChangeset, everything_with
from pylsyncd.model.formatting import format_count
from pylsyncd.model.moments import Moment, earliest, reason_to_distrust
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.system import clock
from pylsyncd.watcher import inotify
from pylsyncd.watcher.catchup_scan import ScanPurpose
from pylsyncd.watcher.overflow_backoff import OverflowBackoff
from pylsyncd.watcher.reported_names import ReportedNames
from pylsyncd.watcher.sliced_scan import LEAST_ROUND_SECONDS, SlicedScan
from pylsyncd.watcher.watches import D, Watches

log = logging.getLogger(__name__)

# How many seconds the clock of a file server may be behind.
_MAX_SERVER_CLOCK_LAG = 60.0

# Seconds from the start to a periodic scan that is overdue.
_OVERDUE_SCAN_DELAY = 60.0

_MAX_LOGGED_UNWATCHED = 10


@dataclass(frozen=True, slots=True)
class RescanPlan:
    """What to scan for besides the events."""

    since_ns: Collection[int] = ()
    """The ctimes in nanoseconds since which the initial scan finds the changes."""
    eventless_directories: Collection[bytes] = ()
    """The directories on file systems that do not report changes made elsewhere."""
    directories_without_ctimes: Collection[bytes] = ()
    """The directories on file systems on which a ctime does not tell what has changed."""
    poll_interval: float = DEFAULT_POLL_INTERVAL
    """Seconds between two scans of these directories and of those that cannot be watched."""
    scan_interval: float = 0.0
    """Seconds between two periodic scans of the whole source at once; 0.0 for none."""
    scan_budget: float = 0.0
    """The share of a processor that the sliced scan may take; 0.0 for no such scan."""
    least_scan_round: float = LEAST_ROUND_SECONDS
    """The least number of seconds in which the sliced scan visits the whole source."""
    find_mounts: Callable[[], Collection[bytes]] = tuple
    """Returns the mount points below the source that the rules do not exclude."""
    last_scan: Moment | None = None
    """The start of the last periodic scan, in an earlier run; None for the present moment."""


class Rescanner(Generic[D]):
    """The scans of one source and their schedule. Used by the thread of the watch manager."""

    def __init__(
        self,
        watches: Watches[D],
        plan: RescanPlan,
        is_held_back: Callable[[D, bytes], bool] = lambda *_: False,
    ) -> None:
        """Create it.

        ``is_held_back(watch descriptor, name)`` returns True for a file that the sliced scan need
        not find, because it becomes a change later.
        """
        self._watches = watches
        self._plan = plan
        self._eventless_directories = tuple(plan.eventless_directories)
        self._directories_without_ctimes = tuple(plan.directories_without_ctimes)
        # Every change before this moment was found, or is among the events that were processed.
        self._complete_until = clock.now()
        self._last_poll = self._complete_until
        self._overflows = OverflowBackoff()
        # Read now: when events are dropped there may be no descriptor left.
        self._queue_limit = inotify.read_limit("max_queued_events")
        self._logged_lacking = 0
        self._is_repairing = False
        self.is_source_lost = False
        """Whether a scan found that the source is gone or replaced."""
        self._last_whole_scan = plan.last_scan or self._complete_until
        self._slices = SlicedScan(
            watches, plan.scan_budget, self._last_whole_scan, plan.least_scan_round, is_held_back,
            is_continued=plan.last_scan is not None,
        ) if plan.scan_budget else None  # fmt: skip
        self._next_poll: float = math.inf
        # By the monotonic clock: the start of the last complete poll, and the time since which one
        # was asked for.
        self._polled_at = time.monotonic()
        self._poll_requested_since = -math.inf
        self._next_scan: float | None = None

    def initial_scan(self, *, only_watches: bool = False) -> Mapping[int, MutableChangeset]:
        """Watch the whole source; return the changes since each ctime of the plan.

        With ``only_watches`` these are left to :meth:`catch_up`. Raises OSError if the source is
        gone.
        """
        changes = self._watches.scan(() if only_watches else self._plan.since_ns)
        for each in changes.values():
            self._add_trees(each, self._directories_without_ctimes)
        self._next_poll = self._poll_due()
        self._next_scan = self._scan_due()
        if self._slices is not None:
            self._slices.start()
        if self._next_scan is not None:
            waited = max(0.0, self._complete_until.wall - self._last_whole_scan.wall)
            waited = min(waited, self._plan.scan_interval)
            self._next_scan -= max(0.0, waited - _OVERDUE_SCAN_DELAY)
        self.log_unwatched()
        self._watches.tree.set_base()
        return changes

    def catch_up(self) -> MutableChangeset:
        """Return the changes since the earliest ctime of the plan.

        Any thread may call this once, if marks cover the whole source. Raises OSError if the source
        is gone.
        """
        since = min(self._plan.since_ns)
        changes = self._watches.scan([since])[since]
        self._add_trees(changes, self._directories_without_ctimes)
        return changes

    def stop(self) -> None:
        """End a scan that is not complete; no other method is called afterwards."""
        if self._slices is not None:
            self._slices.stop()

    def set_mounts(self, eventless: Collection[bytes], without_ctimes: Collection[bytes]) -> None:
        """Replace the directories without events or ctimes after a mount. Thread-safe."""
        self._eventless_directories = tuple(eventless)
        self._directories_without_ctimes = tuple(without_ctimes)

    def add_eventless(self, directories: Collection[bytes]) -> None:
        """Poll more directories."""
        self._eventless_directories = tuple({*self._eventless_directories, *directories})

    def request_poll(self, since: float) -> None:
        """Make a poll due, if there was none since a monotonic time. Thread-safe."""
        self._poll_requested_since = max(self._poll_requested_since, since)

    def has_polled_since(self, since: float) -> bool:
        """Return True if there is nothing to poll, or a poll started since. Thread-safe."""
        return not self._is_polling or self._polled_at >= since

    @property
    def complete_until(self) -> Moment:
        """The moment before which every change was found.

        Changes stamped by the clock of a file server are found, too, if it lags within the limit.
        """
        if self._eventless_directories:
            return _earlier(self._last_poll, _MAX_SERVER_CLOCK_LAG)
        return self._last_poll if self._is_polling else self._complete_until

    @property
    def last_scan(self) -> Moment:
        """When the last complete periodic scan started: each change before was found."""
        if self._slices is None:
            return self._last_whole_scan
        scans = self._last_whole_scan, self._slices.last_round
        return max(scans, key=lambda moment: moment.wall)

    @property
    def reported(self) -> ReportedNames[D] | None:
        """Where names that events report are kept for the periodic scan; None if unused."""
        return None if self._slices is None else self._slices.reported

    @property
    def due_at(self) -> float | None:
        """When :meth:`scan_if_due` scans, by the monotonic clock; None for never."""
        next_slice = None if self._slices is None else self._slices.due_at
        return earliest(self._overflows.due_at, self._next_scan, self._poll_due_at, next_slice)

    @property
    def overflow_count(self) -> int:
        """How many times the kernel has dropped events."""
        return self._overflows.count

    @property
    def has_missed_events(self) -> bool:
        """Whether the kernel has dropped events and no scan has started since."""
        return self._overflows.due_at is not None

    @property
    def is_scan_pending(self) -> bool:
        """Whether a scan after dropped events is running or due."""
        return self._is_repairing or self.has_missed_events

    @property
    def _is_polling(self) -> bool:
        return bool(self._watches.unwatched or self._eventless_directories)

    def record_overflow(self) -> None:
        """Record that the kernel has dropped events."""
        if self._overflows.record_overflow(time.monotonic()):
            log.warning(
                "The kernel dropped events: its queue was full (fs.inotify.max_queued_events is "
                "%d). The source is scanned for missed changes when the events slow down.",
                self._queue_limit,
            )

    def record_loss(self, since: Moment, reason: str) -> None:
        """Record that the changes since a moment could not be taken."""
        if self._overflows.record_overflow(time.monotonic()):
            log.warning(
                "Events could not be processed (%s). The source is scanned for their changes.",
                reason,
            )
        self._complete_until = min(
            self._complete_until, since, key=lambda moment: moment.running
        )  # fmt: skip

    def record_empty_queue(self, moment: Moment) -> None:
        """Record that all events up to a moment were processed."""
        if self._overflows.due_at is None:
            self._complete_until = moment

    def scan_if_due(self) -> Changeset | None:
        """Scan if that is due; return the changes found, None if it was not."""
        now = time.monotonic()
        due_at = self._overflows.due_at
        if due_at is not None and now >= due_at:
            return self._repair_overflow(now)
        poll_due_at = self._poll_due_at
        if poll_due_at is not None and now >= poll_due_at:
            return self._poll()
        if self._next_scan is not None and now >= self._next_scan:
            return self._scan_periodically()
        if self._slices is not None and now >= self._slices.due_at:
            return self._slices.run_slice(self._is_eventless)
        return None

    def is_near_eventless(self, path: bytes) -> bool:
        """Return True if changes at or below a path may have no events."""
        return any(
            paths.covers(top, path) or paths.covers(path, top)
            for top in self._eventless_directories
        )

    def _is_eventless(self, path: bytes) -> bool:
        return any(paths.covers(top, path) for top in self._eventless_directories)

    def _has_ctimes(self, path: bytes) -> bool:
        return not any(paths.covers(top, path) for top in self._directories_without_ctimes)

    def _add_trees(self, changes: MutableChangeset, directories: Iterable[bytes]) -> None:
        """Add all that is in directories where no ctime tells what has changed.

        The source itself is not added as a tree: that would be a full sync each time.
        """
        for path in directories:
            if path:
                changes.add(path, Scope.TREE)
                continue
            changes.add(path, Scope.LISTING)
            for name in self._watches.directories_in_source():
                changes.add(name, Scope.TREE)

    @property
    def _poll_due_at(self) -> float | None:
        if not self._is_polling:
            return None
        is_requested = self._poll_requested_since > self._polled_at
        return -math.inf if is_requested else self._next_poll

    def _poll_due(self) -> float:
        return time.monotonic() + self._plan.poll_interval

    def _scan_due(self) -> float | None:
        interval = self._plan.scan_interval
        return time.monotonic() + interval if interval else None

    def _scan_periodically(self) -> Changeset:
        """Find the changes since the last periodic scan, with or without events."""
        present = clock.now()
        since = _by_clock_of(present, self._last_whole_scan)
        root = self._watches.tree.root_wd
        changes = self._scan(since.since_ns, root, ScanPurpose.COMPLETE_EVENTS)
        self._next_scan = self._scan_due()
        if changes is None:
            self.is_source_lost = True
            return NOTHING
        self._add_trees(changes, self._directories_without_ctimes)
        self._last_whole_scan = present
        log.debug("Periodic scan of the source: found %s.", format_count(len(changes), "change"))
        return changes

    def _repair_overflow(self, now: float) -> Changeset:
        """Find the changes since the last moment at which no event was lost."""
        present = clock.now()
        self._is_repairing = True
        self._overflows.record_scan_start()
        # A polled directory may get a watch now: its changes since the last poll count, too.
        since = min(self._complete_until, self.complete_until, key=lambda moment: moment.wall)
        reason = reason_to_distrust(since, present)
        root = self._watches.tree.root_wd
        changes = self._scan(since.since_ns, root, ScanPurpose.REPLACE_EVENTS)
        if changes is None:
            self.is_source_lost = True
        else:
            self._add_trees(changes, self._directories_without_ctimes)
        self._overflows.record_scan_end(now, time.monotonic())
        self._is_repairing = False
        if reason:
            log.warning("Falling back to a full sync: %s.", reason)
        elif changes is not None:
            found = format_count(len(changes), "change")
            log.info("Scanned the source for missed changes: found %s.", found)
        # Events that are dropped from now on belong to changes since the scan started.
        self._complete_until = present
        since_then = changes or NOTHING
        return everything_with(since_then) if reason else since_then

    def _poll(self) -> Changeset:
        """Scan the directories without events, and try again to watch those without a watch."""
        present, found, is_complete = clock.now(), MutableChangeset(), True
        started = time.monotonic()
        last_poll = _by_clock_of(present, self._last_poll)
        # The ctimes are from the clock of the file server.
        since_ns = _earlier(last_poll, _MAX_SERVER_CLOCK_LAG).since_ns
        for path in self._eventless_directories:
            changes = self._poll_directory(path, since_ns)
            is_complete &= changes is not None
            found.merge(changes or NOTHING)
        unwatched = self._watches.unwatched_paths()
        self._add_trees(found, [path for path in unwatched if not self._has_ctimes(path)])
        if self._watches.unwatched:
            found.merge(self._watches.retry_unwatched(last_poll.since_ns))
        if not self._watches.unwatched:
            self._logged_lacking = 0
        if is_complete:
            # Otherwise the next poll covers this period again.
            self._last_poll = present
            self._polled_at = started
        # An incomplete poll must not be repeated at once.
        self._poll_requested_since = -math.inf
        self._next_poll = self._poll_due()
        return found

    def _poll_directory(self, path: bytes, since_ns: int) -> Changeset | None:
        """Return the changes in a directory without events; None if it is not there."""
        top = self._watches.tree.find(path)
        if top is None:
            return NOTHING
        if self._has_ctimes(path):
            return self._scan(since_ns, top, ScanPurpose.POLL)
        try:
            self._watches.scan((), top)
        except OSError:
            return None
        offered = MutableChangeset()
        self._add_trees(offered, [path])
        return offered

    def _scan(self, since_ns: int, top: D, purpose: ScanPurpose) -> MutableChangeset | None:
        """Return the changes in a directory and below; None if it is not there."""
        try:
            return self._watches.scan([since_ns], top, purpose)[since_ns]
        except OSError:
            return None

    def log_unwatched(self) -> None:
        """Log each directory that cannot be watched once, a lack of watches when it has doubled."""
        new = self._watches.take_newly_unwatched()
        if not new:
            return
        unwatched, interval = self._watches.unwatched, self._plan.poll_interval
        lacking = sum(code == errno.ENOSPC for code in unwatched.values())
        if lacking >= max(1, 2 * self._logged_lacking):
            self._logged_lacking = lacking
            log.error(
                "Not watched, but scanned every %g s with all subdirectories: %s. %s",
                interval, format_count(lacking, "directory"),
                inotify.watch_limit_message(
                    len(self._watches.tree), self._watches.count_lacking_watches()
                ),
            )  # fmt: skip
        refused = [key for key in new if unwatched.get(key, errno.ENOSPC) != errno.ENOSPC]
        for parent, name in refused[:_MAX_LOGGED_UNWATCHED]:
            above = self._watches.tree.path(parent)
            path = None if above is None else paths.join(above, name)
            if path is not None:
                log.warning(
                    "%s cannot be watched (%s): it is scanned every %g s instead.",
                    paths.printable(path), os.strerror(unwatched[parent, name]), interval,
                )  # fmt: skip
        if len(refused) > _MAX_LOGGED_UNWATCHED:
            more = format_count(len(refused) - _MAX_LOGGED_UNWATCHED, "more directory")
            log.warning("The same holds for %s.", more)


def _by_clock_of(present: Moment, then: Moment) -> Moment:
    """Return an earlier moment by the present wall clock, if that was set back since.

    A clock that was set back gives earlier ctimes to later changes.
    """
    if then.boot != present.boot:
        return then
    elapsed = present.running - then.running
    return replace(then, wall=min(then.wall, present.wall - elapsed))


def _earlier(moment: Moment, seconds: float) -> Moment:
    """Return the moment that many seconds before, by both clocks."""
    running = max(0.0, moment.running - seconds)
    return replace(moment, wall=moment.wall - seconds, running=running)
