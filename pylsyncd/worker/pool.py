"""The workers of one source: how they are created, reconfigured and stopped."""

import logging
import math
import signal
import time
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import replace

from pylsyncd.config.settings import DestinationSettings, SyncSettings
from pylsyncd.model.changes import ALL_NEW, Changeset
from pylsyncd.model.directory_id import MountId
from pylsyncd.model.formatting import format_count
from pylsyncd.model.moments import Moment
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.state.checkpoint import LoadedState
from pylsyncd.system.restarts import DelayedStart
from pylsyncd.system.threads import StoppedError
from pylsyncd.watcher.catchup_scan import find_changes
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.mount_checks import MountCheck
from pylsyncd.worker.registry import DestinationEntry, DestinationRegistry
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.start_plan import StartPlan, catchup_times
from pylsyncd.worker.worker import Worker
from pylsyncd.worker.worker_factory import WorkerContext, WorkerFactory
from pylsyncd.worker.worker_stop import stop_now, wait_for_end

log = logging.getLogger(__name__)

STOP_GRACE_PERIOD = 10.0
"""Seconds that a stop waits for running transfers."""

# Seconds for a failed thread, which has nothing left to do, to end.
_END_TIMEOUT = 1.0


class WorkerPool:
    """One worker for each destination of a source. Used by the replication's thread.

    Creating a pool locks all destinations and loads their states. A worker that fails calls
    ``on_failed(name)``, and waits for :meth:`replace_failed`; the others go on. Raises UsageError
    if the state directory cannot be used or another pylsyncd has a lock.
    """

    def __init__(  # noqa: PLR0913  # the last two are passed by name
        self,
        sync: SyncSettings,
        guard: SourceGuard,
        on_failed: Callable[[str], None],
        resources: SharedResources | None = None,
        *,
        count_directories: Callable[[], int] = lambda: 1,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Create the pool; ``count_directories()`` returns how many the source has.

        ``on_progress()`` is called during scans of the source, and may raise StoppedError.
        """
        self._sync = sync
        self._on_progress = on_progress
        self._factory = WorkerFactory(
            guard, on_failed, resources or SharedResources(), count_directories
        )
        self._registry = DestinationRegistry(sync.state_dir, guard)
        # By location, since the name of a destination may change.
        self._entries: dict[bytes, DestinationEntry] = {}
        self._workers: dict[bytes, Worker] = {}
        self._contexts: dict[bytes, WorkerContext] = {}
        self._paused: set[bytes] = set()
        try:
            entries = self._registry.add(sync, sync.destinations)
        except BaseException:
            self._registry.close()
            raise
        self._entries = {entry.location: entry for entry in entries}

    def close(self) -> None:
        """Abort running workers and release the locks."""
        for worker in self.workers:
            worker.abort(signal.SIGTERM)
        self._registry.close()

    def set_paused(self, names: Container[str], *, is_paused: bool) -> None:
        """Pause or resume destinations, with or without a worker; any thread may call this."""
        for location, entry in list(self._entries.items()):
            if entry.settings.name in names:
                if is_paused:
                    self._paused.add(location)
                else:
                    self._paused.discard(location)
                if (worker := self._workers.get(location)) is not None:
                    worker.set_paused(is_paused=is_paused)

    @property
    def paused(self) -> frozenset[bytes]:
        """The locations of the paused destinations; any thread may ask."""
        return frozenset(self._paused)

    def take_over(self, served: Collection[bytes], paused: Container[bytes]) -> None:
        """Continue, before the start, for a stopped pool that served these locations.

        Paused destinations stay paused. If the state of a served one is not in this state
        directory, its pending changes are unknown: it gets a full sync.
        """
        for location, entry in self._entries.items():
            if location in paused:
                self._paused.add(location)
            if location in served and entry.loaded == LoadedState():
                loaded = LoadedState(error="the saved state is in another state directory")
                self._entries[location] = replace(entry, loaded=loaded)

    @property
    def workers(self) -> list[Worker]:
        """The workers created so far; any thread may ask."""
        return list(self._workers.values())

    def are_copies_empty(self, path: bytes, mount: MountId) -> bool:
        """Return True if nothing is at any copy of a directory that something was mounted over."""
        wanted = MountCheck(mount, is_copy_empty=True)
        checks = [worker.mount_checks.get(path) for worker in self.workers]
        return bool(checks) and all(check == wanted for check in checks)

    @property
    def saved_mount_points(self) -> list[bytes]:
        """Where the file systems with the source were mounted in the last run."""
        states = [entry.loaded.state for entry in self._entries.values()]
        return [state.mount_point for state in states if state is not None]

    @property
    def saved_mounts(self) -> Mapping[bytes, MountId]:
        """The file systems mounted below the source in the last run."""
        found: dict[bytes, MountId] = {}
        for entry in self._entries.values():
            if entry.loaded.state is not None:
                found.update(entry.loaded.state.nested_mounts)
        return found

    def plan_starts(
        self, *, requested_title: str, is_new: bool, is_source_empty: bool
    ) -> list[StartPlan]:
        """Return how each destination starts; see :func:`pylsyncd.worker.start_plan.plan_start`.

        Unless the source ``is_new``, only destinations without a state get the requested sync.
        """
        return [
            entry.plan_start(
                requested_title=requested_title if is_new or entry.loaded.state is None else "",
                is_source_empty=is_source_empty,
            )
            for entry in self._entries.values()
        ]

    def find_missed(self, plans: Collection[StartPlan]) -> Mapping[int, Changeset]:
        """Return what has changed while destinations were not served, where no watch finds it.

        A full sync does not find a new content of the same size and time by itself.
        """
        times, sync = catchup_times(plans), self._sync
        if not times:
            return {}
        try:
            return find_changes(sync.source.path, times, sync.rules, self._on_progress)
        except (OSError, StoppedError):
            # Every content may be new.
            return dict.fromkeys(times, ALL_NEW)

    def start_workers(
        self,
        plans: Sequence[StartPlan],
        caught_up: Mapping[int, Changeset],
        start: Moment,
        *,
        is_final: bool = False,
    ) -> None:
        """Start the workers with their first work items, which may be their last ones, too.

        The items are queued before, so that no worker starts with a probe.
        """
        for entry, plan in zip(self._entries.values(), plans, strict=True):
            item = plan.first_item(caught_up, start)
            self._create_worker(entry, replace(item, is_final=is_final))
        for worker in self.workers:
            worker.start()

    def replace_failed(self, serial: int, *, is_stopping: bool = False) -> None:
        """Replace the workers that have failed by others, which :meth:`start_due` starts.

        The last work item that was queued has the number ``serial``. A new worker has all changes
        that the failed one has not confirmed, and gets the later ones.
        """
        for location, worker in list(self._workers.items()):
            if worker.crash is not None:
                pause = self._replace(location, worker, serial)
                self._report_crash(location, worker, None if is_stopping else pause)

    def _replace(self, location: bytes, failed: Worker, serial: int) -> float:
        """Replace a worker; return the number of seconds until the other one starts."""
        context = self._contexts[location]
        failed.join(_END_TIMEOUT)
        item = replace(failed.take_unconfirmed(), serial=serial)
        pause = context.restarts.next_pause()
        self._create_worker(
            self._entries[location], item, context,
            delayed_start=DelayedStart(pause), was_held=failed.has_held_changes,
        )  # fmt: skip
        return pause

    def _report_crash(self, location: bytes, failed: Worker, pause: float | None) -> None:
        if failed.failure is None:
            return
        try:
            self._contexts[location].reporter.report_crash(failed.failure, pause)
        except Exception:
            # Perhaps the same bug: the others must go on.
            log.exception("[%s] The failure of the worker cannot be reported.", failed.name)

    @property
    def next_start(self) -> float:
        """The monotonic time at which :meth:`start_due` has a worker to start."""
        delayed = (worker.delayed_start for worker in self.workers)
        return min((each.due_at for each in delayed if each is not None), default=math.inf)

    def start_due(self) -> list[Worker]:
        """Start the workers that replace failed ones, once their pauses are over."""
        now, started = time.monotonic(), []
        for location, worker in list(self._workers.items()):
            if worker.delayed_start is None or now < worker.delayed_start.due_at:
                continue
            try:
                worker.start()
            except RuntimeError:
                # The limit of threads is reached.
                worker.delay_start(DelayedStart(self._contexts[location].restarts.next_pause()))
                continue
            log.info("[%s] The worker was started again.", worker.name)
            started.append(worker)
        return started

    def reconfigure(self, sync: SyncSettings, start: Moment, serial: int) -> list[Worker]:
        """Serve the destinations of new settings for the same source; return the new workers.

        All changes before ``start`` were queued, the last one with the number ``serial``. The new
        worker of a destination whose settings differ takes over what is pending. Raises UsageError,
        and changes nothing, if another pylsyncd has a lock.
        """
        self.replace_failed(serial)
        wanted = {settings.destination.location: settings for settings in sync.destinations}
        added = self._registry.add(
            sync, [each for location, each in wanted.items() if location not in self._entries]
        )
        self._sync = sync
        # The scan is made while all others are still served.
        plans = [self._plan_while_running(entry) for entry in added]
        missed = self.find_missed(plans)
        gone = [location for location in self._entries if location not in wanted]
        changed = [
            location
            for location, settings in wanted.items()
            if location in self._entries and self._entries[location].settings != settings
        ]
        unconfirmed = self._remove_workers(gone + changed)
        for location in gone:
            self._registry.remove(self._entries.pop(location))
            del self._contexts[location]
            self._paused.discard(location)
        for location in changed:
            self._continue(wanted[location], replace(unconfirmed[location], serial=serial))
        for entry, plan in zip(added, plans, strict=True):
            self._entries[entry.location] = entry
            item = plan.first_item(missed, start)
            self._create_worker(entry, replace(item, serial=serial))
        for location, worker in self._workers.items():
            worker.set_extra_window(self._extra_window(self._entries[location].settings))
        new = [
            worker
            for worker in self.workers
            if worker.ident is None and worker.delayed_start is None
        ]
        for worker in new:
            worker.start()
        return new

    def _continue(self, settings: DestinationSettings, unconfirmed: WorkItem) -> None:
        """Create the worker of a destination under new settings, with what is not confirmed."""
        location = settings.destination.location
        entry = self._registry.reload(self._sync, settings, self._entries.pop(location))
        self._entries[location] = entry
        # It contains everything that was queued for the worker before.
        item = entry.continued_item(unconfirmed)
        context = self._factory.continue_context(entry, self._contexts[location], item)
        self._contexts[location] = context
        self._create_worker(entry, item, context)

    def _plan_while_running(self, entry: DestinationEntry) -> StartPlan:
        title = "initial sync" if self._sync.initial_sync else ""
        return entry.plan_start(requested_title=title, is_source_empty=False).while_running()

    def stop_workers(
        self, is_stop_requested: Callable[[], bool], grace: float = STOP_GRACE_PERIOD
    ) -> None:
        """Let the workers carry what is pending, then stop them.

        They are stopped after ``grace`` seconds, or as soon as ``is_stop_requested()``.
        """
        for location, worker in self._workers.items():
            if location in self._paused:
                worker.abort(signal.SIGTERM)
            worker.request_stop()
        wait_for_end(self.workers, grace, is_stop_requested)
        # Their changes are pending, and no other worker is started for them.
        self.replace_failed(0, is_stopping=True)
        for worker in self.workers:
            if count := worker.pending_count:
                is_everything = worker.status().owes_everything
                log.warning(
                    "[%s] stopped before everything was synced. Pending: %s.",
                    worker.name, "everything" if is_everything else format_count(count, "change"),
                )  # fmt: skip

    def _create_worker(
        self,
        entry: DestinationEntry,
        item: WorkItem,
        context: WorkerContext | None = None,
        *,
        delayed_start: DelayedStart | None = None,
        was_held: bool = False,
    ) -> None:
        """Create the worker of a destination, with its first work item in the queue."""
        if context is None:
            context = self._factory.create_context(entry)
            self._contexts[entry.location] = context
        worker = self._factory.create(
            entry, item, context, extra_window=self._extra_window(entry.settings),
            delayed_start=delayed_start, was_held=was_held,
        )  # fmt: skip
        self._workers[entry.location] = worker
        # Checked after that, so that a pause by another thread is not lost.
        if entry.location in self._paused:
            worker.set_paused(is_paused=True)

    def _extra_window(self, settings: DestinationSettings) -> float:
        return settings.window - self._sync.window

    def _remove_workers(self, locations: Sequence[bytes]) -> dict[bytes, WorkItem]:
        """Stop workers at once; return for each location the work that is not confirmed."""
        removed = {location: self._workers.pop(location) for location in locations}
        for worker in removed.values():
            # Aborted first: they must not carry once more what another worker takes over.
            worker.abort(signal.SIGTERM)
            worker.request_stop()
        stop_now(removed.values())
        for location, worker in removed.items():
            self._report_crash(location, worker, None)
        return {location: worker.take_unconfirmed() for location, worker in removed.items()}
