"""Finds by scans what the events did not tell: what the kernel dropped, and what is not watched."""

import errno
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from pylsyncd.config.settings import DEFAULT_POLL_INTERVAL
from pylsyncd.model import paths
from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset, MutableChangeset
from pylsyncd.model.formatting import format_count
from pylsyncd.model.moments import Moment, reason_to_distrust
from pylsyncd.system import clock
from pylsyncd.watcher import inotify
from pylsyncd.watcher.overflow_backoff import OverflowBackoff
from pylsyncd.watcher.watch_manager import WatchManager
from pylsyncd.watcher.watch_tree import child_path

log = logging.getLogger(__name__)

# How many seconds the clock of a file server may be behind.
_FOREIGN_CLOCK = 60.0

# Seconds after a start before a scan that is overdue.
_FIRST_SCAN_AFTER = 60.0

# How many directories that cannot be watched are named at a time.
_UNWATCHED_SHOWN = 10


@dataclass(frozen=True, slots=True)
class RescanPlan:
    """What there is to find besides what events tell."""

    since_ns: Collection[int] = ()
    """The ctimes in nanoseconds since which changes are to be found at the start."""
    eventless_directories: Collection[bytes] = ()
    """The directories whose file systems do not tell what is changed elsewhere."""
    poll_interval: float = DEFAULT_POLL_INTERVAL
    """Seconds between two looks at these, and at what cannot be watched."""
    scan_interval: float = 0.0
    """Seconds between two scans that nothing gives cause for; 0.0 for none."""
    last_scan: Moment | None = None
    """When the last of these began, in an earlier run; None if there is no need to look so far."""
    on_progress: Callable[[int], None] = lambda _: None
    """Called now and then during the first survey, with the number of directories watched."""


