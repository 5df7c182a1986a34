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
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from pylsyncd.model import paths
from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.moments import Moment, earliest
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher import fanotify
from pylsyncd.watcher.fanotify import CREATE, EVENT, MODIFY, MOVED_FROM, MOVED_TO, Event, Fanotify
from pylsyncd.watcher.marked_source import MarkedSource
from pylsyncd.watcher.open_files import OpenFiles
from pylsyncd.watcher.rescanner import Rescanner

log = logging.getLogger(__name__)

_SPECIAL: Final = (
    fanotify.IS_DIRECTORY | fanotify.RENAME | fanotify.OVERFLOW
)  # fmt: skip
_MOVED: Final = MOVED_FROM | MOVED_TO
_LEFT: Final = MOVED_FROM | fanotify.DELETE
# After these a file may have another content, although its size and its time are as before.
_NEW_CONTENT: Final = MODIFY | CREATE | MOVED_TO

# So that the head of an event without a name can be read at the end of a chunk.
_END = bytes(EVENT.size)

_KEY_START, _NAME_START = 28, 44
_INFO_START = 24

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
        # The masks of all events of a name, by the key of its directory.
        self._files: defaultdict[bytes, dict[bytes, int]] = defaultdict(dict)
        # The same of directories.
        self._directories: dict[tuple[bytes, bytes], int] = {}
        # What scans have found, and what was watched again.
        self._found = MutableChangeset()
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
        return bool(self._files or self._directories or self._found)

    def process_next(self) -> bool:
        """Process the next chunk of events; return False if there are none."""
        chunk = self._group.read()
        if not chunk:
            return False
        if self._mask_counts is not None:
            fanotify.count_events(chunk, self._mask_counts)
        files, foreign = self._files, self._handles.foreign
        unpack = EVENT.unpack_from
        position, end = 0, len(chunk)
        chunk += _END
        while position < end:
            length, mask, _, info_length, handle_bytes = unpack(chunk, position)
            if mask & _SPECIAL:
                for event in fanotify.decode_events(chunk[position : position + length]):
                    self._process_special(event)
            else:
                name_start = position + _NAME_START + handle_bytes
                key = chunk[position + _KEY_START : name_start]
                if key not in foreign:
                    name = chunk[name_start : position + _INFO_START + info_length].rstrip(b"\0")
                    names = files[key]
                    names[name] = names.get(name, 0) | mask
            position += length
        return True

    def _process_special(self, event: Event) -> None:
        if event.mask & fanotify.OVERFLOW:
            self.rescanner.record_overflow()
        elif not event.mask & fanotify.IS_DIRECTORY:
            self._add_file(event.directory, event.name, MOVED_FROM)
            self._add_file(event.new_directory, event.new_name, MOVED_TO)
        elif event.mask & fanotify.RENAME:
            self._handles.forget()
            self._add_directory(event.directory, event.name, MOVED_FROM)
            self._add_directory(event.new_directory, event.new_name, MOVED_TO)
        else:
            if event.mask & _MOVED:
                self._handles.forget()
            self._add_directory(event.directory, event.name, event.mask)

    def _add_file(self, key: bytes, name: bytes, mask: int) -> None:
        if key not in self._handles.foreign:
            names = self._files[key]
            names[name] = names.get(name, 0) | mask

    def _add_directory(self, key: bytes, name: bytes, mask: int) -> None:
        if key not in self._handles.foreign:
            known = self._directories.get((key, name), 0)
            self._directories[key, name] = known | mask

    def take_changes(self, *, includes_open_files: bool = False) -> MutableChangeset:
        """Return the changes since the last call.

        Files that were modified and not closed are included when they are due, or if asked for.
        """
        changes, self._found = self._found, MutableChangeset()
        files, self._files = self._files, defaultdict(dict)
        directories, self._directories = self._directories, {}
        try:
            with self._handles.opened() as root:
                self._add_files(changes, files)
                self._add_open_files(changes, is_all=includes_open_files)
                self._add_directories(changes, directories, root)
        except OSError as error:
            # What has happened is unknown.
            self._is_source_lost |= error.errno in _NOT_THERE
            self.rescanner.record_overflow()
        if directories and not self._source.is_in_place():
            self._is_source_lost = True
        changes.moves = None
        return changes

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
        """Mark what is mounted now; the whole tree at a path is a change."""
        self.rescanner.add_eventless(self._source.mark_mounts())
        if not only_if_replaced:
            self._found.add(path, Scope.TREE)

    def _add_files(
        self, changes: MutableChangeset, files: Mapping[bytes, Mapping[bytes, int]]
    ) -> None:
        now_ns, now = time.time_ns(), time.monotonic()
        for key, masks in files.items():
            open_names = [name for name, mask in masks.items() if mask == MODIFY]
            others = {name: mask for name, mask in masks.items() if mask != MODIFY}
            was_open = self.open_files.discard(key, others)
            written = was_open | {name for name, mask in others.items() if mask & _NEW_CONTENT}
            for path in self._directory_paths(changes, key):
                if open_names:
                    included = self._source.included_files(path, open_names)
                    self.open_files.record(key, included, now, self._taken_until)
                names = self._source.included_files(path, others)
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
        self,
        changes: MutableChangeset,
        directories: Mapping[tuple[bytes, bytes], int],
        root: int,
    ) -> None:
        for (key, name), mask in directories.items():
            if mask & _MOVED and self._handles.leads_to_source(key, name):
                # What has changed while it was elsewhere was not reported.
                self._is_source_lost = True
            for above in self._directory_paths(changes, key):
                path = above if name == b"." else paths.join(above, name)
                if self._rules.matches(path, is_directory=True):
                    continue
                _log_event(mask, path)
                is_new = mask & (CREATE | _MOVED | fanotify.DELETE)
                if is_new and _is_directory(root, path):
                    changes.add(path, Scope.TREE)
                    changes.new_content.add(path, Scope.TREE)
                else:
                    changes.add(path, Scope.ENTRY)
                if mask & _LEFT:
                    # What else is at its copy than in a directory that has the name now goes.
                    changes.deletable.add(path, Scope.TREE)
                if self._reported is not None:
                    self._reported.add(above, (paths.split(path)[1],), time.time_ns())

    def _directory_paths(self, changes: MutableChangeset, key: bytes) -> Iterator[bytes]:
        """Yield the paths of a directory that the rules do not exclude."""
        for found in self._handles.find(key):
            if self._rules and self._rules.excludes(found.path, is_directory=True):
                continue
            if found.is_above:
                changes.add(found.path, Scope.TREE)
                changes.new_content.add(found.path, Scope.TREE)
            else:
                yield found.path


def _is_directory(root: int, path: bytes) -> bool:
    """Return True if a directory is at a path, or if that is unknown."""
    try:
        return stat.S_ISDIR(os.stat(path, dir_fd=root, follow_symlinks=False).st_mode)
    except OSError as error:
        return error.errno not in _NOT_THERE


def _log_event(mask: int, path: bytes) -> None:
    if log.isEnabledFor(logging.DEBUG):
        log.debug("event %s %s", fanotify.mask_names(mask), paths.printable(path))
