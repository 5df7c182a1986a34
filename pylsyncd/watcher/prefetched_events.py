"""The events of a source that were read and not processed yet."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol

from pylsyncd.watcher.inotify import WatchingInstance

# 8 MB, 260,000 events. Beyond that, events stay in the kernel's queue.
_MAX_CHUNKS = 128

# During a walk, the events of more chunks than these are folded, and the rest is united in chunks.
_MAX_UNFOLDED_CHUNKS = 16
_UNITED_SIZE = 1 << 16


class EventFolder(Protocol):
    """What turns events into changes, some of them at once."""

    @property
    def can_fold(self) -> bool:
        """Whether there is room for more names."""

    def fold(self, chunk: bytes) -> bytes:
        """Process what can be processed during a walk; return the other events of a chunk."""


class PrefetchedEvents:
    """The chunks of events that keep the kernel's queue from an overflow, oldest first.

    Used by the thread of the watch manager.
    """

    def __init__(self, inotify_instance: WatchingInstance) -> None:
        self._inotify = inotify_instance
        self._chunks: deque[bytes] = deque()
        self._folder: EventFolder | None = None
        # How many of the chunks, the oldest ones, are what folding has left.
        self._folded_count = 0

    def __bool__(self) -> bool:
        """Return True if events were read that :meth:`take_next` has not returned yet."""
        return bool(self._chunks)

    def fold_by(self, folder: EventFolder) -> None:
        """Have an object process events that are read during a walk, if they are many."""
        self._folder = folder

    def read_during_walk(self) -> None:
        """Empty the kernel's queue; if there are too many events, the rest stays there."""
        while len(self._chunks) < _MAX_CHUNKS and (chunk := self._inotify.read()):
            self._chunks.append(chunk)
            # A writer can add events faster than they are read one by one.
            if not self._inotify.is_full(chunk):
                break
        if len(self._chunks) - self._folded_count > _MAX_UNFOLDED_CHUNKS:
            self._fold()

    def take_next(self) -> bytes:
        """Return the next chunk of events, the oldest one; empty if there are no events.

        The kernel's queue is emptied each time, so that it does not overflow while many events are
        processed.
        """
        while len(self._chunks) < _MAX_CHUNKS:
            chunk = self._inotify.read()
            if chunk:
                self._chunks.append(chunk)
            if not self._inotify.is_full(chunk):
                break
        self._folded_count = max(0, self._folded_count - 1)
        return self._chunks.popleft() if self._chunks else b""

    def _fold(self) -> None:
        if self._folder is not None and self._folder.can_fold:
            chunks = [*self._chunks]
            folded, others = chunks[: self._folded_count], chunks[self._folded_count :]
            self._chunks = deque(folded)
            self._chunks.extend(_united(map(self._folder.fold, others)))
            self._folded_count = len(self._chunks)


def _united(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same events in fewer chunks; none is empty."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        if size and size + len(chunk) > _UNITED_SIZE:
            yield b"".join(parts)
            parts, size = [], 0
        parts.append(chunk)
        size += len(chunk)
    if size:
        yield b"".join(parts)
