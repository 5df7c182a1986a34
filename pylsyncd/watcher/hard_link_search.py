"""Looks for the names of files that have several, by descriptor and through no symlink."""

import math
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, groupby, islice

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset
from pylsyncd.pipeline.backlog import MAX_PENDING_CHANGES
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk
from pylsyncd.watcher.linknames import HardLinkCollector, LinkedFile, LinkedFiles, file_id

# How many names of a directory are looked at before it is asked whether they are there at all, and
# how many make that worth while.
_AT_ONCE = 256
_FEWEST = 16

# A missing name costs 3 microseconds, an entry of a listing less than half of one.
_LISTED_A_NAME = 4


class TooManyNamesError(Exception):
    """There are more names to look at than a destination can be owed."""


@dataclass(frozen=True, slots=True)
class SearchArea:
    """What is looked through: the open source, less what the rules leave out."""

    root: int
    rules: Rules
    on_progress: Callable[[], None] = lambda: None
    """Called for each directory, since there may be many."""


class LinkedFileFinder:
    """Looks at what changes name, for files with several names."""

    def __init__(self, ground: SearchArea) -> None:
        self._ground = ground
        self._found: LinkedFiles = {}
        self._count = 0
        # Whether most names of those that were looked at last are not there (any more).
        self._are_missing = False

    def find(self, changes: Changeset) -> LinkedFiles:
        """Return the files with several names, and the names that the changes cover.

        Raises TooManyNamesError.
        """
        suspects: list[bytes] = []
        for directory, names in changes.entries.items():
            suspects += self._suspects(directory, names)
        for path, status in stat_existing(self._ground.root, suspects):
            self._judge(path, status)
        for directory in changes.listings:
            self._look_in(directory, is_tree=False)
        for path in changes.trees:
            self._look_in(path, is_tree=True)
        return self._found

    def _suspects(self, directory: bytes, names: AbstractSet[bytes]) -> Iterator[bytes]:
        """Yield the paths that seem to be one of several names of a file.

        These are looked at by their whole paths, which is cheapest, and may lead through symlinks.
        """
        root, prefix = self._ground.root, directory + b"/" if directory else b""
        left = iter(names)
        while some := list(islice(left, _AT_ONCE)):
            is_asked = self._are_missing and len(some) >= _FEWEST
            asked = self._existing(directory, some) if is_asked else some
            missing = len(some) - len(asked)
            for name in asked:
                path = prefix + name
                try:
                    status = os.lstat(path, dir_fd=root)
                except OSError:
                    missing += 1
                    continue
                if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                    yield path
            self._are_missing = 2 * missing > len(some)

    def _existing(self, directory: bytes, names: Collection[bytes]) -> Collection[bytes]:
        """Return the names without those that are not there, if that is cheap to tell."""
        most = _LISTED_A_NAME * len(names)
        try:
            with (
                walk.opened_below(self._ground.root, directory) as opened,
                os.scandir(opened) as entries,
            ):
                there = {os.fsencode(entry.name) for entry in islice(entries, most + 1)}
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError:
            return names
        return names if len(there) > most else there.intersection(names)

    def _judge(self, path: bytes, status: os.stat_result) -> None:
        if status.st_nlink <= 1 or stat.S_ISDIR(status.st_mode):
            return
        names = self._found.setdefault(file_id(status), LinkedFile(status.st_nlink))
        names.link_count = status.st_nlink
        rules = self._ground.rules
        if not rules or not rules.excludes(path, is_directory=False):
            names.known_paths.add(path)
            self._count = _counted(self._count)

    def _look_in(self, path: bytes, *, is_tree: bool) -> None:
        try:
            with walk.opened_below(self._ground.root, path) as directory:
                if is_tree:
                    _descend(self._ground, directory, path, self._names_in)
                else:
                    self._names_in(directory, path)
        except OSError:
            # Perhaps it is a file, which a TREE covers as well.
            for _, status in stat_existing(self._ground.root, [path]):
                self._judge(path, status)

    def _names_in(self, directory: int, path: bytes) -> list[str]:
        return _judge_linked(directory, path, self._judge)


