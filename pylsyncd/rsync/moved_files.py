"""Finds the files of a moved directory, for a list of their own."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from pylsyncd.model import paths
from pylsyncd.rsync.file_list import MAX_LISTED_PATH_BYTES
from pylsyncd.system import walk

_MAX_LIST_BYTES = 32 << 20
"""The memory for a list: what does not fit is sent again."""

IsLeftOut = Callable[[bytes, bool], bool]
"""Returns True if a path, which is a directory or not, is none of the moved ones."""


@dataclass(slots=True)
class MovedFiles:
    """The regular files at and below a path of the source."""

    count: int = 0
    size: int = 0
    entries: int = 1
    """The number of entries of any kind, with the path itself."""
    names: list[bytes] = field(default_factory=list)
    """The files, relative to the path, if they are asked for and rsync can take them."""
    is_whole: bool = True
    """Whether all of it could be read, and the names are complete if they are asked for."""

    def encode(self) -> bytes:
        """Return the names as rsync reads them with ``--from0``."""
        return b"".join([b"./" + name + b"\0" for name in self.names])


def find_moved_files(
    root: int, top: bytes, is_left_out: IsLeftOut, *, with_names: bool
) -> MovedFiles:
    """Return the files below a directory of the source, whose open directory is ``root``.

    Raises OSError if the directory cannot be opened.
    """
    search = _Search(top, is_left_out, with_names=with_names)
    with walk.opened_below(root, top) as directory:
        walk.descend(directory, b"", _enter, search.record_error, search.list_names)
    return search.found


def _enter(_directory: int, above: bytes, name: bytes) -> bytes:
    return paths.join(above, name)


class _Search:
    def __init__(self, top: bytes, is_left_out: IsLeftOut, *, with_names: bool) -> None:
        self.found = MovedFiles()
        self._top = top
        self._is_left_out = is_left_out
        self._bytes_left = _MAX_LIST_BYTES if with_names else 0
        self._with_names = with_names

    def record_error(self, _above: bytes, _name: bytes, _error: OSError) -> None:
        self.found.is_whole = False

    def list_names(self, directory: int, above: bytes) -> list[str]:
        """Record the entries of a directory, and return its subdirectories."""
        subdirectories = []
        with os.scandir(directory) as entries:
            for entry in entries:
                name = paths.join(above, os.fsencode(entry.name))
                is_directory = entry.is_dir(follow_symlinks=False)
                if self._is_left_out(paths.join(self._top, name), is_directory):
                    continue
                self.found.entries += 1
                if is_directory:
                    subdirectories.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    # It may have gone.
                    with suppress(OSError):
                        self._add(name, entry.stat(follow_symlinks=False).st_size)
        return subdirectories

    def _add(self, name: bytes, size: int) -> None:
        if self._with_names:
            self._bytes_left -= len(name)
            if self._bytes_left < 0 or len(name) > MAX_LISTED_PATH_BYTES:
                self.found.is_whole = False
                return
            self.found.names.append(name)
        self.found.count += 1
        self.found.size += size
