"""Opens and walks directories by descriptor, so that no name is resolved through a symlink."""

import contextlib
import errno
import fcntl
import os
import re
import stat
import sys
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import TypeVar

from pylsyncd.model import paths
from pylsyncd.model.paths import InodeId
from pylsyncd.system import path_resolution

Node = TypeVar("Node")

# FS_IOC_GETVERSION of linux/fs.h: _IOR('v', 1, long), although the kernel writes an int.
_FS_IOC_GETVERSION = 0x80087601 if sys.maxsize > 1 << 32 else 0x80047601

MIN_NAMES_FOR_LISTING = 16
"""So many names of a directory are worth a listing, if most of them are missing."""

# A missing name costs 3 microseconds, an entry of a listing less than half of one.
_MAX_LISTED_PER_NAME = 4

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_root(path: bytes) -> int:
    """Open the root of a tree, whose path may contain symlinks that are safe to follow.

    Raises UnsafeLinkError for others, or another OSError.
    """
    return path_resolution.open_directory(os.fsdecode(path))


@contextlib.contextmanager
def opened_root(path: bytes) -> Iterator[int]:
    """Open the root of a tree for the duration of the context."""
    directory = open_root(path)
    try:
        yield directory
    finally:
        os.close(directory)


def why_not_readable(path: bytes) -> str:
    """Return why a path is no readable directory, as the end of a sentence; empty if it is one."""
    try:
        status = os.stat(path)
    except OSError as error:
        return _why_not_examined(path, error)
    if not stat.S_ISDIR(status.st_mode):
        return "is not a directory"
    if not os.access(path, os.R_OK | os.X_OK, effective_ids=True):
        return "is not readable for this user: grant read and search permission"
    return ""


