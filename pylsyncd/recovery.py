"""Finds by scans what the events did not tell: what the kernel dropped, and what is not watched."""

import errno
import logging
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from pylsyncd import clock, inotify, paths
from pylsyncd.arming import Arming
from pylsyncd.changes import EVERYTHING, NOTHING, Changes, Changeset
from pylsyncd.logs import counted
from pylsyncd.moments import Moment, distrust
from pylsyncd.overflows import Overflows
from pylsyncd.watchtree import below

log = logging.getLogger(__name__)

# How far the clock of a file server may be behind, in nanoseconds.
_FOREIGN_CLOCK = 60 * 10**9

# How many directories that cannot be watched are named at a time.
_UNWATCHED_SHOWN = 10


POLL_INTERVAL = 60.0
"""Seconds between two looks at what sends no events."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to find besides what events tell."""

    moments: Collection[int] = ()
    """The ctimes in nanoseconds since which changes are to be found at the start."""
    eventless: Collection[bytes] = ()
    """The directories whose file systems do not tell what is changed elsewhere."""
    poll_interval: float = POLL_INTERVAL
    """Seconds between two looks at these, and at what cannot be watched."""

    def every(self, seconds: float) -> "Plan":
        """Return the same plan with another interval."""
        return replace(self, poll_interval=seconds)


class Recovery:
    """Scans when it is due. Used by the thread that the arming belongs to.

    Making one surveys the source. Raises OSError when that is gone.
    """

    def __init__(self, arming: Arming, plan: Plan) -> None:
        self._arming = arming
        self._eventless = tuple(plan.eventless)
        self._interval = plan.poll_interval
        # Every change before it has become one of those that were found, or stands in the events
        # that were followed.
        self._complete = clock.now()
        self._polled = self._complete
        self._overflows = Overflows()
        self._told_unwatched = 0
        self.root_lost = False
        """A scan found that the source is gone, or another one."""
        self.caught_up: Mapping[int, Changes] = arming.survey(plan.moments)
        """What had changed since each of the plan's moments."""
        self._next_poll = time.monotonic() + self._interval
        self.tell_what_is_unwatched()

    @property
    def complete_until(self) -> Moment:
        """The moment before which nothing has changed that was not found."""
        return self._polled if self._polls else self._complete

    @property
    def due(self) -> float | None:
        """When :meth:`attend` has something to do, by the monotonic clock; None for never."""
        times = [self._overflows.due, self._next_poll if self._polls else None]
        return min((at for at in times if at is not None), default=None)

    @property
    def _polls(self) -> bool:
        return bool(self._arming.unwatched or self._eventless)

    def dropped(self) -> None:
        """Take note that the kernel has dropped events."""
        if self._overflows.note(time.monotonic()):
            log.warning(
                "The kernel dropped events: more than fs.inotify.max_queued_events (%d) waited. "
                "The source is scanned for what was missed as soon as they come more slowly.",
                inotify.limit("max_queued_events"),
            )

    def emptied(self, moment: Moment) -> None:
        """Take note that all events that there were at a moment have been followed."""
        if self._overflows.due is None:
            self._complete = moment

    def attend(self) -> Changeset | None:
        """Scan if that is due; return what was found, None when nothing was due."""
        now = time.monotonic()
        due = self._overflows.due
        if due is not None and now >= due:
            return self._catch_up(now)
        if self._polls and now >= self._next_poll:
            return self._poll()
        return None

    def _catch_up(self, began: float) -> Changeset:
        """Find what has changed since the last moment at which nothing was lost."""
        present = clock.now()
        self._overflows.begin()
        doubt = distrust(self._complete, present)
        changes = self._survey(self._complete.since_ns, self._arming.tree.root)
        self._overflows.end(began, time.monotonic())
        if doubt:
            log.warning("Everything is compared, since %s.", doubt)
        elif not self.root_lost:
            log.info("Scanned the source for what was missed: %s.", counted(len(changes), "change"))
        # What is dropped from now on has been changed since the scan began.
        self._complete = present
        return EVERYTHING if doubt else changes

    def _poll(self) -> Changeset:
        present, found = clock.now(), Changes()
        for path in self._eventless:
            top = self._arming.tree.find(path)
            if top is not None:
                # Their servers' clocks stamp the changes.
                found.merge(self._survey(self._polled.since_ns - _FOREIGN_CLOCK, top))
        if self._arming.unwatched:
            found.merge(self._arming.try_again(self._polled.since_ns))
        self._polled = present
        self._next_poll = time.monotonic() + self._interval
        return found

    def _survey(self, moment: int, top: int) -> Changeset:
        try:
            return self._arming.survey([moment], top)[moment]
        except OSError:
            # Gone, or another one: there will be an event about it, unless it is the source.
            self.root_lost |= top == self._arming.tree.root
            return NOTHING

    def tell_what_is_unwatched(self) -> None:
        """Say what cannot be watched, when it is more than was said before."""
        unwatched = self._arming.unwatched
        if len(unwatched) <= self._told_unwatched:
            return
        self._told_unwatched = len(unwatched)
        every = f"looked through every {self._interval:g} s instead"
        lacking = sum(code == errno.ENOSPC for code in unwatched.values())
        if lacking:
            log.error(
                "%s %s not watched but, with all below, %s.",
                inotify.watch_limit_reached(len(self._arming.tree)),
                f"{counted(lacking, 'directory')} {'is' if lacking == 1 else 'are'}", every,
            )  # fmt: skip
        for (parent, name), code in list(unwatched.items())[-_UNWATCHED_SHOWN:]:
            path = below(self._arming.tree, parent, name)
            if code != errno.ENOSPC and path is not None:
                reason = os.strerror(code)
                log.warning("%s cannot be watched (%s): %s.", paths.show(path), reason, every)
