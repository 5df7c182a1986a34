"""Copies a few files of a tree into a private directory, where no other program changes them."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from pylsyncd.model import paths
from pylsyncd.system import walk

MAX_SNAPSHOT_FILES = 1_000
MAX_SNAPSHOT_BYTES = 64 << 20

IsCurrent = Callable[[os.stat_result], bool]
"""Returns True if a file is still the wanted one."""

_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class SnapshotError(Exception):
    """The files cannot be copied exactly as they are."""


class Snapshot(NamedTuple):
    """A directory with copies of files."""

    directory: int
    """Open."""
    changed: frozenset[bytes]
    """Files that are not the wanted ones any more, or were changed while they were copied."""


@contextlib.contextmanager
def opened_snapshot(
    root: int, some: Collection[bytes], present: AbstractSet[bytes], is_current: IsCurrent
) -> Iterator[Snapshot]:
    """Copy some files and links of a tree, and the directories above them, for the context.

    The copies have the same mode, owner, group, times and extended attributes. A missing file is
    missing there, too; if it was ``present`` before, it counts as changed. Raises SnapshotError.
    """
    with tempfile.TemporaryDirectory(prefix="pylsyncd-", ignore_cleanup_errors=True) as private:
        # A directory of its own: it gets the owner and the mode of the tree's root.
        top = os.path.join(os.fsencode(private), b"last")
        try:
            os.mkdir(top, 0o700)
            changed = _copy_all(root, some, present, top, is_current)
            directory = walk.open_root(top)
        except OSError:
            raise SnapshotError from None
        try:
            yield Snapshot(directory, changed)
        finally:
            os.close(directory)


def _copy_all(
    root: int,
    some: Collection[bytes],
    present: AbstractSet[bytes],
    top: bytes,
    is_current: IsCurrent,
) -> frozenset[bytes]:
    if len(some) > MAX_SNAPSHOT_FILES:
        raise SnapshotError
    room = MAX_SNAPSHOT_BYTES
    directories = {paths.ROOT}
    changed = set()
    for path in some:
        directory, name = paths.split(path)
        try:
            with walk.opened_below(root, directory) as above:
                status = os.lstat(name, dir_fd=above)
                room -= status.st_size
                if room < 0:
                    raise SnapshotError
                copy = os.path.join(top, path)
                os.makedirs(os.path.dirname(copy), 0o700, exist_ok=True)
                _copy(above, name, status, copy)
                if not (is_current(status) and _is_same(status, os.lstat(name, dir_fd=above))):
                    changed.add(path)
        except (FileNotFoundError, NotADirectoryError):
            if path in present:
                changed.add(path)
            continue
        directories.update((directory, *paths.ancestors(directory)))
    # Last, because a copy changes the times of its directory.
    for directory in directories:
        with walk.opened_below(root, directory) as original:
            _copy_attributes(b"/proc/self/fd/%d/." % original, os.path.join(top, directory))
    return frozenset(changed)


def _copy(above: int, name: bytes, status: os.stat_result, copy: bytes) -> None:
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=above), copy)
    elif stat.S_ISREG(status.st_mode):
        opened = os.open(name, _READ_FLAGS, dir_fd=above)
        with open(opened, "rb") as file, open(copy, "xb") as written:
            shutil.copyfileobj(file, written)
    else:
        raise SnapshotError
    _copy_attributes(b"/proc/self/fd/%d/%b" % (above, name), copy)


def _copy_attributes(original: bytes, copy: bytes) -> None:
    """Copy all attributes of a file. Raises SnapshotError if one differs nevertheless."""
    before = os.lstat(original)
    os.chown(copy, before.st_uid, before.st_gid, follow_symlinks=False)
    shutil.copystat(original, copy, follow_symlinks=False)
    if _attributes(original, before) != _attributes(copy, os.lstat(copy)):
        raise SnapshotError


def _attributes(path: bytes, status: os.stat_result) -> tuple[object, ...]:
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, names


def _is_same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_ino, before.st_ctime_ns) == (after.st_ino, after.st_ctime_ns)


@contextlib.contextmanager
def empty_tree(path: bytes) -> Iterator[int]:
    """Create a directory for the context, with an empty one at a relative path; yield it open."""
    with tempfile.TemporaryDirectory(prefix="pylsyncd-", ignore_cleanup_errors=True) as private:
        os.makedirs(os.path.join(os.fsencode(private), path))
        directory = walk.open_root(os.fsencode(private))
        try:
            yield directory
        finally:
            os.close(directory)
