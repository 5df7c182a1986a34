"""A source that is watched by marks on its file systems: there is a walk only for a scan.

It stands in the place of :class:`~pylsyncd.watcher.watch_manager.WatchManager` for the scans, with
the paths of directories as their descriptors.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, NamedTuple

from pylsyncd.model import paths
from pylsyncd.model.changes import MutableChangeset
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk
from pylsyncd.watcher.catchup_scan import CatchupScan, ScanPurpose
from pylsyncd.watcher.fanotify import Fanotify, handle_of, open_handle
from pylsyncd.watcher.handle_paths import HandlePaths
from pylsyncd.watcher.hard_link_search import FoundHardLinks
from pylsyncd.watcher.open_mounts import MarkedMount
from pylsyncd.watcher.watches import WatchResult

_NOT_THERE: Final = frozenset([errno.ENOENT, errno.ENOTDIR, errno.ELOOP])

# Seconds between two readings of the list of marks, which the kernel writes each time.
_MARK_CHECK_INTERVAL: Final = 0.1


class MountMarks(NamedTuple):
    """The result of marking the file systems below a source, by the paths of the mounts."""

    unmarked: list[bytes]
    """Those that cannot be marked."""
    new: list[bytes]
    """Those that had no mark before: their changes so far were not reported."""


class DirectoriesOnDisk:
    """The directories of a source, as the disk has them. Each is its own descriptor: its path."""

    root_wd = paths.ROOT

    def __init__(self, source: bytes, rules: Rules) -> None:
        self._source = source
        self._rules = rules

    def __contains__(self, path: bytes) -> bool:
        return True

    def __len__(self) -> int:
        return 0

    def walk(self) -> Iterator[bytes]:
        """Yield all directories, parents first, as they are by then."""
        waiting = [paths.ROOT]
        while waiting:
            path = waiting.pop()
            yield path
            try:
                with walk.opened_root(self._source) as root, walk.opened_below(root, path) as found:
                    names = walk.subdirectories(found)
            except OSError:
                # The slices and rsync report what cannot be read.
                continue
            children = [paths.join(path, os.fsencode(name)) for name in names]
            waiting += [
                child for child in children if not self._rules.matches(child, is_directory=True)
            ]

    def path(self, path: bytes) -> bytes:
        """Return the path of a directory."""
        return path

    def find(self, path: bytes) -> bytes:
        """Return the directory at a path."""
        return path

    def child(self, path: bytes, name: bytes) -> bytes:
        """Return the directory of that name."""
        return paths.join(path, name)

    def set_base(self) -> None:
        """Do nothing: no directory is known that could be moved."""


class MarkedSource:
    """The marks of one source, and its scans. Used by one thread at a time.

    Raises OSError if the source cannot be opened or marked.
    """

    def __init__(
        self,
        source: bytes,
        group: Fanotify,
        rules: Rules,
        find_mounts: Callable[[], Collection[bytes]] = tuple,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Create it; ``on_progress(0)`` is called during walks.

        ``find_mounts()`` returns the mount points below the source, relative paths.
        """
        self._source = source
        self._group = group
        self._rules = rules
        self._find_mounts = find_mounts
        self._on_progress = on_progress
        self.has_mounts = False
        """Whether other file systems below the source are marked."""
        self.has_scanned_files = False
        """Whether a scan of the whole source has looked at files and found all hard links."""
        self.found_hard_links = FoundHardLinks()
        """What scans have found about hard links."""
        self.unwatched: Mapping[tuple[bytes, bytes], int] = {}
        """Empty: what is not marked is scanned like a file system without events."""
        self.tree = DirectoriesOnDisk(source, rules)
        with walk.opened_root(source) as root:
            self._root = self._mark(root, paths.ROOT)
        self._root_device = group.marked_devices()
        self._marks_checked_at = time.monotonic()
        self._is_marked = True
        self.handles = HandlePaths(source, group, self._root)

    @property
    def directory_count(self) -> int:
        """0: nothing is known of the directories."""
        return 0

    @property
    def unwatched_count(self) -> int:
        """0: each directory is on a marked file system, or scanned."""
        return 0

    @property
    def is_marked(self) -> bool:
        """Whether the mark of the source is there: an unmounted file system has lost its own.

        The answer can be a tenth of a second old.
        """
        now = time.monotonic()
        if now >= self._marks_checked_at + _MARK_CHECK_INTERVAL:
            self._marks_checked_at = now
            # Without a descriptor to read them, the answer is that of before.
            with contextlib.suppress(OSError):
                self._is_marked = self._root_device <= self._group.marked_devices()
        return self._is_marked

    def mark_mounts(self) -> MountMarks:
        """Mark the file systems that are mounted below the source, and forget all paths.

        Raises OSError if the source cannot be opened.
        """
        marked, unmarked, new = [], [], []
        before = self._group.marked_devices()
        with walk.opened_root(self._source) as root:
            for path in self._find_mounts():
                try:
                    with walk.opened_below(root, path) as directory:
                        marked.append(self._mark(directory, path))
                except OSError as error:
                    # What is no directory is not listed by a scan either.
                    if error.errno not in _NOT_THERE:
                        unmarked.append(path)
                if before != (before := self._group.marked_devices()):
                    new.append(path)
        self.has_mounts = bool(marked)
        self.handles.set_mounts(marked, unmarked)
        return MountMarks(unmarked, new)

    def _mark(self, directory: int, path: bytes) -> MarkedMount:
        """Mark the file system of an open directory, which is at a path below the source."""
        fsid = self._group.add_mark(directory)
        # Needs a capability more than the mark.
        os.close(open_handle(directory, handle_of(directory)))
        return MarkedMount(path, walk.inode_id(directory), fsid)

    def scan(
        self,
        since_ns: Collection[int] = (),
        top: bytes = paths.ROOT,
        purpose: ScanPurpose = ScanPurpose.REPLACE_EVENTS,
    ) -> Mapping[int, MutableChangeset]:
        """Return the changes at and below a directory since each of the ctimes, in nanoseconds.

        Without a ctime there is nothing to do. Raises OSError if the directory is gone.
        """
        with walk.opened_root(self._source) as root:
            if walk.inode_id(root) != self._root.inode:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), self._source)
            if not since_ns:
                return {}
            scan = CatchupScan(since_ns, self._rules, self._report_progress, purpose)
            with walk.opened_below(root, top) as directory:
                scan.scan_unwatched(directory, top)
            if top == paths.ROOT:
                scan.recheck_hard_links(root)
        if scan.hard_links.paths_by_file:
            self.found_hard_links.put(scan.hard_links.paths_by_file)
        if top == paths.ROOT:
            # After the links, which the thread that reads this takes then.
            self.has_scanned_files = True
        return scan.changes

    @contextlib.contextmanager
    def opened_watched(self, path: bytes) -> Iterator[int | None]:
        """Open a directory; None if it is gone. Raises another OSError if it cannot be opened."""
        with contextlib.ExitStack() as stack:
            try:
                root = stack.enter_context(walk.opened_root(self._source))
                directory = stack.enter_context(walk.opened_below(root, path))
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise
                directory = None
            yield directory

    def watch_subtree(self, parent: bytes, name: bytes) -> WatchResult:  # noqa: ARG002  # see Watches
        """Return that a directory is watched, as all are."""
        return WatchResult.WATCHED

    def retry_unwatched(self, since_ns: int) -> MutableChangeset:  # noqa: ARG002  # see Watches
        """Return no changes: nothing is unwatched."""
        return MutableChangeset()

    def unwatched_paths(self) -> list[bytes]:
        """Return no paths: nothing is unwatched."""
        return []

    def count_lacking_watches(self) -> int:
        """Return 0: nothing is unwatched."""
        return 0

    def take_newly_unwatched(self) -> list[tuple[bytes, bytes]]:
        """Return no keys: nothing is unwatched."""
        return []

    def directories_in_source(self) -> list[bytes]:
        """Return the names of the directories in the source itself."""
        with contextlib.suppress(OSError), walk.opened_root(self._source) as root:
            return [os.fsencode(name) for name in walk.subdirectories(root)]
        return []

    def included_files(self, directory: bytes, names: Collection[bytes]) -> set[bytes]:
        """Return the names of files in a directory that the rules do not exclude."""
        return self._rules.included_files(directory, names)

    def _report_progress(self) -> None:
        self._on_progress(0)
