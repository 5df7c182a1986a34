"""Turns a changeset and the disk as it is now into the list that rsync reads.

What rsync 3.5.0 does with a list (measured), and the rules that follow:

* Every entry begins with ``./``: then ``#`` and ``;`` do not start a comment, and the root's own
  attributes are sent.
* ``d`` sends a directory's attributes. ``d/`` also sends its entries, and deletes all others at the
  destination.
* A missing path is deleted, but only the topmost missing one may be listed: a path below a missing
  directory is an error, and a path below a file disables all deletions.
* Nothing is listed through a symlink: the copy of the symlink would become a directory.
* Nothing is listed below an excluded directory: rsync would send it (see `rules/excludes.py`).
"""

import errno
import os
import stat
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from itertools import chain

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset, MutableChangeset
from pylsyncd.model.scoped_paths import Scope, ScopedPaths
from pylsyncd.rsync.size_limit import MAX_EXCLUDED_LARGE_FILES, SizeLimit
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk

# rsync silently drops a longer path from its list (3.5.0; counted after the "./").
MAX_LISTED_PATH_BYTES = 4093

NOT_A_DIRECTORY = frozenset([errno.ENOENT, errno.ENOTDIR, errno.ELOOP])
"""The errors of opening a directory that is gone, or is no directory any more."""

# With these, another attempt finds no more: an event is on its way, or rsync takes no such path.
_FINAL = NOT_A_DIRECTORY | {errno.ENAMETOOLONG}

# Missing on both sides: lists nothing, so rsync sets only the root's own attributes.
_ROOT_ATTRIBUTES_ONLY = b".pylsyncd-none"


class FileList:
    """The paths that one rsync is given, sorted and distinct, and those that it is not given."""

    def __init__(self, entries: set[bytes], large: AbstractSet[bytes] = frozenset()) -> None:
        self.too_long = sorted(path for path in entries if len(path) > MAX_LISTED_PATH_BYTES)
        """Paths that rsync cannot take, and that are therefore not copied."""
        self.entries = sorted(entries.difference(self.too_long))
        self.large_files = MutableChangeset()
        """Files that the list leaves out because of their size."""
        for path in large:
            self.large_files.add(path, Scope.ENTRY)
        self.files_to_exclude = frozenset(
            path for path in large if _as_listing(paths.split(path)[0]) in entries
        )
        """Those large files that rsync finds in a listed directory, unless they are excluded."""
        self.unread = MutableChangeset()
        """Trees that could not be read, of which the list may lack something."""

    def __len__(self) -> int:
        return len(self.entries)

    def part(self, entries: AbstractSet[bytes]) -> "FileList":
        """Return the list of some paths, for a run that leaves out and lacks the same."""
        part = FileList(set(entries))
        part.files_to_exclude, part.unread = self.files_to_exclude, self.unread
        return part

    def without(self, some: ScopedPaths) -> "FileList":
        """Return the list without these entries and listings; what is below them stays."""
        left = set(self.entries).difference(map(_as_listing, some.listings))
        for directory, names in some.entries.items():
            left.difference_update(paths.join(directory, name) for name in names if name)
        return self.part(left)

    def encode(self) -> bytes:
        """Return the list as rsync reads it with ``--from0``."""
        return b"".join([b"./" + entry + b"\0" for entry in self.entries])


def build_file_list(  # noqa: PLR0913  # all but three are passed by name
    root: int,
    changeset: Changeset,
    rules: Rules,
    *,
    delete_missing_args: bool,
    deletable: AbstractSet[bytes] | None = None,
    excluded: AbstractSet[bytes] = frozenset(),
    size_limit: SizeLimit | None = None,
) -> FileList:
    """Return the list for a changeset of the source, whose open directory is ``root``.

    With ``delete_missing_args`` a missing path is listed, and rsync deletes it by name
    (--delete-missing-args). Without, the directory that it is missing from is listed. If
    ``deletable`` paths are given, no other missing path is listed, and no directory for a missing
    path. The list does not enter trees at ``excluded``; the changeset has nothing at or below these
    paths. Files above ``size_limit`` are left out.
    """
    builder = _FileListBuilder(
        root, rules, excluded,
        delete_missing_args=delete_missing_args, size_limit=size_limit, deletable=deletable,
    )  # fmt: skip
    changeset = _without_unsafe_paths(changeset)
    for directory, names in changeset.entries.items():
        builder.add_entries(directory, names)
    for directory in changeset.listings:
        builder.add_listing(directory)
    for path in changeset.trees:
        builder.add_tree(path)
    if size_limit is not None:
        builder.exclude_large_files_in_listings(size_limit)
    files = FileList(builder.entries, builder.large)
    files.unread.trees |= builder.unread
    return files


