"""Moves: the hint that what is at a path was at another one before."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from pylsyncd.model.scoped_paths import NO_PATHS, Scope, ScopedPaths


class Move(NamedTuple):
    """Where what is at a path now was before, with everything below it."""

    old: bytes
    is_directory: bool
    is_new_name: bool
    """Whether nothing was at the new path before.

    If a directory and a file were exchanged, the file may have been there: its events can come with
    the next set.
    """
    is_written: bool = False
    """Whether the content of the file itself may be new, too."""

    @property
    def scope(self) -> Scope:
        """How far below the new path the move reaches."""
        return Scope.TREE if self.is_directory else Scope.ENTRY


class Moves:
    """A read-only set of moves, the hint of a changeset.

    All old paths are those of one moment: before the first change of the changeset. What is at a
    new path equals what was at its old path then, except for changes whose size or time tells them,
    and for the paths in ``written``.
    """

    __slots__ = ("by_new_path", "written")

    by_new_path: Mapping[bytes, Move]
    written: ScopedPaths
    """The new contents at and below the new paths, apart from the moves themselves."""

    def __init__(self, by_new_path: Mapping[bytes, Move], written: ScopedPaths = NO_PATHS) -> None:
        self.by_new_path = by_new_path
        self.written = written

    def __bool__(self) -> bool:
        return bool(self.by_new_path)

    def __len__(self) -> int:
        return len(self.by_new_path)


NO_MOVES: Final = Moves({})
"""Nothing was moved: unlike None, which stands for an unknown number of moves."""
