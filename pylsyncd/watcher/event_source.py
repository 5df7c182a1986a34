"""Where the events of a source come from. The stages after it do not know which it is.

* inotify, with a watch on each directory;
* fanotify, with a mark on each file system.
"""

import errno
import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from pylsyncd.config.settings import SyncSettings, WatchMethod
from pylsyncd.model import paths
from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.moments import Moment
from pylsyncd.system import capabilities
from pylsyncd.watcher import fanotify
from pylsyncd.watcher.event_processor import EventProcessor
from pylsyncd.watcher.fanotify import Fanotify
from pylsyncd.watcher.fanotify_processor import FanotifyProcessor
from pylsyncd.watcher.hard_link_search import FoundHardLinks
from pylsyncd.watcher.inotify import Inotify, WatchingInstance, read_limit
from pylsyncd.watcher.marked_source import MarkedSource
from pylsyncd.watcher.open_files import OpenFiles
from pylsyncd.watcher.rescanner import Rescanner, RescanPlan
from pylsyncd.watcher.watch_manager import WatchManager

log = logging.getLogger(__name__)

_NOT_THERE: Final = frozenset([errno.ENOENT, errno.ENOTDIR, errno.ELOOP])


class Processor(Protocol):
    """What turns the events of one source into changes. Used by the thread of the watcher."""

    @property
    def is_source_lost(self) -> bool:
        """Whether the source itself was deleted, moved away or unmounted. Thread-safe."""

    @property
    def has_changes(self) -> bool:
        """Whether :meth:`take_changes` may return something."""

    @property
    def due_at(self) -> float | None:
        """When :meth:`scan_if_due` or a transfer is due, by the monotonic clock."""

    def process_next(self) -> bool:
        """Process the next chunk of events; return False if there are none."""

    def take_changes(self, *, includes_open_files: bool = False) -> MutableChangeset:
        """Return the changes since the last call."""

    def update_complete_until(self) -> Moment:
        """Return the moment before which every change was taken."""

    def scan_if_due(self) -> bool:
        """Scan for changes without events, if that is due; return True if it was."""

    def rewatch(self, path: bytes, *, only_if_replaced: bool = False) -> None:
        """Watch the directory that is at a path now; its whole tree is a change."""


class Watched(Protocol):
    """What a session needs to know of the watches."""

    @property
    def has_scanned_files(self) -> bool:
        """Whether a scan of the whole source has found all hard links."""

    @property
    def directory_count(self) -> int:
        """The number of watched directories; 0 if it is unknown."""

    @property
    def unwatched_count(self) -> int:
        """The number of directories that cannot be watched, without those below them."""

    @property
    def found_hard_links(self) -> FoundHardLinks:
        """What scans have found about hard links."""


@dataclass(frozen=True, slots=True)
class EventSource:
    """The parts of one source of events. Its creator closes it."""

    descriptor: int
    """Readable when there are events."""
    close: Callable[[], None]
    watches: Watched
    rescanner: Rescanner[int] | Rescanner[bytes]
    open_files: OpenFiles[int] | OpenFiles[bytes]
    processor: Processor
    is_marked: bool = False
    """Whether marks on file systems take the place of watches on directories."""


def open_inotify(
    sync: SyncSettings,
    plan: RescanPlan,
    on_progress: Callable[[int], None],
    mask_counts: Counter[int] | None,
    open_instance: Callable[[], WatchingInstance] = Inotify,
) -> EventSource:
    """Watch a source by inotify. Raises OSError, or WatchError if there is no instance left."""
    instance = open_instance()
    try:
        watches = WatchManager(sync.source.path, instance, sync.rules, on_progress)
        open_files: OpenFiles[int] = OpenFiles(sync.window, sync.open_file_delay)
        rescanner = Rescanner(watches, plan, open_files.holds_back)
    except OSError:
        instance.close()
        raise
    processor = EventProcessor(watches, rescanner, sync.rules, open_files, mask_counts)
    return EventSource(
        instance.descriptor, instance.close, watches, rescanner, open_files, processor
    )  # fmt: skip