def _why_not_examined(path: bytes, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "is not accessible to this user: a directory above it denies search permission"
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return f"cannot be used: {error.strerror}"
    if os.path.islink(path):
        return f"is a symbolic link to {paths.printable(os.readlink(path))}, which does not exist"
    return "does not exist"


def inode_id(directory: int) -> InodeId:
    """Return the identity of an open directory, which differs from that of any deleted one.

    An inode number is soon used again (on ext4 by the next directory created), but with another
    generation, where the file system has one. The generation goes above the 32 bits that the inode
    numbers of most file systems have.
    """
    status = os.fstat(directory)
    generation = 0
    with contextlib.suppress(OSError):
        answer = fcntl.ioctl(directory, _FS_IOC_GETVERSION, bytes(8))
        generation = int.from_bytes(answer[:4], sys.byteorder)
    return status.st_dev, status.st_ino ^ generation << 32


def open_child(directory: int, name: bytes | str) -> int:
    """Open a subdirectory; raises OSError (ENOTDIR or ELOOP) for anything else."""
    return os.open(name, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=directory)


def open_below(root: int, path: bytes) -> int:
    """Open the directory at a relative path below an open one, name by name."""
    if not path:
        return os.dup(root)
    first, *others = path.split(b"/")
    directory = open_child(root, first)
    for name in others:
        try:
            child = open_child(directory, name)
        finally:
            os.close(directory)
        directory = child
    return directory


@contextlib.contextmanager
def opened_below(root: int, path: bytes) -> Iterator[int]:
    """Open the directory at a relative path for the duration of the context."""
    directory = open_below(root, path)
    try:
        yield directory
    finally:
        os.close(directory)


def stat_below(root: int, path: bytes) -> os.stat_result:
    """Return the status of what is at a relative path below an open directory, however long.

    Symlinks are followed on the way. Raises OSError.
    """
    with contextlib.ExitStack() as stack:
        while len(path) >= paths.MAX_PATH_BYTES:
            end = path.rindex(b"/", 0, paths.MAX_PATH_BYTES)
            root = os.open(path[:end], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
            stack.callback(os.close, root)
            path = path[end + 1 :]
        return os.stat(path, dir_fd=root, follow_symlinks=False)


def existing_names(root: int, directory: bytes, names: Collection[bytes]) -> Collection[bytes]:
    """Return the names that a directory has, or all names if it has many more entries.

    Faster than a look at each name if most of them are missing. Raises OSError.
    """
    limit = _MAX_LISTED_PER_NAME * len(names)
    with opened_below(root, directory) as opened, os.scandir(opened) as entries:
        listed = {os.fsencode(entry.name) for entry in islice(entries, limit + 1)}
    return names if len(listed) > limit else listed.intersection(names)


def open_long_path(top: bytes, path: bytes) -> int:
    """Open the directory at ``path`` below ``top``, whose joined path may exceed PATH_MAX.

    Up to PATH_MAX, all symlinks are followed: the caller has to verify what was opened.
    """
    try:
        return os.open(os.path.join(top, path), _DIRECTORY_FLAGS)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    with opened_root(top) as root:
        return open_below(root, path)


def devices_with_link_counts() -> frozenset[int]:
    """Return the devices (``st_dev``) on which a directory's link count tells its subdirectories.

    A link count of 2 means there that a directory has none, so it need not be listed: most are
    leaves, and a walk takes less than half the time. Other file systems always return 1 (btrfs) or
    any number (FUSE).
    """
    with open("/proc/self/mountinfo", "rb") as mounts:
        found = map(_MOUNT_WITH_LINK_COUNTS.match, mounts)
        return frozenset(os.makedev(int(line[1]), int(line[2])) for line in found if line)


# A line of proc_pid_mountinfo(5), in which blanks in names are escaped: device, file system type.
_MOUNT_WITH_LINK_COUNTS = re.compile(rb"\d+ \d+ (\d+):(\d+) .* - (?:ext[234]|tmpfs|xfs) ")


def subdirectories(directory: int, devices_with_counts: frozenset[int] = frozenset()) -> list[str]:
    """Return the names of the subdirectories of an open directory, without following symlinks.

    On ``devices_with_counts`` a leaf is recognized by its link count.
    """
    if devices_with_counts:
        status = os.fstat(directory)
        if status.st_nlink == _LINKS_OF_LEAF and status.st_dev in devices_with_counts:
            return []
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


# Its entry in its parent, and its own ".".
_LINKS_OF_LEAF = 2


Enter = Callable[[int, Node, bytes], Node | None]
ReportError = Callable[[Node, bytes, OSError], None]
ListNames = Callable[[int, Node], list[str]]


def _list_names(directory: int, _node: object) -> list[str]:
    return subdirectories(directory)


def descend(
    directory: int,
    node: Node,
    enter: Enter[Node],
    report_error: ReportError[Node],
    list_names: ListNames[Node] = _list_names,
) -> None:
    """Call ``enter`` for every directory below an open one, before it is listed; parents first.

    ``enter(descriptor, node of the parent, name)`` returns the node of the directory, an object of
    the caller that is passed on for its children; or None to go no deeper. ``list_names(descriptor,
    node)`` returns its subdirectories. A directory that cannot be opened or listed is passed to
    ``report_error``; only the top raises. One descriptor is open for each level with names left.
    """
    names = list_names(directory, node)
    if not names:
        return
    stack = [(os.dup(directory), node, names)]
    try:
        while stack:
            parent, node, names = stack[-1]
            if not names:
                os.close(stack.pop()[0])
                continue
            name = names.pop()
            try:
                level = _enter_child(parent, node, name, enter, list_names)
            except OSError as error:
                report_error(node, os.fsencode(name), error)
                continue
            if level is None:
                continue
            if not names:
                os.close(stack.pop()[0])
            stack.append(level)
    finally:
        for parent, _, _ in stack:
            os.close(parent)


def _enter_child(
    parent: int, parent_node: Node, name: str, enter: Enter[Node], list_names: ListNames[Node]
) -> tuple[int, Node, list[str]] | None:
    """Enter a directory; return it, open, with its node and its names if it has any."""
    child = open_child(parent, name)
    is_kept_open = False
    try:
        node = enter(child, parent_node, os.fsencode(name))
        if node is None:
            return None
        names = list_names(child, node)
        is_kept_open = bool(names)
        return (child, node, names) if is_kept_open else None
    finally:
        if not is_kept_open:
            os.close(child)
