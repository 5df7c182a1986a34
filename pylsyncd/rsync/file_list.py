"""A changeset, and the disk as it is now, to the list that rsync reads.

What rsync 3.5.0 makes of a list (measured), and what follows from it:

* every entry begins with ``./``: it keeps ``#`` and ``;`` from being comments and has the root's
  own attributes sent;
* ``d`` sends a directory's attributes, ``d/`` its entries, too, and deletes what is not there;
* a missing path is deleted, but only the topmost missing one may be named: what lies below a
  missing directory makes rsync complain, and what lies below a file disables all deletions;
* nothing may be named through a symlink: its copy would become a directory.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from itertools import islice

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset, MutableChangeset, Scope
from pylsyncd.rsync.size_limit import MAX_EXCLUDED_LARGE_FILES, SizeLimit
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk

# rsync drops what is longer from its list without a word; measured with 3.5.0, after the "./".
MAX_LISTED_PATH_BYTES = 4093

# What opening a directory answers when it is gone, or is none any more.
_WENT = frozenset([errno.ENOENT, errno.ENOTDIR, errno.ELOOP])

# Listed and missing on both sides: makes rsync set the root's own attributes and nothing else.
_NOTHING = b".pylsyncd-none"


class FileList:
    """The entries of a list, as rsync reads them with ``--from0``, sorted and distinct."""

    def __init__(self, entries: set[bytes], large: AbstractSet[bytes] = frozenset()) -> None:
        self.too_long = sorted(path for path in entries if len(path) > MAX_LISTED_PATH_BYTES)
        """Paths that rsync cannot take: whatever they stand for cannot be copied."""
        self.entries = sorted(entries.difference(self.too_long))
        self.large_files = MutableChangeset()
        """Files that the list leaves out since they are large."""
        for path in large:
            self.large_files.add(path, Scope.ENTRY)
        self.files_to_exclude = frozenset(
            path for path in large if _listed(paths.split(path)[0]) in entries
        )
        """Those of them that rsync would find, unless they are left out of its run, too."""

    def __len__(self) -> int:
        return len(self.entries)

    def encode(self) -> bytes:
        """Return what rsync reads."""
        return b"".join([b"./" + entry + b"\0" for entry in self.entries])


def build_file_list(  # noqa: PLR0913  # all but three are told by name
    root: int,
    changeset: Changeset,
    rules: Rules,
    *,
    delete_missing_args: bool,
    excluded: AbstractSet[bytes] = frozenset(),
    size_limit: SizeLimit | None = None,
) -> FileList:
    """Return the list for a changeset of the source, whose open directory is ``root``.

    With ``missing_args`` a missing path is named and rsync deletes it (--delete-missing-args).
    Without, the directory that it is missing from is listed. Trees are not entered at ``without``,
    at or below which there must be no change. With ``largest``, what is larger is left out.
    """
    builder = _FileListBuilder(
        root, rules, excluded, missing_args=delete_missing_args, largest=size_limit
    )
    for directory, names in changeset.entries.items():
        builder.add_entries(directory, names)
    for directory in changeset.listings:
        builder.add_listing(directory)
    for path in changeset.trees:
        builder.add_tree(path)
    if size_limit is not None:
        builder.find_large(size_limit)
    return FileList(builder.entries, builder.large)


def regular_files(root: int, candidates: Iterable[bytes]) -> set[bytes]:
    """Return those of the paths at which there is a regular file, and no symlink above it."""
    builder = _FileListBuilder(root, Rules(), frozenset(), missing_args=True, largest=None)
    return {path for path in candidates if builder.is_regular(path)}


def entry_counter(source: bytes) -> Callable[[bytes, int], int]:
    """Return what tells how many entries a directory of the source has, counted up to a limit."""

    def count(directory: bytes, limit: int) -> int:
        try:
            with os.scandir(os.path.join(source, directory)) as entries:
                return sum(1 for _ in islice(entries, limit))
        except OSError:
            return limit

    return count


class _FileListBuilder:
    def __init__(
        self,
        root: int,
        rules: Rules,
        without: AbstractSet[bytes],
        *,
        missing_args: bool,
        largest: SizeLimit | None,
    ) -> None:
        self.entries: set[bytes] = set()
        self.large: set[bytes] = set()
        self._largest = largest
        self._root = root
        self._rules = rules
        self._without = without
        self._missing_args = missing_args
        self._obstacles: dict[bytes, bytes | None] = {paths.ROOT: None}

    def add_entries(self, directory: bytes, names: AbstractSet[bytes]) -> None:
        if not self._is_open(directory):
            return
        if not directory and b"" in names:
            self.entries.add(_NOTHING)
        entries = [paths.join(directory, name) for name in names if name]
        if self._missing_args and not self._rules and self._largest is None:
            # What these are now, rsync sees for itself.
            self.entries.update(entries)
            return
        for path in entries:
            if mode := self._mode(path):
                self._add_present(path, is_directory=stat.S_ISDIR(mode))
            else:
                self._add_missing(path)

    def add_listing(self, directory: bytes) -> None:
        if self._is_open(directory):
            self.entries.add(_listed(directory))

    def add_tree(self, path: bytes) -> None:
        if path and not self._is_open(paths.split(path)[0]):
            return
        mode = stat.S_IFDIR if not path else self._mode(path)
        if not mode:
            self._add_missing(path)
        elif not stat.S_ISDIR(mode):
            self._add_present(path, is_directory=False)
        else:
            self._add_directories(path)

    def find_large(self, largest: SizeLimit) -> None:
        """Leave large files out that rsync would find in the directories that are listed."""
        found: set[bytes] = set()
        for entry in self.entries:
            if entry and not entry.endswith(b"/"):
                continue
            found |= largest.large_files_in(self._root, entry[:-1], self._is_left_out)
            if len(found) > MAX_EXCLUDED_LARGE_FILES:
                return
        self.large |= found

    def is_regular(self, path: bytes) -> bool:
        """Tell whether there is a regular file, with nothing but directories above it."""
        is_below = self._obstacle(paths.split(path)[0]) is None
        return is_below and stat.S_ISREG(self._mode(path))

    def _is_left_out(self, path: bytes) -> bool:
        return path in self._without or self._rules.matches(path, is_directory=False)

    def _add(self, path: bytes) -> None:
        """Add what is there and is no directory to be listed."""
        if self._largest is not None and self._largest.is_exceeded_at(self._root, path):
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
        self.entries.add(_listed(top))
        try:
            walk.descend(directory, top, self._enter, self._refused)
        except OSError:
            # Open, and yet not to be listed: rsync says why, since it is listed to it.
            return
        finally:
            os.close(directory)

    def _enter(self, _directory: int, above: bytes, name: bytes) -> bytes | None:
        path = paths.join(above, name)
        if path in self._without or (self._rules and self._rules.matches(path, is_directory=True)):
            return None
        self.entries.add(_listed(path))
        return path

    def _refused(self, above: bytes, name: bytes, error: OSError) -> None:
        path = paths.join(above, name)
        if path not in self._without:
            self._add_unopened(path, error)

    def _add_unopened(self, path: bytes, error: OSError) -> None:
        """List what was a directory a moment ago, and cannot be opened as one."""
        if error.errno in _WENT:
            # Its event is on its way.
            self.entries.add(path or _NOTHING)
        else:
            # Only when it is to list it, rsync says that it cannot.
            self.entries.add(_listed(path))

    def _is_open(self, directory: bytes) -> bool:
        """Tell whether a path is a directory down from the root; else list what stands instead."""
        obstacle = self._obstacle(directory)
        if obstacle is None:
            return True
        if self._mode(obstacle):
            self.entries.add(obstacle)
        else:
            self._add_missing(obstacle)
        return False

    def _obstacle(self, directory: bytes) -> bytes | None:
        """Return the topmost path at or above ``directory`` that is not a directory, if any."""
        unknown = []
        for path in (directory, *paths.ancestors(directory)):
            if path in self._obstacles:
                break
            unknown.append(path)
        obstacle = self._obstacles[path]
        for path in reversed(unknown):
            if obstacle is None and not stat.S_ISDIR(self._mode(path)):
                obstacle = path
            self._obstacles[path] = obstacle
        return obstacle

    def _add_present(self, path: bytes, *, is_directory: bool) -> None:
        other = not is_directory
        if (
            self._rules.matches(path, is_directory=is_directory)
            and not self._rules.matches(path, is_directory=other)
            and not self._rules.protects(path, is_directory=other)
        ):
            # It is not sent, but what stood there before, of the other kind, was. rsync deletes
            # that only when it lists the parent.
            self.entries.add(_listed(paths.split(path)[0]))
        else:
            self._add(path)

    def _add_missing(self, path: bytes) -> None:
        as_file = self._rules.protects(path, is_directory=False)
        as_directory = self._rules.protects(path, is_directory=True)
        if as_file and as_directory:
            return
        # rsync takes a missing name for a file's: it deletes directories that the rules keep, and
        # keeps those that they do not. When it lists the parent itself, it looks at what is there.
        if self._missing_args and as_file == as_directory:
            self.entries.add(path)
        else:
            self.entries.add(_listed(paths.split(path)[0]))

    def _mode(self, path: bytes) -> int:
        """Return the mode of what stands at a path, 0 for nothing."""
        try:
            return os.lstat(path, dir_fd=self._root).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except OSError:
            # Named as it is, so that rsync reports what is wrong with it.
            return stat.S_IFREG


def _listed(directory: bytes) -> bytes:
    return directory + b"/" if directory else b""
