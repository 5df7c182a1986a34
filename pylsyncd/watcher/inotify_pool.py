"""The inotify instances of the process.

The kernel permits 128 for each user by default. The first sources have an instance each: if its
queue overflows, no other source is concerned. All others share a few instances, so that only the
memory limits the number of sources.
"""

import os
import select
import threading
from collections.abc import Callable

from pylsyncd.model.errors import WatchError
from pylsyncd.system.threads import SupervisedThread, ThreadLimitError
from pylsyncd.watcher import inotify
from pylsyncd.watcher.inotify import Inotify, WatchingInstance
from pylsyncd.watcher.shared_inotify import InotifyShare, SharedInotify

# Together a quarter of what the kernel permits each user by default: other programs need some, too.
MAX_OWN_INSTANCES = 16
MAX_SHARED_INSTANCES = 16

# About 130,000 events, before the next instance has its turn.
_MAX_CHUNKS_PER_TURN = 64


class _OwnInstance(Inotify):
    """An instance of one source alone."""

    def __init__(self, on_close: Callable[[], None]) -> None:
        super().__init__()
        self._on_close = on_close

    def close(self) -> None:
        """Close the instance, which removes all watches."""
        super().close()
        self._on_close()


class InotifyReader(SupervisedThread):
    """The thread that gives the events of shared instances to the sources.

    Like the thread of a watcher, it sleeps after the first event while the kernel collects more.
    """

    def __init__(self, on_failed: Callable[[str], None]) -> None:
        super().__init__("inotify reader", on_failed)
        self._sleep_ms = inotify.queue_seconds() * 1000.0
        self._instances: dict[int, SharedInotify] = {}
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._should_stop = False
        # Unlike those of a poll object, its descriptors may change while a thread waits.
        self._ready = select.epoll()
        self._ready.register(self._wakeup, select.EPOLLIN)
        self._stop_requested = select.poll()
        self._stop_requested.register(self._wakeup, select.POLLIN)

    def add(self, instance: SharedInotify) -> None:
        """Read the events of an instance from now on; any thread may call this."""
        self._instances[instance.descriptor] = instance
        self._ready.register(instance.descriptor, select.EPOLLIN)

    def remove(self, instance: SharedInotify) -> None:
        """Read its events no longer; any thread may call this, before it closes the instance."""
        self._ready.unregister(instance.descriptor)
        del self._instances[instance.descriptor]

    def work(self) -> None:
        """Sleep, read, give, until stopped."""
        while not self._should_stop:
            with self.activity.waiting():
                ready = self._ready.poll()
                self._stop_requested.poll(self._sleep_ms)
            for descriptor, _ in ready:
                self.activity.mark_active()
                # It may have been removed meanwhile.
                if (instance := self._instances.get(descriptor)) is not None:
                    _distribute(instance)

    def stop(self) -> None:
        """Stop the thread, and wait for its end."""
        self._should_stop = True
        os.eventfd_write(self._wakeup, 1)
        if self.ident is not None:
            self.join()
        self._ready.close()
        os.close(self._wakeup)


class InotifyPool:
    """The inotify instances of the process. Thread-safe.

    ``on_started(thread)`` is called for the thread that reads shared instances. It runs while there
    are any.
    """

    def __init__(
        self,
        on_started: Callable[[SupervisedThread], None] = lambda _: None,
        max_own: int = MAX_OWN_INSTANCES,
        max_shared: int = MAX_SHARED_INSTANCES,
    ) -> None:
        self._on_started = on_started
        self._max_own = max_own
        self._max_shared = max_shared
        self._lock = threading.Lock()
        self._own_count = 0
        # One without a source as long as more than one source has an instance of its own: it is
        # there for the others if all instances of the user are taken.
        self._shared: list[SharedInotify] = []
        self._reader: InotifyReader | None = None
        # Called if the reader fails.
        self._failure_callbacks: dict[InotifyShare, Callable[[str], None]] = {}

    def open_instance(self, on_failed: Callable[[str], None]) -> WatchingInstance:
        """Return what a source watches by, which it closes.

        ``on_failed(name)`` is called if the thread fails that reads its events. Raises WatchError
        if there is no inotify instance left, and ThreadLimitError.
        """
        with self._lock:
            if self._own_count and not self._shared:
                self._add_shared()
            if self._own_count < self._max_own:
                try:
                    own = _OwnInstance(self._record_own_closed)
                except WatchError:
                    if not self._shared:
                        raise
                else:
                    self._own_count += 1
                    return own
            return self._open_share(on_failed)

    @property
    def instance_count(self) -> int:
        """The number of instances in the kernel."""
        with self._lock:
            return self._own_count + len(self._shared)

    # With the lock:

    def _open_share(self, on_failed: Callable[[str], None]) -> InotifyShare:
        instance = min(self._shared, key=len, default=None)
        if instance is None or (len(instance) and len(self._shared) < self._max_shared):
            try:
                instance = self._add_shared()
            except WatchError:
                if instance is None:
                    raise
        if self._reader is None:
            self._reader = self._start_reader()
        share = instance.open_share(self._record_share_closed)
        self._failure_callbacks[share] = on_failed
        return share

    def _add_shared(self) -> SharedInotify:
        instance = SharedInotify()
        self._shared.append(instance)
        if self._reader is not None:
            self._reader.add(instance)
        return instance

    def _start_reader(self) -> InotifyReader:
        reader = InotifyReader(self._report_failed_reader)
        for instance in self._shared:
            reader.add(instance)
        try:
            reader.start()
        except ThreadLimitError:
            reader.stop()
            self._close_unused()
            raise
        self._on_started(reader)
        return reader

    def _close_unused(self) -> None:
        """Close the instances without a source, but for the one that is kept."""
        if self._reader is not None and not self._failure_callbacks:
            self._reader.stop()
            self._reader = None
        for instance in [each for each in self._shared if not len(each)]:
            if len(self._shared) == 1 and self._own_count > 1:
                return
            self._shared.remove(instance)
            if self._reader is not None:
                self._reader.remove(instance)
            instance.close()

    # Without it:

    def _record_own_closed(self) -> None:
        with self._lock:
            self._own_count -= 1
            self._close_unused()

    def _record_share_closed(self, share: InotifyShare) -> None:
        with self._lock:
            del self._failure_callbacks[share]
            self._close_unused()

    def _report_failed_reader(self, name: str) -> None:
        for on_failed in list(self._failure_callbacks.values()):
            on_failed(name)


def _distribute(instance: SharedInotify) -> None:
    for _ in range(_MAX_CHUNKS_PER_TURN):
        if not instance.distribute_some():
            return
