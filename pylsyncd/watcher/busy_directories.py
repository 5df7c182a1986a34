"""Bounds what modifications cost: a busy directory is looked at, instead of reporting each of them.

Writers can cause more IN_MODIFY events than one processor can process, and a full queue loses other
events. So a directory whose files are written to again and again loses IN_MODIFY from the mask of
its watch, and its entries are looked at by their ctimes twice a window. It gets IN_MODIFY again
when a look finds nothing, and from time to time.

There is no other way to take IN_MODIFY away than to replace the mask, and while the kernel does
that, it can lose any event of the directory. So the first look afterwards compares all names, too.
"""

import math
import os
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from pylsyncd.model.moments import Moment, earliest_ctime_ns
from pylsyncd.system import clock
from pylsyncd.watcher.open_files import OpenFiles
from pylsyncd.watcher.reported_names import ReportedNames
from pylsyncd.watcher.watch_manager import WatchManager

# Modifications a second, of files that stay open, above which the directories with most of them
# become busy. So many take less than 1 % of a processor.
_MAX_MODIFICATIONS = 5_000
_PERIOD = 1.0

# The part of the modifications that may remain, to reach a lower rate in one step.
_REMAINING_PART = 8

# Seconds in which the queue still has events from before the mask was replaced.
_MAX_EVENT_AGE = 2.0

# Seconds between two rounds of looks, which may take 1 % of a processor.
_MIN_LOOK_INTERVAL = 0.5
_MAX_LOOK_INTERVAL = 30.0
_PAUSE_PER_LOOK_SECOND = 100.0

# Seconds after which a directory gets IN_MODIFY again although it is modified, and how many
# directories do so in a round.
_MAX_BUSY_TIME = 60.0
_MAX_RETRIES_PER_ROUND = 64

_DIRECTORIES_BETWEEN_READS = 32
_FILES_BETWEEN_READS = 4096


class _BusyDirectory:
    """A directory without IN_MODIFY."""

    __slots__ = ("is_idle", "is_new", "looked_until", "since")

    def __init__(self, since: float, looked_until: Moment) -> None:
        self.since = since
        self.looked_until = looked_until
        self.is_new = True
        self.is_idle = False


class Look(NamedTuple):
    """What a look at a directory has found."""

    ctimes: Mapping[bytes, int]
    """The names of changed files."""
    subdirectories: set[bytes] | None
    """All subdirectories, if their names or attributes may have changed; None otherwise."""


