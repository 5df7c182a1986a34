"""The sliced scan: looks at every watched directory again and again, in short slices.

It finds what no event reports: writes through mmap to a file that stays open, writes through a name
outside the source, and changes whose events were lost. A *round* visits all directories that are
watched when it starts, by their watch descriptors, wherever they are by then; those that are
created later are listed when they get their watch. An entry with a ctime after the start of the
last complete round is a change. So each look finds what happened since the look before.

A shared mapping sets the times of its file only at the first store to a page that is not dirty. Up
to the page's writeback, later stores change nothing but the content. So each file is reported once
more when that time is over, with the hint that its content is new.
"""

import errno
import math
import os
import time
from collections.abc import Callable, Generator, Iterator
from typing import Generic

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset, MutableChangeset
from pylsyncd.model.moments import Moment
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.system import clock
from pylsyncd.watcher.reported_names import ReportedNames
from pylsyncd.watcher.watches import D, Watches, WatchResult

LEAST_ROUND_SECONDS = 60.0
"""A small tree is not looked at more often."""

# Seconds from the first store to a page to its writeback: dirty_expire_centisecs (30 s) and
# dirty_writeback_centisecs (5 s) of proc(5), and some for a slow disk.
_WRITEBACK_SLACK = 60.0

# Seconds: events wait for the end of a slice.
_MAX_SLICE_SECONDS = 0.02

# A slice that waits for a disk may take this many times the share of the processor.
_WAITING_FACTOR = 10.0

# Seconds between two slices of one directory, which is open meanwhile and cannot be unmounted.
_MAX_PAUSE_IN_DIRECTORY = 0.2

_FILES_BETWEEN_CLOCK_READINGS = 128

# Seconds that the difference of the clocks may vary by reading them one after the other.
_CLOCK_NOISE = 0.005

# These tell nothing about the directory: the round is not complete.
_OUT_OF_RESOURCES = frozenset([errno.EMFILE, errno.ENFILE, errno.ENOMEM])

_OVER = object()


