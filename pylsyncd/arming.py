"""Watches directories, and keeps the tree of those that are watched true to the disk.

* Arm, then list. What appears in a directory before its watch stands is in the listing, what
  appears after it is an event.
* A directory is put in its place only after watch descriptors have proved who it is and who its
  parent is. One that is known is linked as it is, with all that is below it: it has been watched
  all the time, whatever it was called. One that is not known is listed.
"""

import contextlib
import errno
import gc
import logging
import os
from collections.abc import Iterator
from enum import Enum, auto

from pylsyncd import paths, walk
from pylsyncd.excludes import Rules
from pylsyncd.inotify import Inotify
from pylsyncd.watchtree import WatchTree, below

log = logging.getLogger(__name__)

# What opening a directory answers when it is gone, or is none (any more).
_NOT_THERE = frozenset([errno.ENOENT, errno.ENOTDIR, errno.ELOOP])

# How many directories are armed between two looks at the kernel's queue.
_STRIDE = 256


class Armed(Enum):
    """What became of arming a name."""

    IN_PLACE = auto()
    """It is watched, with all directories below it."""
    EXCLUDED = auto()
    """The rules leave it out."""
    ABSENT = auto()
    """There is no such directory (any more)."""
    UNWATCHED = auto()
    """It cannot be watched; that was logged."""
    UNPLACED = auto()
    """Its parent is not where the tree has it: an event on its way will tell where."""


class Arming:
    """The watches of one source. Used by one thread at a time.

    Raises OSError if the source itself cannot be opened or watched.
    """

    def __init__(self, source: bytes, notify: Inotify, rules: Rules) -> None:
        self._source = source
        self._inotify = notify
        self._rules = rules
        self._read_ahead: list[bytes] = []
        self._entered = 0
        self._seen: set[int] | None = None
        self.unwatched = 0
        """How many directories the kernel's limit has kept from being watched so far."""
        with self._opened(paths.ROOT) as root:
            self.tree = WatchTree(notify.watch(root))
            # The root's device alone: while it is watched, that cannot become another one.
            self._counting = walk.devices_counting_links() & {os.fstat(root).st_dev}
            self._survey_all(root)

    def arm(self, parent: int, name: bytes) -> Armed:
        """Watch and place the directory that stands at ``name`` now, and all below it."""
        path = below(self.tree, parent, name)
        if path is None:
            return Armed.UNPLACED
        if self._rules.matches(path, is_directory=True):
            return Armed.EXCLUDED
        try:
            with self._opened(paths.split(path)[0]) as above:
                if not self._is(above, parent):
                    return Armed.UNPLACED
                return self._arm_in(above, parent, name)
        except OSError:
            return Armed.UNPLACED

    def repair(self) -> None:
        """Watch whatever is not watched and place whatever is; drop what is not to be found.

        For the time after events were lost. Raises OSError when the source is gone, or another one.
        """
        self._seen = {self.tree.root}
        try:
            with self._opened(paths.ROOT) as root:
                if not self._is(root, self.tree.root):
                    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), self._source)
                self._survey_all(root)
            for wd in [wd for wd in self.tree if wd not in self._seen]:
                if wd in self.tree:
                    self.drop(wd)
        finally:
            self._seen = None

    def drop(self, wd: int) -> None:
        """Stop watching a directory and all below it."""
        for dropped in self.tree.drop(wd):
            self._inotify.unwatch(dropped)

    def read_ahead(self) -> list[bytes]:
        """Hand over the chunks of events that were read while arming, the oldest first."""
        chunks, self._read_ahead = self._read_ahead, []
        return chunks

    @contextlib.contextmanager
    def _opened(self, path: bytes) -> Iterator[int]:
        """Open a directory by its whole path, which may lead through symlinks.

        So it is not known to be where the tree has it until its watch descriptor says so.
        """
        try:
            directory = walk.open_root(os.path.join(self._source, path))
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            root = walk.open_root(self._source)
            try:
                directory = walk.open_below(root, path)
            finally:
                os.close(root)
        try:
            yield directory
        finally:
            os.close(directory)

    def _is(self, directory: int, wd: int) -> bool:
        """Tell whether an open directory is the one that ``wd`` watches."""
        found = self._inotify.watch(directory)
        if found not in self.tree:
            self._inotify.unwatch(found)
        return found == wd

    def _arm_in(self, above: int, parent: int, name: bytes) -> Armed:
        try:
            directory = walk.open_child(above, name)
        except OSError as error:
            self._refused(parent, name, error)
            return Armed.ABSENT if error.errno in _NOT_THERE else Armed.UNWATCHED
        try:
            place = self._enter(directory, parent, name)
            if place is not None:
                self._survey(directory, place)
        except OSError as error:
            # It is known as watched, but not what it contains: forget it.
            self.drop(self._inotify.watch(directory))
            self._refused(parent, name, error)
        finally:
            os.close(directory)
        return Armed.IN_PLACE if self.tree.child(parent, name) is not None else Armed.UNWATCHED

    def _survey(self, directory: int, place: int) -> None:
        walk.descend(directory, place, self._enter, self._refused, self._counting)

    def _survey_all(self, root: int) -> None:
        """Survey the whole source, at the price that a walk of so many directories deserves."""
        was_collecting = gc.isenabled()
        # Nodes by the hundred thousand, none of which is garbage, nor in a cycle that ends.
        gc.disable()
        try:
            self._survey(root, self.tree.root)
        finally:
            if was_collecting:
                gc.enable()

    def _enter(self, directory: int, parent: int, name: bytes) -> int | None:
        """Watch and place an open directory; return its descriptor if it has to be listed."""
        if self._rules:
            path = below(self.tree, parent, name)
            if path is not None and self._rules.matches(path, is_directory=True):
                return None
        try:
            wd = self._inotify.watch(directory)
        except OSError as error:
            self._refused(parent, name, error)
            return None
        is_known = wd in self.tree
        self.tree.link(wd, parent, name)
        self._entered += 1
        if not self._entered % _STRIDE:
            self._empty_the_queue()
        if self._seen is not None:
            self._seen.add(wd)
            return wd
        # Where the rules look at whole paths, a move can bring in what they left out before.
        return wd if not is_known or self._rules.depends_on_place else None

    def _refused(self, parent: int, name: bytes, error: OSError) -> None:
        if error.errno in _NOT_THERE:
            return
        path = paths.show(below(self.tree, parent, name) or name)
        if error.errno == errno.ENOSPC:
            self.unwatched += 1
            log.debug("not watched: %s", path)
        else:
            log.warning("%s cannot be watched: %s. What changes below is not seen.",
                        path, error.strerror)  # fmt: skip

    def _empty_the_queue(self) -> None:
        """Read what the kernel holds, so that a long walk makes it drop nothing."""
        while chunk := self._inotify.read():
            self._read_ahead.append(chunk)
