"""Decides when files that were modified and not closed are synced. No I/O: times are arguments.

Such a file is a change when a window has passed without a modification of it, or, while it is
written to without a pause, often enough that its copy is never older than the interval.
"""

import heapq
from collections.abc import Iterable, Mapping
from typing import Generic

from pylsyncd.model.moments import Moment
from pylsyncd.watcher.watches import D

# More files are not held back: they become changes at once, so the memory is bounded.
_MAX_HELD_BACK = 50_000

# Seconds between two searches for the oldest modification.
_OLDEST_INTERVAL = 1.0

# Seconds from a look that is due to the time when it has been made.
_LOOK_DELAY = 0.1

# The queue may have this many entries of files that are no longer held back.
_MAX_STALE_ENTRIES = 1_000


class _OpenFile:
    """A file that is held back, and its modifications since it was last a change."""

    __slots__ = ("complete_until", "first", "last")

    def __init__(self, modified_at: float, complete_until: Moment) -> None:
        self.first = self.last = modified_at
        self.complete_until = complete_until


class OpenFiles(Generic[D]):
    """The files that were modified and not closed since, by watch descriptor and name.

    Times are in seconds of the monotonic clock.
    """

    def __init__(self, window: float, interval: float) -> None:
        self.window = window
        self._interval = interval
        self._files: dict[D, dict[bytes, _OpenFile]] = {}
        self._count = 0
        # A heap. The time of an entry is no later than the one at which its file is due.
        self._queue: list[tuple[float, D, bytes]] = []
        # When the directories were looked at last that do not report modifications.
        self._looked_at: dict[D, float] = {}
        self.next_look = 0.0
        """When they are looked at again."""
        self._oldest: Moment | None = None
        self._oldest_known_until = 0.0

    def __len__(self) -> int:
        return self._count

    def holds_back(self, wd: D, name: bytes) -> bool:
        """Return True if a file is held back: it becomes a change later."""
        return name in self._files.get(wd, ())

    @property
    def due_at(self) -> float | None:
        """The time at which :meth:`take_due` may return a file; None for never."""
        return self._queue[0][0] if self._queue else None

    def set_times(self, window: float, interval: float) -> None:
        """Use another window and interval from now on."""
        self.window, self._interval = window, interval
        self._rebuild_queue()

    def set_looked_at(self, wd: D, now: float | None) -> None:
        """Record when a directory was looked at that does not report modifications.

        What happens in it after a look is unknown until the next one. None stands for a directory
        that reports them again.
        """
        if now is None:
            self._looked_at.pop(wd, None)
        else:
            self._looked_at[wd] = now

    def record(
        self, wd: D, names: Iterable[bytes], modified_at: float, complete_until: Moment
    ) -> None:
        """Record that files were modified.

        They were not modified before the moment ``complete_until``, unless they are held back.
        """
        files = self._files.setdefault(wd, {})
        before = len(files)
        for name in names:
            file = files.get(name)
            if file is not None:
                file.last = max(file.last, modified_at)
                continue
            file = files[name] = _OpenFile(modified_at, complete_until)
            heapq.heappush(self._queue, (self._due_at(file), wd, name))
        added = len(files) - before
        self._count += added
        if not files:
            del self._files[wd]
        if added and (self._oldest is None or complete_until.running < self._oldest.running):
            self._oldest = complete_until

    def discard(self, wd: D, names: Iterable[bytes]) -> set[bytes]:
        """Hold back files no longer, because something else makes them changes; return these."""
        files = self._files.get(wd)
        if files is None:
            return set()
        discarded = files.keys() & names
        for name in discarded:
            del files[name]
        self._count -= len(discarded)
        if not files:
            del self._files[wd]
        if len(self._queue) > 2 * self._count + _MAX_STALE_ENTRIES:
            self._rebuild_queue()
        return discarded

    def take_due(self, now: float) -> Mapping[D, set[bytes]]:
        """Remove and return the files that are due, by watch descriptor."""
        if self._count > _MAX_HELD_BACK:
            return self.take_all()
        due: dict[D, set[bytes]] = {}
        while self._queue and self._queue[0][0] <= now:
            _, wd, name = heapq.heappop(self._queue)
            file = self._files.get(wd, {}).get(name)
            if file is None:
                continue
            if (due_at := self._known_due_at(wd, file, now)) > now:
                heapq.heappush(self._queue, (due_at, wd, name))
                continue
            due.setdefault(wd, set()).add(name)
            self.discard(wd, [name])
        return due

    def take_all(self) -> Mapping[D, set[bytes]]:
        """Remove and return all files, by watch descriptor."""
        files, self._files = self._files, {}
        self._count = 0
        self._queue.clear()
        return {wd: set(names) for wd, names in files.items()}

    def oldest_modification(self, now: float) -> Moment | None:
        """Return a moment before which no file was modified that is held back; None if none is.

        The moment can be a second behind: finding it costs a look at each file.
        """
        if not self._count:
            self._oldest = None
        elif now >= self._oldest_known_until:
            moments = [
                file.complete_until for each in self._files.values() for file in each.values()
            ]
            self._oldest = min(moments, key=lambda moment: moment.running)
            self._oldest_known_until = now + _OLDEST_INTERVAL
        return self._oldest

    def _due_at(self, file: _OpenFile) -> float:
        return min(file.last + self.window, self._latest_due_at(file))

    def _latest_due_at(self, file: _OpenFile) -> float:
        # What is due waits for the end of a window.
        return file.first + max(0.0, self._interval - self.window)

    def _known_due_at(self, wd: D, file: _OpenFile, now: float) -> float:
        """Return when a file is due, as far as its last modification is known."""
        quiet_at = file.last + self.window
        looked_at = self._looked_at.get(wd)
        # Two looks in a window: after a whole one without a modification, it would be too late.
        if looked_at is not None and looked_at < file.last + self.window / 2:
            quiet_at = max(quiet_at, self.next_look, now + _LOOK_DELAY)
        return min(quiet_at, self._latest_due_at(file))

    def _rebuild_queue(self) -> None:
        self._queue = [
            (self._due_at(file), wd, name)
            for wd, files in self._files.items()
            for name, file in files.items()
        ]
        heapq.heapify(self._queue)
