"""The directories outside a source of which a marked file system reports events.

An event of a foreign directory is dropped as soon as its key is read. The files of the loudest ones
are ignored by the kernel: then not even their key is read. That loses no change, because what comes
to the source later has a rename, which is never ignored: with it all is forgotten, before the tree
that has come becomes a change.
"""

from collections import Counter
from collections.abc import Collection
from typing import Final

from pylsyncd.watcher.fanotify import Fanotify

# One takes 100 bytes.
_MAX_FOREIGN: Final = 100_000

# A directory with so many events is ignored.
_LOUD_EVENTS: Final = 1000

# An ignored directory keeps its inode in memory. Beyond that all are reported again, and those that
# are loud then get the marks.
_MAX_IGNORED: Final = 64

# Beyond that the counts start again.
_MAX_COUNTED: Final = 10_000


class ForeignDirectories:
    """The foreign directories that are known, by their keys."""

    def __init__(self, group: Fanotify) -> None:
        self.keys: set[bytes] = set()
        """The keys of which events can be dropped."""
        self._group = group
        self._counts: Counter[bytes] = Counter()
        self._dropped_count = 0
        self._ignored_count = 0
        self._can_ignore = True

    def add(self, key: bytes) -> None:
        """Add a directory that is outside the source."""
        if len(self.keys) >= _MAX_FOREIGN:
            self.keys.clear()
        self.keys.add(key)

    def forget(self) -> None:
        """Forget all of them: one may have come to the source."""
        self.keys.clear()
        self._counts.clear()
        if self._ignored_count:
            self._group.ignore_nothing()
            self._ignored_count = 0

    def count_dropped(self, keys: Collection[bytes]) -> None:
        """Count dropped events by the keys of their directories."""
        self._counts.update(keys)
        self._dropped_count += len(keys)

    @property
    def may_be_loud(self) -> bool:
        """Whether :meth:`take_loud` may return something."""
        return self._can_ignore and self._dropped_count >= _LOUD_EVENTS

    def take_loud(self) -> list[bytes]:
        """Return the directories that have had too many events, and are not ignored."""
        if not self.may_be_loud:
            return []
        self._dropped_count = 0
        loud = [key for key, count in self._counts.items() if count >= _LOUD_EVENTS]
        for key in loud:
            del self._counts[key]
        if len(self._counts) > _MAX_COUNTED:
            self._counts.clear()
        return loud

    def ignore_files_in(self, directory: int) -> None:
        """Have the kernel drop the events of the files in an open directory."""
        if self._ignored_count >= _MAX_IGNORED:
            self._group.ignore_nothing()
            self._ignored_count = 0
        try:
            self._group.ignore_files_in(directory)
        except OSError:
            # Before Linux 6.0, or at the limit of marks.
            self._can_ignore = False
        else:
            self._ignored_count += 1
