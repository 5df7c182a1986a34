"""Turns the events of fanotify into changes.

Events are collected by the keys of directories. Only when the changes are taken, the directories
get their paths, once for many events. So there is no tree to keep: what was renamed meanwhile has
its new path, and its old and its new name are changes of their own.
"""

import errno
import logging
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from pylsyncd.model import paths
from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.moments import Moment, earliest
from pylsyncd.model.moves import NO_MOVES, Moves
from pylsyncd.model.scoped_paths import MutableScopedPaths, Scope
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk
from pylsyncd.watcher import fanotify
from pylsyncd.watcher.fanotify import CREATE, MODIFY, MOVED_FROM, MOVED_TO, Fanotify
from pylsyncd.watcher.handle_events import HandleEvents, Masks, moved_in
from pylsyncd.watcher.handle_moves import HandleMoves
from pylsyncd.watcher.marked_source import MarkedSource
from pylsyncd.watcher.open_files import OpenFiles
from pylsyncd.watcher.rescanner import Rescanner

log = logging.getLogger(__name__)

_MOVED: Final = MOVED_FROM | MOVED_TO
_LEFT: Final = MOVED_FROM | fanotify.DELETE
# After these a file may have another content, although its size and its time are as before.
_NEW_CONTENT: Final = MODIFY | CREATE | MOVED_TO

# Those that come in while paths are looked up.
_MAX_EVENTS_TO_SETTLE = 20_000

# That have to be opened for it, one after the other.
_MAX_NAMES_TO_SETTLE = 100_000

_NOT_THERE = frozenset([errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE])


