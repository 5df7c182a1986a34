"""A real source that is watched, without the thread that processes its events."""

from collections.abc import Callable

from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher.event_processor import EventProcessor
from pylsyncd.watcher.event_source import EventSource
from pylsyncd.watcher.inotify import WatchingInstance
from pylsyncd.watcher.open_files import OpenFiles
from pylsyncd.watcher.rescanner import Rescanner, RescanPlan
from pylsyncd.watcher.watch_manager import WatchManager


class WatchedSource:
    """The watches of a source after the initial scan, and what processes its events."""

    def __init__(
        self,
        source: bytes,
        inotify: WatchingInstance,
        rules: Rules | None = None,
        plan: RescanPlan | None = None,
        on_progress: Callable[[int], None] = lambda _: None,
        open_files: OpenFiles | None = None,
    ) -> None:
        rules = rules or Rules()
        self.inotify = inotify
        self.watches = WatchManager(source, inotify, rules, on_progress)
        if open_files is None:
            open_files = OpenFiles(0.0, 0.0)
        self.rescanner = Rescanner(self.watches, plan or RescanPlan(), open_files.holds_back)
        self.processor = EventProcessor(self.watches, self.rescanner, rules, open_files)
        self.events = EventSource(
            inotify.descriptor, inotify.close, self.watches, self.rescanner, open_files,
            self.processor,
        )  # fmt: skip
        self.initial_changes = self.rescanner.initial_scan()

    def process_events(self) -> None:
        """Process all events."""
        while self.processor.process_next():
            pass

    @property
    def has_events(self) -> bool:
        """Whether there are events, or changes that were not taken."""
        return bool(self.inotify.pending_bytes()) or self.processor.has_changes

    @property
    def paths(self) -> set[bytes]:
        """The paths of the watched directories."""
        return self.watches.watched_paths()
