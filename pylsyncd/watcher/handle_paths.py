"""Finds the paths of directories by their handles, as they are at that moment.

A handle (open_by_handle_at(2)) names a directory for as long as it is there, under any name. The
kernel's own path of it counts only if it is below the source: below a bind mount the path is
another one, and what another mount hides is not in the source.

What was found is kept until a directory is moved in, into or out of the source. That is sound,
although the disk is ahead of the events: a directory whose path is another one by now has an event
to come, its own or one of a directory above, which makes a change of the whole tree.
"""

import contextlib
import errno
import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from pylsyncd.model import paths
from pylsyncd.model.paths import InodeId
from pylsyncd.system import walk
from pylsyncd.watcher.fanotify import FSID_SIZE, Fanotify, open_handle
from pylsyncd.watcher.foreign_directories import ForeignDirectories

# One takes 300 bytes. Beyond that they are looked up again.
_MAX_KNOWN: Final = 100_000

# The directory is gone, or there is no such handle on this mount.
_GONE = frozenset([errno.ESTALE, errno.ENOENT, errno.ENOTDIR])

_PATH_ONLY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class FoundPath(NamedTuple):
    """Where a directory is."""

    path: bytes
    """Relative to the source."""
    is_above: bool = False
    """It is somewhere below that path, which is too long for the kernel to tell."""
    is_lasting: bool = True
    """Whether it is there until an event tells otherwise."""


class MarkedMount(NamedTuple):
    """The source, or a mount below it, whose file system is marked."""

    path: bytes
    """Relative to the source."""
    inode: InodeId
    """What is mounted there."""
    fsid: bytes
    """The id of its file system in the events."""


class _OpenMount(NamedTuple):
    directory: int
    real: bytes
    """Its absolute path without symlinks."""
    path: bytes
    """Its path relative to the source."""

    def verify_in_place(self) -> None:
        """Raise OSError if a directory above was renamed since it was opened.

        Then it is unknown what is below it: ESTALE for the source itself, else EAGAIN.
        """
        if _descriptor_path(self.directory) != self.real:
            number = errno.EAGAIN if self.path else errno.ESTALE
            raise OSError(number, os.strerror(number), self.real)