class SourceSearch:
    """Searches the source for all names of some files."""

    def __init__(self, ground: SearchArea, files: LinkedFiles) -> None:
        self._ground = ground
        self._files = files
        self._count = 0
        self._inodes = {inode for _, inode in files}
        # Devices on which a listing tells the same number of an inode as its status.
        self._devices = walk.devices_with_link_counts()

    def run(self) -> None:
        """Add all names to the files that are sought. Raises TooManyNamesError."""
        try:
            _descend(self._ground, self._ground.root, paths.ROOT, self._names_in)
        except OSError:
            return

    def _names_in(self, directory: int, path: bytes) -> list[str]:
        is_told = os.fstat(directory).st_dev in self._devices
        subdirectories = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    subdirectories.append(entry.name)
                elif not is_told or entry.inode() in self._inodes:
                    self._judge(entry, path)
        return subdirectories

    def _judge(self, entry: os.DirEntry[str], directory: bytes) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            return
        names = self._files.get(file_id(status))
        if names is None:
            return
        path = paths.join(directory, os.fsencode(entry.name))
        if path not in names.known_paths and not self._ground.rules.matches(
            path, is_directory=False
        ):
            names.known_paths.add(path)
            self._count = _counted(self._count)


class HardLinkScan:
    """Looks through the source for all files that have several names."""

    def __init__(self, ground: SearchArea, since: int) -> None:
        """Make one; ``since`` is a ctime in nanoseconds."""
        self._ground = ground
        self._since = since
        self.hard_links = HardLinkCollector()
        self.changed_paths: set[bytes] = set()
        """Names of such files that have changed since; no more of them than are too many.

        One that has a single name now may have had others when it changed.
        """

    @property
    def is_over_limit(self) -> bool:
        """Whether more have changed than a destination can be owed."""
        return len(self.changed_paths) > MAX_PENDING_CHANGES

    def run(self) -> None:
        """Walk through it. Raises OSError when the source itself cannot be listed."""
        root = self._ground.root
        _descend(self._ground, root, paths.ROOT, self._names_in)
        # Only now: one that the walk has passed may change through one that it has not come to,
        # and that is gone when it comes there.
        for path, status in stat_existing(root, chain(*self.hard_links.paths_by_file.values())):
            self._judge_time(path, status)

    def _names_in(self, directory: int, path: bytes) -> list[str]:
        return _judge_linked(directory, path, self._judge, self._since)

    def _judge(self, path: bytes, status: os.stat_result) -> None:
        if self._ground.rules.matches(path, is_directory=False):
            return
        if status.st_nlink == 1 or not self.hard_links.add(status, path):
            self._judge_time(path, status)

    def _judge_time(self, path: bytes, status: os.stat_result) -> None:
        if status.st_ctime_ns >= self._since and not self.is_over_limit:
            self.changed_paths.add(path)


def _counted(names: int) -> int:
    """Count one more name."""
    if names >= MAX_PENDING_CHANGES:
        raise TooManyNamesError
    return names + 1


def _judge_linked(
    directory: int,
    path: bytes,
    judge: Callable[[bytes, os.stat_result], None],
    since: float = math.inf,
) -> list[str]:
    """Judge the names in an open directory of files that have several; return its directories.

    A file that has changed ``since`` a ctime in nanoseconds is judged, too.
    """
    subdirectories = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                subdirectories.append(entry.name)
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if status.st_nlink > 1 or status.st_ctime_ns >= since:
                judge(paths.join(path, os.fsencode(entry.name)), status)
    return subdirectories


def _descend(ground: SearchArea, directory: int, top: bytes, names_in: walk.Names[bytes]) -> None:
    """List an open directory and all below it that are not excluded."""
    rules = ground.rules

    def enter(_directory: int, above: bytes, name: bytes) -> bytes | None:
        ground.on_progress()
        path = paths.join(above, name)
        return None if rules and rules.matches(path, is_directory=True) else path

    def refused(_above: bytes, _name: bytes, _error: OSError) -> None:
        """Pass over what is gone, or not to be read: it has no names to tell."""

    walk.descend(directory, top, enter, refused, names_in)


def stat_existing(root: int, some: Iterable[bytes]) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield the paths at which something is, reached through no symlink, with what is there."""
    pairs = sorted(paths.split(path) for path in some)
    for directory, group in groupby(pairs, key=lambda pair: pair[0]):
        with suppress(OSError), walk.opened_below(root, directory) as opened:
            for _, name in group:
                try:
                    status = os.lstat(name, dir_fd=opened)
                except OSError:
                    continue
                yield paths.join(directory, name), status
