"""One source and its destinations: wires its parts and owns their start, timing and end."""

import logging
import math
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from pylsyncd import __version__
from pylsyncd.calls import Ask, ReplicationContext, Wakeup
from pylsyncd.config.settings import SyncSettings
from pylsyncd.flusher import Flusher
from pylsyncd.model import paths
from pylsyncd.model.changes import EVERYTHING, NOTHING, MutableChangeset
from pylsyncd.model.errors import PylsyncdError, WatchError
from pylsyncd.model.formatting import format_count
from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.system import clock
from pylsyncd.system.inbox import Inbox
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.threads import StoppedError, SupervisedThread
from pylsyncd.watcher.source_guard import SourceGuard, SourceState
from pylsyncd.watcher.source_monitor import MonitorCallbacks, SourceMonitor
from pylsyncd.worker.pool import STOP_GRACE_PERIOD, WorkerPool
from pylsyncd.worker.start_plan import catchup_times
from pylsyncd.worker.worker import Worker

log = logging.getLogger(__name__)

# Seconds between two looks at the source, and before one that there is a reason for.
_ROUND = 2.0
_MOMENT = 0.2

# Seconds between two looks at whether one who is asked has ended.
_BEAT = 0.1

_STOP = frozenset([signal.SIGTERM, signal.SIGINT])


