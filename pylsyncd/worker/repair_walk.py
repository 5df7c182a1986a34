"""A walk through the directories of a source that goes on where it was, by path.

It visits parents first, and the names of a directory in the order of their bytes. So the path of
the last directory is all that has to be kept, whatever becomes of the tree meanwhile, and over a
restart. A directory that moves to a place that was passed is visited in the next walk.
"""

import heapq
import os
from collections.abc import Container
from typing import NamedTuple

from pylsyncd.model import paths
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk


class WalkLimits(NamedTuple):
    """When a part of a walk ends."""

    directories: int
    entries: int
    """It ends after the directory with which so many entries are reached."""


class WalkPart(NamedTuple):
    """The directories of one part of a walk."""

    directories: list[bytes]
    is_last: bool


def next_part(
    root: int,
    rules: Rules,
    position: bytes | None,
    limits: WalkLimits,
    left_out: Container[bytes] = (),
) -> WalkPart:
    """Return the directories that follow ``position`` below an open root; None is the begin.

    Directories that the rules exclude, that are ``left_out``, or that cannot be read are not
    visited. Raises OSError if the root cannot be read.
    """
    return _PartialWalk(root, rules, limits, left_out).run(position)


class _Level(NamedTuple):
    path: bytes
    names: list[bytes]
    """The names of subdirectories still to be visited, the next one last."""


class _PartialWalk:
    """One part of a walk. Used once."""

    def __init__(
        self, root: int, rules: Rules, limits: WalkLimits, left_out: Container[bytes]
    ) -> None:
        self._root = root
        self._rules = rules
        self._limits = limits
        self._left_out = left_out
        self._visited: list[bytes] = []
        self._entry_count = 0

    def run(self, position: bytes | None) -> WalkPart:
        levels = [self._visit(paths.ROOT)] if position is None else self._resume(position)
        while levels:
            level = levels[-1]
            if not level.names:
                levels.pop()
                continue
            if self._is_full():
                return WalkPart(self._visited, is_last=False)
            path = paths.join(level.path, level.names.pop())
            if self._is_left_out(path):
                continue
            try:
                levels.append(self._visit(path))
            except OSError:
                # It is gone, or rsync reports the error with the listing of its parent.
                continue
        return WalkPart(self._visited, is_last=True)

    def _resume(self, position: bytes) -> list[_Level]:
        """Return the levels above and at a position, with the names that follow it."""
        names = position.split(b"/") if position else []
        levels = []
        for depth in range(len(names) + 1):
            path = b"/".join(names[:depth])
            after = names[depth] if depth < len(names) else None
            try:
                levels.append(_Level(path, self._subdirectories(path, after)[0]))
            except OSError:
                if not path:
                    raise
                # It is gone: the names after it in its parent follow.
                break
        return levels

    def _visit(self, path: bytes) -> _Level:
        names, entry_count = self._subdirectories(path, None)
        self._visited.append(path)
        self._entry_count += entry_count
        return _Level(path, names)

    def _subdirectories(self, path: bytes, after: bytes | None) -> tuple[list[bytes], int]:
        """Return the next subdirectories, the first one last, and the number of all entries.

        Not more than this part can visit.
        """
        found, entry_count = [], 0
        with walk.opened_below(self._root, path) as directory, os.scandir(directory) as entries:
            for entry in entries:
                entry_count += 1
                if entry.is_dir(follow_symlinks=False):
                    name = os.fsencode(entry.name)
                    if after is None or name > after:
                        found.append(name)
        room = self._limits.directories + 1
        return heapq.nsmallest(room, found)[::-1], entry_count

    def _is_full(self) -> bool:
        return (
            len(self._visited) >= self._limits.directories
            or self._entry_count >= self._limits.entries
        )

    def _is_left_out(self, path: bytes) -> bool:
        return path in self._left_out or self._rules.matches(path, is_directory=True)
