"""The aggregation buffer: changes that the watcher has seen since the last flush."""

import threading
import time
from collections.abc import Callable

from pylsyncd.model.changes import MutableChangeset


class Buffer:
    """The changes of the current window, from the watcher's thread to the replication's.

    The first change after a flush opens the window: ``on_opened()`` is called. ``on_filled()`` is
    called once in a window, when it holds ``max_changes`` distinct changes. The adding thread calls
    both, without the lock; they must not block.
    """

    def __init__(
        self, max_changes: int, on_opened: Callable[[], None], on_filled: Callable[[], None]
    ) -> None:
        self._max_changes = max_changes
        self._on_opened = on_opened
        self._on_filled = on_filled
        self._lock = threading.Lock()
        self._changes = MutableChangeset()
        # An upper bound of the number of distinct changes: counting them at each call is slow.
        self._max_size = 0
        self.since: float | None = None
        """When the first change was added, by the monotonic clock; None if there is none."""
        self.is_full = False
        """Whether it has reached ``max_changes``, which ends the window early."""

    def __bool__(self) -> bool:
        return bool(self._changes)

    def __len__(self) -> int:
        """Return an upper bound of the number of distinct changes."""
        return self._max_size

    def add(self, changes: MutableChangeset) -> None:
        """Add changes. The set belongs to the buffer from now on."""
        if not changes:
            return
        with self._lock:
            self._max_size += len(changes)
            is_first = not self._changes
            if is_first:
                self._changes = changes
                self.since = time.monotonic()
            else:
                self._changes.merge(changes)
            has_filled = self._has_filled()
        if is_first:
            self._on_opened()
        if has_filled:
            self._on_filled()

    def take(self) -> MutableChangeset:
        """Remove and return all changes."""
        with self._lock:
            taken, self._changes = self._changes, MutableChangeset()
            self._max_size = 0
            self.since = None
            self.is_full = False
        return taken

    def _has_filled(self) -> bool:
        """Return True if the buffer has just become full."""
        if self.is_full or self._max_size < self._max_changes:
            return False
        self._max_size = len(self._changes)
        self.is_full = self._max_size >= self._max_changes
        return self.is_full
