"""Walks the source, and makes pieces of it for the runs that carry it together."""

import os
import stat
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Final

from pylsyncd.model import paths
from pylsyncd.model.paths import InodeId
from pylsyncd.pipeline.tree_parts import DirectoryPieces, Piece
from pylsyncd.rsync.file_list import MAX_LISTED_PATH_BYTES
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk

MAX_LINKED_FILES: Final = 500_000
"""How many files with several names are known; of further ones, no piece has a name."""


class PieceWalk:
    """A walk that calls ``on_piece`` for each piece of a tree."""

    def __init__(
        self,
        rules: Rules,
        left_out: AbstractSet[bytes],
        *,
        preserves_links: bool,
        on_piece: Callable[[Piece], None],
    ) -> None:
        """Create a walk; what the rules exclude, and the paths ``left_out``, are in no piece.

        With ``preserves_links``, only one name of each file is in a piece: a run cannot link to
        what another one sends.
        """
        self._rules = rules
        self._left_out = left_out
        self._preserves_links = preserves_links
        self._on_piece = on_piece
        self._linked: set[InodeId] = set()

    def run(self, root: int) -> None:
        """Walk from an open directory. Raises OSError if that cannot be listed."""
        walk.descend(root, paths.ROOT, self._enter, _leave_to_the_last_run, self._list)

    def _enter(self, _descriptor: int, above: bytes, name: bytes) -> bytes | None:
        path = paths.join(above, name)
        is_too_long = len(path) >= MAX_LISTED_PATH_BYTES
        if is_too_long or path in self._left_out:
            return None
        is_excluded = bool(self._rules) and self._rules.matches(path, is_directory=True)
        return None if is_excluded else path

    def _list(self, descriptor: int, path: bytes) -> list[str]:
        """Make pieces of a directory; return the names of its subdirectories."""
        subdirectories = []
        pieces = DirectoryPieces(path)
        longest_name = MAX_LISTED_PATH_BYTES - len(path) - 1
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    subdirectories.append(entry.name)
                    continue
                name = os.fsencode(entry.name)
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if len(name) > longest_name or self._is_further_link(status):
                    pieces.leave_out()
                elif (piece := pieces.add(name, _size(status))) is not None:
                    self._on_piece(piece)
        if (piece := pieces.finish()) is not None:
            self._on_piece(piece)
        return subdirectories

    def _is_further_link(self, status: os.stat_result) -> bool:
        """Return True if another name of the same file is in a piece already, or may be."""
        if not self._preserves_links or status.st_nlink == 1:
            return False
        inode = status.st_dev, status.st_ino
        if inode in self._linked or len(self._linked) >= MAX_LINKED_FILES:
            return True
        self._linked.add(inode)
        return False


def _size(status: os.stat_result) -> int:
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _leave_to_the_last_run(_above: bytes, _name: bytes, _error: OSError) -> None:
    """Ignore a directory that cannot be opened: the run after the parts reports that."""
