"""The source being watched: from its first watch until it is given up, or armed anew."""

import errno
from collections.abc import Callable

from pylsyncd.config.settings import SyncSettings
from pylsyncd.model import paths
from pylsyncd.model.errors import WatchError
from pylsyncd.model.moments import Moment
from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.system import clock
from pylsyncd.watcher import inotify
from pylsyncd.watcher.event_processor import EventProcessor
from pylsyncd.watcher.inotify import Inotify
from pylsyncd.watcher.rescanner import RescanPlan
from pylsyncd.watcher.watcher import Watcher


class WatchSession:
    """An inotify instance, the tree of its watches, and the thread that follows its events.

    Making one arms the source, which may take a while; the thread is started by :meth:`start`.
    Raises WatchError if the source cannot be watched.
    """

    def __init__(
        self,
        sync: SyncSettings,
        plan: RescanPlan,
        buffer: Buffer,
        lost: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        self._notify = Inotify(modify=sync.modify)
        self.links_unscanned_since: Moment | None = clock.now()
        """Since when nobody has looked for files with several names; None when somebody has."""
        try:
            self.event_processor = EventProcessor(sync.source.path, self._notify, sync.rules, plan)
        except OSError as error:
            self._notify.close()
            raise _cannot_watch(sync.source.path, error) from None
        self.watcher = Watcher(self._notify, self.event_processor, buffer, lost, failed)

    def start(self) -> None:
        """Begin to follow the events."""
        self.watcher.start()

    def stop(self) -> None:
        """End all watches; what was followed until now is in the buffer."""
        self.watcher.stop()
        self._notify.close()


def _cannot_watch(source: bytes, error: OSError) -> WatchError:
    if error.errno == errno.ENOSPC:
        return WatchError(inotify.watch_limit_message(0))
    return WatchError(f"The source {paths.printable(source)} cannot be watched: {error.strerror}.")
