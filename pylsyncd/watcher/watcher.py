"""The thread that empties the kernel's queue into the buffer, and does nothing else."""

import contextlib
import math
import os
import queue
import select
import threading
import time
from collections.abc import Callable

from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.system import clock
from pylsyncd.system.threads import StoppedError, SupervisedThread
from pylsyncd.watcher import inotify
from pylsyncd.watcher.event_processor import EventProcessor
from pylsyncd.watcher.inotify import Inotify

# Events per second that no writers on a machine of today exceed, with room to spare: two cores
# create and close files on a tmpfs at some 500,000.
_FASTEST = 1_600_000

# Seconds between two times that what came is put into the buffer, unless somebody waits for it.
# Paths are made then, and not for each event of a name.
_COLLECTED_EVERY = 0.25

# Handed to the buffer at least this often, however fast events come: some 130,000 of them.
_CHUNKS_AT_ONCE = 64


class Watcher(SupervisedThread):
    """Reads events until stopped. ``root_lost()`` is called when the source itself has gone.

    Waking for each event would cost more than the event, so after the first one the thread naps
    and lets the kernel collect: for as long as the queue can hold whatever may come meanwhile.
    """

    def __init__(
        self,
        notify: Inotify,
        tracker: EventProcessor,
        buffer: Buffer,
        root_lost: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        super().__init__("watcher", failed)
        self._inotify = notify
        self._tracker = tracker
        self._recovery = tracker.rescanner
        tracker.report_to(self._go_on)
        self._buffer = buffer
        self._root_lost = root_lost
        self._nap = inotify.read_limit("max_queued_events") / _FASTEST * 1000.0
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._awaited: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        self._places: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._stopping = False
        self._collected = -math.inf
        self.complete_until = self._recovery.complete_until
        """The moment before which nothing has changed that is not in the buffer, or was taken."""
        self.last_scan = self._recovery.last_scan
        """When the last scan began whose findings are there, too."""

    def work(self) -> None:
        """Nap, read, hand over, until stopped."""
        events, alarm = select.poll(), select.poll()
        events.register(self._inotify.descriptor, select.POLLIN)
        events.register(self._alarm, select.POLLIN)
        alarm.register(self._alarm, select.POLLIN)
        with contextlib.suppress(StoppedError):
            while not self._stopping:
                with self.activity.waiting():
                    events.poll(self._longest_wait())
                alarm.poll(self._nap)
                self._empty()

    def drain(self, timeout: float) -> bool:
        """Have everything that was reported until now put into the buffer; tell whether it was."""
        done = threading.Event()
        self._awaited.put(done)
        self._wake()
        return done.wait(timeout)

    @property
    def has_missed_events(self) -> bool:
        """Whether the kernel has dropped events that no scan has made up for; any may ask."""
        return self._recovery.has_missed_events

    def rewatch(self, path: bytes) -> None:
        """Have what stands at a path now watched, and looked at as a whole."""
        self._places.put(path)
        self._wake()

    def stop(self) -> None:
        """Stop taking events; returns when the thread has ended.

        A walk that is under way is given up: what it was to find, the next start does.
        """
        self._stopping = True
        self._wake()
        self.join()
        os.close(self._alarm)

    def _go_on(self) -> None:
        """Report that a walk goes on. Raises StoppedError if it need not."""
        self.activity.mark_active()
        if self._stopping:
            raise StoppedError

    def _longest_wait(self) -> float | None:
        """Return the milliseconds until the tracker has to scan, or what came is collected."""
        due = self._recovery.due_at
        if self._tracker.has_changes:
            due = min(self._collected + _COLLECTED_EVERY, math.inf if due is None else due)
        return None if due is None else max(0.0, due - time.monotonic()) * 1000.0

    def _wake(self) -> None:
        os.eventfd_write(self._alarm, 1)

    def _empty(self) -> None:
        awaited = self._what_is_awaited()
        was_lost = self._tracker.is_source_lost
        while not self._places.empty():
            self._tracker.rewatch(self._places.get())
        self._read_all(is_awaited=bool(awaited))
        if not self._tracker.has_changes:
            self.complete_until = self._recovery.complete_until
            self.last_scan = self._recovery.last_scan
        # What came before is in the buffer now, so whoever waits for it may go on.
        if self._tracker.is_source_lost and not was_lost:
            self._root_lost()
        for done in awaited:
            done.set()

    def _what_is_awaited(self) -> list[threading.Event]:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._alarm)
        awaited = []
        while not self._awaited.empty():
            awaited.append(self._awaited.get())
        return awaited

    def _read_all(self, *, is_awaited: bool) -> None:
        """Follow events until there are no more, and scan if that is due."""
        is_empty = False
        while not (is_empty or self._stopping):
            self.activity.mark_active()
            moment = clock.now()
            is_empty = self._read_some()
            is_awaited |= not is_empty or self._tracker.is_source_lost
            is_due = time.monotonic() >= self._collected + _COLLECTED_EVERY
            # The window opens with the first change.
            if is_awaited or is_due or not self._buffer:
                self._collect()
            if is_empty:
                self._recovery.record_empty_queue(moment)
                # A scan takes its time, in which events come.
                is_empty = not self._tracker.scan_if_due()

    def _collect(self) -> None:
        self._buffer.add(self._tracker.take_changes())
        self._collected = time.monotonic()

    def _read_some(self) -> bool:
        """Follow events, but not endlessly many; tell whether the queue was empty at last."""
        for _ in range(_CHUNKS_AT_ONCE):
            chunk = self._inotify.read()
            if not (chunk or self._tracker.has_prefetched_events):
                return True
            self._tracker.process(chunk)
        return False
