"""The catch-up scan: finds what has changed since a ctime by walking the source alone.

The kernel sets an inode's ctime at every change of its content or its attributes, and no program
can set it back. A rename, measured on ext4 and tmpfs, sets the ctime of the moved entry and of both
directories, but of nothing below a moved directory. So

* an entry with a fresh ctime is a change;
* a directory with a fresh ctime may have lost or gained names: its listing is a change;
* a directory with a fresh ctime in such a directory may have been moved there, with old ctimes
  inside: its whole tree is a change, unless it is known to have been there before. So is a btrfs
  subvolume in such a directory: a snapshot has the ctimes of its origin, its own one included.
  XFS leaves the ctimes of two entries of one directory that are exchanged (Linux 6.18): only the
  watch tree, where there is one, tells that these were moved.

Which of these have the hint of a new content depends on the purpose of the scan.
"""

import os
from collections.abc import Callable, Collection, Mapping
from enum import Enum, auto
from itertools import chain

from pylsyncd.model import paths
from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk
from pylsyncd.watcher.hard_link_search import HardLinkCollector, stat_existing


class ScanPurpose(Enum):
    """What a scan is made for, which decides where it finds new contents.

    A fresh ctime does not say if the content or only an attribute has changed. If it was an
    attribute, the hint of a new content costs a comparison.
    """

    REPLACE_EVENTS = auto()
    """Events were lost, or there were none: any content may be new.

    A file may have been carried since, and then have got another content in the same tick of the
    clock, or with its time set back.
    """
    POLL = auto()
    """There are never events. The periods of the scans overlap, so they find a change repeatedly.

    A write gives mtime and ctime the same value, and size and time tell it.
    """
    COMPLETE_EVENTS = auto()
    """No event was lost, but some changes have none. They are in files with an older time: size and
    time tell the others."""

    def has_new_content(self, status: os.stat_result, since_ns: int) -> bool:
        """Return True if a file with a ctime of ``since_ns`` or later may have a new content."""
        if self is ScanPurpose.POLL:
            return status.st_mtime_ns != status.st_ctime_ns
        return self is ScanPurpose.REPLACE_EVENTS or status.st_mtime_ns < since_ns

    def has_new_tree(self, *, was_there: bool) -> bool:
        """Return True if a directory that may have been moved here may have new contents."""
        return not (was_there and self is ScanPurpose.COMPLETE_EVENTS)


_FILES_BETWEEN_PROGRESS_CALLS = 4096
_DIRECTORIES_BETWEEN_PROGRESS_CALLS = 256


