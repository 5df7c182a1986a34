"""Turns events into changes."""

import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping

from pylsyncd.model import paths
from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.moments import Moment, earliest
from pylsyncd.model.scoped_paths import MutableScopedPaths, Scope
from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher import inotify
from pylsyncd.watcher.busy_directories import BusyDirectories
from pylsyncd.watcher.directory_events import DirectoryEvents
from pylsyncd.watcher.move_recorder import MoveRecorder, NamesByDirectory
from pylsyncd.watcher.open_files import OpenFiles
from pylsyncd.watcher.rescanner import Rescanner
from pylsyncd.watcher.watch_manager import WatchManager

log = logging.getLogger(__name__)

# All but the events of files.
_STRUCTURAL = (
    inotify.IS_DIRECTORY | inotify.OVERFLOW | inotify.IGNORED | inotify.DELETE_SELF
    | inotify.MOVE_SELF | inotify.UNMOUNT
)  # fmt: skip
# Those and the moves of files: all events with a function of their own.
_MOVED = inotify.MOVED_FROM | inotify.MOVED_TO
_SPECIAL = _STRUCTURAL | _MOVED
_DISAPPEARED = inotify.DELETE | inotify.MOVED_FROM
# The kernel calls it a modification of a directory if only its mtime is set, as tar does.
_ATTRIBUTES = inotify.ATTRIB | inotify.MODIFY
# After these a file may have another content, although its size and its time are as before. So it
# may after IN_MODIFY. IN_CLOSE_WRITE alone says only that it was open for writing, as a database is
# again and again: a comparison would read it each time.
_NEW_CONTENT = inotify.CREATE | inotify.MOVED_TO


# About 2,000 events.
_MAX_UNRECORDED_BYTES = 1 << 16

# About 25 MB.
_MAX_FOLDED_NAMES = 200_000