def regular_files(root: int, candidates: Iterable[bytes]) -> set[bytes]:
    """Return the paths at which there is a regular file with only directories above it.

    A path that cannot be looked at is one of them, so that rsync reports the error.
    """
    builder = _FileListBuilder(
        root, Rules(), frozenset(), delete_missing_args=True, size_limit=None
    )
    return {path for path in candidates if builder.is_regular(path)}


def orphaned_paths(root: int, candidates: Iterable[bytes]) -> set[bytes]:
    """Return the paths above which there is certainly something else than directories."""
    builder = _FileListBuilder(
        root, Rules(), frozenset(), delete_missing_args=True, size_limit=None
    )
    return {path for path in candidates if builder.is_orphaned(path)}


def smallest_file(source: bytes, changes: Changeset) -> bytes:
    """Return the path of the smallest entry of the source; one that is missing is smaller."""

    def size(path: bytes) -> int:
        try:
            with walk.opened_root(source) as root:
                return os.lstat(path, dir_fd=root).st_size
        except OSError:
            return -1

    return min((change.path for change in changes), key=size)


def _without_unsafe_paths(changeset: Changeset) -> Changeset:
    """Return the changes without those whose path may lead out of the source.

    No part of pylsyncd makes such a path; this holds if one does.
    """
    if _is_safe(changeset):
        return changeset
    safe = MutableChangeset()
    for path, scope in changeset:
        if paths.is_relative(path):
            safe.add(path, scope)
    return safe


def _is_safe(changeset: Changeset) -> bool:
    """Return True if all paths are relative. One check of all is faster than one for each."""
    directories = filter(None, chain(changeset.entries, changeset.listings, changeset.trees))
    names = filter(None, chain.from_iterable(changeset.entries.values()))
    return paths.are_relative([*directories]) and paths.are_names([*names])


