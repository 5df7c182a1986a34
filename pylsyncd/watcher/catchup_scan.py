"""The catch-up scan: what has changed since a moment, found by walking the source alone.

The kernel stamps a directory entry's ctime at every change of its content or its attributes, and
nobody can set it back. What a rename stamps was measured on ext4 and tmpfs: the moved entry and
both directories, but nothing below a moved directory. So

* an entry with a fresh ctime is a change;
* a directory with a fresh ctime may have lost or gained names: its listing is a change;
* a directory with a fresh ctime in such a directory may have come from elsewhere, with old ctimes
  inside: it is a change as a whole tree, unless it is known to have stood there before.
"""

import os
from collections.abc import Callable, Collection, Mapping
from itertools import chain

from pylsyncd.model import paths
from pylsyncd.model.changes import MutableChangeset, Scope
from pylsyncd.watcher.hard_link_search import stat_existing
from pylsyncd.watcher.linknames import HardLinkCollector

IsExcluded = Callable[[bytes], bool]
"""Whether a path that is not a directory is left out."""

# How many files are looked at between two reports of progress.
_STRIDE = 4096


class CatchupScan:
    """Finds changes in the directories that a walk shows it, parents first.

    Several askers may each have a moment of their own; a moment is a ctime in nanoseconds, from
    which on an entry counts as changed.
    """

    def __init__(
        self,
        moments: Collection[int],
        is_excluded: IsExcluded,
        progressed: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin; ``progressed()`` is called now and then."""
        self._progressed = progressed
        self._looked_at = 0
        self._changes = {moment: MutableChangeset() for moment in moments}
        self._oldest = min(moments)
        self._newest = max(moments)
        self._is_excluded = is_excluded
        self.hard_links = HardLinkCollector()
        # The ctimes of fresh directories, which their children are judged by.
        self._fresh: dict[bytes, int] = {}

    @property
    def changes(self) -> Mapping[int, MutableChangeset]:
        """The changes found so far, by the moment since which they may have happened."""
        return self._changes

    def visit_directory(self, directory: int, path: bytes, *, was_there: bool) -> None:
        """Judge an open directory; ``was_there`` if it is known that it stood there before."""
        status = os.fstat(directory)
        ctime = status.st_ctime_ns
        if ctime < self._oldest:
            return
        self._fresh[path] = ctime
        # Where it stands it may have been away for a while: then the last thing that happened to it
        # was not that a name came or went in it, which stamps both times alike.
        stayed = was_there and status.st_mtime_ns == ctime
        above = 0 if stayed or not path else self._fresh.get(paths.split(path)[0], 0)
        for moment, changes in self._changes.items():
            if ctime >= moment:
                changes.add(path, Scope.TREE if above >= moment else Scope.LISTING)

    def add_unreadable(self, path: bytes) -> None:
        """Take a directory that cannot be looked into for changed as a whole.

        So it is owed, and with it what changes there unseen, until rsync can read it.
        """
        for changes in self._changes.values():
            changes.add(path, Scope.TREE)

    def visit_files(self, directory: int, path: bytes) -> list[str]:
        """Judge all else in an open directory; return the names of the directories in it."""
        subdirectories = []
        # Its own listing says it all.
        is_fresh = self._fresh.get(path, 0) >= self._newest
        oldest = self._oldest
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    subdirectories.append(entry.name)
                else:
                    self._looked_at += 1
                    if not self._looked_at % _STRIDE:
                        self._progressed()
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        # Its event is on its way, and its directory's ctime is fresh by now.
                        continue
                    except OSError:
                        # Let rsync say what is wrong with it.
                        self._judge(path, os.fsencode(entry.name), self._newest)
                        continue
                    if status.st_nlink > 1:
                        self._note(status, paths.join(path, os.fsencode(entry.name)))
                    if status.st_ctime_ns >= oldest and not is_fresh:
                        self._judge(path, os.fsencode(entry.name), status.st_ctime_ns)
        return subdirectories

    def recheck_hard_links(self, root: int) -> None:
        """Judge once more the files with several names, when the walk through all is over.

        One that it has passed may have changed through a name that was gone when it came there.
        """
        for path, status in stat_existing(root, chain(*self.hard_links.paths_by_file.values())):
            if status.st_ctime_ns >= self._oldest:
                self._judge(*paths.split(path), status.st_ctime_ns)

    def _note(self, status: os.stat_result, path: bytes) -> None:
        if not self._is_excluded(path):
            self.hard_links.add(status, path)

    def _judge(self, directory: bytes, name: bytes, ctime: int) -> None:
        if not self._is_excluded(paths.join(directory, name)):
            for moment, changes in self._changes.items():
                if ctime >= moment:
                    changes.add_entries(directory, {name})
