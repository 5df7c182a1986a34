"""Adds, moves and drops watches, so that the watch tree equals the directories on the disk.

* Watch, then list: what appears in a directory before it is watched is in the listing, what appears
  afterwards is an event.
* A directory gets its place in the tree only after watch descriptors have identified it and its
  parent. A known one is attached with all below it: it was watched all the time, under any name. An
  unknown one is listed.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Iterator, Mapping

from pylsyncd.model import paths
from pylsyncd.model.changes import MutableChangeset
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk
from pylsyncd.system.working_directory import own_working_directory
from pylsyncd.watcher.catchup_scan import CatchupScan, ScanPurpose
from pylsyncd.watcher.hard_link_search import FoundHardLinks
from pylsyncd.watcher.inotify import WatchingInstance
from pylsyncd.watcher.opened_directories import NOT_THERE, OpenedDirectories
from pylsyncd.watcher.prefetched_events import PrefetchedEvents
from pylsyncd.watcher.watch_tree import WatchTree, child_path
from pylsyncd.watcher.watches import WatchResult

_DIRECTORIES_BETWEEN_READS = 256


class WatchManager:
    """The watches of one source. Used by one thread at a time.

    Raises OSError if the source itself cannot be opened or watched. Nothing below it is watched
    before the first :meth:`scan`.
    """

    def __init__(
        self,
        source: bytes,
        inotify_instance: WatchingInstance,
        rules: Rules,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Create it; ``on_progress(number of watched directories)`` is called during walks."""
        self._source = source
        self._inotify = inotify_instance
        self._rules = rules
        self._on_progress = on_progress
        self.events = PrefetchedEvents(inotify_instance)
        """The events that were read and not processed yet."""
        self._visited_count = 0
        # During a scan: whether each directory is listed, also a known one, and the search for
        # changes.
        self._lists_all = False
        self._scan: CatchupScan | None = None
        self.has_scanned_files = False
        """Whether a scan of the whole source has looked at files and found all hard links."""
        self.found_hard_links = FoundHardLinks()
        """What scans have found about hard links."""
        self.unwatched: dict[tuple[int, bytes], int] = {}
        """The error numbers of directories that cannot be watched, by parent descriptor and name.

        The directories below them are not watched either.
        """
        # The directories that do not report modifications.
        self._without_modify: set[int] = set()
        self._newly_unwatched: list[tuple[int, bytes]] = []
        with walk.opened_root(source) as root:
            self.tree = WatchTree(inotify_instance.add_watch(root))
            # Only the root's device, whose number cannot be reused while the root is watched.
            self._devices = walk.devices_with_link_counts() & {os.fstat(root).st_dev}
        self.directories = OpenedDirectories(source, inotify_instance, self.tree)
        """The watched directories that are open."""

    @property
    def directory_count(self) -> int:
        """The number of watched directories."""
        return len(self.tree)

    @property
    def unwatched_count(self) -> int:
        """The number of directories that cannot be watched, without those below them."""
        return len(self.unwatched)

    def watched_paths(self) -> set[bytes]:
        """Return the paths of the watched directories."""
        return {path for wd in self.tree if (path := self.tree.path(wd)) is not None}

    def watch_subtree(self, parent: int, name: bytes, *, is_moved: bool = False) -> WatchResult:
        """Watch the directory that is at ``name`` now, and all below it.

        ``is_moved`` if it is probably a known one.
        """
        above = self.tree.path(parent)
        if above is None:
            return WatchResult.PARENT_MOVED
        if self._rules.matches(paths.join(above, name), is_directory=True):
            return WatchResult.EXCLUDED
        try:
            with self.directories:
                directory = self.directories.find(parent, above)
                if directory is None:
                    return WatchResult.PARENT_MOVED
                return self._watch_child(directory, parent, name, is_moved=is_moved)
        except OSError as error:
            # At the limit of watches, it is not the parent, which has one.
            if error.errno in NOT_THERE or error.errno == errno.ENOSPC:
                return WatchResult.PARENT_MOVED
            self._record_unwatched(parent, name, error)
            return WatchResult.UNWATCHABLE

    def directories_in_source(self) -> list[bytes]:
        """Return the names of the directories in the source itself, watched or not."""
        root = self.tree.root_wd
        names = [name for parent, name in self.unwatched if parent == root]
        return [*self.tree.child_names(root), *names]

    def unwatched_paths(self) -> list[bytes]:
        """Return the paths of the directories that cannot be watched."""
        found = (child_path(self.tree, *key) for key in self.unwatched)
        return [path for path in found if path is not None]

    def count_lacking_watches(self) -> int:
        """Return how many directories are not watched for lack of watches, by walking them."""
        count = 0

        def enter(_directory: int, parent: bytes, name: bytes) -> bytes | None:
            nonlocal count
            path = paths.join(parent, name)
            if self._rules.matches(path, is_directory=True):
                return None
            count += 1
            self._count_directory()
            return path

        for parent, name in [key for key, code in self.unwatched.items() if code == errno.ENOSPC]:
            # One that is gone or unreadable needs no watch.
            with contextlib.suppress(OSError), walk.opened_root(self._source) as root:
                if (path := child_path(self.tree, parent, name)) is not None:
                    with walk.opened_below(root, path) as directory:
                        count += 1
                        walk.descend(directory, path, enter, lambda *_: None)
        return count

    def is_in_place(self, parent: int, name: bytes) -> bool:
        """Return True if what is at ``name`` now is what is watched, or known as unwatchable."""
        wd = self.tree.child(parent, name)
        if wd is None:
            return (parent, name) in self.unwatched
        with contextlib.suppress(OSError), self.directories.opened(wd) as directory:
            return directory is not None
        return False

    def scan(
        self,
        since_ns: Collection[int] = (),
        top: int | None = None,
        purpose: ScanPurpose = ScanPurpose.REPLACE_EVENTS,
    ) -> Mapping[int, MutableChangeset]:
        """Make the watches equal to the disk; return the changes since each of the ctimes.

        ``since_ns`` are ctimes in nanoseconds; files are looked at only if there are any. ``top``
        is the directory to scan, the source by default. Raises OSError if it is gone or replaced.
        """
        top = self.tree.root_wd if top is None else top
        self._lists_all = True
        self.tree.start_marking(top)
        with self._catchup_scan(since_ns, purpose) as scan:
            try:
                with self.directories.opened(top) as directory:
                    path = self.tree.path(top)
                    if path is None or directory is None:
                        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), self._source)
                    if scan:
                        scan.visit_directory(directory, path, was_there=True)
                    with own_working_directory():
                        self._walk(directory, top)
                    if scan and top == self.tree.root_wd:
                        scan.recheck_hard_links(directory)
                self._remove_missing(top)
            finally:
                self._lists_all = False
                self.tree.stop_marking()
            if scan:
                self._scan_unwatched(scan)
        self.has_scanned_files |= scan is not None and top == self.tree.root_wd
        return scan.changes if scan else {}

    def opened_watched(self, wd: int) -> contextlib.AbstractContextManager[int | None]:
        """Open a watched directory; None if it is not where the tree has it.

        Raises OSError if it cannot be opened.
        """
        return self.directories.opened(wd)

    def set_reports_modify(self, wd: int, *, is_on: bool) -> bool:
        """Have a watched directory report modifications or not; return False if it is elsewhere.

        While they are turned off, any event of it may be lost.
        """
        try:
            with self.opened_watched(wd) as directory:
                if directory is None:
                    return False
                if is_on:
                    self._inotify.add_watch(directory)
                    self._without_modify.discard(wd)
                else:
                    self._inotify.remove_modify(directory)
                    self._without_modify.add(wd)
        except OSError:
            return False
        return True

    def forget_reports_modify(self, wd: int) -> None:
        """Forget about a directory that is watched no longer."""
        self._without_modify.discard(wd)

    def included_files(self, directory: bytes, names: Collection[bytes]) -> set[bytes]:
        """Return the names of files in a directory that the rules do not exclude."""
        return self._rules.included_files(directory, names)

    def retry_unwatched(self, since_ns: int) -> MutableChangeset:
        """Try again to watch what could not be watched; return its changes since a ctime."""
        with self._catchup_scan([since_ns], ScanPurpose.POLL) as scan:
            for parent, name in list(self.unwatched):
                result = self.watch_subtree(parent, name)
                error = self.unwatched.get((parent, name))
                if result is WatchResult.UNWATCHABLE and error == errno.ENOSPC:
                    # There is no watch for the others either.
                    break
            if scan:
                self._scan_unwatched(scan)
                return scan.changes[since_ns]
        return MutableChangeset()

    def remove_subtree(self, wd: int) -> None:
        """Stop watching a directory and all below it."""
        for removed in self.tree.remove_subtree(wd):
            self._inotify.remove_watch(removed)

    def prefetch_events(self) -> None:
        """Empty the kernel's queue, so that it does not overflow, and report progress."""
        self._on_progress(len(self.tree))
        self.events.read_during_walk()

    def take_newly_unwatched(self) -> list[tuple[int, bytes]]:
        """Return the keys that were added to ``unwatched`` since the last call."""
        new, self._newly_unwatched = self._newly_unwatched, []
        return new

    @contextlib.contextmanager
    def _catchup_scan(
        self, since_ns: Collection[int], purpose: ScanPurpose
    ) -> Iterator[CatchupScan | None]:
        """Have walks search for changes, if there is a ctime to compare with."""
        if since_ns:
            self._scan = CatchupScan(since_ns, self._rules, self.prefetch_events, purpose)
        try:
            yield self._scan
        finally:
            if self._scan is not None and self._scan.hard_links.paths_by_file:
                self.found_hard_links.put(self._scan.hard_links.paths_by_file)
            self._scan = None

    def _remove_missing(self, top: int) -> None:
        """Remove the directories below ``top`` that a scan has not found."""
        # Detached directories are below the source.
        known = self.tree if top == self.tree.root_wd else self.tree.descendants(top)
        for wd in [wd for wd in known if not self.tree.is_marked(wd)]:
            if wd in self.tree:
                self.remove_subtree(wd)

    def _scan_unwatched(self, scan: CatchupScan) -> None:
        """Scan the directories that are not watched, and forget those that are gone."""
        for parent, name in list(self.unwatched):
            path = child_path(self.tree, parent, name)
            if path is None and parent not in self.tree:
                del self.unwatched[parent, name]
            if path is None:
                continue
            try:
                # There is no watch that proves which directory was opened: no symlink is followed.
                with walk.opened_root(self._source) as root:
                    directory = walk.open_below(root, path)
            except OSError as error:
                if error.errno in NOT_THERE:
                    del self.unwatched[parent, name]
                continue
            try:
                # If it can be opened but not listed, the next scan tries again.
                with contextlib.suppress(OSError):
                    scan.scan_unwatched(directory, path)
            finally:
                os.close(directory)

    def _attach_known(self, above: int, parent: int, name: bytes) -> bool:
        """Place what is at ``name`` if it is a known directory that need not be listed."""
        if self._without_modify or self._rules.depends_on_directory or self._scan is not None:
            return False
        try:
            wd = self._inotify.add_watch_at(above, name)
        except OSError:
            return False
        if wd not in self.tree:
            # What is opened there may be another one.
            self._inotify.remove_watch(wd)
            return False
        self.tree.attach(wd, parent, name)
        self.unwatched.pop((parent, name), None)
        return True

    def _watch_child(self, above: int, parent: int, name: bytes, *, is_moved: bool) -> WatchResult:
        if is_moved and self._attach_known(above, parent, name):
            return WatchResult.WATCHED
        try:
            directory = walk.open_child(above, name)
        except OSError as error:
            self._record_unwatched(parent, name, error)
            is_absent = error.errno in NOT_THERE
            return WatchResult.ABSENT if is_absent else WatchResult.UNWATCHABLE
        try:
            wd = self._visit(directory, parent, name)
            if wd is not None:
                self._walk(directory, wd)
        except OSError as error:
            self._record_unwatched(parent, name, error)
        finally:
            os.close(directory)
        is_watched = self.tree.child(parent, name) is not None
        return WatchResult.WATCHED if is_watched else WatchResult.UNWATCHABLE

    def _walk(self, directory: int, wd: int) -> None:
        walk.descend(directory, wd, self._visit, self._record_unwatched, self._list)

    def _list(self, directory: int, wd: int) -> list[str]:
        if self._scan is None:
            return walk.subdirectories(directory, self._devices)
        path = self.tree.path(wd)
        return [] if path is None else self._scan.visit_files(directory, path)

    def _visit(self, directory: int, parent: int, name: bytes) -> int | None:
        """Watch and place an open directory; return its descriptor if it has to be listed."""
        if self._rules:
            path = child_path(self.tree, parent, name)
            if path is not None and self._rules.matches(path, is_directory=True):
                return None
        try:
            if self._without_modify:
                wd = self._watch_as_before(directory, parent, name)
            else:
                wd = self._inotify.add_watch(directory)
        except OSError as error:
            self._record_unwatched(parent, name, error)
            return None
        is_known = wd in self.tree
        is_listed = self._lists_all or not is_known
        was_there = self.tree.attach(wd, parent, name)
        if self.unwatched:
            self.unwatched.pop((parent, name), None)
        self._visited_count += 1
        if not self._visited_count % _DIRECTORIES_BETWEEN_READS:
            self.prefetch_events()
        if self._scan is not None and (path := self.tree.path(wd)) is not None:
            was_elsewhere = is_known and not was_there
            self._scan.visit_directory(
                directory, path, was_there=was_there, was_elsewhere=was_elsewhere
            )
        # With rules for whole paths, a move can include what was excluded at the old place.
        return wd if is_listed or self._rules.depends_on_directory else None

    def _watch_as_before(self, directory: int, parent: int, name: bytes) -> int:
        """Watch an open directory; one that does not report modifications does not do so now."""
        if self.tree.child(parent, name) in self._without_modify:
            wd = self._inotify.identify(directory)
            if wd in self._without_modify:
                return wd
        return self._inotify.add_watch(directory)

    def _record_unwatched(self, parent: int, name: bytes, error: OSError) -> None:
        path = child_path(self.tree, parent, name)
        if error.errno in NOT_THERE or (path and self._rules.matches(path, is_directory=True)):
            self.unwatched.pop((parent, name), None)
            return
        code = error.errno or errno.EIO
        if self.unwatched.get((parent, name)) == code:
            return
        if (wd := self.tree.child(parent, name)) is not None:
            # It is watched, but could not be listed: the next attempt has to start again.
            self.remove_subtree(wd)
        self.unwatched[parent, name] = code
        self._newly_unwatched.append((parent, name))
        # A directory that lacks only a watch is scanned instead.
        if self._scan is not None and path is not None and code != errno.ENOSPC:
            self._scan.add_unreadable(path)

    def _count_directory(self) -> None:
        self._visited_count += 1
        if not self._visited_count % _DIRECTORIES_BETWEEN_READS:
            self.prefetch_events()
