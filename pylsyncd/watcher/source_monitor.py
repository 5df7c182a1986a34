"""Looks after the source: watches it while it is there, and finds out when it is there again."""

import logging
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from pylsyncd.config.settings import SyncSettings
from pylsyncd.model import paths
from pylsyncd.model.errors import WatchError
from pylsyncd.model.formatting import format_count
from pylsyncd.model.moments import Moment
from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.system import clock
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.threads import ThreadMonitor
from pylsyncd.watcher.rescanner import RescanPlan
from pylsyncd.watcher.source_guard import SourceGuard, SourceState
from pylsyncd.watcher.watching import WatchSession

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MonitorCallbacks:
    """What a lookout calls, from any thread."""

    on_source_lost: Callable[[], None]
    """When the source itself has gone."""
    on_failed: Callable[[str], None]
    """When the watcher has failed, or is stuck, with its name."""
    on_progress: Callable[[int], None] = lambda _: None
    """Now and then while the source is armed, with the number of directories so far."""


class SourceMonitor:
    """Has the source watched, gives it up when it is lost, and follows it when it is back.

    Used by the source's own thread.
    """

    def __init__(
        self,
        sync: SyncSettings,
        guard: SourceGuard,
        buffer: Buffer,
        heartbeat: ThreadMonitor,
        calls: MonitorCallbacks,
    ) -> None:
        self._sync = sync
        self._heartbeat = heartbeat
        self._guard = guard
        self._buffer = buffer
        self._calls = calls
        self._shown = paths.printable(sync.source.path)
        self.mask_counts: Counter[int] | None = None
        """See the tracker's."""
        self.hold_reason = ""
        """Why the source is held; empty when it is not."""
        # The subtrees that were said to be held.
        self._told: dict[bytes, str] = {}
        self._told_failure = ""
        self._overflows = 0
        self._told_eventless: set[bytes] = set()
        self.session: WatchSession | None = None
        """None while the source is held."""

    def start_watching(
        self, moments: Collection[int] = (), scanned: Moment | None = None
    ) -> WatchSession:
        """Begin to watch the source; what has changed since each moment is found on the way.

        ``scanned`` is when the last scan began for what no event tells, in an earlier run.
        Raises WatchError if it cannot be watched.
        """
        sync, calls = self._sync, self._calls
        plan = RescanPlan(
            moments, self._guard.find_eventless_directories(),
            sync.poll_interval, sync.scan_interval, scanned, calls.on_progress,
        )  # fmt: skip
        self._tell_eventless(plan.eventless_directories)
        watching = WatchSession(sync, plan, self._buffer, calls.on_source_lost, calls.on_failed)
        watching.event_processor.mask_counts = self.mask_counts
        watching.start()
        self._heartbeat.add_thread(watching.watcher, calls.on_failed)
        self.session = watching
        self.hold_reason = ""
        return watching

    def stop_watching(self) -> None:
        """Give up all watches."""
        if self.session is not None:
            self.session.stop()
            self._overflows += self.session.event_processor.rescanner.overflow_count
            self.session = None

    @property
    def overflow_count(self) -> int:
        """How often the kernel has dropped events since the start."""
        watching = self.session
        present = watching.event_processor.rescanner.overflow_count if watching is not None else 0
        return self._overflows + present

    def check_source(self) -> Moment | None:
        """Compare the source with what it was.

        Returns a moment when it is another one, or back: everything has to be compared, and what
        changes after that moment is seen.
        """
        standing, reason = self._guard.check_state()
        if standing is SourceState.HELD:
            if self.session is not None:
                self.stop_watching()
                self.report_held(reason)
            return None
        watching, start = self.session, None
        if (
            standing is SourceState.REPLACED
            or watching is None
            or watching.event_processor.is_source_lost
        ):
            start = self._follow(is_same=standing is SourceState.SAME)
        self._guard.update_held_subtrees()
        released = [*self.report_held_subtrees(), *self._guard.take_remounted()]
        if released and self.session is not None:
            eventless = self._guard.find_eventless_directories()
            self._tell_eventless(eventless)
            self.session.event_processor.rescanner.eventless_directories = tuple(eventless)
            for path in released:
                self.session.watcher.rewatch(path)
        return start

    def accept_source(self) -> bool:
        """Take the source, and what is mounted below it, as it is now; tell whether it is there."""
        try:
            self._guard.accept()
        except OSError as error:
            log.error(  # noqa: TRY400  # it is not about the program
                "The source %s cannot be used: %s.", self._shown, error.strerror
            )
            return False
        return True

    def report_held(self, reason: str) -> None:
        """Say that the source is held."""
        self.hold_reason = reason
        log.error(
            "The source %s is held: %s. Nothing is sent, and nothing deleted, until it is back. "
            "If it is meant to be as it is now, say so with pylsyncctl release, or the signal "
            "USR2.", self._shown, reason,
        )  # fmt: skip

    def report_held_subtrees(self) -> list[bytes]:
        """Say which subtrees are held; return those that are so no more."""
        held = dict(self._guard.held_subtrees)
        for path, reason in held.items():
            if path not in self._told:
                log.error(
                    "%s in the source is held: %s. Its copies stay as they are until that is "
                    "undone, or pylsyncctl release, or the signal USR2, says that it is meant so.",
                    paths.printable(path), reason,
                )  # fmt: skip
        released = [path for path in self._told if path not in held]
        for path in released:
            log.log(NOTICE, "%s in the source is synced again.", paths.printable(path))
        self._told = held
        return released

    def _tell_eventless(self, eventless: Collection[bytes]) -> None:
        """Say what is looked through since its file system does not tell what happens elsewhere."""
        for path in sorted(set(eventless) - self._told_eventless):
            log.warning(
                "%s is on a file system that does not tell what is changed elsewhere: it is looked "
                "through every %g s.",
                paths.printable(path) if path else self._shown, self._sync.poll_interval,
            )  # fmt: skip
        self._told_eventless.update(eventless)

    def _follow(self, *, is_same: bool) -> Moment | None:
        """Take what stands in the source's place for the source."""
        self.stop_watching()
        # It is all compared.
        self._buffer.take()
        start = clock.now()
        try:
            self._guard.accept(self._guard.accepted.nested_mounts)
            directories = self.start_watching().event_processor.directory_count
        except (OSError, WatchError) as error:
            if str(error) != self._told_failure:
                log.error("%s", error)  # noqa: TRY400  # it is not about the program
                self._told_failure = str(error)
            self.hold_reason = f"it cannot be watched ({error})"
            return None
        self._told_failure = ""
        log.log(
            NOTICE, "The source %s %s (%s). Everything is compared.",
            self._shown, "is back" if is_same else "was replaced by another directory",
            format_count(directories, "directory"),
        )  # fmt: skip
        return start
