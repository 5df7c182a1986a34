"""Walks directories by descriptor, so that no name is ever resolved through a symlink."""

import contextlib
import errno
import fcntl
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from pylsyncd.model.paths import InodeId

Place = TypeVar("Place")

# Of linux/fs.h: _IOR('v', 1, long). What is read is an int all the same.
_FS_IOC_GETVERSION = 0x80087601 if sys.maxsize > 1 << 32 else 0x80047601

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_root(path: bytes) -> int:
    """Open the source itself, which may be named through symlinks; its caller closes it."""
    return os.open(path, _DIRECTORY)


@contextlib.contextmanager
def opened_root(path: bytes) -> Iterator[int]:
    """Open the source itself for as long as the context lasts."""
    directory = open_root(path)
    try:
        yield directory
    finally:
        os.close(directory)


def inode_id(directory: int) -> InodeId:
    """Return who an open directory is, and not one that was deleted since.

    An inode's number is soon used again (on ext4 by the next directory that is made), but with
    another generation, where the file system tells that. It stands above the 32 bits that the
    numbers of most file systems have.
    """
    status = os.fstat(directory)
    generation = 0
    with contextlib.suppress(OSError):
        answer = fcntl.ioctl(directory, _FS_IOC_GETVERSION, bytes(8))
        generation = int.from_bytes(answer[:4], sys.byteorder)
    return status.st_dev, status.st_ino ^ generation << 32


def open_child(directory: int, name: bytes | str) -> int:
    """Open a directory in an open one; NotADirectoryError or ELOOP for anything else."""
    return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)


def open_below(root: int, path: bytes) -> int:
    """Open the directory at a relative path below an open one, name by name."""
    directory = os.dup(root)
    if not path:
        return directory
    for name in path.split(b"/"):
        try:
            child = open_child(directory, name)
        finally:
            os.close(directory)
        directory = child
    return directory


@contextlib.contextmanager
def opened_below(root: int, path: bytes) -> Iterator[int]:
    """Open the directory at a relative path below an open one while the context lasts."""
    directory = open_below(root, path)
    try:
        yield directory
    finally:
        os.close(directory)


def open_long_path(top: bytes, path: bytes) -> int:
    """Open a directory below ``top``, perhaps through symlinks, however long its path is."""
    try:
        return open_root(os.path.join(top, path))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    root = open_root(top)
    try:
        return open_below(root, path)
    finally:
        os.close(root)


def devices_with_link_counts() -> frozenset[int]:
    """Return the devices (``st_dev``) on which a directory's links count its subdirectories.

    There, two links tell that there is none, and such a directory need not be listed: most are
    leaves, and a walk costs less than half. Others always say one (btrfs), or anything (FUSE).
    """
    with open("/proc/self/mountinfo", "rb") as mounts:
        found = map(_COUNTING_LINKS.match, mounts)
        return frozenset(os.makedev(int(line[1]), int(line[2])) for line in found if line)


# A line of proc_pid_mountinfo(5), where blanks in names are escaped: device, and file system.
_COUNTING_LINKS = re.compile(rb"\d+ \d+ (\d+):(\d+) .* - (?:ext[234]|tmpfs|xfs) ")


def subdirectories(directory: int, counting: frozenset[int] = frozenset()) -> list[str]:
    """Return the names of the directories in an open one, symlinks not followed.

    ``counting`` are the devices whose word is taken that there are none.
    """
    if counting:
        status = os.fstat(directory)
        if status.st_nlink == _LEAF_LINKS and status.st_dev in counting:
            return []
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


# A leaf's own entry above it, and its dot.
_LEAF_LINKS = 2


Enter = Callable[[int, Place, bytes], Place | None]
Refused = Callable[[Place, bytes, OSError], None]
Names = Callable[[int, Place], list[str]]


def _names(directory: int, _place: object) -> list[str]:
    return subdirectories(directory)


def descend(
    directory: int,
    place: Place,
    enter: Enter[Place],
    refused: Refused[Place],
    names_in: Names[Place] = _names,
) -> None:
    """Enter every directory below an open one, each before it is listed, parents first.

    ``enter(descriptor, parent's place, name)`` returns the directory's own place, which stands for
    it when what it contains is entered, or None to go no deeper there. ``names_in(descriptor, its
    place)`` lists the directories in one. What cannot be opened or listed goes to ``refused``; only
    the top raises. As many descriptors are open at a time as there are levels with names left.
    """
    names = names_in(directory, place)
    if not names:
        return
    stack = [(os.dup(directory), place, names)]
    try:
        while stack:
            level, place, names = stack[-1]
            if not names:
                os.close(stack.pop()[0])
                continue
            name = names.pop()
            try:
                deeper = _enter(level, place, name, enter, names_in)
            except OSError as error:
                refused(place, os.fsencode(name), error)
                continue
            if deeper is None:
                continue
            if not names:
                os.close(stack.pop()[0])
            stack.append(deeper)
    finally:
        for level, _, _ in stack:
            os.close(level)


def _enter(
    level: int, place: Place, name: str, enter: Enter[Place], names_in: Names[Place]
) -> tuple[int, Place, list[str]] | None:
    """Enter a directory; return it, open, with its own place, if there is more below it."""
    child = open_child(level, name)
    is_kept = False
    try:
        below = enter(child, place, os.fsencode(name))
        if below is None:
            return None
        names = names_in(child, below)
        is_kept = bool(names)
        return (child, below, names) if is_kept else None
    finally:
        if not is_kept:
            os.close(child)
