"""The aggregation buffer: what the watcher has seen and no flush has taken yet."""

import threading
import time
from collections.abc import Callable

from pylsyncd.model.changes import MutableChangeset


class Buffer:
    """Collects changes from the watcher's thread until the source's own thread takes them.

    ``opened()`` is called when the first change after a flush comes in: the window opens.
    ``filled()`` is called once in a window, when it holds ``max_changes`` distinct changes.
    Both are called by the thread that adds, without the lock, and must not block.
    """

    def __init__(
        self, max_changes: int, on_opened: Callable[[], None], on_filled: Callable[[], None]
    ) -> None:
        self._max_changes = max_changes
        self._opened = on_opened
        self._filled = on_filled
        self._lock = threading.Lock()
        self._changes = MutableChangeset()
        # No less than the number of distinct changes, which would be slow to count at each call.
        self._at_most = 0
        self.since: float | None = None
        """When the first change came in, by the monotonic clock; None while there is none."""
        self.is_full = False
        """Whether what it holds has reached the number of changes that ends a window early."""

    def __bool__(self) -> bool:
        return bool(self._changes)

    def __len__(self) -> int:
        """Return no less than the number of distinct changes."""
        return self._at_most

    def add(self, changes: MutableChangeset) -> None:
        """Add changes, which from now on belong to the buffer."""
        if not changes:
            return
        with self._lock:
            self._at_most += len(changes)
            opens = not self._changes
            if opens:
                self._changes = changes
                self.since = time.monotonic()
            else:
                self._changes.merge(changes)
            fills = self._fills()
        if opens:
            self._opened()
        if fills:
            self._filled()

    def take(self) -> MutableChangeset:
        """Return what was collected, and start anew."""
        with self._lock:
            taken, self._changes = self._changes, MutableChangeset()
            self._at_most = 0
            self.since = None
            self.is_full = False
        return taken

    def _fills(self) -> bool:
        if self.is_full or self._at_most < self._max_changes:
            return False
        self._at_most = len(self._changes)
        self.is_full = self._at_most >= self._max_changes
        return self.is_full