class _FileListBuilder:
    """The entries of an unfinished list, and the state of the directories above them."""

    def __init__(  # noqa: PLR0913  # all but three are passed by name
        self,
        root: int,
        rules: Rules,
        excluded: AbstractSet[bytes],
        *,
        delete_missing_args: bool,
        size_limit: SizeLimit | None,
        deletable: AbstractSet[bytes] | None = None,
    ) -> None:
        self.entries: set[bytes] = set()
        self.large: set[bytes] = set()
        # rsync may read it a moment later, but its list has nothing of what is below.
        self.unread: set[bytes] = set()
        self._size_limit = size_limit
        self._root = root
        self._rules = rules
        self._has_rules = bool(rules)
        self._excluded = excluded
        self._delete_missing_args = delete_missing_args
        self._deletable = deletable
        # For each directory, the topmost path at or above it that is excluded or no directory.
        self._obstacles: dict[bytes, bytes | None] = {paths.ROOT: None}
        self._excluded_directories: set[bytes] = set()

    def add_entries(self, directory: bytes, names: AbstractSet[bytes]) -> None:
        if not self._is_reachable(directory):
            return
        if not directory and b"" in names:
            self.entries.add(_ROOT_ATTRIBUTES_ONLY)
        entries = [paths.join(directory, name) for name in names if name]
        is_free = self._deletable is None and self._size_limit is None
        if self._delete_missing_args and not self._rules and is_free:
            # rsync itself finds out what they are now.
            self.entries.update(entries)
            return
        for path in entries:
            if mode := self._mode(path):
                self._add_present(path, is_directory=stat.S_ISDIR(mode))
            else:
                self._add_missing(path)

    def add_listing(self, directory: bytes) -> None:
        if self._is_reachable(directory):
            self.entries.add(_as_listing(directory))

    def add_tree(self, path: bytes) -> None:
        if not path:
            self._add_directories(path)
            return
        if not self._is_reachable(paths.split(path)[0]):
            return
        mode = self._mode(path)
        is_directory = stat.S_ISDIR(mode)
        if not mode:
            self._add_missing(path)
        elif not is_directory or self._rules.matches(path, is_directory=True):
            self._add_present(path, is_directory=is_directory)
        else:
            self._add_directories(path)

    def exclude_large_files_in_listings(self, size_limit: SizeLimit) -> None:
        """Leave out large files in the listed directories, unless there are too many of them."""
        found: set[bytes] = set()
        for entry in self.entries:
            if entry and not entry.endswith(b"/"):
                continue
            found |= size_limit.large_files_in(self._root, entry[:-1], self._is_left_out)
            if len(found) > MAX_EXCLUDED_LARGE_FILES:
                return
        self.large |= found

    def is_regular(self, path: bytes) -> bool:
        """Return True if there is a regular file with only directories above it."""
        if not paths.is_relative(path):
            return False
        obstacle = self._obstacle(paths.split(path)[0])
        if obstacle is not None:
            return obstacle in self.unread
        return stat.S_ISREG(self._mode(path))

    def is_orphaned(self, path: bytes) -> bool:
        """Return True if something above a path is missing, or certainly no directory."""
        obstacle = self._obstacle(paths.split(path)[0])
        return obstacle is not None and obstacle not in self.unread

    def _is_left_out(self, path: bytes) -> bool:
        return path in self._excluded or self._rules.matches(path, is_directory=False)

    def _add_file(self, path: bytes) -> None:
        if self._size_limit is not None and self._size_limit.is_exceeded_at(self._root, path):
            self.large.add(path)
        else:
            self.entries.add(path)

    def _add_directories(self, top: bytes) -> None:
        """Add the listing of a directory and of all directories below it."""
        try:
            directory = walk.open_below(self._root, top)
        except OSError as error:
            self._add_unopened(top, error)
            return
        self.entries.add(_as_listing(top))
        try:
            walk.descend(directory, top, self._add_subdirectory, self._add_failed_subdirectory)
        except OSError:
            # It opens, but cannot be read: rsync reports that, because it is listed.
            self.unread.add(top)
        finally:
            os.close(directory)

    def _add_subdirectory(self, _directory: int, above: bytes, name: bytes) -> bytes | None:
        path = paths.join(above, name)
        if path in self._excluded or (self._rules and self._rules.matches(path, is_directory=True)):
            return None
        self.entries.add(_as_listing(path))
        return path

    def _add_failed_subdirectory(self, above: bytes, name: bytes, error: OSError) -> None:
        path = paths.join(above, name)
        if path not in self._excluded:
            self._add_unopened(path, error)

    def _add_unopened(self, path: bytes, error: OSError) -> None:
        """List a path that was a directory a moment ago and cannot be opened as one."""
        if error.errno in NOT_A_DIRECTORY:
            # Its event is on its way.
            self.entries.add(path or _ROOT_ATTRIBUTES_ONLY)
        else:
            # rsync reports an unreadable directory only when it has to list it.
            self.entries.add(_as_listing(path))
            self.unread.add(path)

    def _is_reachable(self, directory: bytes) -> bool:
        """Return True if a path and all above it are included directories.

        Else list the topmost path that is not, unless the rules exclude it.
        """
        obstacle = self._obstacle(directory)
        if obstacle is None:
            return True
        if obstacle not in self._excluded_directories:
            if self._mode(obstacle):
                self._add_present(obstacle, is_directory=False)
            else:
                self._add_missing(obstacle)
        return False

    def _obstacle(self, directory: bytes) -> bytes | None:
        """Return the topmost path at or above ``directory`` that is excluded or no directory."""
        unknown = []
        for path in (directory, *paths.ancestors(directory)):
            if path in self._obstacles:
                break
            unknown.append(path)
        obstacle = self._obstacles[path]
        for path in reversed(unknown):
            if obstacle is None:
                if not stat.S_ISDIR(self._mode(path)):
                    obstacle = path
                elif self._has_rules and self._rules.matches(path, is_directory=True):
                    self._excluded_directories.add(path)
                    obstacle = path
            self._obstacles[path] = obstacle
        return obstacle

    def _add_present(self, path: bytes, *, is_directory: bool) -> None:
        if not self._rules.matches(path, is_directory=is_directory):
            self._add_file(path)
            return
        directory = paths.split(path)[0]
        other = not is_directory
        if self._rules.matches(path, is_directory=other) or self._rules.protects(
            path, is_directory=other
        ):
            # It never has a copy, but its creation changed the directory's own attributes.
            self.entries.add(directory or _ROOT_ATTRIBUTES_ONLY)
        else:
            # Its copy may be of the other kind, which the rules do not exclude. rsync deletes that
            # copy only when it lists the parent.
            self._add_parent_listing(directory)

    def _add_missing(self, path: bytes) -> None:
        if self._deletable is not None and path not in self._deletable:
            return
        as_file = self._rules.protects(path, is_directory=False)
        as_directory = self._rules.protects(path, is_directory=True)
        if as_file and as_directory:
            return
        # rsync takes a missing path for a file: it deletes directories that the rules protect, and
        # keeps those that they do not. When it lists the parent, it sees what the copy is.
        if self._delete_missing_args and as_file == as_directory:
            self.entries.add(path)
        else:
            self._add_parent_listing(paths.split(path)[0])

    def _add_parent_listing(self, directory: bytes) -> None:
        if self._deletable is None:
            self.entries.add(_as_listing(directory))

    def _mode(self, path: bytes) -> int:
        """Return the mode of the entry at a path, 0 if there is none."""
        try:
            return os.lstat(path, dir_fd=self._root).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except OSError as error:
            # Listed as it is, so that rsync reports the error.
            if error.errno not in _FINAL:
                self.unread.add(path)
            return stat.S_IFREG


def _as_listing(directory: bytes) -> bytes:
    return directory + b"/" if directory else b""
