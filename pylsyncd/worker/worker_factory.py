"""Creates workers with their collaborators."""

from collections.abc import Callable
from dataclasses import dataclass, field

from pylsyncd.config.settings import DestinationSettings
from pylsyncd.pipeline.work_queue import WorkItem, WorkQueue
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.state import orphans
from pylsyncd.system.restarts import DelayedStart, RestartSchedule
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.destination_guard import DestinationGuard
from pylsyncd.worker.failure_reporter import FailureReporter
from pylsyncd.worker.large_file_queue import LargeFileQueue
from pylsyncd.worker.large_file_worker import LargeFileWorker
from pylsyncd.worker.pending import PendingWork
from pylsyncd.worker.registry import DestinationEntry
from pylsyncd.worker.repairs import RepairPlan, Repairs
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.session import RsyncSession
from pylsyncd.worker.statistics import Statistics
from pylsyncd.worker.transfer import Transfer
from pylsyncd.worker.verification import Verification
from pylsyncd.worker.worker import Worker


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a worker leaves to the one that replaces it after a failure."""

    guard: DestinationGuard
    reporter: FailureReporter
    verification: Verification
    statistics: Statistics = field(default_factory=Statistics)
    restarts: RestartSchedule = field(default_factory=RestartSchedule)


class WorkerFactory:
    """The factory of the workers of one source."""

    def __init__(
        self,
        guard: SourceGuard,
        on_failed: Callable[[str], None],
        resources: SharedResources,
        count_directories: Callable[[], int],
    ) -> None:
        self._guard = guard
        self._on_failed = on_failed
        self._resources = resources
        self._count_directories = count_directories

    def create_context(
        self, entry: DestinationEntry, *, was_verified: bool = False
    ) -> WorkerContext:
        """Return the context of the first worker of a destination."""
        settings, destination = entry.settings, entry.settings.destination
        return WorkerContext(
            # During dry runs another program may create the directory: no replacement.
            DestinationGuard(None if settings.rsync.dry_run else destination),
            FailureReporter(destination, self._guard.source, self._resources.on_notice),
            entry.verification(was_verified=was_verified),
        )

    def continue_context(
        self, entry: DestinationEntry, before: WorkerContext, item: WorkItem
    ) -> WorkerContext:
        """Return the context of the first worker under new settings, which begins with an item."""
        # After a change of the copy, the new full sync has to verify it.
        was_verified = before.verification.is_verified and not item.changeset.is_everything
        context = self.create_context(entry, was_verified=was_verified)
        if before.reporter.has_crashed:
            context.reporter.continue_after(before.reporter)
        return context

    def create(  # noqa: PLR0913  # all but three are passed by name
        self,
        entry: DestinationEntry,
        item: WorkItem,
        context: WorkerContext,
        *,
        extra_window: float,
        delayed_start: DelayedStart | None = None,
        was_held: bool = False,
    ) -> Worker:
        """Return a worker of a destination, with its first work item in the queue."""
        settings, resources = entry.settings, self._resources
        destination, options = settings.destination, settings.rsync
        environment = {orphans.RUN_KEY_VARIABLE: entry.state_key} if entry.state_key else {}
        session = RsyncSession(destination, options, environment, resources, context.statistics)
        limit = settings.batch_size_limit
        size_limit = None if limit is None else SizeLimit(limit, options.preserves_hard_links)
        queue = WorkQueue()
        queue.put(item)
        large_file_worker = None if limit is None else LargeFileWorker(
            session.for_large_files(), self._guard, context.guard,
            queue.wake, lambda _: queue.wake(),
        )  # fmt: skip
        policy = settings.retry_policy
        return Worker(
            session,
            Transfer(session, self._guard, context.guard, size_limit),
            PendingWork(LargeFileQueue(large_file_worker, policy), policy, context.verification),
            queue,
            reporter=context.reporter,
            checkpoint=entry.checkpoint,
            on_failed=self._on_failed,
            extra_window=extra_window,
            delayed_start=delayed_start,
            was_held=was_held,
            repairs=Repairs(
                self._guard,
                options.rules,
                self._repair_plan(settings),
                entry.repair_file,
                context.verification,
            ),
        )

    def _repair_plan(self, settings: DestinationSettings) -> RepairPlan:
        # A dry run would find the same differences again and again.
        interval = 0.0 if settings.rsync.dry_run else settings.repair_interval
        return RepairPlan(interval, settings.window, self._count_directories)