class HandlePaths:
    """The paths of the directories of one source, by keys: file system id and handle."""

    def __init__(self, source: bytes, group: Fanotify, root: MarkedMount) -> None:
        self._source = source
        self._root = root
        self._marked: tuple[MarkedMount, ...] = (root,)
        self._mount_paths: frozenset[bytes] = frozenset()
        self._known: dict[bytes, tuple[FoundPath, ...]] = {}
        self._open: dict[bytes, list[_OpenMount]] = {}
        self._away: set[bytes] = set()
        self.foreign = ForeignDirectories(group)
        """The directories that are not in the source."""

    def set_mounts(self, marked: Collection[MarkedMount], others: Collection[bytes] = ()) -> None:
        """Look for directories in the source and on mounts below it.

        ``others`` are the paths of mounts that are not marked.
        """
        self._marked = (self._root, *marked)
        self._mount_paths = frozenset([*others, *(mount.path for mount in marked)])
        self.forget()

    def forget(self) -> None:
        """Forget all paths, since a directory was moved or something was mounted."""
        self._known.clear()
        self.foreign.forget()

    def take_away(self) -> set[bytes]:
        """Return the mounts that were not there at some time since the last call."""
        away, self._away = self._away, set()
        return away

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """Keep the source and its mounts open, as :meth:`find` needs it; yield the source.

        They are closed at the end, so that they can be unmounted. Raises OSError (ESTALE) if the
        source is another directory.
        """
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(walk.opened_root(self._source))
            if walk.inode_id(root) != self._root.inode:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), self._source)
            opened: defaultdict[bytes, list[_OpenMount]] = defaultdict(list)
            for marked in self._marked:
                directory = _open_mount(root, marked)
                if directory is None:
                    self._away.add(marked.path)
                    continue
                stack.callback(os.close, directory)
                opened[marked.fsid].append(
                    _OpenMount(directory, _descriptor_path(directory), marked.path)
                )
            self._open = opened
            try:
                yield root
            finally:
                self._open = {}

    def find(self, key: bytes) -> tuple[FoundPath, ...]:
        """Return the paths in the source of the directory of a key: none, one, or several.

        Raises OSError if that is unknown.
        """
        known = self._known.get(key)
        if known is not None:
            return known
        if key in self.foreign.keys:
            return ()
        found = tuple(self._find(key))
        if not found:
            self.foreign.add(key)
        elif all(each.is_lasting for each in found):
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[key] = found
        return found

    def ignore_loud(self) -> None:
        """Have the kernel ignore the files in the loudest of the foreign directories."""
        for key in self.foreign.take_loud():
            # Looked up again: only what is outside at this moment has an event when it comes.
            for mount in self._open.get(key[:FSID_SIZE], ())[:1]:
                with contextlib.suppress(OSError), _opened_handle(mount, key) as directory:
                    if not any(self._find(key)):
                        self.foreign.ignore_files_in(directory)

    def _find(self, key: bytes) -> Iterator[FoundPath]:
        for mount in self._open.get(key[:FSID_SIZE], ()):
            try:
                with _opened_handle(mount, key) as directory:
                    found = self._locate(directory, mount)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                mount.verify_in_place()
                continue
            if found is not None:
                yield found

    def _locate(self, directory: int, mount: _OpenMount) -> FoundPath | None:
        """Return where an open directory is below a mount; None if it is not there."""
        is_above = False
        with contextlib.ExitStack() as stack:
            while (real := _real_path(directory)) is None:
                is_above = True
                directory = os.open("..", _PATH_ONLY, dir_fd=directory)
                stack.callback(os.close, directory)
            below = paths.relative_to(real, b"" if mount.real == b"/" else mount.real)
            if below is None:
                mount.verify_in_place()
                return None
            path = paths.join(mount.path, below) if below else mount.path
            is_there = _is_at(directory, mount.directory, below)
            if not is_there and not self._is_passing(directory, mount, path):
                return None
        return FoundPath(path, is_above, is_there)

    def _is_passing(self, directory: int, mount: _OpenMount, path: bytes) -> bool:
        """Return True if a directory that is not at its path is in the source nevertheless.

        A directory above has been renamed a moment ago, or something was mounted over it that may
        be unmounted again.
        """
        if not os.fstat(directory).st_nlink:
            return False
        if any(
            paths.covers(each, path) for each in self._mount_paths
            if each != mount.path and paths.covers(mount.path, each)
        ):  # fmt: skip
            return False
        # What is outside a bind mount has a path that may look like one below it.
        return _is_below(directory, mount.directory)


@contextlib.contextmanager
def _opened_handle(mount: _OpenMount, key: bytes) -> Iterator[int]:
    """Open the directory of a key for the duration of the context."""
    directory = open_handle(mount.directory, key[FSID_SIZE:])
    try:
        yield directory
    finally:
        os.close(directory)


def _open_mount(root: int, marked: MarkedMount) -> int | None:
    """Open the directory that was marked at a path; None if it is not there."""
    try:
        directory = walk.open_below(root, marked.path)
    except OSError as error:
        if error.errno not in {*_GONE, errno.ELOOP}:
            raise
        return None
    if walk.inode_id(directory) == marked.inode:
        return directory
    os.close(directory)
    return None


def _is_at(directory: int, mount: int, below: bytes) -> bool:
    """Return True if an open directory is at a path below another one."""
    try:
        there = os.stat(below or b".", dir_fd=mount, follow_symlinks=False)
    except OSError as error:
        if error.errno not in {*_GONE, errno.ELOOP}:
            raise
        return False
    return os.path.samestat(there, os.fstat(directory))


def _is_below(directory: int, top: int) -> bool:
    """Return True if an open directory is another one, or below it, by the parents it has."""
    wanted = os.fstat(top)
    directory = os.dup(directory)
    try:
        while not os.path.samestat(status := os.fstat(directory), wanted):
            above = os.open("..", _PATH_ONLY, dir_fd=directory)
            os.close(directory)
            directory = above
            if os.path.samestat(os.fstat(directory), status):
                return False
    finally:
        os.close(directory)
    return True


def _real_path(directory: int) -> bytes | None:
    """Return the kernel's path of an open directory; None if it is too long."""
    try:
        return _descriptor_path(directory)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return None


def _descriptor_path(directory: int) -> bytes:
    return os.readlink(b"/proc/self/fd/%d" % directory)
