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
import os
import queue
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum, auto

from pylsyncd.model import paths
from pylsyncd.model.changes import MutableChangeset
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk
from pylsyncd.watcher.catchup_scan import CatchupScan
from pylsyncd.watcher.hard_link_search import FileId
from pylsyncd.watcher.inotify import Inotify
from pylsyncd.watcher.watch_tree import WatchTree, child_path

# What opening a directory answers when it is gone, or is none (any more).
_NOT_THERE = frozenset([errno.ENOENT, errno.ENOTDIR, errno.ELOOP])

# How many directories are armed between two looks at the kernel's queue.
_STRIDE = 256


class WatchResult(Enum):
    """What became of arming a name."""

    WATCHED = auto()
    """It is watched, with all directories below it."""
    EXCLUDED = auto()
    """The rules leave it out."""
    ABSENT = auto()
    """There is no such directory (any more)."""
    UNWATCHABLE = auto()
    """It cannot be watched: see :attr:`WatchManager.unwatched`."""
    PARENT_MOVED = auto()
    """Its parent is not where the tree has it: an event on its way will tell where."""


class WatchManager:
    """The watches of one source. Used by one thread at a time.

    Raises OSError if the source itself cannot be opened or watched. Nothing below it is watched
    until the first :meth:`survey`.
    """

    def __init__(self, source: bytes, notify: Inotify, rules: Rules) -> None:
        self._source = source
        self._inotify = notify
        self._rules = rules
        self._read_ahead: list[bytes] = []
        self.on_progress: Callable[[], None] = lambda: None
        """Called every so many directories."""
        self._entered = 0
        self._seen: set[int] | None = None
        self._scan: CatchupScan | None = None
        self.has_scanned_files = False
        """Whether a survey has looked at all files, too, so that those with several names came to
        :attr:`linked`."""
        self.found_hard_links: queue.SimpleQueue[Mapping[FileId, set[bytes]]] = queue.SimpleQueue()
        """What scans have found of files with several names, for another thread to take."""
        self.unwatched: dict[tuple[int, bytes], int] = {}
        """Directories that cannot be watched, nor what is below them: the descriptor of the one
        that each is in, its name, and the error number."""
        self.newly_unwatched: list[tuple[int, bytes]] = []
        with self._opened(paths.ROOT) as root:
            self.tree = WatchTree(notify.add_watch(root))
            # The root's device alone: while it is watched, that cannot become another one.
            self._counting = walk.devices_with_link_counts() & {os.fstat(root).st_dev}

    def watch_subtree(self, parent: int, name: bytes) -> WatchResult:
        """Watch and place the directory that stands at ``name`` now, and all below it."""
        path = child_path(self.tree, parent, name)
        if path is None:
            return WatchResult.PARENT_MOVED
        if self._rules.matches(path, is_directory=True):
            return WatchResult.EXCLUDED
        try:
            with self._opened(paths.split(path)[0]) as above:
                if not self._is(above, parent):
                    return WatchResult.PARENT_MOVED
                return self._arm_in(above, parent, name)
        except OSError as error:
            # Where there is no watch left, it is not the parent, which has one.
            if error.errno in {*_NOT_THERE, errno.ENOSPC}:
                return WatchResult.PARENT_MOVED
            self._refused(parent, name, error)
            return WatchResult.UNWATCHABLE

    def scan(
        self, moments: Collection[int] = (), top: int | None = None
    ) -> Mapping[int, MutableChangeset]:
        """Watch whatever is not watched and place whatever is; drop what is not to be found.

        With ``moments``, ctimes in nanoseconds, files are looked at, too, and what has changed
        since each of them is returned. ``top`` is the directory to survey, the source by default.
        Raises OSError when that is gone, or another one.
        """
        top = self.tree.root_wd if top is None else top
        path = self.tree.path(top)
        self._seen = {top}
        with self._scanning(moments) as scan:
            try:
                with self._opened(path or paths.ROOT) as directory:
                    if path is None or not self._is(directory, top):
                        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), self._source)
                    if scan:
                        scan.visit_directory(directory, path, was_there=True)
                    self._survey_all(directory, top)
                    if scan and top == self.tree.root_wd:
                        scan.recheck_hard_links(directory)
                self._drop_unseen(top)
            finally:
                self._seen = None
            if scan:
                self._look_below_unwatched(scan)
        self.has_scanned_files |= scan is not None and top == self.tree.root_wd
        return scan.changes if scan else {}

    def retry_unwatched(self, moment: int) -> MutableChangeset:
        """Try again to watch what could not be watched; return what has changed in it since."""
        with self._scanning([moment]) as scan:
            for parent, name in list(self.unwatched):
                armed = self.watch_subtree(parent, name)
                if (
                    armed is WatchResult.UNWATCHABLE
                    and self.unwatched.get((parent, name)) == errno.ENOSPC
                ):
                    # Nor is there a watch for the others.
                    break
            if scan:
                self._look_below_unwatched(scan)
                return scan.changes[moment]
        return MutableChangeset()

    def remove_subtree(self, wd: int) -> None:
        """Stop watching a directory and all below it."""
        for dropped in self.tree.remove_subtree(wd):
            self._inotify.remove_watch(dropped)

    @property
    def has_prefetched_events(self) -> bool:
        """Whether chunks of events wait to be handed over."""
        return bool(self._read_ahead)

    def take_prefetched_events(self) -> list[bytes]:
        """Hand over the chunks of events that were read while arming, the oldest first."""
        chunks, self._read_ahead = self._read_ahead, []
        return chunks

    @contextlib.contextmanager
    def _scanning(self, moments: Collection[int]) -> Iterator[CatchupScan | None]:
        """Have the walks look at files as well, when there is a moment to compare them with."""
        is_excluded = self._is_excluded_file
        self._scan = CatchupScan(moments, is_excluded, self._breathe) if moments else None
        try:
            yield self._scan
        finally:
            if self._scan is not None and self._scan.hard_links.paths_by_file:
                self.found_hard_links.put(self._scan.hard_links.paths_by_file)
            self._scan = None

    def _is_excluded_file(self, path: bytes) -> bool:
        return self._rules.matches(path, is_directory=False)

    def _drop_unseen(self, top: int) -> None:
        seen = self._seen or set()
        # Below the source is also whatever has no place.
        known = self.tree if top == self.tree.root_wd else self.tree.descendants(top)
        for wd in [wd for wd in known if wd not in seen]:
            if wd in self.tree:
                self.remove_subtree(wd)

    def _look_below_unwatched(self, scan: CatchupScan) -> None:
        """Scan what is not watched; forget what is not there any more."""
        for parent, name in list(self.unwatched):
            path = child_path(self.tree, parent, name)
            if path is None and parent not in self.tree:
                del self.unwatched[parent, name]
            if path is None:
                continue
            try:
                with self._opened(paths.split(path)[0]) as above:
                    directory = walk.open_child(above, name)
            except OSError as error:
                if error.errno in _NOT_THERE:
                    del self.unwatched[parent, name]
                continue
            try:
                scan.visit_directory(directory, path, was_there=False)
                walk.descend(directory, path, self._look, _pass_over, scan.visit_files)
            except OSError:
                # Open, and yet not to be listed: it stays among those that are tried again.
                continue
            finally:
                os.close(directory)

    def _look(self, directory: int, above: bytes, name: bytes) -> bytes | None:
        """Scan an open directory that is not watched."""
        self._count()
        path = paths.join(above, name)
        if self._scan is None or self._rules.matches(path, is_directory=True):
            return None
        self._scan.visit_directory(directory, path, was_there=False)
        return path

    @contextlib.contextmanager
    def _opened(self, path: bytes) -> Iterator[int]:
        """Open a directory by its whole path, which may lead through symlinks.

        So it is not known to be where the tree has it until its watch descriptor says so.
        """
        directory = walk.open_long_path(self._source, path)
        try:
            yield directory
        finally:
            os.close(directory)

    def _is(self, directory: int, wd: int) -> bool:
        """Tell whether an open directory is the one that ``wd`` watches."""
        found = self._inotify.add_watch(directory)
        if found not in self.tree:
            self._inotify.remove_watch(found)
        return found == wd

    def _arm_in(self, above: int, parent: int, name: bytes) -> WatchResult:
        try:
            directory = walk.open_child(above, name)
        except OSError as error:
            self._refused(parent, name, error)
            return WatchResult.ABSENT if error.errno in _NOT_THERE else WatchResult.UNWATCHABLE
        try:
            place = self._enter(directory, parent, name)
            if place is not None:
                self._survey(directory, place)
        except OSError as error:
            # It is known as watched, but not what it contains: forget it.
            self.remove_subtree(self._inotify.add_watch(directory))
            self._refused(parent, name, error)
        finally:
            os.close(directory)
        return (
            WatchResult.WATCHED
            if self.tree.child(parent, name) is not None
            else WatchResult.UNWATCHABLE
        )

    def _survey(self, directory: int, place: int) -> None:
        walk.descend(directory, place, self._enter, self._refused, self._names_in)

    def _names_in(self, directory: int, place: int) -> list[str]:
        if self._scan is None:
            return walk.subdirectories(directory, self._counting)
        path = self.tree.path(place)
        return [] if path is None else self._scan.visit_files(directory, path)

    def _survey_all(self, directory: int, place: int) -> None:
        """Survey the whole source, at the price that a walk of so many directories deserves."""
        was_collecting = gc.isenabled()
        # Nodes by the hundred thousand, none of which is garbage, nor in a cycle that ends.
        gc.disable()
        try:
            self._survey(directory, place)
        finally:
            if was_collecting:
                gc.enable()

    def _enter(self, directory: int, parent: int, name: bytes) -> int | None:
        """Watch and place an open directory; return its descriptor if it has to be listed."""
        if self._rules:
            path = child_path(self.tree, parent, name)
            if path is not None and self._rules.matches(path, is_directory=True):
                return None
        try:
            wd = self._inotify.add_watch(directory)
        except OSError as error:
            self._refused(parent, name, error)
            return None
        is_known = wd in self.tree
        was_there = self.tree.attach(wd, parent, name)
        if self.unwatched:
            self.unwatched.pop((parent, name), None)
        self._count()
        if self._scan is not None and (path := self.tree.path(wd)) is not None:
            self._scan.visit_directory(directory, path, was_there=was_there)
        if self._seen is not None:
            self._seen.add(wd)
            return wd
        # Where the rules look at whole paths, a move can bring in what they left out before.
        return wd if not is_known or self._rules.depends_on_directory else None

    def _refused(self, parent: int, name: bytes, error: OSError) -> None:
        path = child_path(self.tree, parent, name)
        if error.errno in _NOT_THERE or (path and self._rules.matches(path, is_directory=True)):
            self.unwatched.pop((parent, name), None)
            return
        code = error.errno or errno.EIO
        if self.unwatched.get((parent, name)) == code:
            return
        if (wd := self.tree.child(parent, name)) is not None:
            # It could be watched, but not be listed: its next arming has to begin anew.
            self.remove_subtree(wd)
        self.unwatched[parent, name] = code
        self.newly_unwatched.append((parent, name))
        # What only lacks a watch is looked at all the same.
        if self._scan is not None and path is not None and code != errno.ENOSPC:
            self._scan.add_unreadable(path)

    def _count(self) -> None:
        """Read now and then what the kernel holds, so that a long walk makes it drop nothing."""
        self._entered += 1
        if not self._entered % _STRIDE:
            self._breathe()

    def _breathe(self) -> None:
        self.on_progress()
        while chunk := self._inotify.read():
            self._read_ahead.append(chunk)


def _pass_over(_above: bytes, _name: bytes, _error: OSError) -> None:
    """Leave out what cannot be opened where nothing is watched: rsync says so when it is sent."""