class CatchupScan:
    """A search for changes in the directories that a walk visits, parents first.

    Each of ``since_ns`` is a ctime in nanoseconds. An entry with that ctime or a later one has
    changed.
    """

    def __init__(
        self,
        since_ns: Collection[int],
        rules: Rules,
        on_progress: Callable[[], None] = lambda: None,
        purpose: ScanPurpose = ScanPurpose.REPLACE_EVENTS,
    ) -> None:
        self._purpose = purpose
        self._on_progress = on_progress
        self._file_count = 0
        self._directory_count = 0
        self._changes = {since: MutableChangeset() for since in since_ns}
        self._oldest = min(since_ns)
        self._newest = max(since_ns)
        self._rules = rules
        self.hard_links = HardLinkCollector()
        # The ctimes of fresh directories, which decide the scope of their subdirectories.
        self._fresh: dict[bytes, int] = {}
        # The topmost directories on each device, each with its device and mount id.
        self._tops: dict[bytes, tuple[int, bytes]] = {}
        self._first_device: int | None = None

    @property
    def changes(self) -> Mapping[int, MutableChangeset]:
        """The changes found so far, by the ctime since which they were made."""
        return self._changes

    def visit_directory(
        self, directory: int, path: bytes, *, was_there: bool, was_elsewhere: bool = False
    ) -> None:
        """Check an open directory; ``was_there`` if it is known to have been there before.

        One that ``was_elsewhere`` is known to have been moved here, whatever its ctime is.
        """
        status = os.fstat(directory)
        ctime = status.st_ctime_ns
        is_subvolume = status.st_dev != self._first_device and self._is_subvolume(
            directory, status.st_dev, path
        )
        if ctime < self._oldest:
            if was_elsewhere or (is_subvolume and not was_there):
                self._add_moved_tree(path)
            return
        self._fresh[path] = ctime
        # A directory that was away and came back has a ctime from that rename. A name that comes or
        # goes in it sets both times to the same value.
        has_stayed = was_there and status.st_mtime_ns == ctime
        parent_ctime = 0 if has_stayed or not path else self._fresh.get(paths.split(path)[0], 0)
        for since, changes in self._changes.items():
            if ctime < since:
                continue
            scope = Scope.TREE if parent_ctime >= since else Scope.LISTING
            changes.add(path, scope)
            if scope is Scope.TREE and self._purpose.has_new_tree(was_there=was_there):
                changes.new_content.add(path, scope)

    def _is_subvolume(self, directory: int, device: int, path: bytes) -> bool:
        """Return True if an open directory is on another device than its parent, but not mounted.

        What is mounted is known by its identity (``SourceGuard``), whatever its ctimes are.
        """
        if self._first_device is None:
            self._first_device = device
            self._tops[path] = device, _mount_id(directory)
            return False
        above = (each for each in paths.ancestors(path) if each in self._tops)
        parent_device, parent_mount = self._tops.get(next(above, path), (device, b""))
        if device == parent_device:
            return False
        mount = _mount_id(directory)
        self._tops[path] = device, mount
        return mount == parent_mount

    def _add_moved_tree(self, path: bytes) -> None:
        """Add the tree of a directory with an old ctime, if names have come to its parent."""
        parent_ctime = self._fresh.get(paths.split(path)[0], 0)
        for since, changes in self._changes.items():
            if parent_ctime >= since:
                changes.add(path, Scope.TREE)
                if self._purpose.has_new_tree(was_there=False):
                    changes.new_content.add(path, Scope.TREE)

    def add_unreadable(self, path: bytes) -> None:
        """Add the whole tree of a directory that cannot be read.

        It stays pending, with all changes inside, until rsync can read it.
        """
        for changes in self._changes.values():
            changes.add(path, Scope.TREE)

    def visit_files(self, directory: int, path: bytes) -> list[str]:
        """Check all else in an open directory; return the names of its subdirectories."""
        subdirectories = []
        # Its own listing covers its files, but not what is known of their contents.
        is_listed = self._fresh.get(path, 0) >= self._newest
        oldest = self._oldest
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    subdirectories.append(entry.name)
                    continue
                self._file_count += 1
                if not self._file_count % _FILES_BETWEEN_PROGRESS_CALLS:
                    self._on_progress()
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    # Its event is queued, and its directory has a fresh ctime by now.
                    continue
                except OSError:
                    # rsync will report the error.
                    self._add_unknown(path, os.fsencode(entry.name))
                    continue
                if status.st_nlink > 1:
                    self._collect_hard_link(status, paths.join(path, os.fsencode(entry.name)))
                if status.st_ctime_ns >= oldest:
                    self._check(path, os.fsencode(entry.name), status, is_listed=is_listed)
        return subdirectories

    def recheck_hard_links(self, root: int) -> None:
        """Check hard-linked files again after a walk through the whole source.

        A file may have changed after the walk visited it, through a name that was gone before the
        walk reached that name.
        """
        for path, status in stat_existing(root, chain(*self.hard_links.paths_by_file.values())):
            if status.st_ctime_ns >= self._oldest:
                self._check(*paths.split(path), status)

    def scan_unwatched(self, directory: int, path: bytes) -> None:
        """Check an open directory that is not watched, and all below it.

        Raises OSError if it cannot be listed.
        """
        self.visit_directory(directory, path, was_there=False)
        walk.descend(directory, path, self._visit_child, _skip, self.visit_files)

    def _visit_child(self, directory: int, parent: bytes, name: bytes) -> bytes | None:
        self._directory_count += 1
        if not self._directory_count % _DIRECTORIES_BETWEEN_PROGRESS_CALLS:
            self._on_progress()
        path = paths.join(parent, name)
        if self._rules.matches(path, is_directory=True):
            return None
        self.visit_directory(directory, path, was_there=False)
        return path

    def _is_excluded_file(self, path: bytes) -> bool:
        return self._rules.matches(path, is_directory=False)

    def _collect_hard_link(self, status: os.stat_result, path: bytes) -> None:
        if not self._is_excluded_file(path):
            self.hard_links.add(status, path)

    def _add_unknown(self, directory: bytes, name: bytes) -> None:
        if not self._is_excluded_file(paths.join(directory, name)):
            for changes in self._changes.values():
                changes.add_entries(directory, {name})

    def _check(
        self, directory: bytes, name: bytes, status: os.stat_result, *, is_listed: bool = False
    ) -> None:
        """Add a file if its ctime is fresh; of one that ``is_listed`` only the hint."""
        if self._is_excluded_file(paths.join(directory, name)):
            return
        for since, changes in self._changes.items():
            if status.st_ctime_ns < since:
                continue
            if not is_listed:
                changes.add_entries(directory, {name})
            if self._purpose.has_new_content(status, since):
                changes.new_content.add_entries(directory, {name})


def find_changes(
    source: bytes,
    since_ns: Collection[int],
    rules: Rules,
    on_progress: Callable[[], None] = lambda: None,
) -> Mapping[int, MutableChangeset]:
    """Return what has changed in a source since each of the ctimes, in nanoseconds.

    Any thread may call this, whatever else watches the source. Raises OSError if the source cannot
    be read.
    """
    scan = CatchupScan(since_ns, rules, on_progress)
    with walk.opened_root(source) as root:
        scan.scan_unwatched(root, paths.ROOT)
        scan.recheck_hard_links(root)
    return scan.changes


def _mount_id(directory: int) -> bytes:
    """Return the line with the mount id of an open directory (proc_pid_fdinfo(5))."""
    with open(f"/proc/self/fdinfo/{directory}", "rb") as lines:
        return next((line for line in lines if line.startswith(b"mnt_id:")), b"")


def _skip(_parent: bytes, _name: bytes, _error: OSError) -> None:
    """Skip an unwatched directory that cannot be opened: rsync reports the error."""