def open_fanotify(
    sync: SyncSettings,
    plan: RescanPlan,
    on_progress: Callable[[int], None],
    mask_counts: Counter[int] | None,
) -> EventSource:
    """Watch a source and the file systems mounted below it by fanotify.

    Raises OSError if that is not permitted, or if the file system of the source has no handles.
    Other file systems without handles are scanned.
    """
    group = Fanotify()
    try:
        source = MarkedSource(
            sync.source.path, group, sync.rules, plan.find_mounts, on_progress
        )  # fmt: skip
        open_files: OpenFiles[bytes] = OpenFiles(sync.window, sync.open_file_delay)
        rescanner = Rescanner(source, plan)
        rescanner.add_eventless(source.mark_mounts().unmarked)
    except OSError:
        group.close()
        raise
    processor = FanotifyProcessor(group, source, rescanner, sync.rules, open_files, mask_counts)
    return EventSource(
        group.descriptor, group.close, source, rescanner, open_files, processor, is_marked=True
    )  # fmt: skip


class ManyDirectoriesError(Exception):
    """A walk has found more directories than inotify should watch."""


def open_events(  # noqa: PLR0913  # the last ones are passed by name
    sync: SyncSettings,
    plan: RescanPlan,
    on_progress: Callable[[int], None],
    mask_counts: Counter[int] | None,
    *,
    has_many_directories: bool = False,
    open_instance: Callable[[], WatchingInstance] = Inotify,
) -> EventSource:
    """Watch a source by the method of its settings, or by inotify where that is not possible.

    With ``auto`` the initial scan raises ManyDirectoriesError if the source needs more than half of
    the permitted watches: then call this again, ``has_many_directories``. Raises OSError, or
    WatchError if there is no inotify instance left.
    """
    is_automatic = sync.watch is WatchMethod.AUTO
    if sync.watch is WatchMethod.INOTIFY:
        return open_inotify(sync, plan, on_progress, mask_counts, open_instance)
    try:
        events = open_fanotify(sync, plan, on_progress, mask_counts)
    except OSError as error:
        if error.errno in _NOT_THERE:
            # That is no reason for another method, but for the caller to wait for the source.
            raise
        log.log(
            logging.INFO if is_automatic else logging.WARNING,
            "The source %s is watched by inotify: fanotify is not possible (%s).",
            paths.printable(sync.source.path), _explain(error),
        )  # fmt: skip
        return open_inotify(sync, plan, on_progress, mask_counts, open_instance)
    if not is_automatic or has_many_directories:
        return events
    events.close()
    limit = read_limit("max_user_watches") // 2

    def count(directories: int) -> None:
        if directories > limit:
            raise ManyDirectoriesError
        on_progress(directories)

    return open_inotify(sync, plan, count, mask_counts, open_instance)


def _explain(error: OSError) -> str:
    """Return why there is no fanotify, and what to do."""
    if error.errno == errno.EPERM:
        return _explain_refusal()
    if error.errno == errno.EMFILE:
        limit = fanotify.read_group_limit()
        return (
            "this user has no groups left, of which each sync takes one "
            f"(fs.fanotify.max_user_groups is {limit}): run "
            f"`sysctl -w fs.fanotify.max_user_groups={2 * limit}`"
        )
    if error.errno in {errno.EINVAL, errno.ENOSYS}:
        return "it needs Linux 5.9"
    if error.errno in {errno.EOPNOTSUPP, errno.ENODEV, errno.EXDEV, errno.EOVERFLOW}:
        return "the file system of the source has no handles for it"
    return error.strerror or str(error)


def _explain_refusal() -> str:
    """Return why fanotify is not permitted, and what to do."""
    missing = capabilities.find_missing((capabilities.SYS_ADMIN, capabilities.DAC_READ_SEARCH))
    if missing and os.geteuid():
        return f"it needs {' and '.join(missing)}: run pylsyncd as root, without --user"
    if missing:
        return (
            f"it needs {' and '.join(missing)}, which the container or the systemd unit takes away "
            "from root: permit it, in the unit with the drop-in pylsyncd-fanotify.conf"
        )
    return (
        "a user namespace, or a filter of system calls in the container or the systemd unit, "
        "forbids it: permit it, in the unit with the drop-in pylsyncd-fanotify.conf"
    )