class Replication(SupervisedThread):
    """Keeps the destinations of one source equal to it, in a thread of its own.

    Making one takes the locks of its destinations. Raises UsageError if the state directory cannot
    be used, or another pylsyncd is in the way.
    """

    def __init__(self, sync: SyncSettings, surroundings: ReplicationContext) -> None:
        super().__init__(sync.name or "replication", lambda _: self._fail())
        self.sync = sync
        self._surroundings = surroundings
        self._shown = paths.printable(sync.source.path)
        self._inbox: Inbox[Wakeup | Ask | str | signal.Signals] = Inbox()
        self._buffer = Buffer(
            sync.max_changes,
            lambda: self._inbox.put(Wakeup.FIRST_CHANGE),
            lambda: self._inbox.put(Wakeup.BUFFER_FULL),
        )
        self._guard = SourceGuard(sync.source.path, sync.rules)
        try:
            self._crew = WorkerPool(sync, self._guard, self._inbox.put, surroundings.resources)
        except BaseException:
            self._guard.close()
            raise
        self.source_monitor = SourceMonitor(
            sync, self._guard, self._buffer, surroundings.thread_monitor,
            MonitorCallbacks(
                on_source_lost=lambda: self._inbox.put(Wakeup.SOURCE_LOST),
                on_failed=self._inbox.put,
                on_progress=lambda directories: surroundings.on_watch_progress(self.title,
                directories),
            ),
        )  # fmt: skip
        if surroundings.should_count_events:
            self.source_monitor.mask_counts = Counter()
        self.flusher = Flusher(sync, self._buffer, self.source_monitor, self._crew, self._go_on)
        # When all has to be over, once told to stop.
        self._ends = math.inf
        self._next_round = math.inf
        self.starting_since = time.monotonic()
        """When it was made."""
        self._has_failed = False
        self.is_new = True
        """Whether an initial sync is for all destinations, not just for those without a state."""
        self.is_ready = False
        """Whether it watches, or waits for its source to come back."""
        self.has_begun = False
        """Whether all workers have their first orders."""
        self.has_ended = False
        self.status = 0
        """The exit status, as far as this source is concerned."""
        self.error: PylsyncdError | None = None
        """Why it could not begin."""

    # For other threads:

    def handle_signal(self, number: signal.Signals) -> None:
        """Take a signal that was passed on."""
        if number in _STOP:
            is_first = self._ends == math.inf
            self._ends = time.monotonic() + (STOP_GRACE_PERIOD if is_first else 0.0)
        self._inbox.put(number)

    def run_in_thread(self, do: Callable[[], object], timeout: float) -> bool:
        """Have something done by its own thread; tell whether that was so in time."""
        asked = Ask(do)
        self.submit(asked)
        deadline = time.monotonic() + timeout
        while self.is_alive() and (left := deadline - time.monotonic()) > 0.0:
            if asked.answered.wait(min(left, _BEAT)):
                break
        return asked.was_done

    def submit(self, asked: Ask) -> None:
        """Have something done by its own thread; nobody answers once that has ended."""
        self._inbox.put(asked)

    def pause(self, names: Collection[str], *, is_paused: bool = True) -> None:
        """Have no rsync started for some destinations, until that is taken back."""
        self._crew.pause(names, is_paused=is_paused)

    def follow(self, other: "Replication") -> None:
        """Go on, before the start, where another one has ended."""
        self.is_new = other.is_new and not other.has_begun
        is_same = other.sync.source.path == self.sync.source.path
        self._crew.take_over(
            other.spots if is_same else (), other.paused_destinations if is_same else ()
        )

    @property
    def hold_reason(self) -> str:
        """Why its source, which was there, is held now; empty when it is not."""
        if not self.has_begun:
            return ""
        standing, reason = self._guard.check_state()
        return reason if standing is SourceState.HELD else ""

    @property
    def spots(self) -> Collection[bytes]:
        """Those of its destinations."""
        return [delivery.destination.location for delivery in self.sync.destinations]

    @property
    def paused_destinations(self) -> Collection[bytes]:
        """The spots of those of its destinations that are paused."""
        return self._crew.paused

    @property
    def title(self) -> str:
        """What it is called for people: as its section, or by its source."""
        return self.sync.name or self._shown

    @property
    def workers(self) -> Sequence[Worker]:
        """Those of its destinations."""
        return self._crew.workers

    @property
    def buffered_changes(self) -> tuple[int, float | None]:
        """How many changes wait for their window to end, and since when by the monotonic clock."""
        return len(self._buffer), self._buffer.since

    # For its own thread:

    def work(self) -> None:
        """Watch and sync until told to stop."""
        try:
            self._work()
        except PylsyncdError as error:
            self.error = error
            self.status = 1
        finally:
            self.close()
            self.has_ended = True
            self._surroundings.on_state_changed(self.name)
            self._inbox.close()

    def close(self) -> None:
        """Give back the locks; to be called by others only when it was not started."""
        self._crew.close()
        self._guard.close()

    def _fail(self) -> None:
        self.status = 1
        self.has_ended = True
        self._surroundings.on_state_changed(self.name)

    def _work(self) -> None:
        self._surroundings.thread_monitor.add_thread(self)
        if not self._wait_for_the_source():
            return
        self._begin()
        if self._surroundings.once:
            self._crew.stop_workers(self._is_stop_asked, math.inf)
            self.status |= int(any(worker.pending_count for worker in self._crew.workers))
        else:
            with suppress(StoppedError):
                self._serve()
            self._wind_up()
        self.status |= int(self._has_failed)

    def _get_ready(self) -> None:
        self.is_ready = True
        self._surroundings.on_state_changed(self.name)

    # Start

    def _wait_for_the_source(self) -> bool:
        """Wait until the file system that the source was on is mounted; tell whether to go on."""
        is_told = False
        while point := self._guard.find_missing_mount(self._crew.saved_mount_points):
            reason = f"nothing is mounted at {paths.printable(point)}, where it was in the last run"
            if self._surroundings.once:
                raise WatchError(f"The source {self._shown} is not used: {reason}.")
            if not is_told:
                self.source_monitor.report_held(reason)
                self._get_ready()
                is_told = True
            with self.activity.waiting():
                call = self._inbox.get(_ROUND)
            if call in _STOP:
                return False
            if call is signal.SIGUSR2:
                break
            if isinstance(call, Ask):
                call.refuse()
        return True

    def _begin(self) -> None:
        sync, once = self.sync, self._surroundings.once
        try:
            self._guard.accept(self._crew.saved_mounts)
            is_vacant = self._guard.is_empty()
        except OSError as error:
            raise WatchError(
                f"The source {self._shown} cannot be watched: {error.strerror}."
            ) from None
        forced = "initial sync" if sync.initial_sync or once else ""
        beginnings = self._crew.plan_starts(
            requested_title=forced, is_new=self.is_new, is_source_empty=is_vacant
        )
        start = self.flusher.complete_until = clock.now()
        caught_up: Mapping[int, MutableChangeset] = {}
        if not once:
            scans = [each.last_scan for each in beginnings if each.last_scan is not None]
            earliest = min(scans, key=lambda moment: moment.wall, default=None)
            with self.activity.waiting():
                watching = self.source_monitor.start_watching(catchup_times(beginnings), earliest)
            self._surroundings.on_watching(self.title)
            caught_up = watching.event_processor.rescanner.catchup_changes
            watching.event_processor.rescanner.catchup_changes = {}
            self._announce(
                "watching",
                f" ({format_count(watching.event_processor.directory_count, 'directory')})",
            )
        else:
            self._announce("syncing")
        self.source_monitor.report_held_subtrees()
        self._crew.start_workers(beginnings, caught_up, start, is_final=once)
        self.has_begun = True
        self._get_ready()

    def _announce(self, doing: str, found: str = "") -> None:
        names = ", ".join(delivery.name for delivery in self.sync.destinations)
        window = "once" if self._surroundings.once else f"window {self.sync.window:g} s"
        is_trial = any(delivery.rsync.dry_run for delivery in self.sync.destinations)
        log.log(
            NOTICE, "pylsyncd %s %s %s%s for %s, %s%s", __version__, doing, self._shown, found,
            names, window, ", dry run: nothing is changed" if is_trial else "",
        )  # fmt: skip

    # The loop

    def _serve(self) -> None:
        self._next_round = time.monotonic() + _ROUND
        self.flusher.apply_settings(self.sync)
        for worker in self._crew.workers:
            for part in worker.threads:
                self._surroundings.thread_monitor.add_thread(part)
        while True:
            next_time = min(self._next_round, self.flusher.due_at)
            with self.activity.waiting():
                call = self._inbox.get(max(0.0, next_time - time.monotonic()))
            if call in _STOP:
                return
            if isinstance(call, str):
                self.status = 1
            elif call is not None:
                self._answer(call)
            if self.status:
                return
            self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        self.flusher.run_due()
        if time.monotonic() >= self._next_round:
            self._next_round = time.monotonic() + _ROUND
            self._look_after_the_source()
            self.flusher.update_hard_links()

    def _answer(self, call: Wakeup | Ask | signal.Signals) -> None:
        if isinstance(call, Ask):
            call.answer()
            return
        answers: dict[Wakeup | signal.Signals, Callable[[], object]] = {
            Wakeup.FIRST_CHANGE: self.flusher.open_window,
            Wakeup.BUFFER_FULL: self.flusher.flush_if_full,
            Wakeup.SOURCE_LOST: self._look_soon,
            signal.SIGUSR1: lambda: self.flusher.flush(is_urgent=True),
            signal.SIGUSR2: self.release,
            signal.SIGHUP: self.flusher.start_full_sync,
        }
        answers[call]()

    def _look_soon(self) -> None:
        # Who renames another directory into the source's place is not done yet.
        self._next_round = min(self._next_round, time.monotonic() + _MOMENT)

    # The source and the parts

    def _look_after_the_source(self) -> None:
        start = self.source_monitor.check_source()
        if start is not None:
            self.flusher.complete_until = start
            self.flusher.enqueue(WorkItem(EVERYTHING, start, start, ("full sync",), is_urgent=True))

    def release(self, names: Sequence[str] = ()) -> None:
        """Do, once, what is held: somebody has looked."""
        log.log(NOTICE, "released (%s)", ", ".join(names) or "all")
        if names and not self.source_monitor.hold_reason:
            self.flusher.enqueue(WorkItem(NOTHING, is_urgent=True, is_release=True), names)
        elif self.source_monitor.accept_source():
            self.flusher.enqueue(WorkItem(NOTHING, is_urgent=True, is_release=True))
            self._look_after_the_source()

    def replace_destinations(self, sync: SyncSettings) -> None:
        """Go on as another sync of the same source, with the same rules, asks.

        Raises UsageError, and all stays as it is, when another pylsyncd is in the way.
        """
        # What was seen until now belongs to those who are there now.
        self.flusher.flush()
        newcomers = self._crew.reconfigure(
            sync, self.flusher.complete_until, self.flusher.last_serial
        )
        for worker in newcomers:
            for part in worker.threads:
                self._surroundings.thread_monitor.add_thread(part)
        self.sync = sync
        self.flusher.apply_settings(sync)

    def _wind_up(self) -> None:
        """Sync what has come, within the grace period, and end all parts."""
        watching = self.source_monitor.session
        if watching is None or watching.watcher.is_alive():
            try:
                self.flusher.flush()
            except StoppedError:
                log.warning(
                    "Stopped while %s was looked through for files with several names: what has "
                    "changed last is found and synced by the next start.", self._shown,
                )  # fmt: skip
        if not self.status:
            self.source_monitor.stop_watching()
        self._crew.stop_workers(
            self._is_stop_asked, min(STOP_GRACE_PERIOD, self._ends - time.monotonic())
        )

    def _go_on(self) -> None:
        """Report that the work goes on. Raises StoppedError if there is no time for it any more."""
        self.activity.mark_active()
        if time.monotonic() >= self._ends:
            raise StoppedError

    def _is_stop_asked(self) -> bool:
        """Take what has come, and tell whether it says to stop at once."""
        self.activity.mark_active()
        while (call := self._inbox.get(0.0)) is not None:
            if call in _STOP:
                return True
            if isinstance(call, Ask):
                call.refuse()
            self._has_failed |= isinstance(call, str)
        return False
