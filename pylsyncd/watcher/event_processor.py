"""Follows the events and turns them into changes.

The events tell what was, the disk tells what is, and the tree stands somewhere between. So no
cookie is needed to follow a rename: what comes somewhere is recognized by its watch descriptor,
and what went somewhere is adrift until it comes. What cannot be placed now, because the disk is
ahead of the events, waits for the event that explains it, which is in the queue already.
"""

import logging
import queue
from collections import Counter
from collections.abc import Callable, Mapping

from pylsyncd.model import paths
from pylsyncd.model.changes import MutableChangeset, Scope
from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher import inotify
from pylsyncd.watcher.hard_link_search import FileId
from pylsyncd.watcher.inotify import Inotify
from pylsyncd.watcher.rescanner import Rescanner, RescanPlan
from pylsyncd.watcher.watch_manager import WatchManager, WatchResult
from pylsyncd.watcher.watch_tree import child_path

log = logging.getLogger(__name__)

# Whatever is not simply a file's event.
_STRUCTURAL = (
    inotify.IS_DIRECTORY | inotify.OVERFLOW | inotify.IGNORED | inotify.DELETE_SELF
    | inotify.MOVE_SELF | inotify.UNMOUNT
)  # fmt: skip
_WENT = inotify.DELETE | inotify.MOVED_FROM
_CAME = inotify.CREATE | inotify.MOVED_TO | inotify.ATTRIB


