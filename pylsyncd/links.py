"""Hard links: a change through one name of a file is a change of all of its names.

inotify reports the name that was used. rsync replaces the copy of a listed name, so the copies of
the others stay as they were; with --hard-links, too, which looks at listed names alone (measured
with rsync 3.5.0). So whoever has changes adds the other names to them, whatever rsync's options.

The name itself may be gone, or stand for another file, when that is looked at. So the names of all
files that have several are known, from scans and from what was looked at; what a change touches
brings in the other names that it was known with. Beyond that, what tells where the other names are,
in this order:

* the changes themselves, when they hold as many names as the file has links;
* the names known from before, each looked at again: all, when they are as many, and also when a
  search has found no more while the file had as many links: the others are elsewhere;
* a search of the whole source, one for all files in question.
"""

import os
import stat
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import groupby, islice

from pylsyncd import paths, walk
from pylsyncd.changes import Changes, Scope
from pylsyncd.excludes import Rules
from pylsyncd.scan import MOST_LINKED

_File = tuple[int, int]
"""``st_dev`` and ``st_ino`` of a file."""

# So many names are remembered.
_NAMES_KEPT = MOST_LINKED

# Of so many names in a directory, it is worth while to ask which are there at all: a missing one
# costs 3 microseconds, an entry of a listing half of one.
_MANY = 16


@dataclass(slots=True)
class _Names:
    """The names of a file that are in the source and not excluded, as far as they are known."""

    links: int
    """How many the file has, wherever they are."""
    known: set[bytes] = field(default_factory=set)

    @property
    def is_complete(self) -> bool:
        return len(self.known) >= self.links

    @property
    def weight(self) -> int:
        """What it costs to remember them, in names."""
        return len(self.known) + 1


_Files = dict[_File, _Names]


