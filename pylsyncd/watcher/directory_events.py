"""Keeps the watch tree up to date, and turns the events of directories into changes.

Events describe the past and the disk the present; the watch tree is in between. So no cookie is
needed to follow a directory: one that appears is recognized by its watch descriptor, and one that
has left stays detached until it appears. What cannot be placed yet, because the disk is ahead of
the events, waits for the event that explains it, which is queued already.
"""

from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher import inotify
from pylsyncd.watcher.move_recorder import MAX_MOVES, MoveRecorder, Place
from pylsyncd.watcher.watch_manager import WatchManager
from pylsyncd.watcher.watch_tree import child_path
from pylsyncd.watcher.watches import WatchResult


class DirectoryEvents:
    """The changes of the directories of one source. Used by the thread of the watch manager."""

    def __init__(self, watches: WatchManager, rules: Rules, moves: MoveRecorder) -> None:
        self._watches = watches
        self._tree = watches.tree
        self._rules = rules
        self._moves = moves
        self._waiting_for_parent: set[Place] = set()
        # The directories that events have moved within the source to where they are no longer, so
        # that they stay detached until their next event: by the cookie that they have left with,
        # by the place that they have got, and those that have left no place since.
        self._leaving: dict[int, int] = {}
        self._passing: dict[Place, int] = {}
        self._expected: set[int] = set()
        # Those that were detached when there were no events.
        self._unplaced: set[int] = set()
        # By directory, the name that another one was moved to last, if none has left it since.
        self._last_arrived: dict[int, bytes] = {}
        self.changes = MutableChangeset()
        """The changes that were not taken yet."""

    def take_changes(self) -> MutableChangeset:
        """Return the changes since the last call."""
        self._retry_waiting()
        changes, self.changes = self.changes, MutableChangeset()
        return changes

    def process_disappeared(self, parent: int, name: bytes, cookie: int = 0) -> None:
        """Process the event that a directory was deleted, or moved away from its name."""
        known = self._tree.child(parent, name)
        self._moves.record_directory_left(parent, name)
        left = self._passing.pop((parent, name), known)
        may_be_exchanged = self._last_arrived.pop(parent, None) == name
        if left is not None and cookie and len(self._leaving) < MAX_MOVES:
            self._leaving[cookie] = left
        self._tree.detach(parent, name)
        path = child_path(self._tree, parent, name)
        if path is not None and not self._rules.matches(path, is_directory=True):
            self.changes.add(path, Scope.ENTRY)
            # What else is at its copy than in a directory that has the name now goes with it.
            self.changes.deletable.add(path, Scope.TREE)
        # When two directories are exchanged, one appears before the other disappears. For any other
        # directory that has the name now there will be an event.
        if known is not None and may_be_exchanged:
            self.watch_subtree(parent, name)

    def process_appeared(self, parent: int, mask: int, name: bytes, cookie: int = 0) -> None:
        """Process the event that a directory is new at its name, or has other attributes."""
        if not mask & inotify.MOVED_TO and self._tree.child(parent, name) is not None:
            # Only its attributes have changed, or a walk found it before its event.
            path = child_path(self._tree, parent, name)
            if path is not None:
                self.changes.add(path, Scope.ENTRY)
            return
        moved = self._leaving.pop(cookie, None) if cookie else None
        is_moved = bool(mask & inotify.MOVED_TO)
        if is_moved:
            self._record_last_arrived(parent, name)
        result = self.watch_subtree(parent, name, is_moved=is_moved)
        if moved is None or result is WatchResult.EXCLUDED:
            return
        if moved in self._tree and self._tree.is_detached(moved):
            self._passing[parent, name] = moved
            self._expected.add(moved)

    def process_moved_self(self, wd: int) -> None:
        """Process the last event of a move, which a directory itself has.

        One that has come to a watched directory has its new place by now, or a later event tells
        where it is. Any other one has left the source, with all below it.
        """
        if self._tree.is_detached(wd) and wd not in self._expected:
            self._watches.remove_subtree(wd)

    def process_end_of_events(self) -> None:
        """Stop watching the directories of which an event was expected that has not come.

        Of others the next event is expected until the next call: the kernel may be about to add it.
        """
        self._tree.left_ahead.clear()
        for wd in self._unplaced & self._tree.detached:
            # If it had left the source before it was watched, it had no last event.
            self._watches.remove_subtree(wd)
        self._unplaced = {*self._tree.detached}
        if not (self._leaving or self._expected):
            return
        self._retry_waiting()
        for wd in self._expected:
            if wd in self._tree and self._tree.is_detached(wd):
                self._watches.remove_subtree(wd)
        self._leaving.clear()
        self._passing.clear()
        self._expected.clear()

    def compare(self, wd: int, subdirectories: set[bytes]) -> None:
        """Process the events that a directory may have lost; it has these subdirectories now."""
        path = self._tree.path(wd)
        if path is None:
            return
        self.changes.add(path, Scope.LISTING)
        for name in subdirectories:
            if self._tree.child(wd, name) is None:
                self.watch_subtree(wd, name)
        for name in set(self._tree.child_names(wd)) - subdirectories:
            self.process_disappeared(wd, name)
            self.watch_subtree(wd, name)

    def watch_subtree(
        self, parent: int, name: bytes, *, has_new_content: bool = True, is_moved: bool = False
    ) -> WatchResult:
        """Watch what is at a name now and add the change; ``is_moved`` if it is probably known.

        A directory that is known, under another name, has its old content. But at this name the
        destination may have the files of another directory, with the same names, sizes and times.
        """
        is_free = (parent, name) not in self._watches.unwatched
        is_free = is_free and self._tree.child(parent, name) is None
        is_free = is_free and (parent, name) not in self._tree.left_ahead
        result = self._watches.watch_subtree(parent, name, is_moved=is_moved)
        if result is WatchResult.PARENT_MOVED:
            self._waiting_for_parent.add((parent, name))
            return result
        path = child_path(self._tree, parent, name)
        if path is not None and result is not WatchResult.EXCLUDED:
            scope = Scope.ENTRY if result is WatchResult.ABSENT else Scope.TREE
            self.changes.add(path, scope)
            if has_new_content and scope is Scope.TREE:
                self.changes.new_content.add(path, scope)
        if result is WatchResult.WATCHED or result is WatchResult.UNWATCHABLE:
            self._moves.record_directory_arrived(parent, name, is_free=is_free)
        return result

    def _record_last_arrived(self, parent: int, name: bytes) -> None:
        """Record that a directory was moved to a name in another one.

        If it was exchanged, the next name that a directory there loses is the same, for both
        parents are locked meanwhile (rename(2), lock_rename in fs/namei.c).
        """
        self._last_arrived.pop(parent, None)
        self._last_arrived[parent] = name
        if len(self._last_arrived) > MAX_MOVES:
            # The oldest one has no exchange under way.
            del self._last_arrived[next(iter(self._last_arrived))]

    def _retry_waiting(self) -> None:
        """Watch the directories that were ahead of their events; what still is waits for these."""
        waiting, self._waiting_for_parent = self._waiting_for_parent, set()
        for wd, name in waiting:
            if wd in self._tree:
                self.watch_subtree(wd, name)
