"""The thread that moves changes from the kernel's event queue to the buffer."""

import contextlib
import math
import os
import queue
import select
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import NamedTuple

from pylsyncd.model.moments import earliest
from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.system import clock
from pylsyncd.system.threads import StoppedError, SupervisedThread
from pylsyncd.watcher import inotify
from pylsyncd.watcher.event_source import EventSource

# Seconds between two transfers to the buffer, unless a flush waits for one. Paths are built then,
# once for many events of a name.
_COLLECT_INTERVAL = 0.25

# The longest burst of events that is processed before a transfer: about 130,000 events.
_MAX_CHUNKS_PER_READ = 64


class _DrainRequest(NamedTuple):
    """A request to put all changes so far into the buffer."""

    done: Future[None]
    includes_open_files: bool


class Watcher(SupervisedThread):
    """The watcher thread. ``on_source_lost()`` is called when the source itself is gone.

    To wake up for each event costs more than the event. So after the first one the thread sleeps,
    while the kernel collects events, for as long as the queue cannot overflow.
    """

    def __init__(
        self,
        source: EventSource,
        buffer: Buffer,
        on_source_lost: Callable[[], None],
        on_failed: Callable[[str], None],
    ) -> None:
        super().__init__("watcher", on_failed)
        self._descriptor = source.descriptor
        self._processor = source.processor
        self._rescanner = source.rescanner
        self._open_files = source.open_files
        self._buffer = buffer
        self._on_source_lost = on_source_lost
        self._sleep_ms = inotify.queue_seconds() * 1000.0
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._drain_requests: queue.SimpleQueue[_DrainRequest] = queue.SimpleQueue()
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._should_stop = False
        self._last_collect = -math.inf
        self.complete_until = self._rescanner.complete_until
        """The moment before which every change is in the buffer, or was taken from it."""
        self.last_scan = self._rescanner.last_scan
        """When the last periodic scan started whose changes are there, too."""

    def work(self) -> None:
        """Sleep, read, process, until stopped."""
        events, wakeup = select.poll(), select.poll()
        events.register(self._descriptor, select.POLLIN)
        events.register(self._wakeup, select.POLLIN)
        wakeup.register(self._wakeup, select.POLLIN)
        with contextlib.suppress(StoppedError):
            while not self._should_stop:
                with self.activity.waiting():
                    events.poll(self._poll_timeout_ms())
                wakeup.poll(self._sleep_ms)
                self._empty_queue()

    def drain(self, timeout: float, *, includes_open_files: bool = False) -> bool:
        """Wait until all events so far are in the buffer; return False after a timeout.

        Files that were modified and not closed are held back until they are due, unless asked for.
        """
        drained: Future[None] = Future()
        self._drain_requests.put(_DrainRequest(drained, includes_open_files))
        self._wake()
        return bool(wait([drained], timeout).done)

    @property
    def has_missed_events(self) -> bool:
        """Whether the kernel has dropped events that no scan has made up for. Thread-safe."""
        return self._rescanner.has_missed_events

    def request_poll(self, since: float) -> None:
        """Have directories without events scanned soon, if they were not since a monotonic time.

        Thread-safe; a later :meth:`drain` waits for the scan.
        """
        self._rescanner.request_poll(since)
        self._wake()

    def has_polled_since(self, since: float) -> bool:
        """Return True if the directories without events were scanned since a monotonic time.

        Thread-safe. True, too, if each directory sends events.
        """
        return self._rescanner.has_polled_since(since)

    def rewatch(self, path: bytes, *, only_if_replaced: bool = False) -> None:
        """Watch what is at a path now; its whole tree is a change. Thread-safe.

        With ``only_if_replaced``, do so only if what is watched is not there any more.
        """
        self._calls.put(partial(self._processor.rewatch, path, only_if_replaced=only_if_replaced))
        self._wake()

    def set_open_file_times(self, window: float, interval: float) -> None:
        """Use another window and interval for files that are not closed. Thread-safe."""
        self._calls.put(partial(self._open_files.set_times, window, interval))
        self._wake()

    def stop(self) -> None:
        """Stop the thread, if it was started, and wait for its end.

        A walk is aborted: the next start finds what it would have found.
        """
        self._should_stop = True
        if self.ident is not None:
            self._wake()
            self.join()
        os.close(self._wakeup)

    def report_progress(self) -> None:
        """Report, from this thread, that a walk makes progress. Raises StoppedError to abort it."""
        self.activity.mark_active()
        if self._should_stop:
            raise StoppedError

    def _poll_timeout_ms(self) -> float | None:
        """Return the milliseconds until a scan or a transfer to the buffer is due."""
        has_changes = self._processor.has_changes
        due_at = earliest(
            self._processor.due_at,
            self._last_collect + _COLLECT_INTERVAL if has_changes else None,
        )
        return None if due_at is None else max(0.0, due_at - time.monotonic()) * 1000.0

    def _wake(self) -> None:
        os.eventfd_write(self._wakeup, 1)

    def _empty_queue(self) -> None:
        drain_requests = self._take_drain_requests()
        was_lost = self._processor.is_source_lost
        while not self._calls.empty():
            self._calls.get()()
        self._process_all(
            is_drain=bool(drain_requests),
            includes_open_files=any(each.includes_open_files for each in drain_requests),
        )
        self.complete_until = self._processor.update_complete_until()
        if not self._processor.has_changes:
            self.last_scan = self._rescanner.last_scan
        # Only now, when the earlier changes are in the buffer.
        if self._processor.is_source_lost and not was_lost:
            self._on_source_lost()
        for request in drain_requests:
            request.done.set_result(None)

    def _take_drain_requests(self) -> list[_DrainRequest]:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wakeup)
        requests = []
        while not self._drain_requests.empty():
            requests.append(self._drain_requests.get())
        return requests

    def _process_all(self, *, is_drain: bool, includes_open_files: bool) -> None:
        """Process events until the queue is empty, and scan if that is due."""
        is_empty = False
        while not (is_empty or self._should_stop):
            self.activity.mark_active()
            moment = clock.now()
            is_empty = self._process_some()
            is_drain |= not is_empty or self._processor.is_source_lost
            is_due = time.monotonic() >= self._last_collect + _COLLECT_INTERVAL
            # The first change has to open the window at once.
            if is_drain or is_due or not self._buffer:
                self._collect(includes_open_files=includes_open_files)
            if is_empty:
                self._rescanner.record_empty_queue(moment)
                # Events come in during a scan.
                is_empty = not self._processor.scan_if_due()

    def _collect(self, *, includes_open_files: bool) -> None:
        changes = self._processor.take_changes(includes_open_files=includes_open_files)
        self._buffer.add(changes)
        self._last_collect = time.monotonic()

    def _process_some(self) -> bool:
        """Process a limited number of events; return True if the queue was empty at the end."""
        return not all(self._processor.process_next() for _ in range(_MAX_CHUNKS_PER_READ))
