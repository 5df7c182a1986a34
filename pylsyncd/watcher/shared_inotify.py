"""One inotify instance whose watches belong to several sources.

The kernel has one watch for each directory of an instance, whichever source asks for it. So sources
that overlap, or reach a directory through bind mounts, hold the same watch: its events go to all
holders, and it is removed with the last one.

Any thread reads the events and gives each to its holders, under one lock. What can take long is
done without the lock: a call that names a directory waits for its file system.
"""

import errno
import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from pylsyncd.watcher import inotify
from pylsyncd.watcher.inotify import Inotify

# 8 MB, 260,000 events, for each source. Beyond that it misses events, and is scanned.
_MAX_QUEUED_BYTES = 1 << 23

# What is kept of the events that arrive while directories are added.
_MAX_KEPT_BYTES = 1 << 20

_MAX_CHUNK_SIZE = 1 << 16

# While the lock is held: the events that come in meanwhile must fit into the kernel's queue.
_MAX_REMOVALS_AT_ONCE = 256

# Descriptor, mask and length of the name.
_HEADER = struct.Struct("iI4xI")

# The descriptor of the event that events were dropped.
_NO_WATCH = -1
_OVERFLOW_EVENT = inotify.EVENT_HEADER.pack(_NO_WATCH, inotify.OVERFLOW, 0, 0)


class InotifyShare:
    """The part that one source has of a shared instance, with an event queue of its own.

    Like an instance, it is used by one thread at a time.
    """

    def __init__(
        self, instance: "SharedInotify", on_close: Callable[["InotifyShare"], None]
    ) -> None:
        self.instance = instance
        self._on_close = on_close
        self.alone = (self,)
        """The holders of a watch that no other source holds."""
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # With the lock of the instance:
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._is_readable = False
        self._has_overflowed = False

    def add_watch(self, directory: int) -> int:
        """Watch an open directory and return its watch descriptor, the same each time.

        Raises OSError, with ENOSPC at the limit of watches.
        """
        return self.instance.add_watch(self, directory)

    def add_watch_at(self, directory: int, name: bytes) -> int:
        """Watch the subdirectory of a name in an open directory, likewise; no symlink."""
        return self.instance.add_watch_at(self, directory, name)

    def remove_modify(self, directory: int) -> None:
        """Have a watched directory, given by descriptor, report modifications no longer.

        Raises OSError, with EBUSY if another source needs them.
        """
        self.instance.remove_modify(self, directory)

    def identify(self, directory: int) -> int:
        """Return the watch descriptor of an open directory, with a new watch if it had none."""
        return self.instance.identify(self, directory)

    def remove_watch(self, wd: int) -> None:
        """Stop watching; no error if the kernel has removed the watch already."""
        self.instance.remove_watch(self, wd)

    def read(self) -> bytes:
        """Return a chunk of whole events, or b"" if there are none in the kernel's queue either."""
        with self.instance.lock:
            if not self._chunks:
                self.instance.distribute_all()
            return self._take()

    def is_full(self, _chunk: bytes) -> bool:
        """Return True if more events may have been in the queue when a chunk was read."""
        return bool(self._chunks)

    def pending_bytes(self) -> int:
        """Return the number of bytes in the event queue."""
        with self.instance.lock:
            self.instance.distribute_all()
            return self._size

    def close(self) -> None:
        """Remove all watches."""
        self.instance.leave(self)
        os.close(self.descriptor)
        self._on_close(self)

    def put(self, events: bytes) -> None:
        """Add events to the queue; with the lock of the instance."""
        if self._size + len(events) > _MAX_QUEUED_BYTES:
            self.put_overflow()
            return
        self._has_overflowed = False
        self._append(events)

    def put_overflow(self) -> None:
        """Add the event that events were dropped, once; with the lock of the instance."""
        if not self._has_overflowed:
            self._has_overflowed = True
            self._append(_OVERFLOW_EVENT)

    def _append(self, events: bytes) -> None:
        self._chunks.append(events)
        self._size += len(events)
        if not self._is_readable:
            self._is_readable = True
            os.eventfd_write(self.descriptor, 1)

    def _take(self) -> bytes:
        taken, size = [], 0
        while self._chunks and size + len(self._chunks[0]) <= _MAX_CHUNK_SIZE:
            taken.append(self._chunks.popleft())
            size += len(taken[-1])
        self._size -= size
        if not self._chunks and self._is_readable:
            self._is_readable = False
            os.eventfd_read(self.descriptor)
        return taken[0] if len(taken) == 1 else b"".join(taken)


