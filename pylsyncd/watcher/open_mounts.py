"""The source and the mounts below it, open for a moment, whose file systems are marked."""

import errno
import os
from typing import Final, NamedTuple

from pylsyncd.model.paths import InodeId
from pylsyncd.system import walk

GONE: Final = frozenset([errno.ESTALE, errno.ENOENT, errno.ENOTDIR])
"""The errors of a directory that is gone, or that has no such handle on its mount."""

# Those of a path that leads to no directory.
_NOT_REACHED: Final = GONE | {errno.ELOOP}


class MarkedMount(NamedTuple):
    """The source, or a mount below it, whose file system is marked."""

    path: bytes
    """Relative to the source."""
    inode: InodeId
    """What is mounted there."""
    fsid: bytes
    """The id of its file system in the events."""


class OpenMount(NamedTuple):
    """A marked mount that is open, with its path relative to the source."""

    directory: int
    real: bytes | None
    """Its absolute path without symlinks; None if it is too long for the kernel to tell."""
    path: bytes

    @property
    def is_removed(self) -> bool:
        """Whether the directory that is mounted below the source was removed where else it is."""
        return bool(self.path) and not os.fstat(self.directory).st_nlink

    def is_reached(self, source: bytes) -> bool:
        """Return True if its path leads to it now."""
        try:
            with (
                walk.opened_root(source) as root,
                walk.opened_below(root, self.path) as directory,
            ):
                return os.path.samestat(os.fstat(directory), os.fstat(self.directory))
        except OSError as error:
            if error.errno not in _NOT_REACHED:
                raise
            return False


def open_mount(root: int, marked: MarkedMount) -> int | None:
    """Open the directory that was marked at a path; None if it is not there."""
    try:
        directory = walk.open_below(root, marked.path)
    except OSError as error:
        if error.errno not in _NOT_REACHED:
            raise
        return None
    if walk.inode_id(directory) == marked.inode:
        return directory
    os.close(directory)
    return None


def is_at(directory: int, mount: int, below: bytes) -> bool:
    """Return True if an open directory is at a path below another one."""
    try:
        there = os.stat(below or b".", dir_fd=mount, follow_symlinks=False)
    except OSError as error:
        # The kernel adds " (deleted)" to the path of a deleted directory: no name may be so long.
        if error.errno not in _NOT_REACHED | {errno.ENAMETOOLONG}:
            raise
        return False
    return os.path.samestat(there, os.fstat(directory))


def real_path(directory: int) -> bytes | None:
    """Return the kernel's path of an open directory; None if it is too long."""
    try:
        return os.readlink(b"/proc/self/fd/%d" % directory)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return None