class SlicedScan(Generic[D]):
    """The rounds over one source. Used by the thread of the watch manager."""

    def __init__(  # noqa: PLR0913  # the last ones have defaults
        self,
        watches: Watches[D],
        share: float,
        last_round: Moment,
        least_round: float = LEAST_ROUND_SECONDS,
        is_held_back: Callable[[D, bytes], bool] = lambda *_: False,
        *,
        is_continued: bool = True,
    ) -> None:
        """Create it; it takes at most ``share`` of a processor, a number up to 1.0.

        ``is_held_back(watch descriptor, name)`` returns True if a file becomes a change later.
        Unless the rounds of an earlier run are continued, ``last_round`` is the start of the watch:
        what was written before that is left to the initial sync.
        """
        self._slack = _WRITEBACK_SLACK if is_continued else 0.0
        self._is_held_back = is_held_back
        self._watches = watches
        self._share = share
        self._least_round = least_round
        self.reported: ReportedNames[D] = ReportedNames()
        """The names that events report, which a slice need not report again."""
        self.last_round = last_round
        """The start of the last complete round: every directory was looked at since."""
        self._round_start = last_round
        self._round: Generator[None, None, None] | None = None
        self._is_in_directory = False
        self._is_incomplete = False
        # Seconds that remain of the pauses after slices of an open directory.
        self._remaining_pause = 0.0
        self._found = MutableChangeset()
        # By how much the wall clock is ahead of the running one: now, and at least in this round
        # and the last one.
        now = clock.now()
        self._offset = now.wall - now.running
        self._least_offsets = [self._offset, self._offset]
        self._since_ns = 0
        self.due_at = math.inf
        """When the next slice is due, by the monotonic clock."""

    def start(self) -> None:
        """Schedule the first round."""
        self.due_at = time.monotonic() + self._least_round

    def stop(self) -> None:
        """End the round, and close what is open."""
        if self._round is not None:
            self._round.close()

    def run_slice(self, is_polled: Callable[[bytes], bool]) -> Changeset:
        """Look at directories for a short time; return the changes.

        ``is_polled(path)`` returns True for directories that are left to polls.
        """
        started, processor_started = time.monotonic(), time.thread_time()
        self._read_clocks()
        if self._round is None:
            self._start_round()
            self._round = self._look_at_all(is_polled)
        deadline = started + _MAX_SLICE_SECONDS
        while not (is_over := next(self._round, _OVER) is _OVER):
            if time.monotonic() >= deadline:
                break
        elapsed = time.monotonic() - started
        self._schedule(time.thread_time() - processor_started, elapsed)
        if is_over:
            self._end_round()
        found, self._found = self._found, MutableChangeset()
        return found

    def _schedule(self, processor_seconds: float, elapsed: float) -> None:
        self._remaining_pause += max(
            processor_seconds / self._share, elapsed / min(1.0, _WAITING_FACTOR * self._share)
        )
        pause = self._remaining_pause
        if self._is_in_directory:
            pause = min(pause, _MAX_PAUSE_IN_DIRECTORY)
        self._remaining_pause -= pause
        self.due_at = time.monotonic() + pause

    def _start_round(self) -> None:
        self._round_start = clock.now()
        self._is_incomplete = False
        self._least_offsets = [self._least_offsets[-1], self._offset]
        self.reported.start_period()

    def _end_round(self) -> None:
        self._round = None
        if not self._is_incomplete:
            self.last_round = self._round_start
            self._slack = _WRITEBACK_SLACK
        elapsed = clock.now().running - self._round_start.running
        self.due_at = max(self.due_at, time.monotonic() + self._least_round - elapsed)

    def _read_clocks(self) -> None:
        """Find the ctime from which on changes are new, whatever was done to the clock."""
        now, since = clock.now(), self.last_round
        offset = now.wall - now.running
        if offset < self._offset - _CLOCK_NOISE:
            self.reported.clear()
        self._offset = offset
        self._least_offsets[-1] = min(self._least_offsets[-1], offset)
        wall = since.wall
        if since.boot == now.boot:
            wall = min(wall, since.running + min(self._least_offsets))
        self._since_ns = int((wall - self._slack) * 1e9)

    def _look_at_all(self, is_polled: Callable[[bytes], bool]) -> Generator[None, None, None]:
        """Look at all directories, and yield often."""
        tree = self._watches.tree
        missed = []
        for wd in tree.walk():
            if not (yield from self._look_at(wd, is_polled)):
                missed.append(wd)
            yield
        for wd in missed:
            # The events that tell where it is were processed since.
            if wd in tree and not (yield from self._look_at(wd, is_polled)):
                self._is_incomplete |= wd in tree and tree.path(wd) is not None
            yield

    def _look_at(self, wd: D, is_polled: Callable[[bytes], bool]) -> Generator[None, None, bool]:
        """Look at one directory, and yield often; return False if it is not where it should be."""
        path = self._watches.tree.path(wd) if wd in self._watches.tree else None
        if path is None or is_polled(path):
            return path is not None
        try:
            with self._watches.opened_watched(wd) as directory:
                if directory is None:
                    return False
                self._check_directory(directory, wd, path)
                with os.scandir(directory) as entries:
                    yield from self._check_entries(entries, wd)
        except OSError as error:
            # What cannot be opened or listed is an error that rsync reports.
            self._is_incomplete |= error.errno in _OUT_OF_RESOURCES
        finally:
            self._is_in_directory = False
        return True

    def _check_directory(self, directory: int, wd: D, path: bytes) -> None:
        """Report a directory whose names have changed without any event."""
        ctime = os.fstat(directory).st_ctime_ns
        if ctime < self._since_ns or self.reported.has_reported_directory(wd, ctime):
            return
        above, name = paths.split(path)
        parent = self._watches.tree.find(above) if path else None
        if parent is None or not self.reported.has_reported(parent, name, ctime):
            self._found.add(path, Scope.LISTING)

    def _check_entries(
        self, entries: "Iterator[os.DirEntry[str]]", wd: D
    ) -> Generator[None, None, None]:
        names: set[bytes] = set()
        missing: set[bytes] = set()
        for count, entry in enumerate(entries, 1):
            if entry.is_dir(follow_symlinks=False):
                self._check_subdirectory(wd, os.fsencode(entry.name), missing)
            elif self._is_changed(wd, entry):
                names.add(os.fsencode(entry.name))
            if not count % _FILES_BETWEEN_CLOCK_READINGS:
                self._report(wd, names)
                self._is_in_directory = True
                yield
        self._report(wd, names)
        for name in missing:
            self._watch(wd, name)

    def _check_subdirectory(self, wd: D, name: bytes, missing: set[bytes]) -> None:
        tree = self._watches.tree
        is_known = wd not in tree or tree.child(wd, name) is not None
        if not is_known and (wd, name) not in self._watches.unwatched:
            missing.add(name)

    def _is_changed(self, wd: D, entry: "os.DirEntry[str]") -> bool:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            # Its event is queued.
            return False
        except OSError:
            # rsync reports the error.
            return True
        if status.st_ctime_ns < self._since_ns:
            return False
        name = os.fsencode(entry.name)
        return not (self._is_reported(wd, name, status) or self._is_held_back(wd, name))

    def _is_reported(self, wd: D, name: bytes, status: os.stat_result) -> bool:
        if not self.reported.has_reported(wd, name, status.st_ctime_ns):
            return False
        has_old_content = status.st_mtime_ns < self._since_ns
        return has_old_content or self.reported.has_reported_content(wd, name, status.st_mtime_ns)

    def _report(self, wd: D, names: set[bytes]) -> None:
        """Report changed files, under the present name of their directory."""
        path = self._watches.tree.path(wd) if names else None
        if path is not None:
            included = self._watches.included_files(path, names)
            self._found.add_entries(path, included)
            if not self.reported.is_incomplete:
                self._found.new_content.add_entries(path, included)
        names.clear()

    def _watch(self, wd: D, name: bytes) -> None:
        """Watch a subdirectory that has no watch, although no event about it is known."""
        if wd not in self._watches.tree:
            return
        result = self._watches.watch_subtree(wd, name)
        path = self._watches.tree.path(wd)
        if path is not None and result in {WatchResult.WATCHED, WatchResult.UNWATCHABLE}:
            self._found.add(paths.join(path, name), Scope.TREE)
