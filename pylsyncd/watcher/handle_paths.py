"""Finds the paths of directories by their handles, as they are at that moment.

A handle (open_by_handle_at(2)) names a directory for as long as it is there, under any name. The
kernel's own path of it counts only if the same directory is found there from the source: below a
bind mount the path is another one, and what another mount hides is not in the source.
"""

import contextlib
import errno
import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from pylsyncd.model import paths
from pylsyncd.system import walk
from pylsyncd.watcher.fanotify import FSID_SIZE, open_handle

_MAX_FOREIGN: Final = 100_000

# The directory is gone, or there is no such handle on this mount.
_GONE = frozenset([errno.ESTALE, errno.ENOENT, errno.ENOTDIR])


class FoundPath(NamedTuple):
    """Where a directory is."""

    path: bytes
    """Relative to the source."""
    is_above: bool = False
    """It is somewhere below that path, which is too long for the kernel to tell."""


class _OpenMount(NamedTuple):
    directory: int
    real: bytes
    """Its absolute path without symlinks."""
    path: bytes
    """Its path relative to the source."""


class HandlePaths:
    """The paths of the directories of one source, by keys: file system id and handle."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._mount_paths: tuple[bytes, ...] = (paths.ROOT,)
        self._known: dict[bytes, tuple[FoundPath, ...]] = {}
        self._mounts: dict[bytes, list[_OpenMount]] = {}
        self.foreign: set[bytes] = set()
        """The keys of directories that are not in the source, of which events can be dropped."""

    def set_mounts(self, mounts: Collection[bytes]) -> None:
        """Look for directories in the source and on these mounts below it, relative paths."""
        self._mount_paths = (paths.ROOT, *mounts)
        self.forget()

    def forget(self) -> None:
        """Forget all paths, since a directory has been renamed."""
        self._known.clear()
        self.foreign.clear()

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """Keep the source and its mounts open, as :meth:`find` needs it; yield the source.

        They are closed at the end, so that they can be unmounted.
        """
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(walk.opened_root(self._source))
            mounts: defaultdict[bytes, list[_OpenMount]] = defaultdict(list)
            for path in self._mount_paths:
                with contextlib.suppress(FileNotFoundError):
                    directory = stack.enter_context(walk.opened_below(root, path))
                    real = os.readlink(b"/proc/self/fd/%d" % directory)
                    mounts[fsid_of(directory)].append(_OpenMount(directory, real, path))
            self._mounts = mounts
            try:
                yield root
            finally:
                self._mounts = {}

    def find(self, key: bytes) -> tuple[FoundPath, ...]:
        """Return the paths in the source of the directory of a key: none, one, or several.

        Raises OSError if that is unknown.
        """
        found = self._known.get(key)
        if found is None:
            found = tuple(self._find(key))
            if found:
                self._known[key] = found
            else:
                if len(self.foreign) >= _MAX_FOREIGN:
                    self.foreign.clear()
                self.foreign.add(key)
        return found

    def leads_to_source(self, key: bytes, name: bytes) -> bool:
        """Return True if a name in the directory of a key is in the path of the source."""
        for mount in self._mounts.get(key[:FSID_SIZE], ()):
            if mount.path != paths.ROOT or name not in mount.real.split(b"/"):
                continue
            try:
                directory = open_handle(mount.directory, key[FSID_SIZE:])
            except OSError:
                continue
            try:
                above = _real_path(directory)
            finally:
                os.close(directory)
            if above is not None and paths.covers(above.rstrip(b"/") + b"/" + name, mount.real):
                return True
        return False

    def _find(self, key: bytes) -> Iterator[FoundPath]:
        for mount in self._mounts.get(key[:FSID_SIZE], ()):
            try:
                directory = open_handle(mount.directory, key[FSID_SIZE:])
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                continue
            try:
                found = _locate(directory, mount)
            finally:
                os.close(directory)
            if found is not None:
                yield found


def _locate(directory: int, mount: _OpenMount) -> FoundPath | None:
    """Return where an open directory is below a mount; None if it is not there."""
    is_above = False
    with contextlib.ExitStack() as stack:
        while (real := _real_path(directory)) is None:
            is_above = True
            directory = os.open("..", os.O_PATH | os.O_DIRECTORY, dir_fd=directory)
            stack.callback(os.close, directory)
        below = paths.relative_to(real, b"" if mount.real == b"/" else mount.real)
        if below is None:
            return None
        try:
            # If a directory above has been renamed since, its event is still to come.
            there = os.stat(below or b".", dir_fd=mount.directory, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return None
        if not os.path.samestat(there, os.fstat(directory)):
            return None
    return FoundPath(paths.join(mount.path, below) if below else mount.path, is_above)


def _real_path(directory: int) -> bytes | None:
    """Return the kernel's path of an open directory; None if it is too long."""
    try:
        return os.readlink(b"/proc/self/fd/%d" % directory)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return None


def fsid_of(directory: int) -> bytes:
    """Return the id of the file system of an open directory, as events have it."""
    return os.fstatvfs(directory).f_fsid.to_bytes(FSID_SIZE, "little")
