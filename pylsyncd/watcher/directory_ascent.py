"""Goes up from an open directory, and finds the names on the way.

That is how a directory gets its path where the kernel does not tell it: readlink(2) of a name in
/proc/self/fd fails if the path is as long as PATH_MAX.
"""

import contextlib
import os
from collections.abc import Generator
from typing import Final, NamedTuple

PATH_ONLY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_TO_LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Step(NamedTuple):
    """One step up, from a directory to its parent."""

    parent: int
    """Open as a path only, until the next step."""
    name: bytes | None
    """The name of the directory in its parent; None if it has none: it was renamed or removed."""
    is_there: bool
    """Whether the name leads to the directory: nothing is mounted over it."""


def ascend(directory: int) -> Generator[Step, None, None]:
    """Yield the steps from an open directory to the top, one descriptor open at a time.

    Each step tells what is so at its own moment. Raises OSError.
    """
    with contextlib.closing(_parents(directory)) as parents:
        for child, parent in parents:
            yield Step(parent, *_find_name(parent, child))


def is_below(directory: int, top: int) -> bool:
    """Return True if an open directory is another one, or below it, by the parents it has."""
    wanted = os.fstat(top)
    if os.path.samestat(os.fstat(directory), wanted):
        return True
    with contextlib.closing(_parents(directory)) as parents:
        return any(os.path.samestat(os.fstat(parent), wanted) for _, parent in parents)


def _parents(directory: int) -> Generator[tuple[int, int], None, None]:
    """Yield each directory from an open one on with its parent, both open."""
    child = os.dup(directory)
    try:
        while True:
            parent = os.open("..", PATH_ONLY, dir_fd=child)
            try:
                if os.path.samestat(os.fstat(parent), os.fstat(child)):
                    return
                yield child, parent
                child, parent = parent, child
            finally:
                os.close(parent)
    finally:
        os.close(child)


def _find_name(parent: int, child: int) -> tuple[bytes | None, bool]:
    """Return the name of an open directory in its parent, and whether the name leads to it."""
    wanted = os.fstat(child)
    listed = os.open(".", _TO_LIST, dir_fd=parent)
    try:
        with os.scandir(listed) as entries:
            inodes = {
                entry.name: entry.inode()
                for entry in entries
                if entry.is_dir(follow_symlinks=False)
            }
            device = os.fstat(listed).st_dev
    finally:
        os.close(listed)
    # A listing has another number for the top of a subvolume.
    for name in sorted(inodes, key=lambda name: inodes[name] != wanted.st_ino):
        with contextlib.suppress(OSError):
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if os.path.samestat(there, wanted):
                return os.fsencode(name), True
    if device != wanted.st_dev:
        # ".." has led to what is mounted over the parent.
        return None, False
    # Something is mounted over it.
    likely = next((name for name, inode in inodes.items() if inode == wanted.st_ino), None)
    return None if likely is None else os.fsencode(likely), False
