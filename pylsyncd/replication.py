"""One source with its destinations: wires the five stages together, and runs them.

    kernel -> 1 watcher -> 2 buffer -> 3 optimizer -> 4 work queue -> 5 worker -> rsync

Each destination has a queue and a worker of its own.
"""

import logging
import math
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, TypeVar

from pylsyncd import __version__
from pylsyncd.config.settings import SyncSettings
from pylsyncd.flusher import Flush, Flusher
from pylsyncd.model import paths
from pylsyncd.model.changes import NOTHING, Changeset
from pylsyncd.model.errors import PylsyncdError, UsageError, WatchError
from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.system import clock, walk
from pylsyncd.system.inbox import Call, MessageQueue
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.threads import StoppedError, SupervisedThread, ThreadMonitor
from pylsyncd.watcher.inotify_pool import InotifyPool
from pylsyncd.watcher.source_guard import SourceGuard, SourceState
from pylsyncd.watcher.source_monitor import SourceMonitor
from pylsyncd.watcher.source_wait import SourceWait
from pylsyncd.watcher.watch_session import MonitorContext
from pylsyncd.worker.pool import STOP_GRACE_PERIOD, WorkerPool
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.start_plan import catchup_times, deferrable_since
from pylsyncd.worker.worker import Worker

log = logging.getLogger(__name__)

STOP_SIGNALS = frozenset([signal.SIGTERM, signal.SIGINT])

# Seconds between two checks of the source, and before the check after the source was lost: a
# program that replaces the source has removed the old one and not yet put the new one in place.
_SOURCE_CHECK_INTERVAL = 2.0
_SOURCE_LOST_CHECK_DELAY = 0.2

Result = TypeVar("Result")


class ReplicationState(Enum):
    """How far a replication has come."""

    STARTING = auto()
    """Its watches are not complete."""
    WAITING = auto()
    """Its source is missing, or the file system of its source is not mounted."""
    RUNNING = auto()
    """It watches its source, and each worker has its first work item."""
    START_FAILED = auto()
    """It ended with a failure before it was running."""
    STOPPED = auto()
    """It ended without a failure."""
    FAILED = auto()
    """It ended because a thread failed, or, with ``once``, with changes pending."""

    @property
    def is_ready(self) -> bool:
        """True once the start of the daemon need not wait for the replication."""
        return self not in {ReplicationState.STARTING, ReplicationState.START_FAILED}

    @property
    def has_failed(self) -> bool:
        """True if the replication has ended with a failure."""
        return self in {ReplicationState.START_FAILED, ReplicationState.FAILED}

    @property
    def has_ended(self) -> bool:
        """True if the replication does nothing any more."""
        return self is ReplicationState.STOPPED or self.has_failed


class Wakeup(Enum):
    """What wakes the thread of a replication, besides signals and calls."""

    FIRST_CHANGE = auto()
    BUFFER_FULL = auto()
    SOURCE_LOST = auto()
    SCANNED = auto()
    WORKER_FAILED = auto()
    THREAD_FAILED = auto()


@dataclass(frozen=True, slots=True)
class ReplicationContext:
    """What the replications of a process share, and the callbacks that they report to."""

    thread_monitor: ThreadMonitor
    resources: SharedResources
    on_state_changed: Callable[[str], None]
    """Called with a replication's name when it is ready, and when it has ended."""
    on_watch_progress: Callable[[str, int], None] = lambda *_: None
    """Called with the title and the number of directories while watches are added."""
    on_watching: Callable[[str], None] = lambda _: None
    """Called with the title when all watches are in place."""
    should_count_events: bool = False
    once: bool = False
    waits_for_source: bool = False
    """Whether a source that is missing at the start is waited for."""
    find_conflict: Callable[[SyncSettings], str] = lambda _: ""
    """Returns why a sync must not read the directory that its source leads to now."""
    inotify_pool: InotifyPool = field(default_factory=InotifyPool)
    """The inotify instances of the process."""