class EventProcessor:
    """The watched directories of one source and what has changed in them. Used by one thread.

    Making one arms the whole source; OSError is raised when that is not there.
    """

    def __init__(
        self, source: bytes, notify: Inotify, rules: Rules, plan: RescanPlan | None = None
    ) -> None:
        self._rules = rules
        self._arming = WatchManager(source, notify, rules)
        self._tree = self._arming.tree
        self.rescanner = Rescanner(self._arming, plan or RescanPlan())
        # Padded names by watch descriptor; paths are made at collecting, not at each event.
        self._touched: dict[int, set[bytes]] = {}
        self._changes = MutableChangeset()
        self._unplaced: set[tuple[int, bytes]] = set()
        self._is_source_lost = False
        self.mask_counts: Counter[int] | None = None
        """Where events are counted by their masks; None for those who do not want to know."""

    @property
    def is_source_lost(self) -> bool:
        """Whether the source itself was deleted, moved away or unmounted."""
        return self._is_source_lost or self.rescanner.is_source_lost

    @property
    def has_changes(self) -> bool:
        """Whether there is something to collect."""
        return bool(self._touched or self._changes) or self.has_prefetched_events

    @property
    def has_scanned_files(self) -> bool:
        """See :attr:`WatchManager.has_seen_files`."""
        return self._arming.has_scanned_files

    @property
    def has_prefetched_events(self) -> bool:
        """Whether events that were read during a walk wait to be followed."""
        return self._arming.has_prefetched_events

    def report_to(self, progressed: Callable[[], None]) -> None:
        """Have somebody called now and then during long walks."""
        self._arming.on_progress = progressed

    @property
    def found_hard_links(self) -> "queue.SimpleQueue[Mapping[FileId, set[bytes]]]":
        """See :attr:`WatchManager.linked`."""
        return self._arming.found_hard_links

    @property
    def directory_count(self) -> int:
        """How many directories are watched."""
        return len(self._tree)

    @property
    def unwatched_count(self) -> int:
        """How many directories cannot be watched, those below them not counted."""
        return len(self._arming.unwatched)

    def watched_paths(self) -> set[bytes]:
        """Return the paths of the directories that are watched."""
        return {path for wd in self._tree if (path := self._tree.path(wd)) is not None}

    def process(self, chunk: bytes) -> None:
        """Follow a chunk of events, as the kernel hands them out."""
        for earlier in self._arming.take_prefetched_events():
            self._process(earlier)
        self._process(chunk)

    def _process(self, chunk: bytes) -> None:
        if log.isEnabledFor(logging.DEBUG):
            self._show(chunk)
        if self.mask_counts is not None:
            inotify.count_events(chunk, self.mask_counts)
        touched = self._touched
        unpack, header = inotify.EVENT_HEADER.unpack_from, inotify.EVENT_HEADER.size
        position, end = 0, len(chunk)
        while position < end:
            wd, mask, _, length = unpack(chunk, position)
            position += header
            name = chunk[position : position + length]
            position += length
            if mask & _STRUCTURAL:
                self._follow(wd, mask, name.rstrip(b"\0"))
                continue
            try:
                touched[wd].add(name)
            except KeyError:
                touched[wd] = {name}

    def take_changes(self) -> MutableChangeset:
        """Return the changes since the last call."""
        while chunks := self._arming.take_prefetched_events():
            for chunk in chunks:
                self._process(chunk)
        self._place_the_unplaced()
        self.rescanner.log_unwatched()
        changes, self._changes = self._changes, MutableChangeset()
        touched, self._touched = self._touched, {}
        for wd, padded in touched.items():
            directory = self._tree.path(wd)
            # None has left, or will be placed and then looked at as a whole.
            if directory is not None:
                changes.add_entries(directory, self._included(directory, padded))
        return changes

    def scan_if_due(self) -> bool:
        """Scan for what the events did not tell, if that is due; tell whether it was."""
        found = None if self.is_source_lost else self.rescanner.scan_if_due()
        if found is not None:
            self._changes.merge(found)
        return found is not None

    def rewatch(self, path: bytes) -> None:
        """Arm what stands at a path now, and have it looked at as a whole."""
        directory, name = paths.split(path)
        parent = self._tree.find(directory)
        if parent is not None:
            self._place(parent, name)

    def _included(self, directory: bytes, padded: set[bytes]) -> set[bytes]:
        names = {name.rstrip(b"\0") for name in padded}
        if not self._rules:
            return names
        excluded = self._rules.matches
        return {
            name for name in names if not excluded(paths.join(directory, name), is_directory=False)
        }

    def _follow(self, wd: int, mask: int, name: bytes) -> None:
        if mask & inotify.OVERFLOW:
            self.rescanner.record_overflow()
        elif wd not in self._tree:
            return
        elif name and mask & _WENT:
            self._went(wd, name)
        elif name and mask & _CAME:
            self._came(wd, mask, name)
        elif wd == self._tree.root_wd:
            self._root_event(mask)
        elif mask & inotify.IGNORED:
            self._tree.remove(wd)
        elif mask & inotify.MOVE_SELF and self._tree.is_detached(wd):
            # The kernel tells this last: had it come to a watched directory, it would have been
            # placed there by now. So it has left the source, with all that is below it.
            self._arming.remove_subtree(wd)

    def _root_event(self, mask: int) -> None:
        if mask & inotify.ATTRIB:
            self._changes.add(paths.ROOT, Scope.ENTRY)
        else:
            self._is_source_lost = True

    def _went(self, parent: int, name: bytes) -> None:
        known = self._tree.child(parent, name)
        self._tree.detach(parent, name)
        path = child_path(self._tree, parent, name)
        if path is not None and not self._rules.matches(path, is_directory=True):
            self._changes.add(path, Scope.ENTRY)
        # Who stands there may not be who went: when two names are exchanged, the one comes before
        # the other goes. (One that was deleted is not known any more: the kernel said so before.)
        if known is not None:
            self._place(parent, name)

    def _came(self, parent: int, mask: int, name: bytes) -> None:
        if not mask & inotify.MOVED_TO and self._tree.child(parent, name) is not None:
            # Only its attributes changed, or a walk was there before its event.
            path = child_path(self._tree, parent, name)
            if path is not None:
                self._changes.add(path, Scope.ENTRY)
        else:
            self._place(parent, name)

    def _place(self, parent: int, name: bytes) -> bool:
        armed = self._arming.watch_subtree(parent, name)
        if armed is WatchResult.PARENT_MOVED:
            self._unplaced.add((parent, name))
            return False
        path = child_path(self._tree, parent, name)
        if path is not None and armed is not WatchResult.EXCLUDED:
            self._changes.add(path, Scope.ENTRY if armed is WatchResult.ABSENT else Scope.TREE)
        return armed is WatchResult.WATCHED

    def _place_the_unplaced(self) -> None:
        """Try again to place what was ahead of its events, as long as that leads to more."""
        placed = True
        while placed and self._unplaced:
            waiting, self._unplaced = self._unplaced, set()
            results = [self._place(wd, name) for wd, name in waiting if wd in self._tree]
            placed = any(results)

    def _show(self, chunk: bytes) -> None:
        for wd, mask, name in inotify.decode_events(chunk):
            directory = self._tree.path(wd) if wd in self._tree else None
            path = "?" if directory is None else paths.printable(paths.join(directory, name))
            log.debug("event %s %s", inotify.mask_names(mask), path)
