"""Finds the names of hard-linked files, by descriptor and through no symlink."""

import math
import os
import queue
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, groupby, islice

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset
from pylsyncd.pipeline.backlog import MAX_PENDING_CHANGES
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk

MAX_HARD_LINK_NAMES = 50_000
"""How many names of hard-linked files are kept; about 200 bytes each."""

# How many names of a directory are checked at a time, and how many are worth a listing that tells
# which of them exist.
_NAMES_PER_BATCH = 256
_MIN_NAMES_FOR_LISTING = 16

# How many files of a directory, or names to check, are looked at between two reports of progress.
_FILES_BETWEEN_PROGRESS_CALLS = 1024

# A missing name costs 3 microseconds, an entry of a listing less than half of one.
_MAX_LISTED_PER_NAME = 4

FileId = tuple[int, int]
"""The ``st_dev`` and ``st_ino`` of a file."""


class TooManyNamesError(Exception):
    """More names were found than a destination can have pending."""


@dataclass(slots=True)
class LinkedFile:
    """A hard-linked file: the names that are known, in the source and not excluded."""

    link_count: int
    """How many names the file has anywhere."""
    known_paths: set[bytes] = field(default_factory=set)

    @property
    def has_all_names(self) -> bool:
        """Whether the file can have no other name."""
        return len(self.known_paths) >= self.link_count

    @property
    def weight(self) -> int:
        """The memory that the object takes, in names."""
        return len(self.known_paths) + 1


LinkedFiles = dict[FileId, LinkedFile]


class HardLinkCollector:
    """The names of hard-linked files that a walk finds, up to MAX_HARD_LINK_NAMES."""

    def __init__(self) -> None:
        self.paths_by_file: dict[FileId, set[bytes]] = {}
        self._count = 0

    def add(self, status: os.stat_result, path: bytes) -> bool:
        """Add one name of a file; return False if there is no room left."""
        if self._count >= MAX_HARD_LINK_NAMES:
            return False
        self._count += 1
        self.paths_by_file.setdefault(file_id(status), set()).add(path)
        return True


def file_id(status: os.stat_result) -> FileId:
    """Return the id of the file that has a status."""
    return status.st_dev, status.st_ino


@dataclass(frozen=True, slots=True)
class SearchArea:
    """Where to search: the open source without what the rules exclude."""

    root: int
    rules: Rules
    on_progress: Callable[[], None] = lambda: None
    """Called for each directory of a walk, and again and again in a large one."""

    def walk(self, directory: int, top: bytes, list_directory: walk.ListNames[bytes]) -> None:
        """Call ``list_directory`` for an open directory and all below it that are not excluded."""

        def enter(_directory: int, parent: bytes, name: bytes) -> bytes | None:
            self.on_progress()
            path = paths.join(parent, name)
            is_excluded = self.rules and self.rules.matches(path, is_directory=True)
            return None if is_excluded else path

        def skip(_parent: bytes, _name: bytes, _error: OSError) -> None:
            """Skip a directory that is gone or cannot be read."""

        walk.descend(directory, top, enter, skip, list_directory)


class LinkedFileFinder:
    """Finds the hard-linked files in a changeset. Used once."""

    def __init__(self, area: SearchArea) -> None:
        self._area = area
        self._found: LinkedFiles = {}
        self._count = 0
        # Whether most names of the last batch do not exist.
        self._are_most_missing = False

    def find(self, changes: Changeset) -> LinkedFiles:
        """Return the hard-linked files with the names that the changes cover.

        Raises TooManyNamesError.
        """
        candidates: list[bytes] = []
        for directory, names in changes.entries.items():
            candidates += self._linked_entries(directory, names)
        for path, status in stat_existing(self._area.root, candidates):
            self._add_if_linked(path, status)
        for directory in changes.listings:
            self._search_directory(directory, is_tree=False)
        for path in changes.trees:
            self._search_directory(path, is_tree=True)
        return self._found

    def _linked_entries(self, directory: bytes, names: AbstractSet[bytes]) -> Iterator[bytes]:
        """Yield the paths that seem to belong to hard-linked files.

        The whole paths are used, which is cheapest, and may lead through symlinks.
        """
        root, prefix = self._area.root, directory + b"/" if directory else b""
        left = iter(names)
        while batch := list(islice(left, _NAMES_PER_BATCH)):
            should_list = self._are_most_missing and len(batch) >= walk.MIN_NAMES_FOR_LISTING
            existing = self._existing(directory, batch) if should_list else batch
            missing = len(batch) - len(existing)
            for name in existing:
                path = prefix + name
                try:
                    status = os.lstat(path, dir_fd=root)
                except OSError:
                    missing += 1
                    continue
                if _is_linked(status):
                    yield path
            self._are_most_missing = 2 * missing > len(batch)

    def _existing(self, directory: bytes, names: Collection[bytes]) -> Collection[bytes]:
        """Return the names without missing ones, or all names if the directory is too large."""
        try:
            return walk.existing_names(self._area.root, directory, names)
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError:
            return names

    def _add_if_linked(self, path: bytes, status: os.stat_result) -> None:
        if not _is_linked(status):
            return
        file = self._found.setdefault(file_id(status), LinkedFile(status.st_nlink))
        file.link_count = status.st_nlink
        rules = self._area.rules
        if not rules or not rules.excludes(path, is_directory=False):
            file.known_paths.add(path)
            self._count = _count_name(self._count)

    def _search_directory(self, path: bytes, *, is_tree: bool) -> None:
        try:
            with walk.opened_below(self._area.root, path) as directory:
                if is_tree:
                    self._area.walk(directory, path, self._list)
                else:
                    self._list(directory, path)
        except OSError:
            # It may be a file, which Scope.TREE covers, too.
            for _, status in stat_existing(self._area.root, [path]):
                self._add_if_linked(path, status)

    def _list(self, directory: int, path: bytes) -> list[str]:
        return _list_linked(self._area, directory, path, self._add_if_linked)