class Links:
    """Completes changes by the other names of the files in them. Used by one thread at a time."""

    def __init__(self, source: bytes, rules: Rules) -> None:
        self._source = source
        self._rules = rules
        # What was found to be complete, the least recently used first.
        self._remembered: OrderedDict[_File, _Names] = OrderedDict()
        self._kept = 0
        # The directories that known names are in: with how many, by file.
        self._places: dict[bytes, dict[bytes, _File]] = {}
        self.searches = 0
        """How often the whole source was searched."""

    def complete(self, changes: Changes) -> None:
        """Add an ENTRY for each name of a changed file that ``changes`` do not name.

        What is not there (any more) is passed over: an event has told, or will tell. Costs one
        system call for a changed path, unless there are hard links.
        """
        if changes.is_everything:
            return
        try:
            root = walk.open_root(self._source)
        except OSError:
            # Nothing can be carried now, and what follows is larger than any name.
            return
        try:
            self._add_known(root, changes)
            found = _Look(root, self._rules).at(changes)
            named = {file: set(names.known) for file, names in found.items()}
            self._find_others(root, found)
        finally:
            os.close(root)
        for file, names in found.items():
            self._remember(file, names)
            for path in names.known - named[file]:
                changes.add(path, Scope.ENTRY)

    def learn(self, linked: Mapping[_File, set[bytes]]) -> None:
        """Take note of names that a scan has found."""
        for file, known in linked.items():
            if len(known) > 1:
                # How many there are elsewhere is not known.
                self._remember(file, _Names(0, set(known)))

    def _add_known(self, root: int, changes: Changes) -> None:
        """Add the other names that what the changes touch was known with, as far as they hold."""
        touched: dict[_File, set[bytes]] = {}
        for place, name in self._touched(changes):
            touched.setdefault(self._places[place][name], set()).add(paths.join(place, name))
        for file, named in touched.items():
            known = self._remembered[file].known - named
            holding = {path for path, status in _statuses(root, known) if _file(status) == file}
            for path in holding:
                changes.add(path, Scope.ENTRY)

    def _touched(self, changes: Changes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the known names, as directory and name, at or below what has changed."""
        for place, names in self._places.items():
            is_below = any(
                above in changes.trees or _is_entry(changes, above)
                for above in (place, *paths.ancestors(place))
                if above
            )
            if is_below or place in changes.listings:
                touched: AbstractSet[bytes] = names.keys()
            else:
                touched = names.keys() & changes.entries.get(place, frozenset())
            for name in touched:
                yield place, name

    def _find_others(self, root: int, found: _Files) -> None:
        unknown = {
            file: names
            for file, names in found.items()
            if not (names.is_complete or self._recall(root, file, names))
        }
        if unknown:
            self.searches += 1
            _Search(root, self._rules, unknown).run()

    def _recall(self, root: int, file: _File, names: _Names) -> bool:
        """Add the names known from before that still hold; tell whether these are all."""
        remembered = self._remembered.get(file)
        if remembered is None:
            return False
        others = remembered.known - names.known
        holding = {path for path, status in _statuses(root, others) if _file(status) == file}
        names.known |= holding
        return names.is_complete or (holding == others and remembered.links == names.links)

    def _remember(self, file: _File, names: _Names) -> None:
        self._forget(file)
        self._remembered[file] = names
        self._kept += names.weight
        for path in names.known:
            place, name = paths.split(path)
            self._places.setdefault(place, {})[name] = file
        while self._kept > _NAMES_KEPT:
            self._forget(next(iter(self._remembered)))

    def _forget(self, file: _File) -> None:
        names = self._remembered.pop(file, None)
        if names is None:
            return
        self._kept -= names.weight
        for path in names.known:
            place, name = paths.split(path)
            there = self._places.get(place, {})
            if there.get(name) == file:
                del there[name]
                if not there:
                    del self._places[place]


def _is_entry(changes: Changes, path: bytes) -> bool:
    directory, name = paths.split(path)
    return name in changes.entries.get(directory, frozenset())


class _Look:
    """Looks at what changes name, for files with several names."""

    def __init__(self, root: int, rules: Rules) -> None:
        self._root = root
        self._rules = rules
        self._found: _Files = {}

    def at(self, changes: Changes) -> _Files:
        suspects: list[bytes] = []
        for directory, names in changes.entries.items():
            suspects += self._suspects(directory, names)
        for path, status in _statuses(self._root, suspects):
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
        for name in self._existing(directory, names) if len(names) >= _MANY else names:
            path = paths.join(directory, name)
            try:
                status = os.lstat(path, dir_fd=self._root)
            except OSError:
                continue
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                yield path

    def _existing(self, directory: bytes, names: AbstractSet[bytes]) -> AbstractSet[bytes]:
        """Return the names without those that are not there, if that is cheap to tell."""
        try:
            with _Opened(self._root, directory) as opened, os.scandir(opened) as entries:
                there = {os.fsencode(entry.name) for entry in islice(entries, len(names) + 1)}
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()
        except OSError:
            return names
        return names if len(there) > len(names) else there & names

    def _judge(self, path: bytes, status: os.stat_result) -> None:
        if status.st_nlink <= 1 or stat.S_ISDIR(status.st_mode):
            return
        names = self._found.setdefault(_file(status), _Names(status.st_nlink))
        names.links = status.st_nlink
        if not self._rules or not self._rules.excludes(path, is_directory=False):
            names.known.add(path)

    def _look_in(self, path: bytes, *, is_tree: bool) -> None:
        try:
            with _Opened(self._root, path) as directory:
                if is_tree:
                    _descend(directory, path, self._rules, self._names_in)
                else:
                    self._names_in(directory, path)
        except OSError:
            # Perhaps it is a file, which a TREE covers as well.
            for _, status in _statuses(self._root, [path]):
                self._judge(path, status)

    def _names_in(self, directory: int, path: bytes) -> list[str]:
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
                if status.st_nlink > 1:
                    self._judge(paths.join(path, os.fsencode(entry.name)), status)
        return subdirectories


class _Search:
    """Searches the source for all names of some files."""

    def __init__(self, root: int, rules: Rules, files: _Files) -> None:
        self._root = root
        self._rules = rules
        self._files = files
        self._inodes = {inode for _, inode in files}
        # Devices on which a listing tells the same number of an inode as its status.
        self._devices = walk.devices_counting_links()

    def run(self) -> None:
        try:
            _descend(self._root, paths.ROOT, self._rules, self._names_in)
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
        names = self._files.get(_file(status))
        if names is None:
            return
        path = paths.join(directory, os.fsencode(entry.name))
        if not self._rules.matches(path, is_directory=False):
            names.known.add(path)


def _descend(directory: int, top: bytes, rules: Rules, names_in: walk.Names[bytes]) -> None:
    """List an open directory and all below it that are not excluded."""

    def enter(_directory: int, above: bytes, name: bytes) -> bytes | None:
        path = paths.join(above, name)
        return None if rules and rules.matches(path, is_directory=True) else path

    def refused(_above: bytes, _name: bytes, _error: OSError) -> None:
        """Pass over what is gone, or not to be read: it has no names to tell."""

    walk.descend(directory, top, enter, refused, names_in)


def _file(status: os.stat_result) -> _File:
    return status.st_dev, status.st_ino


class _Opened:
    """An open directory below the root, to be closed."""

    def __init__(self, root: int, path: bytes) -> None:
        self._directory = walk.open_below(root, path)

    def __enter__(self) -> int:
        return self._directory

    def __exit__(self, *_: object) -> None:
        os.close(self._directory)


def _statuses(root: int, some: Iterable[bytes]) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield the paths at which something is, reached through no symlink, with what is there."""
    pairs = sorted(paths.split(path) for path in some)
    for directory, group in groupby(pairs, key=lambda pair: pair[0]):
        try:
            opened = walk.open_below(root, directory)
        except OSError:
            continue
        try:
            for _, name in group:
                try:
                    status = os.lstat(name, dir_fd=opened)
                except OSError:
                    continue
                yield paths.join(directory, name), status
        finally:
            os.close(opened)
