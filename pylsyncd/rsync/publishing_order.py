"""Splits changes into those before the files that go last, these files, and the deletions after.

An index names files, and a link such as ``current`` names a release. At a destination such a name
must never lead to nothing: what it names arrives before it, and what its former content named is
deleted after it.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset, MutableChangeset
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.pipeline.optimizer import with_hints_of
from pylsyncd.rsync.file_list import NOT_A_DIRECTORY
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk


class OrderedChanges(NamedTuple):
    """The parts of a changeset, in the order in which a destination receives them."""

    data: Changeset
    """All but the last files. Its run must neither send these nor delete anything."""
    last: Changeset
    """The last files, whether they are there or not."""
    deletions: Changeset
    """What may have to be deleted: missing entries, listings and trees."""
    present: frozenset[bytes]
    """The last files that are there, and that a run of the deletions must not send."""

    arriving: Sequence[bytes]
    """The paths of the data that are there."""


def split_last(
    root: int, changeset: Changeset, last: Rules, rules: Rules, excluded: AbstractSet[bytes]
) -> OrderedChanges:
    """Split the changes of the source, whose open directory is ``root``.

    ``last`` excludes the files that go last from all others. The ``rules`` and the ``excluded``
    paths are those of the run.
    """
    splitter = _Splitter(root, last, rules, excluded)
    for directory, names in changeset.entries.items():
        splitter.add_entries(directory, names)
    for directory in changeset.listings:
        splitter.add_listing(directory)
    for path in changeset.trees:
        splitter.add_tree(path)
    # By the time of the deletions, the other runs have compared what has a new content.
    data, found = (
        with_hints_of(part, changeset.new_content) for part in (splitter.data, splitter.last)
    )
    return OrderedChanges(
        data, found, splitter.deletions, frozenset(splitter.present), splitter.arriving
    )


class _Splitter:
    """The parts of a changeset so far."""

    def __init__(self, root: int, last: Rules, rules: Rules, excluded: AbstractSet[bytes]) -> None:
        self.data, self.last, self.deletions = (MutableChangeset() for _ in range(3))
        self.present: set[bytes] = set()
        self.arriving: list[bytes] = []
        self._root = root
        self._last = last
        self._rules = rules
        self._excluded = excluded

    def add_entries(self, directory: bytes, names: AbstractSet[bytes]) -> None:
        is_last_directory = self._is_last_directory(directory)
        for name, mode in self._modes(directory, names).items():
            path = paths.join(directory, name)
            if is_last_directory or self._matches(path, mode):
                self.last.add(path, Scope.ENTRY)
                if mode:
                    self.present.add(path)
                continue
            self._add_data(path, Scope.ENTRY, mode)
            if not mode:
                self.deletions.add(path, Scope.ENTRY)

    def add_listing(self, directory: bytes) -> None:
        if self._is_last_directory(directory):
            self.last.add(directory, Scope.LISTING)
            return
        self._add_data(directory, Scope.LISTING, self._mode(directory))
        self.deletions.add(directory, Scope.LISTING)
        try:
            with walk.opened_below(self._root, directory) as opened:
                self._names_to_enter(opened, directory, Scope.ENTRY)
        except OSError as error:
            self._add_unread(directory, Scope.LISTING, error)

    def add_tree(self, path: bytes) -> None:
        mode = self._mode(path)
        if self._is_last_directory(path) or self._matches(path, mode):
            self.last.add(path, Scope.TREE)
            return
        self._add_data(path, Scope.TREE, mode)
        self.deletions.add(path, Scope.TREE)
        try:
            with walk.opened_below(self._root, path) as opened:
                walk.descend(
                    opened,
                    path,
                    lambda _, above, name: paths.join(above, name),
                    lambda above, name, error: self._add_unread(
                        paths.join(above, name), Scope.TREE, error
                    ),
                    lambda directory, node: self._names_to_enter(directory, node, Scope.TREE),
                )
        except OSError as error:
            self._add_unread(path, Scope.TREE, error)

    def _add_unread(self, directory: bytes, scope: Scope, error: OSError) -> None:
        """Let a directory that could not be read go last: the run of the data excludes last files.

        It may be readable when that run comes to it, which then reports nothing.
        """
        if error.errno not in NOT_A_DIRECTORY:
            self.last.add(directory, scope)

    def _add_data(self, path: bytes, scope: Scope, mode: int) -> None:
        self.data.add(path, scope)
        if mode:
            self.arriving.append(path or b".")

    def _names_to_enter(self, opened: int, directory: bytes, scope: Scope) -> list[str]:
        """Add the last files of an open directory; return its other subdirectories."""
        others = []
        with os.scandir(opened) as entries:
            for entry in entries:
                path = paths.join(directory, os.fsencode(entry.name))
                is_directory = entry.is_dir(follow_symlinks=False)
                if path in self._excluded or self._rules.matches(path, is_directory=is_directory):
                    continue
                if self._last.matches(path, is_directory=is_directory):
                    self.last.add(path, scope if is_directory else Scope.ENTRY)
                    self.present.add(path)
                elif is_directory:
                    others.append(entry.name)
        return others

    def _is_last_directory(self, directory: bytes) -> bool:
        """Return True if a directory goes last, with all below it."""
        return bool(directory) and self._last.excludes(directory, is_directory=True)

    def _matches(self, path: bytes, mode: int) -> bool:
        """Return True if a path below other directories goes last."""
        if not mode:
            kinds = (True, False)
            return any(self._last.matches(path, is_directory=kind) for kind in kinds)
        return self._last.matches(path, is_directory=stat.S_ISDIR(mode))

    def _mode(self, path: bytes) -> int:
        """Return the mode of the entry at a path, 0 if there is none."""
        directory, name = paths.split(path)
        return self._modes(directory, [name])[name]

    def _modes(self, directory: bytes, names: Iterable[bytes]) -> dict[bytes, int]:
        """Return the mode of the entry of each name in a directory, 0 if there is none.

        What is reached through a symlink is at another path.
        """
        try:
            with walk.opened_below(self._root, directory) as opened:
                return {name: _mode_in(opened, name) for name in names}
        except OSError:
            return dict.fromkeys(names, 0)


def _mode_in(directory: int, name: bytes) -> int:
    try:
        return os.lstat(name or b".", dir_fd=directory).st_mode
    except OSError:
        return 0