class Rescanner:
    """Scans when it is due. Used by the thread that the arming belongs to.

    Making one surveys the source. Raises OSError when that is gone.
    """

    def __init__(self, arming: WatchManager, plan: RescanPlan) -> None:
        self._arming = arming
        self.eventless_directories = tuple(plan.eventless_directories)
        """See the plan; another thread may set it when others are mounted."""
        self._interval = plan.poll_interval
        # Every change before it has become one of those that were found, or stands in the events
        # that were followed.
        self._complete = clock.now()
        self._polled = self._complete
        self._overflows = OverflowBackoff()
        # Read now: when events are dropped there may be no descriptor left.
        self._longest_queue = inotify.read_limit("max_queued_events")
        self._told_lacking = 0
        self._is_scanning = False
        self.is_source_lost = False
        """A scan found that the source is gone, or another one."""
        arming.on_progress = lambda: plan.on_progress(len(arming.tree))
        self.catchup_changes: Mapping[int, MutableChangeset] = arming.scan(plan.since_ns)
        """What had changed since each of the plan's moments."""
        self._next_poll = time.monotonic() + self._interval
        self._scan_interval = plan.scan_interval
        self.last_scan = plan.last_scan or self._complete
        """When the last scan began that looked for what no event has told."""
        self._next_scan = self._scan_after_interval()
        if self._next_scan is not None:
            waited = min(max(0.0, self._complete.wall - self.last_scan.wall), self._scan_interval)
            self._next_scan -= max(0.0, waited - _FIRST_SCAN_AFTER)
        self.log_unwatched()

    @property
    def complete_until(self) -> Moment:
        """The moment before which nothing has changed that was not found.

        The times of change that come later are not before it, whoever's clock stamps them.
        """
        if self.eventless_directories:
            return _earlier(self._polled, _FOREIGN_CLOCK)
        return self._polled if self._polls else self._complete

    @property
    def due_at(self) -> float | None:
        """When :meth:`attend` has something to do, by the monotonic clock; None for never."""
        times = [self._overflows.due_at, self._next_scan, self._next_poll if self._polls else None]
        return min((at for at in times if at is not None), default=None)

    @property
    def overflow_count(self) -> int:
        """How often the kernel has dropped events."""
        return self._overflows.count

    @property
    def has_missed_events(self) -> bool:
        """Whether the kernel has dropped events, and no scan has begun since."""
        return self._overflows.due_at is not None

    @property
    def is_scan_pending(self) -> bool:
        """Whether a scan of the whole source is going on, or will be soon."""
        return self._is_scanning or self.has_missed_events

    @property
    def _polls(self) -> bool:
        return bool(self._arming.unwatched or self.eventless_directories)

    def record_overflow(self) -> None:
        """Take note that the kernel has dropped events."""
        if self._overflows.record_overflow(time.monotonic()):
            log.warning(
                "The kernel dropped events: more than fs.inotify.max_queued_events (%d) waited. "
                "The source is scanned for what was missed as soon as they come more slowly.",
                self._longest_queue,
            )

    def record_empty_queue(self, moment: Moment) -> None:
        """Take note that all events that there were at a moment have been followed."""
        if self._overflows.due_at is None:
            self._complete = moment

    def scan_if_due(self) -> Changeset | None:
        """Scan if that is due; return what was found, None when nothing was due."""
        now = time.monotonic()
        due = self._overflows.due_at
        if due is not None and now >= due:
            return self._catch_up(now)
        if self._polls and now >= self._next_poll:
            return self._poll()
        if self._next_scan is not None and now >= self._next_scan:
            return self._look_through()
        return None

    def _scan_after_interval(self) -> float | None:
        return time.monotonic() + self._scan_interval if self._scan_interval else None

    def _look_through(self) -> Changeset:
        """Find what has changed since the last time, whether there were events or not."""
        then, present = self.last_scan, clock.now()
        since = then
        if then.boot == present.boot:
            # A clock that was set back has stamped what came later with the earlier times.
            elapsed = present.running - then.running
            since = replace(then, wall=min(then.wall, present.wall - elapsed))
        changes = self._survey(since.since_ns, self._arming.tree.root_wd)
        self._next_scan = self._scan_after_interval()
        if changes is None:
            self.is_source_lost = True
            return NOTHING
        self.last_scan = present
        log.debug("Looked through the source: %s.", format_count(len(changes), "change"))
        return changes

    def _catch_up(self, began: float) -> Changeset:
        """Find what has changed since the last moment at which nothing was lost."""
        present = clock.now()
        self._is_scanning = True
        self._overflows.record_scan_start()
        # What is polled may find a watch now, and was looked at no later than at the last poll.
        since = min(self._complete, self.complete_until, key=lambda moment: moment.wall)
        doubt = reason_to_distrust(since, present)
        changes = self._survey(since.since_ns, self._arming.tree.root_wd)
        if changes is None:
            self.is_source_lost = True
        self._overflows.record_scan_end(began, time.monotonic())
        self._is_scanning = False
        if doubt:
            log.warning("Everything is compared, since %s.", doubt)
        elif changes is not None:
            log.info(
                "Scanned the source for what was missed: %s.", format_count(len(changes), "change")
            )
        # What is dropped from now on has been changed since the scan began.
        self._complete = present
        return EVERYTHING if doubt else changes or NOTHING

    def _poll(self) -> Changeset:
        present, found, is_complete = clock.now(), MutableChangeset(), True
        # Their servers' clocks stamp the changes.
        moment = _earlier(self._polled, _FOREIGN_CLOCK).since_ns
        for path in self.eventless_directories:
            top = self._arming.tree.find(path)
            changes = self._survey(moment, top) if top is not None else NOTHING
            is_complete &= changes is not None
            found.merge(changes or NOTHING)
        if self._arming.unwatched:
            found.merge(self._arming.retry_unwatched(self._polled.since_ns))
        if not self._arming.unwatched:
            self._told_lacking = 0
        if is_complete:
            # Otherwise the next poll looks for what this one could not see.
            self._polled = present
        self._next_poll = time.monotonic() + self._interval
        return found

    def _survey(self, moment: int, top: int) -> Changeset | None:
        """Return what has changed in a directory and below; None if it is not to be found."""
        try:
            return self._arming.scan([moment], top)[moment]
        except OSError:
            return None

    def log_unwatched(self) -> None:
        """Say what cannot be watched, each directory once, and a lack of watches as it doubles."""
        newly, self._arming.newly_unwatched = self._arming.newly_unwatched, []
        if not newly:
            return
        unwatched = self._arming.unwatched
        every = f"looked through every {self._interval:g} s instead"
        lacking = sum(code == errno.ENOSPC for code in unwatched.values())
        if lacking >= max(1, 2 * self._told_lacking):
            self._told_lacking = lacking
            log.error(
                "%s %s not watched but, with all below, %s.",
                inotify.watch_limit_message(len(self._arming.tree)),
                f"{format_count(lacking, 'directory')} {'is' if lacking == 1 else 'are'}", every,
            )  # fmt: skip
        refused = [key for key in newly if unwatched.get(key, errno.ENOSPC) != errno.ENOSPC]
        for parent, name in refused[:_UNWATCHED_SHOWN]:
            path = child_path(self._arming.tree, parent, name)
            if path is not None:
                reason = os.strerror(unwatched[parent, name])
                log.warning("%s cannot be watched (%s): %s.", paths.printable(path), reason, every)
        if len(refused) > _UNWATCHED_SHOWN:
            log.warning("... and %d more.", len(refused) - _UNWATCHED_SHOWN)


def _earlier(moment: Moment, seconds: float) -> Moment:
    """Return a moment that many seconds before, as both clocks tell it."""
    return Moment(moment.wall - seconds, max(0.0, moment.running - seconds), moment.boot)