class SharedInotify:
    """An inotify instance for several sources. Raises WatchError if there is none left."""

    def __init__(self) -> None:
        self._inotify = Inotify()
        self.descriptor = self._inotify.descriptor
        self.lock = threading.Lock()
        """Held while events are read and given to their holders."""
        self._is_closed = False
        self._shares: list[InotifyShare] = []
        self._holders: dict[int, tuple[InotifyShare, ...]] = {}
        # The watch that an add returns may be gone before it has its holder, or with another mask:
        # then one of these has changed meanwhile, and it is added again.
        self._removal_count = 0
        self._mask_count = 0
        # Chunks are numbered as they are kept, while adds are under way: the number of the next one
        # when each add began, the chunks since the first add, and the number of the first one kept.
        self._adding: dict[object, int] = {}
        self._kept: deque[bytes] = deque()
        self._kept_size = 0
        self._first_kept = 0

    def __len__(self) -> int:
        return len(self._shares)

    def open_share(self, on_close: Callable[[InotifyShare], None] = lambda _: None) -> InotifyShare:
        """Return the part of one more source, which closes it; ``on_close(it)`` is called then."""
        share = InotifyShare(self, on_close)
        with self.lock:
            self._shares.append(share)
        return share

    def close(self) -> None:
        """Close the instance, which removes all watches."""
        with self.lock:
            self._is_closed = True
            self._inotify.close()

    def distribute_some(self) -> bool:
        """Read a chunk of events for their holders; return True if there may be more."""
        with self.lock:
            chunk = self._distribute()
        return self._inotify.is_full(chunk)

    def distribute_all(self) -> None:
        """Read all events that are in the kernel's queue now; with the lock.

        Not those that come in meanwhile: they may be those of another source.
        """
        pending = 0 if self._is_closed else self._inotify.pending_bytes()
        while pending > 0 and (chunk := self._distribute()):
            pending -= len(chunk)

    def add_watch(self, share: InotifyShare, directory: int) -> int:
        """Watch an open directory for a source."""
        return self._hold(share, partial(self._inotify.add_watch, directory))

    def add_watch_at(self, share: InotifyShare, directory: int, name: bytes) -> int:
        """Watch the subdirectory of a name in an open directory for a source."""
        return self._hold(share, partial(self._inotify.add_watch_at, directory, name))

    def identify(self, share: InotifyShare, directory: int) -> int:
        """Return the watch descriptor of an open directory; the source holds the watch."""
        return self._hold(share, partial(self._inotify.identify, directory))

    def remove_watch(self, share: InotifyShare, wd: int) -> None:
        """Have a source hold a watch no longer; remove it with the last holder."""
        with self.lock:
            self._remove_holder(share, wd)

    def remove_modify(self, share: InotifyShare, directory: int) -> None:
        """Have a directory report modifications no longer, unless another source holds its watch.

        The kernel loses events while it replaces a mask.
        """
        wd = self.identify(share, directory)
        with self.lock:
            if self._holders.get(wd, share.alone) != share.alone:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        try:
            self._inotify.remove_modify(directory)
        finally:
            with self.lock:
                self._mask_count += 1
                others = [each for each in self._holders.get(wd, ()) if each is not share]
                for each in others:
                    each.put_overflow()
        if others:
            # One has come meanwhile.
            self._inotify.add_watch(directory)
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def leave(self, share: InotifyShare) -> None:
        """Remove a source with all that only it watches."""
        with self.lock:
            self._shares.remove(share)
            held = [wd for wd, holders in self._holders.items() if share in holders]
        for start in range(0, len(held), _MAX_REMOVALS_AT_ONCE):
            with self.lock:
                for wd in held[start : start + _MAX_REMOVALS_AT_ONCE]:
                    self._remove_holder(share, wd)

    # With the lock:

    def _remove_holder(self, share: InotifyShare, wd: int) -> None:
        holders = self._holders.get(wd, ())
        if share not in holders:
            return
        rest = tuple(each for each in holders if each is not share)
        if rest:
            self._holders[wd] = rest[0].alone if len(rest) == 1 else rest
            return
        del self._holders[wd]
        self._removal_count += 1
        self._inotify.remove_watch(wd)

    def _distribute(self) -> bytes:
        """Read a chunk of events, give them to their holders, and return it."""
        chunk = b"" if self._is_closed else self._inotify.read()
        if chunk and self._adding:
            self._kept.append(chunk)
            self._kept_size += len(chunk)
            while self._kept_size > _MAX_KEPT_BYTES:
                self._forget_first()
        self._split(chunk)
        return chunk

    def _split(self, chunk: bytes) -> None:
        """Give each part of a chunk to the holders of its watches."""
        all_holders, unpack, size = self._holders, _HEADER.unpack_from, _HEADER.size
        special = inotify.IGNORED | inotify.OVERFLOW
        start, position, end = 0, 0, len(chunk)
        receivers: tuple[InotifyShare, ...] = ()
        while position < end:
            wd, mask, length = unpack(chunk, position)
            holders = all_holders.get(wd, ())
            if mask & special:
                if mask & inotify.OVERFLOW:
                    holders = tuple(self._shares)
                # The kernel has removed the watch.
                all_holders.pop(wd, None)
            if holders != receivers:
                for each in receivers:
                    each.put(chunk[start:position])
                start, receivers = position, holders
            position += size + length
        for each in receivers:
            each.put(chunk[start:])

    def _forget_first(self) -> None:
        self._kept_size -= len(self._kept.popleft())
        self._first_kept += 1

    # Without it:

    def _hold(self, share: InotifyShare, add: Callable[[], int]) -> int:
        """Add a watch, and have a source hold it when that returns.

        Not under the lock, since the file system of the directory may not respond. So another
        source may remove the same watch before this one holds it: then it is added once more.
        """
        previous = _NO_WATCH
        while True:
            key = object()
            with self.lock:
                removal_count, mask_count = self._removal_count, self._mask_count
                self._adding[key] = self._first_kept + len(self._kept)
            try:
                wd = add()
            except OSError:
                with self.lock:
                    self._end_add(key)
                    self._remove_holder(share, previous)
                raise
            with self.lock:
                self._add_holder(share, wd, self._adding[key])
                self._end_add(key)
                is_alive = wd == previous or removal_count == self._removal_count
                if is_alive and mask_count == self._mask_count:
                    return wd
            previous = wd

    def _end_add(self, key: object) -> None:
        del self._adding[key]
        first = min(self._adding.values(), default=self._first_kept + len(self._kept))
        while self._first_kept < first:
            self._forget_first()

    def _add_holder(self, share: InotifyShare, wd: int, first: int) -> None:
        """Have a source hold a watch, and get its events since the chunk of a number."""
        holders = self._holders.get(wd, ())
        if share in holders:
            return
        self._holders[wd] = (*holders, share) if holders else share.alone
        if first < self._first_kept:
            share.put_overflow()
            return
        for number in range(first - self._first_kept, len(self._kept)):
            for event, mask in _events_of(self._kept[number], wd):
                share.put(event)
                if mask & inotify.IGNORED:
                    self._holders.pop(wd, None)


def _events_of(chunk: bytes, wd: int) -> Iterator[tuple[bytes, int]]:
    """Yield the events of one watch in a chunk, with their masks."""
    position = 0
    while position < len(chunk):
        found, mask, length = _HEADER.unpack_from(chunk, position)
        after = position + _HEADER.size + length
        if found == wd:
            yield chunk[position:after], mask
        position = after
