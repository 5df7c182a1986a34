"""The catch-up scan: finds what has changed since a ctime by walking the source alone.

The kernel sets an inode's ctime at every change of its content or its attributes, and no program
can set it back. A rename, measured on ext4 and tmpfs, sets the ctime of the moved entry and of both
directories, but of nothing below a moved directory. So

* an entry with a fresh ctime is a change;
* a directory with a fresh ctime may have lost or gained names: its listing is a change;
* a directory with a fresh ctime in such a directory may have been moved there, with old ctimes
  inside: its whole tree is a change, unless it is known to have been there before.
"""

import os
from collections.abc import Callable, Collection, Mapping
from itertools import chain

from pylsyncd.model import paths
from pylsyncd.model.changes import MutableChangeset, Scope
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk
from pylsyncd.watcher.hard_link_search import HardLinkCollector, stat_existing

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
    ) -> None:
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

    @property
    def changes(self) -> Mapping[int, MutableChangeset]:
        """The changes found so far, by the ctime since which they were made."""
        return self._changes

    def visit_directory(self, directory: int, path: bytes, *, was_there: bool) -> None:
        """Check an open directory; ``was_there`` if it is known to have been there before."""
        status = os.fstat(directory)
        ctime = status.st_ctime_ns
        if ctime < self._oldest:
            return
        self._fresh[path] = ctime
        # A directory that was away and came back has a ctime from that rename. A name that comes or
        # goes in it sets both times to the same value.
        has_stayed = was_there and status.st_mtime_ns == ctime
        parent_ctime = 0 if has_stayed or not path else self._fresh.get(paths.split(path)[0], 0)
        for since, changes in self._changes.items():
            if ctime >= since:
                changes.add(path, Scope.TREE if parent_ctime >= since else Scope.LISTING)

    def add_unreadable(self, path: bytes) -> None:
        """Add the whole tree of a directory that cannot be read.

        It stays pending, with all changes inside, until rsync can read it.
        """
        for changes in self._changes.values():
            changes.add(path, Scope.TREE)

    def visit_files(self, directory: int, path: bytes) -> list[str]:
        """Check all else in an open directory; return the names of its subdirectories."""
        subdirectories = []
        # Its own listing covers its files.
        is_fresh = self._fresh.get(path, 0) >= self._newest
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
                    self._check(path, os.fsencode(entry.name), self._newest)
                    continue
                if status.st_nlink > 1:
                    self._collect_hard_link(status, paths.join(path, os.fsencode(entry.name)))
                if status.st_ctime_ns >= oldest and not is_fresh:
                    self._check(path, os.fsencode(entry.name), status.st_ctime_ns)
        return subdirectories

    def recheck_hard_links(self, root: int) -> None:
        """Check hard-linked files again after a walk through the whole source.

        A file may have changed after the walk visited it, through a name that was gone before the
        walk reached that name.
        """
        for path, status in stat_existing(root, chain(*self.hard_links.paths_by_file.values())):
            if status.st_ctime_ns >= self._oldest:
                self._check(*paths.split(path), status.st_ctime_ns)

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

    def _check(self, directory: bytes, name: bytes, ctime: int) -> None:
        if not self._is_excluded_file(paths.join(directory, name)):
            for since, changes in self._changes.items():
                if ctime >= since:
                    changes.add_entries(directory, {name})


def _skip(_parent: bytes, _name: bytes, _error: OSError) -> None:
    """Skip an unwatched directory that cannot be opened: rsync reports the error."""