def search_source(area: SearchArea, files: LinkedFiles) -> None:
    """Search the whole source for all names of some files, and add these to the files.

    Raises TooManyNamesError.
    """
    inodes = {inode for _, inode in files}
    # Devices on which a listing has the same inode numbers as lstat.
    devices = walk.devices_with_link_counts()
    count = 0

    def add_if_wanted(entry: os.DirEntry[str], directory: bytes) -> None:
        nonlocal count
        file = files.get(file_id(entry.stat(follow_symlinks=False)))
        if file is None:
            return
        path = paths.join(directory, os.fsencode(entry.name))
        if path not in file.known_paths and not area.rules.matches(path, is_directory=False):
            file.known_paths.add(path)
            count = _count_name(count)

    def list_directory(directory: int, path: bytes) -> list[str]:
        can_filter = os.fstat(directory).st_dev in devices
        subdirectories = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    subdirectories.append(entry.name)
                elif not can_filter or entry.inode() in inodes:
                    with suppress(OSError):
                        add_if_wanted(entry, path)
        return subdirectories

    with suppress(OSError):
        area.walk(area.root, paths.ROOT, list_directory)


class FoundHardLinks:
    """The names of hard-linked files that scans have found. Thread-safe."""

    def __init__(self) -> None:
        self._found: queue.SimpleQueue[Mapping[FileId, set[bytes]]] = queue.SimpleQueue()

    def put(self, paths_by_file: Mapping[FileId, set[bytes]]) -> None:
        """Add what a scan has found."""
        self._found.put(paths_by_file)

    def take(self) -> list[Mapping[FileId, set[bytes]]]:
        """Return what scans have found since the last call."""
        found = []
        while not self._found.empty():
            found.append(self._found.get())
        return found


@dataclass(frozen=True, slots=True)
class HardLinkScanResult:
    """What a scan for hard-linked files has found."""

    paths_by_file: dict[FileId, set[bytes]]
    changed_paths: dict[bytes, int]
    """The names of files that have changed since the scan's ctime, with their own ctimes.

    Files with one name are included: they may have had others when they changed.
    """

    @property
    def is_over_limit(self) -> bool:
        """Whether more names have changed than a destination can have pending."""
        return len(self.changed_paths) > MAX_PENDING_CHANGES


def scan_hard_links(area: SearchArea, since_ns: int) -> HardLinkScanResult:
    """Find all hard-linked files of the source, and what has changed since a ctime in nanoseconds.

    Raises OSError if the source itself cannot be listed.
    """
    collector = HardLinkCollector()
    result = HardLinkScanResult(collector.paths_by_file, {})

    def add_if_changed(path: bytes, status: os.stat_result) -> None:
        if status.st_ctime_ns >= since_ns and not result.is_over_limit:
            result.changed_paths[path] = status.st_ctime_ns

    def check(path: bytes, status: os.stat_result) -> None:
        is_excluded = area.rules.matches(path, is_directory=False)
        if not is_excluded and (status.st_nlink == 1 or not collector.add(status, path)):
            add_if_changed(path, status)

    def list_directory(directory: int, path: bytes) -> list[str]:
        return _list_linked(area, directory, path, check, since_ns)

    area.walk(area.root, paths.ROOT, list_directory)
    # Not during the walk: a file that it has passed may change through a name that is gone before
    # the walk reaches that name.
    again = stat_existing(area.root, chain(*collector.paths_by_file.values()))
    for number, (path, status) in enumerate(again, start=1):
        if not number % _FILES_BETWEEN_PROGRESS_CALLS:
            area.on_progress()
        add_if_changed(path, status)
    return result


def _is_linked(status: os.stat_result) -> bool:
    return status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode)


def _count_name(count: int) -> int:
    """Return the count with one more name. Raises TooManyNamesError."""
    if count >= MAX_PENDING_CHANGES:
        raise TooManyNamesError
    return count + 1


def _list_linked(
    area: SearchArea,
    directory: int,
    path: bytes,
    on_file: Callable[[bytes, os.stat_result], None],
    since_ns: float = math.inf,
) -> list[str]:
    """Call ``on_file`` for each hard-linked file in an open directory; return its subdirectories.

    Also for each file with a ctime of ``since_ns`` or later, in nanoseconds.
    """
    subdirectories = []
    with os.scandir(directory) as entries:
        for number, entry in enumerate(entries, start=1):
            if not number % _FILES_BETWEEN_PROGRESS_CALLS:
                area.on_progress()
            if entry.is_dir(follow_symlinks=False):
                subdirectories.append(entry.name)
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if status.st_nlink > 1 or status.st_ctime_ns >= since_ns:
                on_file(paths.join(path, os.fsencode(entry.name)), status)
    return subdirectories


def stat_existing(root: int, some: Iterable[bytes]) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield the paths that exist and lead through no symlink, with their status."""
    pairs = sorted(paths.split(path) for path in some)
    for directory, group in groupby(pairs, key=lambda pair: pair[0]):
        with suppress(OSError), walk.opened_below(root, directory) as opened:
            for _, name in group:
                try:
                    status = os.lstat(name, dir_fd=opened)
                except OSError:
                    continue
                yield paths.join(directory, name), status
