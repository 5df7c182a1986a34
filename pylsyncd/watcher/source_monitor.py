"""Watches the source while it is there, and notices when it is gone, replaced or back."""

import logging
import shlex
from collections.abc import Collection, Mapping
from typing import NamedTuple

from pylsyncd.config.settings import SyncSettings
from pylsyncd.model import paths
from pylsyncd.model.changes import ALL_NEW, Changeset, MutableChangeset, everything_with
from pylsyncd.model.errors import WatchError
from pylsyncd.model.formatting import format_count
from pylsyncd.model.moments import Moment, reason_to_distrust
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.system import clock
from pylsyncd.system.logs import NOTICE
from pylsyncd.watcher import inotify
from pylsyncd.watcher.rescanner import RescanPlan
from pylsyncd.watcher.source_guard import SourceGuard, SourceState
from pylsyncd.watcher.watch_session import MonitorContext, WatchSession, watch_error

log = logging.getLogger(__name__)


class SourceRestart(NamedTuple):
    """A source that was replaced or is back, so that everything may have changed."""

    started: Moment
    """Every change after this moment is seen."""
    changes: Changeset
    """Everything, with what is known of the contents."""


class SourceMonitor:
    """The monitor of one source: it starts and stops the watch session.

    Used by the source's own thread.
    """

    def __init__(
        self, sync: SyncSettings, guard: SourceGuard, buffer: Buffer, context: MonitorContext
    ) -> None:
        self._sync = sync
        self._guard = guard
        self._buffer = buffer
        self._context = context
        self._shown = paths.printable(sync.source.path)
        # Each destination stands for the source of a sync without a name.
        self._release_name = shlex.quote(
            sync.name or next((each.name for each in sync.destinations), "DEST")
        )
        self.hold_reason = ""
        """Why the source is held; empty if it is not."""
        self._reported_held: dict[bytes, str] = {}
        self._reported_error = ""
        self._reported_eventless: set[bytes] = set()
        self._past_overflows = 0
        # Up to when the changes of the session before are known.
        self._known_until: Moment | None = None
        self._is_changing = False
        self.session: WatchSession | None = None
        """None while the source is held."""

    def start_watching(
        self,
        since_ns: Collection[int] = (),
        last_scan: Moment | None = None,
        deferrable_since: Moment | None = None,
    ) -> Mapping[int, MutableChangeset]:
        """Watch the source; return the changes since each of the ctimes.

        ``last_scan`` is the start of the last periodic scan, in an earlier run. If these changes
        may come later, ``deferrable_since`` is the moment of the earliest ctime: then they may be
        missing, and :attr:`caught_up_until` be that moment. Raises WatchError if the source cannot
        be watched.
        """
        sync = self._sync
        try:
            eventless = self._guard.find_eventless_directories()
            without_ctimes = self._guard.find_directories_without_ctimes()
        except OSError as error:
            raise watch_error(sync.source.path, error) from None
        plan = RescanPlan(
            since_ns, eventless, without_ctimes, sync.poll_interval, sync.scan_interval,
            sync.scan_budget, find_mounts=self._guard.find_mounts, last_scan=last_scan,
        )  # fmt: skip
        self._report_eventless(plan.eventless_directories)
        session = WatchSession(sync, plan, self._buffer, self._context)
        changes = session.start(deferrable_since)
        self.session = session
        self.hold_reason = ""
        return changes

    def apply_settings(self, sync: SyncSettings) -> None:
        """Use the window and the open file interval of other settings from now on."""
        self._sync = sync
        if self.session is not None:
            self.session.watcher.set_open_file_times(sync.window, sync.open_file_delay)

    def stop_watching(self) -> None:
        """Stop the watch session, if there is one."""
        if self.session is not None:
            self.session.stop()
            self._known_until = self.caught_up_until or self.session.watcher.complete_until
            self._past_overflows += self.session.rescanner.overflow_count
            self.session = None

    @property
    def is_catching_up(self) -> bool:
        """Whether a scan for what changed before the start goes on; any thread may ask."""
        session = self.session
        return session is not None and session.is_catching_up

    @property
    def caught_up_until(self) -> Moment | None:
        """The moment since which that scan looks for changes; None without one."""
        return self.session.caught_up_until if self.session is not None else None

    @property
    def directory_count(self) -> int:
        """The number of watched directories."""
        session = self.session
        return session.watches.directory_count if session is not None else 0

    def describe_watch(self) -> str:
        """Return how the source is watched, for a message."""
        if self.session is not None and self.session.events.is_marked:
            return "by fanotify"
        return format_count(self.directory_count, "directory")

    @property
    def unwatched_count(self) -> int:
        """The number of directories that cannot be watched, without those below them."""
        session = self.session
        return session.watches.unwatched_count if session is not None else 0

    @property
    def oldest_look(self) -> float | None:
        """How many seconds ago the last scan started that is complete; None without scans."""
        session, sync = self.session, self._sync
        if session is None or not (sync.scan_budget or sync.scan_interval):
            return None
        since, now = session.rescanner.last_scan, clock.now()
        is_same_boot = since.boot == now.boot
        return max(0.0, now.running - since.running if is_same_boot else now.wall - since.wall)

    @property
    def overflow_count(self) -> int:
        """How many times the kernel has dropped events since the start."""
        session = self.session
        present = session.rescanner.overflow_count if session is not None else 0
        return self._past_overflows + present

    def events_by_type(self) -> dict[str, int]:
        """Return the number of events of each type; empty if they are not counted."""
        counts = self._context.mask_counts
        return inotify.events_by_type(counts) if counts is not None else {}

    @property
    def is_source_changing(self) -> bool:
        """Whether the source was lost or replaced, and its full sync is not queued yet.

        Any thread may ask.
        """
        session = self.session
        is_lost = session is not None and session.event_processor.is_source_lost
        return self._is_changing or is_lost

    @property
    def is_source_known(self) -> bool:
        """Whether the source is watched, and was there at the last check."""
        return self.session is not None and not self.is_source_changing

    @property
    def held_subtrees(self) -> Mapping[bytes, str]:
        """The subtrees that are held, with the reasons; any thread may ask."""
        return self._guard.held_subtrees

    def record_full_sync(self) -> None:
        """Record that the full sync is queued which :meth:`check_source` has asked for."""
        self._is_changing = False

    def check_source(self, *, should_hold: bool = True) -> SourceRestart | None:
        """Compare the source with the accepted one, and start or stop the watch session.

        Returns something if the source was replaced or is back: a full sync is needed. Call
        :meth:`record_full_sync` once it is queued. Without ``should_hold`` a source that has to be
        held is left to the next check: a program that replaces the source may be at work.
        """
        state, reason = self._guard.check_state()
        if state is SourceState.HELD and not should_hold:
            self._is_changing = self.session is not None
            return None
        if state is SourceState.HELD:
            self._is_changing = False
            if self.session is not None or reason != self.hold_reason:
                self.stop_watching()
                self.report_held(reason)
            return None
        restart, session = None, self.session
        is_lost = session is None or session.event_processor.is_source_lost
        if state is SourceState.SAME and not is_lost:
            self._is_changing = False
        else:
            self._is_changing = True
            is_same = state is not SourceState.REPLACED
            restart = self._restart_watching(is_same=is_same)
        self._guard.update_held_subtrees()
        self._have_copies_checked()
        # One may have been held between two checks only.
        released = {*self.report_held_subtrees(), *self._guard.take_released()}
        exchanged, remounted = self._guard.take_exchanged(), self._guard.take_remounted()
        self._add_trees(released, exchanged)
        if (released or exchanged or remounted) and self.session is not None:
            self._rewatch(self.session, released | exchanged, remounted)
        return restart

    def _have_copies_checked(self) -> None:
        """Make a change of each subtree that was mounted over, so that its copies are looked at."""
        new_mounts = self._guard.new_mounts
        self._add_trees(new_mounts.keys() - self._reported_held.keys(), ())

    def accept_source(self) -> bool:
        """Accept the source and its mounts as they are now; return False if it is not there."""
        try:
            self._guard.accept()
        except OSError as error:
            log.error(  # noqa: TRY400  # it is not about the program
                "Cannot use the source %s: %s.", self._shown, error.strerror
            )
            return False
        return True

    def report_held(self, reason: str, *, can_be_released: bool = True) -> None:
        """Hold the source, and log why."""
        self.hold_reason = reason
        if not can_be_released:
            log.error(
                "The source %s is held: %s. Nothing is sent and nothing is deleted until it is "
                "there. Its sync starts by itself then.", self._shown, reason,
            )  # fmt: skip
            return
        log.error(
            "The source %s is held: %s. Nothing is sent and nothing is deleted until it is back. "
            "If the source is right as it is now, run `pylsyncctl release %s` or send the signal "
            "USR2.", self._shown, reason, self._release_name,
        )  # fmt: skip

    def report_held_subtrees(self) -> list[bytes]:
        """Log which subtrees are held or released; return the released ones."""
        held = dict(self._guard.held_subtrees)
        for path, reason in held.items():
            if self._reported_held.get(path) != reason:
                log.error(
                    "%s in the source is held: %s. Its copies stay unchanged until the mount is as "
                    "before. If it is right as it is now, run `pylsyncctl release %s` or send the "
                    "signal USR2.", paths.printable(path), reason, self._release_name,
                )  # fmt: skip
        released = [path for path in self._reported_held if path not in held]
        for path in released:
            log.log(NOTICE, "%s in the source is synced again.", paths.printable(path))
        self._reported_held = held
        return released

    def _report_eventless(self, directories: Collection[bytes]) -> None:
        """Log each directory that is scanned because its file system sends no events."""
        for path in sorted(set(directories) - self._reported_eventless):
            log.warning(
                "%s is on a file system that does not report changes made elsewhere: it is scanned "
                "every %g s.",
                paths.printable(path) if path else self._shown, self._sync.poll_interval,
            )  # fmt: skip
        self._reported_eventless.update(directories)

    def _add_trees(self, released: Collection[bytes], exchanged: Collection[bytes]) -> None:
        """Make changes of subtrees; all files of the exchanged ones may be others."""
        trees = MutableChangeset()
        for path in (*released, *exchanged):
            trees.add(path, Scope.TREE)
        for path in exchanged:
            trees.new_content.add(path, Scope.TREE)
        if trees:
            self._buffer.add(trees)

    def _rewatch(
        self, session: WatchSession, released: Collection[bytes], remounted: Collection[bytes]
    ) -> None:
        """Watch the directories again that were released, or perhaps mounted again."""
        try:
            eventless = self._guard.find_eventless_directories()
            without_ctimes = self._guard.find_directories_without_ctimes()
        except OSError:
            # The next check finds a source that is held or replaced.
            return
        self._report_eventless(eventless)
        session.rescanner.set_mounts(eventless, without_ctimes)
        for path in released:
            session.watcher.rewatch(path)
        for path in remounted:
            session.watcher.rewatch(path, only_if_replaced=True)

    def _restart_watching(self, *, is_same: bool) -> SourceRestart | None:
        """Watch the source that is there now; return None if it cannot be watched."""
        self.stop_watching()
        # The full sync covers these changes, but not what is known of their contents.
        changes: list[Changeset] = [self._buffer.take()]
        started, known_until = clock.now(), self._known_until
        try:
            self._guard.accept_replacement()
            if is_same and known_until and not reason_to_distrust(known_until, started):
                changes += self.start_watching([known_until.since_ns]).values()
            else:
                self.start_watching()
        except (OSError, WatchError) as error:
            if str(error) != self._reported_error:
                log.error("%s", error)  # noqa: TRY400  # it is not about the program
                self._reported_error = str(error)
            self.hold_reason = f"it cannot be watched ({error})"
            return None
        self._reported_error = ""
        log.log(
            NOTICE, "The source %s %s (%s). Starting a full sync.",
            self._shown, "is back" if is_same else "was replaced by another directory",
            self.describe_watch(),
        )  # fmt: skip
        return SourceRestart(started, everything_with(*changes) if is_same else ALL_NEW)