class Replication(SupervisedThread):
    """A thread that keeps the destinations of one source up to date.

    The constructor locks the destinations. Raises UsageError if the state directory is unusable, or
    another pylsyncd serves a destination. A ``predecessor`` has ended, and is continued.
    """

    def __init__(
        self,
        sync: SyncSettings,
        context: ReplicationContext,
        predecessor: "Replication | None" = None,
    ) -> None:
        super().__init__(sync.name or "replication", lambda _: self._end(has_failed=True))
        self.sync = sync
        self.state = ReplicationState.STARTING
        self.error: PylsyncdError | None = None
        """The error that ended it."""
        self.starting_since = time.monotonic()
        self._shared = context
        self._shown = paths.printable(sync.source.path)
        self.needs_initial_sync: bool = predecessor is None or predecessor.needs_initial_sync
        """True until the initial sync is in all queues; then only new destinations get one."""
        self._has_failed = False
        self._stop_deadline = math.inf
        self._next_source_check = math.inf
        self._inbox: MessageQueue[Wakeup | Call[Any] | signal.Signals] = MessageQueue()
        wake = self._inbox.put
        self._guard = SourceGuard(sync.source.path, sync.rules)
        # Stage 1, the watcher thread of the source monitor, fills stage 2, the buffer.
        self._buffer = Buffer(
            sync.max_changes,
            on_opened=lambda: wake(Wakeup.FIRST_CHANGE),
            on_filled=lambda: wake(Wakeup.BUFFER_FULL),
        )
        self.source_monitor = SourceMonitor(
            sync, self._guard, self._buffer,
            MonitorContext(
                context.thread_monitor,
                on_source_lost=lambda: wake(Wakeup.SOURCE_LOST),
                on_failed=lambda _: wake(Wakeup.THREAD_FAILED),
                on_progress=lambda count: context.on_watch_progress(self.title, count),
                on_scanned=lambda: wake(Wakeup.SCANNED),
                mask_counts=Counter() if context.should_count_events else None,
                inotify_pool=context.inotify_pool,
            ),
        )  # fmt: skip
        # Stage 3: the flusher empties the buffer at the end of a window, optimizes the changes, and
        # fills the queues.
        self.flusher = Flusher(
            sync, self._buffer, self.source_monitor, lambda: self.workers, self._check_deadline
        )
        # Stages 4 and 5: for each destination a work queue, and a worker thread that runs rsync.
        try:
            self._pool = WorkerPool(
                sync, self._guard, lambda _: wake(Wakeup.WORKER_FAILED), context.resources,
                count_directories=lambda: self.source_monitor.directory_count,
                on_progress=self._check_deadline,
            )  # fmt: skip
        except BaseException:
            self._guard.close()
            raise
        self._source_wait = SourceWait(
            self._guard, self._pool.saved_mount_points,
            waits_if_missing=context.waits_for_source and not context.once,
            find_conflict=lambda: context.find_conflict(sync),
        )  # fmt: skip
        if predecessor is not None and predecessor.sync.source.path == sync.source.path:
            self._pool.take_over(predecessor.locations, predecessor.paused_locations)

    # For other threads:

    def handle_signal(self, number: signal.Signals) -> None:
        """Take a signal that was sent to the process."""
        if number in STOP_SIGNALS:
            is_first = self._stop_deadline == math.inf
            self._stop_deadline = time.monotonic() + (STOP_GRACE_PERIOD if is_first else 0.0)
        self._inbox.put(number)

    def submit(self, function: Callable[[], Result]) -> "Future[Result]":
        """Have the replication's thread run a function.

        The future is cancelled if the replication ends, or waits for its source.
        """
        call = Call(function)
        self._inbox.put(call)
        if self.state.has_ended:
            self._inbox.cancel_calls()
        return call.future

    def set_paused(self, names: Collection[str], *, is_paused: bool) -> None:
        """Pause the runs of rsync to some destinations, or resume them."""
        self._pool.set_paused(names, is_paused=is_paused)

    @property
    def exit_status(self) -> int:
        """The exit status of the process as far as this replication is concerned."""
        return int(self._has_failed or self.state.has_failed)

    def find_hold_reason(self) -> str:
        """Check the source of a running replication; return why it has to be held, or "" if not."""
        if self.state is not ReplicationState.RUNNING:
            return ""
        state, reason = self._guard.check_state()
        return reason if state is SourceState.HELD else ""

    @property
    def missing_source(self) -> str:
        """Why the source that it waits for cannot be used, as the end of a sentence."""
        waits = self._shared.waits_for_source
        return walk.why_not_readable(self.sync.source.path) if waits else ""

    @property
    def locations(self) -> Collection[bytes]:
        """The locations of its destinations."""
        return [each.destination.location for each in self.sync.destinations]

    @property
    def paused_locations(self) -> Collection[bytes]:
        """The locations of the paused destinations."""
        return self._pool.paused

    @property
    def title(self) -> str:
        """The name of the sync, or the path of the source if the sync has none."""
        return self.sync.name or self._shown

    @property
    def workers(self) -> Sequence[Worker]:
        """The workers of its destinations."""
        return self._pool.workers

    @property
    def buffered_changes(self) -> tuple[int, float | None]:
        """The number of changes that are in no queue yet, and the monotonic time of the first one.

        The time is None if it is unknown.
        """
        # In the order of the stages, so that no change is overlooked on its way.
        session = self.source_monitor.session
        open_files = 0 if session is None else len(session.events.open_files)
        buffered, since = len(self._buffer), self._buffer.since
        flusher = self.flusher
        return open_files + buffered + flusher.taken_count + flusher.deferred_count, since

    # For its own thread:

    def work(self) -> None:
        """Watch and sync until told to stop."""
        has_failed = True
        try:
            has_failed = self._run()
        except PylsyncdError as error:
            self.error = error
        finally:
            self.close()
            self._end(has_failed=has_failed)

    def close(self) -> None:
        """Release the locks; other threads call this only if the replication was not started."""
        self._pool.close()
        self._guard.close()

    def _end(self, *, has_failed: bool) -> None:
        if not self.state.has_ended:
            is_running = self.state is ReplicationState.RUNNING
            failed = ReplicationState.FAILED if is_running else ReplicationState.START_FAILED
            self.state = failed if has_failed else ReplicationState.STOPPED
        self._shared.on_state_changed(self.name)
        self._inbox.cancel_calls()

    def _run(self) -> bool:
        """Watch and sync until told to stop; return True if something failed."""
        self._shared.thread_monitor.add_thread(self)
        if not self._begin_with_source():
            return False
        if self._shared.once:
            self._pool.stop_workers(self._is_stop_requested, math.inf)
            return self._has_failed or any(each.pending_count for each in self._pool.workers)
        with suppress(StoppedError):
            self._serve()
        self._shut_down()
        return self._has_failed

    def _set_state(self, state: ReplicationState) -> None:
        self.state = state
        self._shared.on_state_changed(self.name)

    # Start

    def _begin_with_source(self) -> bool:
        """Wait for the source, and begin; return False if told to stop."""
        while self._wait_for_source():
            if self._has_begun():
                return True
        return False

    def _has_begun(self) -> bool:
        """Begin; return False if the source is gone again. Raises WatchError."""
        try:
            self._begin()
        except WatchError:
            if self._source_wait.find_reason() is None:
                raise
            return False
        return True

    def _wait_for_source(self) -> bool:
        """Wait until the source is there and safe to open; return False if told to stop."""
        while reason := self._source_wait.find_reason():
            if self._shared.once:
                raise WatchError(f"The source {self._shown} is not used: {reason.text}.")
            if reason.text != self.source_monitor.hold_reason:
                self.source_monitor.report_held(reason.text, can_be_released=reason.can_be_released)
            if self.state is not ReplicationState.WAITING:
                self._set_state(ReplicationState.WAITING)
            with self.activity.waiting():
                message = self._inbox.get(_SOURCE_CHECK_INTERVAL)
            if message in STOP_SIGNALS:
                return False
            if message is signal.SIGUSR2 and not self._source_wait.release():
                log.warning("The source %s cannot be released: %s.", self._shown, reason.text)
            if isinstance(message, Call):
                message.cancel()
        return True

    def _begin(self) -> None:
        """Watch the source, and start the workers with their first work items."""
        sync, once = self.sync, self._shared.once
        try:
            self._guard.accept(self._pool.saved_mounts)
            is_source_empty = self._guard.is_empty()
            since = self._source_wait.missing_since
            is_source_new = since is not None and self._guard.has_changed_since(since)
        except OSError as error:
            raise WatchError(f"Cannot watch the source {self._shown}: {error.strerror}.") from None
        plans = self._pool.plan_starts(
            requested_title="initial sync" if sync.initial_sync or once else "",
            is_new=self.needs_initial_sync,
            is_source_empty=is_source_empty,
        )
        if since is not None:
            plans = [each.after_wait(since, is_source_new=is_source_new) for each in plans]
        start = clock.now()
        catchup_changes: Mapping[int, Changeset] = {}
        if once:
            self._announce("syncing", "once")
            catchup_changes = self._pool.find_missed(plans)
        else:
            scans = [plan.last_scan for plan in plans if plan.last_scan is not None]
            earliest = min(scans, key=lambda moment: moment.wall, default=None)
            with self.activity.waiting():
                catchup_changes = self.source_monitor.start_watching(
                    catchup_times(plans), earliest, deferrable_since(plans)
                )
            start = self.source_monitor.caught_up_until or start
            self._shared.on_watching(self.title)
            watched = self.source_monitor.describe_watch()
            self._announce("watching", f"window {sync.window:g} s", f" ({watched})")
        self.source_monitor.report_held_subtrees()
        self._pool.start_workers(plans, catchup_changes, start, is_final=once)
        self.flusher.start(start)
        self.needs_initial_sync = False
        self._set_state(ReplicationState.RUNNING)

    def _announce(self, action: str, window: str, count: str = "") -> None:
        names = ", ".join(each.name for each in self.sync.destinations)
        is_dry_run = any(each.rsync.dry_run for each in self.sync.destinations)
        log.log(
            NOTICE, "pylsyncd %s %s %s%s for %s, %s%s", __version__, action, self._shown, count,
            names, window, ", dry run: nothing is changed" if is_dry_run else "",
        )  # fmt: skip

    # The loop

    def _serve(self) -> None:
        self._next_source_check = time.monotonic() + _SOURCE_CHECK_INTERVAL
        self._monitor_threads(self._pool.workers)
        while True:
            next_time = min(self._next_source_check, self.flusher.due_at, self._pool.next_start)
            with self.activity.waiting():
                message = self._inbox.get(max(0.0, next_time - time.monotonic()))
            if message in STOP_SIGNALS:
                return
            if message is Wakeup.THREAD_FAILED:
                self._has_failed = True
                return
            if message is not None:
                self._handle_message(message)
            self._run_due()

    def _run_due(self) -> None:
        self.flusher.run_due()
        self._monitor_threads(self._pool.start_due())
        if time.monotonic() >= self._next_source_check:
            self._next_source_check = time.monotonic() + _SOURCE_CHECK_INTERVAL
            self._check_source()
            self.flusher.take_scanned()

    def _handle_message(self, message: "Wakeup | Call[Any] | signal.Signals") -> None:
        if isinstance(message, Call):
            message.run()
            return
        handlers: dict[Wakeup | signal.Signals, Callable[[], object]] = {
            Wakeup.FIRST_CHANGE: self.flusher.open_window,
            Wakeup.BUFFER_FULL: self.flusher.flush_if_full,
            Wakeup.SCANNED: self.flusher.take_scanned,
            Wakeup.SOURCE_LOST: self._check_source_soon,
            Wakeup.WORKER_FAILED: lambda: self._pool.replace_failed(self.flusher.last_serial),
            signal.SIGUSR1: lambda: self.flush(time.monotonic()),
            signal.SIGUSR2: self.release,
            signal.SIGHUP: self.flusher.start_full_sync,
        }
        handlers[message]()

    def _check_source_soon(self) -> None:
        soon = time.monotonic() + _SOURCE_LOST_CHECK_DELAY
        self._next_source_check = min(self._next_source_check, soon)

    def awaits_mount_checks(self, names: Collection[str]) -> bool:
        """Return True if a subtree that was mounted over may still be released by itself.

        That is so until all of these destinations have looked at their copies, and if all copies
        were found empty, until the next check of the source.
        """
        workers = [worker for worker in self._pool.workers if worker.name in names]
        for path, mount in self._guard.new_mounts.items():
            checks = [worker.mount_checks.get(path) for worker in workers]
            if any(check is None or check.mount != mount for check in checks):
                return True
            if self._pool.are_copies_empty(path, mount):
                return True
        return False

    def _check_source(self, *, should_hold: bool = True) -> None:
        for path, mount in self._guard.new_mounts.items():
            if self._pool.are_copies_empty(path, mount):
                self._guard.accept_mount(path, mount)
        restart = self.source_monitor.check_source(should_hold=should_hold)
        if restart is not None:
            self.flusher.restart(restart)
            self.source_monitor.record_full_sync()

    def look_at_source(self) -> bool:
        """Check the source now; return True if it is watched, so that its changes are known.

        A source that is gone may be about to be replaced: it is held after a pause.
        """
        self._check_source(should_hold=False)
        if self.source_monitor.is_source_changing:
            self._check_source_soon()
        return self.source_monitor.is_source_known

    def flush(self, polled_since: float) -> Flush:
        """Check the source now, and queue all of its changes up to now.

        Directories without events are scanned, unless they were since a monotonic time.
        """
        if not self.look_at_source():
            return Flush(self.flusher.last_serial, is_complete=False)
        flush = self.flusher.flush(is_urgent=True, polled_since=polled_since)
        return flush._replace(held=frozenset(self.source_monitor.held_subtrees))

    def _monitor_threads(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            for thread in worker.threads:
                self._shared.thread_monitor.add_thread(thread)

    def release(self, names: Sequence[str] = ()) -> None:
        """Carry out, once, what is held: for some destinations, or for the source and all."""
        log.log(NOTICE, "released (%s)", ", ".join(names) or "all")
        item = WorkItem(NOTHING, is_urgent=True, is_release=True)
        monitor = self.source_monitor
        if names and not (monitor.hold_reason or monitor.held_subtrees):
            self.flusher.enqueue(item, names)
        elif self.source_monitor.accept_source():
            self.flusher.enqueue(item)
            self._check_source()

    def replace_destinations(self, sync: SyncSettings) -> None:
        """Apply the settings of a sync with the same source and rules.

        Raises UsageError, and changes nothing, if a destination cannot be locked.
        """
        # The changes so far belong to the present destinations.
        self.flusher.flush()
        try:
            added = self._pool.reconfigure(
                sync, self.flusher.complete_until, self.flusher.last_serial
            )
        except OSError as error:
            raise UsageError(str(error)) from error
        self._monitor_threads(added)
        self.sync = sync
        self.source_monitor.apply_settings(sync)
        self.flusher.apply_settings(sync)

    # Stop

    def _shut_down(self) -> None:
        """Sync the last changes, within the grace period, and stop all threads."""
        session = self.source_monitor.session
        if session is None or session.watcher.is_alive():
            try:
                self.flusher.flush_for_stop()
            except StoppedError:
                log.warning(
                    "Stopped during the search for hard links in %s: the next start finds and "
                    "syncs the last changes.", self._shown,
                )  # fmt: skip
        if not self._has_failed:
            self.source_monitor.stop_watching()
        grace_period = min(STOP_GRACE_PERIOD, self._stop_deadline - time.monotonic())
        self._pool.stop_workers(self._is_stop_requested, grace_period)

    def _check_deadline(self) -> None:
        """Mark the thread active. Raises StoppedError after the deadline of a stop."""
        self.activity.mark_active()
        if time.monotonic() >= self._stop_deadline:
            raise StoppedError

    def _is_stop_requested(self) -> bool:
        """Return True if one more stop signal has arrived; cancel calls that have."""
        self.activity.mark_active()
        while (message := self._inbox.get(0.0)) is not None:
            if message in STOP_SIGNALS:
                return True
            if isinstance(message, Call):
                message.cancel()
            self._has_failed |= message is Wakeup.THREAD_FAILED
        return False
