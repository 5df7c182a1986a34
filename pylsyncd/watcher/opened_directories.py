"""Opens watched directories, which only their watch descriptors prove to be the right ones.

A directory is opened by its path, which may lead through symlinks to another one, or to none.
"""

import contextlib
import errno
import os
from collections.abc import Iterator

from pylsyncd.system import walk
from pylsyncd.system.working_directory import own_working_directory
from pylsyncd.watcher.inotify import WatchingInstance
from pylsyncd.watcher.watch_tree import WatchTree

NOT_THERE = frozenset([errno.ENOENT, errno.ENOTDIR, errno.ELOOP])
"""The errors of opening a directory that is gone, or is no directory any more."""

# Events come from so few directories at a time, or from too many to keep them open.
_MAX_KEPT = 16


class OpenedDirectories:
    """The watched directories that are open. Used by the thread of the watch manager.

    As a context manager it keeps some of those open that :meth:`find` opens, until the outermost
    context ends.
    """

    def __init__(self, source: bytes, inotify_instance: WatchingInstance, tree: WatchTree) -> None:
        self._source = source
        self._inotify = inotify_instance
        self._tree = tree
        self._depth = 0
        # In a context: the open directories by watch descriptor, the last used one last, and, since
        # the first of them, the working directory.
        self._kept: dict[int, int] = {}
        self._own_directory: contextlib.ExitStack | None = None

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth:
            return
        while self._kept:
            os.close(self._kept.popitem()[1])
        if self._own_directory is not None:
            self._own_directory.close()
            self._own_directory = None

    def find(self, wd: int, path: bytes) -> int | None:
        """Return an open directory, which a later call may close; None if it is not at its path.

        It is the one that the watch descriptor stands for, wherever it is moved while it is open.
        Raises OSError if it cannot be opened.
        """
        directory = self._kept.pop(wd, None)
        if directory is None:
            directory = self._open(wd, path)
            if directory is None:
                return None
            if len(self._kept) >= _MAX_KEPT:
                os.close(self._kept.pop(next(iter(self._kept))))
        self._kept[wd] = directory
        return directory

    def _open(self, wd: int, path: bytes) -> int | None:
        is_there = False
        directory = walk.open_long_path(self._source, path)
        try:
            if self._own_directory is None:
                self._own_directory = contextlib.ExitStack()
                self._own_directory.enter_context(own_working_directory())
            is_there = self.has_descriptor(directory, wd)
        finally:
            if not is_there:
                os.close(directory)
        return directory if is_there else None

    @contextlib.contextmanager
    def opened(self, wd: int) -> Iterator[int | None]:
        """Open a directory; None if it is not where the tree has it.

        Then an event in the queue tells where it is. Raises another OSError if it cannot be opened.
        """
        path = self._tree.path(wd)
        try:
            directory = None if path is None else walk.open_long_path(self._source, path)
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            directory = None
        try:
            is_there = directory is not None and self.has_descriptor(directory, wd)
            yield directory if is_there else None
        finally:
            if directory is not None:
                os.close(directory)

    def has_descriptor(self, directory: int, wd: int) -> bool:
        """Return True if ``wd`` watches an open directory."""
        found = self._inotify.identify(directory)
        if found not in self._tree:
            self._inotify.remove_watch(found)
        return found == wd
