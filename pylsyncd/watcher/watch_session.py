"""One session of watching a source: its events, and the scans beside their processing."""

import errno
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from pylsyncd.config.settings import SyncSettings
from pylsyncd.model import paths
from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.errors import WatchError
from pylsyncd.model.formatting import format_count
from pylsyncd.model.moments import Moment
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.system import clock
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.threads import ThreadMonitor
from pylsyncd.watcher import inotify
from pylsyncd.watcher.event_source import ManyDirectoriesError, open_events
from pylsyncd.watcher.hard_link_look import HardLinkLook
from pylsyncd.watcher.hard_links import HardLinks
from pylsyncd.watcher.inotify_pool import InotifyPool
from pylsyncd.watcher.rescanner import RescanPlan
from pylsyncd.watcher.scan_thread import ScanThread
from pylsyncd.watcher.watcher import Watcher

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MonitorContext:
    """What a source monitor needs of the daemon. The functions are called from any thread."""

    thread_monitor: ThreadMonitor
    on_source_lost: Callable[[], None]
    """The source itself is gone."""
    on_failed: Callable[[str], None]
    """The watcher thread has failed or is stuck; the argument is its name."""
    on_progress: Callable[[int], None] = lambda _: None
    """The initial scan goes on; the argument is the number of directories watched so far."""
    mask_counts: Counter[int] | None = None
    """Where events are counted by their masks; None for not at all."""
    inotify_pool: InotifyPool = field(default_factory=InotifyPool)
    """The inotify instances of the process."""
    on_scanned: Callable[[], None] = lambda: None
    """A scan beside the processing of events has ended: :meth:`WatchSession.take_scanned`."""