class FanotifyProcessor:
    """The processor of one source's events. Used by the thread of the watcher."""

    def __init__(  # noqa: PLR0913, PLR0917  # like EventProcessor
        self,
        group: Fanotify,
        source: MarkedSource,
        rescanner: "Rescanner[bytes]",
        rules: Rules,
        open_files: "OpenFiles[bytes]",
        mask_counts: Counter[int] | None = None,
    ) -> None:
        """Create it. Events are counted by their masks in ``mask_counts``, if given."""
        self._group = group
        self._source = source
        self._handles = source.handles
        self._rules = rules
        self.rescanner = rescanner
        self.open_files = open_files
        self._reported = rescanner.reported
        self._mask_counts = mask_counts
        # The paths that were mounted, and whether each is a change only if it was replaced.
        self._remounted: dict[bytes, bool] = {}
        # What scans have found, and what was watched again.
        self._found = MutableChangeset()
        self._moves = HandleMoves(rules, rescanner.is_near_eventless)
        self._events = HandleEvents(source.handles.foreign, self._moves, rescanner.record_overflow)
        # Whether all events up to now were processed, and whether they were at the base.
        self._is_queue_empty = self._was_queue_empty = True
        self._taken_until = rescanner.complete_until
        self._is_source_lost = False

    @property
    def is_source_lost(self) -> bool:
        """Whether the source itself was deleted, moved away or unmounted. Thread-safe."""
        is_lost = self._is_source_lost or self.rescanner.is_source_lost
        return is_lost or not self._source.is_marked

    @property
    def has_changes(self) -> bool:
        """Whether :meth:`take_changes` may return something."""
        return bool(self._events or self._found or self._remounted)

    def process_next(self) -> bool:
        """Process the next chunk of events; return False if there are none."""
        if self._remounted:
            self._mark_remounted()
        return bool(self._process_chunk())

    def _process_chunk(self) -> bytes:
        """Process the next chunk of events, and return it."""
        chunk = self._group.read()
        self._is_queue_empty = not chunk
        if self._mask_counts is not None:
            fanotify.count_events(chunk, self._mask_counts)
        self._events.add(chunk)
        return chunk

    def take_changes(self, *, includes_open_files: bool = False) -> MutableChangeset:
        """Return the changes since the last call.

        Files that were modified and not closed are included when they are due, or if asked for.
        """
        changes, self._found = self._found, MutableChangeset()
        # What a scan has found may have been moved.
        self._moves.is_unknown |= bool(changes) or self.rescanner.is_scan_pending
        # An event is merged into an earlier one that is still queued: both are in the same set if
        # the queue was empty at its start and at its end.
        self._moves.is_unknown |= not (self._is_queue_empty and self._was_queue_empty)
        self._was_queue_empty = self._is_queue_empty
        changes.moves = None if self._moves.is_unknown else NO_MOVES
        if not (
            self._events or self._handles.foreign.may_be_loud
            or self._has_due_files(is_all=includes_open_files)
        ):  # fmt: skip
            return changes
        since = self.update_complete_until()
        files, directories = self._events.take()
        try:
            if self._has_moved_directories(directories):
                self._forget_paths()
            with self._handles.opened() as root:
                self._add_files(changes, files)
                self._add_open_files(changes, is_all=includes_open_files)
                # A copy: if an error follows, the hints stay with the changes.
                marks = MutableScopedPaths()
                marks.add_all(changes.new_content)
                appeared = self._add_directories(changes, directories, root)
                changes.moves = self._take_moves(root, marks, appeared)
                self._handles.ignore_loud()
        except OSError as error:
            # What has happened is unknown.
            self._record_loss(error, since)
            self._moves.is_unknown = True
            changes.moves = None
        return changes

    def _take_moves(
        self, root: int, marks: MutableScopedPaths, appeared: list[bytes]
    ) -> Moves | None:
        """Return the moves since the base, and make this moment the base; None if unknown."""
        self._moves.is_unknown |= not self._group.tells_children
        found = self._moves.take(self._handles.find, marks, appeared)
        has_directories = found.moves and any(
            move.is_directory for move in found.moves.by_new_path.values()
        )
        if has_directories and not self._is_settled(root, found.looked_up):
            return None
        return found.moves

    def _is_settled(self, root: int, looked_up: set[bytes]) -> bool:
        """Return True if no directory was renamed since its path was looked up."""
        above = {each for path in looked_up for each in paths.at_and_above(path)}
        if sum(path.count(b"/") for path in above) > _MAX_NAMES_TO_SETTLE:
            return False
        try:
            for path in above:
                # Waits for the end of renames in it, whose events are queued then.
                with walk.opened_below(root, path) as directory, os.scandir(directory) as entries:
                    next(entries, None)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            return False
        # What comes in after that is no matter.
        pending = self._group.pending_events()
        if pending > _MAX_EVENTS_TO_SETTLE:
            return False
        while pending > 0 and (chunk := self._process_chunk()):
            pending -= fanotify.number_of_events(chunk)
        # These events belong to the next set.
        self._is_queue_empty = False
        return not any(map(self._handles.find, moved_in(self._events.directories)))

    def update_complete_until(self) -> Moment:
        """Return the moment before which every change was taken."""
        if not self.has_changes:
            self._taken_until = self.rescanner.complete_until
        oldest = self.open_files.oldest_modification(time.monotonic())
        moments = self._taken_until, oldest
        return min((each for each in moments if each is not None), key=lambda each: each.running)

    def scan_if_due(self) -> bool:
        """Scan for changes without events, if that is due; return True if it was."""
        found = None if self.is_source_lost else self.rescanner.scan_if_due()
        if found:
            self._found.merge(found)
        return found is not None

    @property
    def due_at(self) -> float | None:
        """When a scan is due, or a file that is not closed, by the monotonic clock."""
        return earliest(self.rescanner.due_at, self.open_files.due_at)

    def rewatch(self, path: bytes, *, only_if_replaced: bool = False) -> None:
        """Mark what is mounted now, soon; the whole tree at a path is a change.

        With ``only_if_replaced``, only if its events may have been lost.
        """
        self._remounted[path] = only_if_replaced and self._remounted.get(path, True)

    def _mark_remounted(self) -> None:
        try:
            marks = self._source.mark_mounts()
        except OSError as error:
            self._record_loss(error, self.update_complete_until())
            return
        self.rescanner.add_eventless(marks.unmarked)
        remounted, self._remounted = self._remounted, {}
        away = self._handles.take_away()
        replaced = {path for path, is_if in remounted.items() if not is_if or path in away}
        for path in replaced.union(marks.new):
            self._found.add(path, Scope.TREE)

    def _record_loss(self, error: OSError, since: Moment) -> None:
        """Record that it is unknown what has changed since a moment."""
        if error.errno in _NOT_THERE:
            self._is_source_lost = True
            self._remounted.clear()
        self.rescanner.record_loss(since, error.strerror or str(error))

    def _has_moved_directories(self, directories: Masks) -> bool:
        """Return True if a directory was moved in, into or out of the source."""
        moved = moved_in(directories)
        if not moved:
            return False
        with self._handles.opened():
            return any(map(self._handles.find, moved))

    def _forget_paths(self) -> None:
        """Forget the paths of directories and mounts, since directories were moved."""
        if self._source.has_mounts:
            self._source.mark_mounts()
        else:
            self._handles.forget()

    def _has_due_files(self, *, is_all: bool) -> bool:
        """Return True if files that were modified and not closed are changes now."""
        due_at = self.open_files.due_at
        return due_at is not None and (is_all or time.monotonic() >= due_at)

    def _add_files(self, changes: MutableChangeset, files: Masks) -> None:
        now_ns, now = time.time_ns(), time.monotonic()
        for key, masks in files.items():
            open_names = [name for name, mask in masks.items() if mask == MODIFY]
            others = {name: mask for name, mask in masks.items() if mask != MODIFY}
            was_open = self.open_files.discard(key, others)
            written = was_open | {name for name, mask in others.items() if mask & _NEW_CONTENT}
            for path in self._directory_paths(changes, key):
                if open_names:
                    included = self._rules.included_files(path, open_names)
                    self.open_files.record(key, included, now, self._taken_until)
                names = self._rules.included_files(path, others)
                changes.add_entries(path, names)
                changes.new_content.add_entries(path, names & written)
                if self._reported is not None:
                    self._reported.add(path, names - written, now_ns, has_content=False)
                    self._reported.add(path, names & written, now_ns)
                if log.isEnabledFor(logging.DEBUG):
                    for name in names:
                        _log_event(others[name], paths.join(path, name))

    def _add_open_files(self, changes: MutableChangeset, *, is_all: bool) -> None:
        open_files = self.open_files
        due = open_files.take_all() if is_all else open_files.take_due(time.monotonic())
        for key, names in due.items():
            for path in self._directory_paths(changes, key):
                changes.add_entries(path, names)
                changes.new_content.add_entries(path, names)

    def _add_directories(
        self, changes: MutableChangeset, directories: Masks, root: int
    ) -> list[bytes]:
        """Add directories; return the paths at which others may be than before."""
        appeared = []
        for key, masks in directories.items():
            for above in self._directory_paths(changes, key):
                for name, mask in masks.items():
                    if self._add_directory(changes, root, above, name, mask):
                        appeared.append(paths.join(above, name))
        return appeared

    def _add_directory(
        self, changes: MutableChangeset, root: int, above: bytes, name: bytes, mask: int
    ) -> bool:
        """Add the changes of a directory; return True if another one may be there."""
        path = above if name == b"." else paths.join(above, name)
        if self._rules.matches(path, is_directory=True):
            return False
        _log_event(mask, path)
        is_new = mask & (CREATE | _MOVED | fanotify.DELETE) and _is_directory(root, path)
        if is_new:
            changes.add(path, Scope.TREE)
            changes.new_content.add(path, Scope.TREE)
        else:
            changes.add(path, Scope.ENTRY)
        if mask & _LEFT:
            # What else is at its copy than in a directory that has the name now goes.
            changes.deletable.add(path, Scope.TREE)
        if self._reported is not None:
            self._reported.add(above, (paths.split(path)[1],), time.time_ns())
        return bool(is_new)

    def _directory_paths(self, changes: MutableChangeset, key: bytes) -> Iterator[bytes]:
        """Yield the paths of a directory that the rules do not exclude."""
        for found in self._handles.find(key):
            if self._rules and self._rules.excludes(found.path, is_directory=True):
                continue
            # No program can be told such a move.
            self._moves.is_unknown |= found.is_above or len(found.path) > paths.MAX_PATH_BYTES
            if found.is_above:
                changes.add(found.path, Scope.TREE)
                changes.new_content.add(found.path, Scope.TREE)
            else:
                yield found.path


def _is_directory(root: int, path: bytes) -> bool:
    """Return True if a directory is at a path, or if that is unknown."""
    try:
        return stat.S_ISDIR(walk.stat_below(root, path).st_mode)
    except OSError as error:
        return error.errno not in _NOT_THERE


def _log_event(mask: int, path: bytes) -> None:
    if log.isEnabledFor(logging.DEBUG):
        log.debug("event %s %s", fanotify.mask_names(mask), paths.printable(path))