class BusyDirectories:
    """The busy directories of one source. Used by the thread of the watch manager."""

    def __init__(
        self, watches: WatchManager, open_files: OpenFiles[int], reported: ReportedNames[int] | None
    ) -> None:
        self._watches = watches
        self._open_files = open_files
        self._reported = reported
        self._busy: dict[int, _BusyDirectory] = {}
        # The modifications in this period, by watch descriptor.
        self._counts: dict[int, int] = {}
        self._total = 0
        self._period_start = 0.0
        self._next_round = 0.0
        # The mask of each was replaced, and no look has made up for that.
        self._new: set[int] = set()
        self.looked_until: Moment | None = None
        """The moment before which all modifications were found; None if no directory is busy."""

    @property
    def due_at(self) -> float | None:
        """When :meth:`look` is due, by the monotonic clock; None for never."""
        if self._new:
            return -math.inf
        return self._next_round if self._busy else None

    def __contains__(self, wd: int) -> bool:
        return wd in self._busy

    def __len__(self) -> int:
        return len(self._busy)

    def record(self, wd: int, modifications: int) -> None:
        """Record events of files that were modified and not closed."""
        self._counts[wd] = self._counts.get(wd, 0) + modifications
        self._total += modifications

    def check(self, now: float) -> None:
        """Take IN_MODIFY from the directories with most modifications, if there are too many."""
        if self._total > _MAX_MODIFICATIONS:
            self._reduce(now)
        elif now < self._period_start + _PERIOD:
            return
        self._counts.clear()
        self._total = 0
        self._period_start = now

    def look(self, moment: Moment, now: float, *, is_early: bool) -> Mapping[int, set[bytes]]:
        """Record the files that were modified in busy directories since the last look.

        Before the round is due, only those are looked at that have just become busy, unless an
        early round is asked for. Every change before ``moment`` was taken or recorded, but for
        these. Returns the subdirectories of each directory that may have changed without an event.
        """
        new, self._new = self._new, set()
        if is_early or now >= self._next_round:
            return self._look_at_all(moment, now)
        compared = self._look_at_some(new, moment, now, ending=set())
        self._update_looked_until()
        return compared

    def _look_at_all(self, moment: Moment, now: float) -> Mapping[int, set[bytes]]:
        used = time.thread_time()
        retries = islice(
            (wd for wd, busy in self._busy.items() if now - busy.since >= _MAX_BUSY_TIME),
            _MAX_RETRIES_PER_ROUND,
        )
        ending = {wd for wd, busy in self._busy.items() if busy.is_idle}.union(retries)
        compared = self._look_at_some(list(self._busy), moment, now, ending)
        self._update_looked_until()
        # A file is due when a look has found no modification for a window.
        interval = min(max(self._open_files.window / 2, _MIN_LOOK_INTERVAL), _MAX_LOOK_INTERVAL)
        pause = _PAUSE_PER_LOOK_SECOND * (time.thread_time() - used)
        self._next_round = self._open_files.next_look = now + max(interval, pause)
        return compared

    def _reduce(self, now: float) -> None:
        rest = self._total
        for number, wd in enumerate(
            sorted(self._counts, key=self._counts.__getitem__, reverse=True)
        ):
            if rest <= _MAX_MODIFICATIONS // _REMAINING_PART:
                break
            rest -= self._counts[wd]
            busy = self._busy.get(wd)
            if busy is None or now >= busy.since + _MAX_EVENT_AGE:
                self._make_busy(wd, now)
            if not number % _DIRECTORIES_BETWEEN_READS:
                self._watches.prefetch_events()
        self._update_looked_until()

    def _make_busy(self, wd: int, now: float) -> None:
        before = clock.now()
        if self._watches.set_reports_modify(wd, is_on=False):
            known = self._busy.pop(wd, None)
            looked_until = before if known is None else known.looked_until
            self._busy[wd] = _BusyDirectory(now, looked_until)
            self._new.add(wd)
            self._open_files.set_looked_at(wd, now)

    def _look_at_some(
        self, wds: Iterable[int], moment: Moment, now: float, ending: set[int]
    ) -> Mapping[int, set[bytes]]:
        compared = {}
        for number, wd in enumerate(wds, 1):
            subdirectories = self._look_at(wd, self._busy[wd], moment, now, is_last=wd in ending)
            if subdirectories is not None:
                compared[wd] = subdirectories
            if not number % _DIRECTORIES_BETWEEN_READS:
                self._watches.prefetch_events()
        return compared

    def _look_at(
        self, wd: int, busy: _BusyDirectory, moment: Moment, now: float, *, is_last: bool
    ) -> set[bytes] | None:
        """Look at one directory; return its subdirectories if it may have changed otherwise."""
        if wd not in self._watches.tree:
            del self._busy[wd]
            self._open_files.set_looked_at(wd, None)
            self._watches.forget_reports_modify(wd)
            return None
        # Then there is no gap: what happens after this is an event.
        if is_last and not self._watches.set_reports_modify(wd, is_on=True):
            return None
        started = clock.now()
        try:
            look = self._list(wd, earliest_ctime_ns(busy.looked_until, started), busy)
        except OSError:
            # The next round tries again. rsync reports the error.
            return None
        if look is None:
            return None
        since = min(busy.looked_until, moment, key=lambda each: each.running)
        self._record(wd, look.ctimes, started, now, since)
        busy.looked_until = started
        busy.is_idle = not look.ctimes and not busy.is_new
        busy.is_new = False
        self._open_files.set_looked_at(wd, None if is_last else now)
        if is_last:
            del self._busy[wd]
        return look.subdirectories

    def _record(
        self, wd: int, ctimes: Mapping[bytes, int], started: Moment, now: float, since: Moment
    ) -> None:
        """Record modifications that a look has found, each with its time."""
        path = self._watches.tree.path(wd)
        if path is None or not ctimes:
            return
        included = self._watches.included_files(path, ctimes)
        for name in included:
            if self._reported is None or not self._reported.has_reported(wd, name, ctimes[name]):
                age = max(0.0, started.wall - ctimes[name] / 1e9)
                self._open_files.record(wd, [name], now - age, since)
        if self._reported is not None:
            self._reported.add(wd, included, int(started.wall * 1e9))

    def _list(self, wd: int, since_ns: int, busy: _BusyDirectory) -> Look | None:
        """Return what has changed in a directory; None if it is not where it should be."""
        ctimes, subdirectories = {}, set()
        with self._watches.opened_watched(wd) as directory:
            if directory is None:
                return None
            has_changed = os.fstat(directory).st_ctime_ns >= since_ns
            with os.scandir(directory) as entries:
                for number, entry in enumerate(entries, 1):
                    if entry.is_dir(follow_symlinks=False):
                        subdirectories.add(os.fsencode(entry.name))
                        has_changed |= busy.is_new and _ctime(entry) >= since_ns
                    elif (ctime := _ctime(entry)) >= since_ns:
                        ctimes[os.fsencode(entry.name)] = ctime
                    if not number % _FILES_BETWEEN_READS:
                        self._watches.prefetch_events()
        should_compare = has_changed and busy.is_new
        return Look(ctimes, subdirectories if should_compare else None)

    def _update_looked_until(self) -> None:
        moments = (busy.looked_until for busy in self._busy.values())
        self.looked_until = min(moments, key=lambda moment: moment.running, default=None)


def _ctime(entry: "os.DirEntry[str]") -> int:
    """Return the ctime of an entry in nanoseconds; 0 if it is gone."""
    try:
        return entry.stat(follow_symlinks=False).st_ctime_ns
    except OSError:
        return 0