class WatchSession:
    """A source of events, the thread that processes them, and the look for hard links.

    Raises WatchError if the source cannot be watched.
    """

    def __init__(
        self, sync: SyncSettings, plan: RescanPlan, buffer: Buffer, context: MonitorContext
    ) -> None:
        self._sync = sync
        self._plan = plan
        self._source = sync.source.path
        self._buffer = buffer
        self._context = context
        self.hard_links_unknown_since: Moment | None = clock.now()
        """The start of the session; None once all hard links are known that it has had since."""
        self._look: HardLinkLook | None = None
        # What has changed before the session; None once that is in the buffer.
        self._deferred_scan: ScanThread[MutableChangeset] | None = None
        self._deferred_since: Moment | None = None
        self._has_changed = False
        self._open()

    def _open(self, *, has_many_directories: bool = False) -> None:
        context = self._context
        try:
            self.events = open_events(
                self._sync, self._plan, self._on_progress, context.mask_counts,
                has_many_directories=has_many_directories,
                open_instance=partial(context.inotify_pool.open_instance, context.on_failed),
            )  # fmt: skip
        except OSError as error:
            raise watch_error(self._source, error) from None
        self.watches, self.rescanner = self.events.watches, self.events.rescanner
        self.event_processor = self.events.processor
        self.watcher = Watcher(
            self.events, self._buffer, context.on_source_lost, context.on_failed
        )  # fmt: skip

    def start(self, deferrable_since: Moment | None = None) -> Mapping[int, MutableChangeset]:
        """Watch the whole source and start the thread; return the changes for each planned ctime.

        If a scan alone takes the time, and may come later (``deferrable_since`` is the moment of
        the earliest ctime), another thread makes it, and none are returned. Raises WatchError if
        the source is gone.
        """
        defers = deferrable_since is not None and self.events.is_marked
        try:
            changes = self._scan(only_watches=defers)
        except OSError as error:
            self.stop()
            raise watch_error(self._source, error) from None
        self.watcher.start()
        self._context.thread_monitor.add_thread(self.watcher, self._context.on_failed)
        if defers:
            self._deferred_since = deferrable_since
            self._start_deferred_scan()
        return changes

    def _start_deferred_scan(self) -> None:
        context = self._context
        self._deferred_scan = ScanThread(
            "scan after the start", self.rescanner.catch_up, context.on_scanned, context.on_failed
        )
        self._deferred_scan.start()
        context.thread_monitor.add_thread(self._deferred_scan)

    def _scan(self, *, only_watches: bool) -> Mapping[int, MutableChangeset]:
        try:
            return self.rescanner.initial_scan(only_watches=only_watches)
        except ManyDirectoriesError:
            self.stop()
            self._open(has_many_directories=True)
            return self.rescanner.initial_scan()

    def stop(self) -> None:
        """Stop the threads and remove all watches; processed events are in the buffer."""
        if self._deferred_scan is not None:
            self._deferred_scan.stop()
        if self._look is not None:
            self._look.stop()
        self.watcher.stop()
        self.rescanner.stop()
        self.events.close()

    @property
    def is_catching_up(self) -> bool:
        """Whether a scan for what has changed before the session is not in the buffer yet.

        Any thread may ask.
        """
        return self._deferred_scan is not None

    @property
    def caught_up_until(self) -> Moment | None:
        """The moment since which that scan looks for changes; None without one."""
        return self._deferred_since if self.is_catching_up else None

    @property
    def awaits_scan(self) -> bool:
        """Whether there may be changes, or other names of changed files, that a scan will find."""
        return self.is_catching_up or self.awaits_hard_links

    @property
    def awaits_hard_links(self) -> bool:
        """Whether changes may have other names that will be known later."""
        return self._has_changed and self.hard_links_unknown_since is not None

    def take_scanned(self, hard_links: HardLinks) -> None:
        """Put what scans beside the processing of events have found into the buffer."""
        scan = self._deferred_scan
        if scan is not None and scan.has_ended:
            changes = scan.found
            if changes is None:
                changes = MutableChangeset()
                changes.add(paths.ROOT, Scope.TREE)
            else:
                log.log(
                    NOTICE, "The source %s: found %s made while pylsyncd was not running.",
                    paths.printable(self._source), format_count(len(changes), "change"),
                )  # fmt: skip
            self._buffer.add(changes)
            self._deferred_scan = None
        self._take_hard_links(hard_links)

    def _take_hard_links(self, hard_links: HardLinks) -> None:
        """Add what scans have found about hard links, and put what follows into the buffer."""
        if self._plan.since_ns and self.watches.has_scanned_files:
            # The initial scan, or one that had to find the same changes.
            self.hard_links_unknown_since = None
        for paths_by_file in self.watches.found_hard_links.take():
            hard_links.remember(paths_by_file)
        look, found = self._look, None
        if look is not None and look.has_ended:
            self._look, found = None, look.found
        if found is not None:
            self.hard_links_unknown_since = None
        if self.hard_links_unknown_since is None and (found or hard_links.defers_searches):
            self._buffer.add(hard_links.complete(found))

    def look_for_hard_links(self, hard_links: HardLinks) -> None:
        """Begin a look at all files if no scan has found the hard links, after a change.

        A start should not take the time. If the source cannot be read now, or a scan is due that
        has to come first, a later call begins it.
        """
        self._has_changed = True
        if self.hard_links_unknown_since is None:
            return
        hard_links.defers_searches = True
        if self._look is not None or self.is_catching_up or self.rescanner.is_scan_pending:
            return
        context = self._context
        self._look = HardLinkLook(
            self._source, self._sync.rules, self.hard_links_unknown_since,
            context.on_scanned, context.on_failed,
        )  # fmt: skip
        self._look.start()
        context.thread_monitor.add_thread(self._look)

    def hurry_hard_links(self) -> HardLinkLook | None:
        """Have the look make no pauses; return its thread, None if there is no look now."""
        if self._look is not None:
            self._look.hurry()
        return self._look

    def _on_progress(self, directory_count: int) -> None:
        """Report the progress of a walk: of the initial scan, or in the watcher thread."""
        scan = self._deferred_scan
        if scan is not None and threading.current_thread() is scan:
            scan.report_progress()
        elif self.watcher.is_alive():
            self.watcher.report_progress()
        else:
            self._context.on_progress(directory_count)


def watch_error(source: bytes, error: OSError) -> WatchError:
    """Return what tells why a source cannot be watched, and what to do."""
    if error.errno == errno.ENOSPC:
        return WatchError(inotify.watch_limit_message(0))
    return WatchError(f"Cannot watch the source {paths.printable(source)}: {error.strerror}.")