class EventProcessor:
    """The processor of one source's events. Used by the thread of the watch manager."""

    def __init__(
        self,
        watches: WatchManager,
        rescanner: Rescanner[int],
        rules: Rules,
        open_files: OpenFiles[int],
        mask_counts: Counter[int] | None = None,
    ) -> None:
        """Create it. Events are counted by their masks in ``mask_counts``, if given."""
        self._rules = rules
        self.open_files = open_files
        self._watches = watches
        self._tree = watches.tree
        self.rescanner = rescanner
        self._reported = rescanner.reported
        self._busy = BusyDirectories(watches, open_files, self._reported)
        self._mask_counts = mask_counts
        # Padded names by watch descriptor: paths are built when they are taken, not for each event.
        self._written_names: defaultdict[int, set[bytes]] = defaultdict(set)
        # Those that were taken last.
        self._written_before: NamesByDirectory = {}
        # Those that may only have other attributes, or be gone.
        self._other_names: defaultdict[int, set[bytes]] = defaultdict(set)
        # Those that were modified and had no other event since, with the number of modifications.
        self._modified_names: defaultdict[int, dict[bytes, int]] = defaultdict(dict)
        self._unrecorded_bytes = 0
        # An upper bound of the names in these three, while events are folded.
        self._folded_count: float = 0
        # Whether events were folded that are later than moves that wait.
        self._are_moves_late = False
        watches.events.fold_by(self)
        # Every change before this moment was taken, or its file is among the open ones.
        self._taken_until = rescanner.complete_until
        self._moves = MoveRecorder(watches, rules, rescanner.is_near_eventless)
        self._directories = DirectoryEvents(watches, rules, self._moves)
        self._is_source_lost = False

    @property
    def is_source_lost(self) -> bool:
        """Whether the source itself was deleted, moved away or unmounted."""
        return self._is_source_lost or self.rescanner.is_source_lost

    @property
    def has_changes(self) -> bool:
        """Whether :meth:`take_changes` may return something."""
        has_names = bool(self._written_names or self._other_names or self._modified_names)
        return has_names or bool(self._directories.changes) or bool(self._watches.events)

    def process_next(self) -> bool:
        """Process the next chunk of events; return False if there are none."""
        chunk = self._watches.events.take_next()
        if not chunk:
            self._directories.process_end_of_events()
            return False
        self._report(chunk)
        with self._watches.directories:
            self._process_events(chunk)
        if self._modified_names:
            self._unrecorded_bytes += len(chunk)
            if self._unrecorded_bytes >= _MAX_UNRECORDED_BYTES:
                self._record_modified()
        return True

    @property
    def can_fold(self) -> bool:
        """Whether there is room for more names."""
        if _MAX_FOLDED_NAMES <= self._folded_count < math.inf:
            by_wd = self._written_names, self._other_names, self._modified_names
            count = sum(len(names) for each in by_wd for names in each.values())
            # With more, there is none until they are taken: counting takes time.
            self._folded_count = count if count < _MAX_FOLDED_NAMES // 2 else math.inf
        return self._folded_count < _MAX_FOLDED_NAMES

    def fold(self, chunk: bytes) -> bytes:
        """Process the events of files in a chunk, except moves; return all others.

        They are processed later, although they may be earlier ones. For the names of files that
        makes no difference, but what a move has moved is unknown then.
        """
        unpack, header = inotify.EVENT_HEADER.unpack_from, inotify.EVENT_HEADER.size
        files: list[bytes] = []
        others: list[bytes] = []
        start, end = 0, len(chunk)
        while start < end:
            _, mask, _, length = unpack(chunk, start)
            after = start + header + length
            (others if mask & _SPECIAL else files).append(chunk[start:after])
            self._are_moves_late |= bool(mask & _MOVED)
            start = after
        self._folded_count += len(files)
        events = b"".join(files)
        self._report(events)
        self._process_events(events)
        return b"".join(others)

    def _process_events(self, chunk: bytes) -> None:
        written_names, other_names = self._written_names, self._other_names
        modified_names, modify = self._modified_names, inotify.MODIFY
        unpack, header = inotify.EVENT_HEADER.unpack_from, inotify.EVENT_HEADER.size
        position, end = 0, len(chunk)
        while position < end:
            wd, mask, cookie, length = unpack(chunk, position)
            position += header
            name = chunk[position : position + length]
            position += length
            if mask & _SPECIAL:
                if not mask & _STRUCTURAL:
                    self._process_moved_file(wd, mask, cookie, name)
                    continue
                name = name.rstrip(b"\0")
                if self._reported is not None:
                    self._reported.add(wd, (name,) if name else (), time.time_ns())
                self._process_structural(wd, mask, cookie, name)
                continue
            if mask == modify:
                counts = modified_names[wd]
                counts[name] = counts.get(name, 0) + 1
                continue
            is_modified = wd in modified_names and modified_names[wd].pop(name, 0)
            if is_modified or mask & _NEW_CONTENT:
                written_names[wd].add(name)
            elif name not in written_names[wd]:
                other_names[wd].add(name)

    def take_changes(self, *, includes_open_files: bool = False) -> MutableChangeset:
        """Return the changes since the last call.

        Files that were modified and not closed are included when they are due, or if asked for.
        """
        if includes_open_files:
            self._look_at_busy_directories(is_early=True)
        changes = self._directories.take_changes()
        self.rescanner.log_unwatched()
        written_names, self._written_names = self._written_names, defaultdict(set)
        other_names, self._other_names = self._other_names, defaultdict(set)
        new_content = MutableScopedPaths()
        for wd, directory, names in self._included(written_names):
            changes.add_entries(directory, names)
            new_content.add_entries(directory, names)
            self.open_files.discard(wd, names)
        for wd, directory, names in self._included(other_names, has_content=False):
            changes.add_entries(directory, names)
            modified = self.open_files.discard(wd, names)
            # In a busy directory, what was closed may have been modified.
            new_content.add_entries(directory, names if wd in self._busy else modified)
        for wd, names in self._take_open_files(is_all=includes_open_files).items():
            path = self._tree.path(wd)
            if path is not None:
                changes.add_entries(path, names)
                new_content.add_entries(path, names)
        self._moves.is_unknown |= self.rescanner.is_scan_pending or self._are_moves_late
        self._are_moves_late &= bool(self._watches.events)
        self._folded_count = 0
        changes.moves = self._moves.take(new_content, written_names, other_names)
        if written_names:
            self._written_before = written_names
        new_content.add_all(changes.new_content)
        changes.new_content = new_content
        return changes

    def update_complete_until(self) -> Moment:
        """Return the moment before which every change was taken."""
        if not self.has_changes:
            self._taken_until = self.rescanner.complete_until
        oldest = self.open_files.oldest_modification(time.monotonic())
        moments = self._taken_until, oldest, self._busy.looked_until
        return min((each for each in moments if each is not None), key=lambda each: each.running)

    def scan_if_due(self) -> bool:
        """Scan for changes without events, if that is due; return True if it was."""
        is_look_due = self._busy.due_at is not None and time.monotonic() >= self._busy.due_at
        if is_look_due:
            self._look_at_busy_directories(is_early=False)
        found = None if self.is_source_lost else self.rescanner.scan_if_due()
        if found:
            self._directories.changes.merge(found)
            self._moves.is_unknown = True
        return found is not None or is_look_due

    @property
    def due_at(self) -> float | None:
        """When a scan is due, or a file that is not closed, by the monotonic clock."""
        return earliest(self.rescanner.due_at, self.open_files.due_at, self._busy.due_at)

    def rewatch(self, path: bytes, *, only_if_replaced: bool = False) -> None:
        """Watch the directory that is at a path now; its whole tree is a change.

        With ``only_if_replaced``, do so only if what is watched is not there any more. A file
        system that is mounted there has the files that it had before: size and time tell those that
        have changed meanwhile.
        """
        directory, name = paths.split(path)
        parent = self._tree.find(directory)
        if parent is None or (only_if_replaced and self._watches.is_in_place(parent, name)):
            return
        self._directories.watch_subtree(parent, name, has_new_content=False)
        self._moves.is_unknown = True

    def _take_open_files(self, *, is_all: bool) -> Mapping[int, set[bytes]]:
        self._record_modified()
        return self.open_files.take_all() if is_all else self.open_files.take_due(time.monotonic())

    def _record_modified(self) -> None:
        now = time.monotonic()
        # Most files are closed at once: then their directory has no name left here.
        modified_names = {wd: counts for wd, counts in self._modified_names.items() if counts}
        self._modified_names = defaultdict(dict)
        self._unrecorded_bytes = 0
        for wd, _, names in self._included(modified_names):
            self.open_files.record(wd, names, now, self._taken_until)
            self._busy.record(wd, sum(modified_names[wd].values()))
        self._busy.check(now)

    def _look_at_busy_directories(self, *, is_early: bool) -> None:
        now = time.monotonic()
        compared = self._busy.look(self._taken_until, now, is_early=is_early)
        for wd, subdirectories in compared.items():
            self._directories.compare(wd, subdirectories)
            self._moves.is_unknown = True

    def _included(
        self, padded_by_wd: Mapping[int, Collection[bytes]], *, has_content: bool = True
    ) -> Iterator[tuple[int, bytes, set[bytes]]]:
        """Yield the descriptors and paths of directories, and the names that are not excluded.

        Without ``has_content`` the events do not tell that a content is new.
        """
        now_ns = time.time_ns()
        for wd, padded in padded_by_wd.items():
            directory = self._tree.path(wd)
            if directory is None:
                # It has left the source, or will be a change as a whole tree.
                self._moves.is_unknown |= wd in self._tree
                continue
            names = {name.rstrip(b"\0") for name in padded}
            if self._rules:
                names = self._watches.included_files(directory, names)
            if self._reported is not None:
                is_written = has_content or wd in self._busy
                self._reported.add(wd, names, now_ns, has_content=is_written)
            yield wd, directory, names

    def _process_moved_file(self, wd: int, mask: int, cookie: int, name: bytes) -> None:
        """Process the event that a file has left a padded name, or has got one."""
        written = self._written_names[wd]
        is_modified = wd in self._modified_names and self._modified_names[wd].pop(name, 0)
        if mask & inotify.MOVED_TO:
            self._moves.record_arrived(cookie, (wd, name))
            written.add(name)
            return
        self._moves.record_left(cookie, (wd, name), is_new=name in written)
        # When two files are exchanged, one gets its new name before the other leaves it.
        if is_modified or name in self._written_before.get(wd, ()):
            written.add(name)
        elif name not in written:
            self._other_names[wd].add(name)

    def _process_structural(self, wd: int, mask: int, cookie: int, name: bytes) -> None:
        if mask & inotify.OVERFLOW:
            self._moves.is_unknown = True
            self.rescanner.record_overflow()
        elif wd not in self._tree:
            return
        elif name and mask & _DISAPPEARED:
            self._directories.process_disappeared(wd, name, cookie)
        elif name:
            self._directories.process_appeared(wd, mask, name, cookie)
        elif wd == self._tree.root_wd:
            self._process_root_event(mask)
        elif mask & inotify.IGNORED:
            self._tree.remove(wd)
        elif mask & inotify.MOVE_SELF:
            self._directories.process_moved_self(wd)

    def _process_root_event(self, mask: int) -> None:
        if mask & _ATTRIBUTES:
            self._directories.changes.add(paths.ROOT, Scope.ENTRY)
        else:
            self._is_source_lost = True

    def _report(self, chunk: bytes) -> None:
        """Count the events of a chunk, and log them, if that is wanted."""
        if self._mask_counts is not None:
            inotify.count_events(chunk, self._mask_counts)
        if not log.isEnabledFor(logging.DEBUG):
            return
        for wd, mask, name in inotify.decode_events(chunk):
            directory = self._tree.path(wd) if wd in self._tree else None
            path = "?" if directory is None else paths.printable(paths.join(directory, name))
            log.debug("event %s %s", inotify.mask_names(mask), path)
