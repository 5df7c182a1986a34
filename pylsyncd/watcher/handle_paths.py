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
from pylsyncd.system import walk
from pylsyncd.watcher.directory_ascent import ascend, is_below
from pylsyncd.watcher.fanotify import FSID_SIZE, Fanotify, handle_of, open_handle
from pylsyncd.watcher.foreign_directories import ForeignDirectories
from pylsyncd.watcher.open_mounts import (
    GONE,
    MarkedMount,
    OpenMount,
    is_at,
    open_mount,
    real_path,
)

# The bytes that the known paths take, each so many and its own. Beyond that they are looked up
# again.
_MAX_KNOWN_SIZE: Final = 40_000_000
_KNOWN_SIZE: Final = 300


class FoundPath(NamedTuple):
    """Where a directory is."""

    path: bytes
    """Relative to the source."""
    is_above: bool = False
    """It is somewhere below that path: it was renamed while it was looked up."""
    is_lasting: bool = True
    """Whether it is there until an event tells otherwise."""


class _PathTooLongError(Exception):
    """The kernel does not tell the path of a directory: it is as long as PATH_MAX."""


class HandlePaths:
    """The paths of the directories of one source, by keys: file system id and handle."""

    def __init__(self, source: bytes, group: Fanotify, root: MarkedMount) -> None:
        self._source = source
        self._root = root
        self._marked: tuple[MarkedMount, ...] = (root,)
        self._mount_paths: frozenset[bytes] = frozenset()
        self._known: dict[bytes, tuple[FoundPath, ...]] = {}
        self._known_size = 0
        self._open: dict[bytes, list[OpenMount]] = {}
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
        self._forget_known()
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
            opened: defaultdict[bytes, list[OpenMount]] = defaultdict(list)
            for marked in self._marked:
                directory = open_mount(root, marked)
                if directory is None:
                    self._away.add(marked.path)
                    continue
                stack.callback(os.close, directory)
                opened[marked.fsid].append(OpenMount(directory, real_path(directory), marked.path))
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
            self._remember(key, found)
        return found

    def _remember(self, key: bytes, found: tuple[FoundPath, ...]) -> None:
        size = sum(_KNOWN_SIZE + len(each.path) for each in found)
        if self._known_size + size > _MAX_KNOWN_SIZE:
            self._forget_known()
        self._known[key] = found
        self._known_size += size

    def _forget_known(self) -> None:
        self._known.clear()
        self._known_size = 0

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
                    found = self._locate(directory, mount, key[:FSID_SIZE])
            except OSError as error:
                if error.errno not in GONE:
                    raise
                found = None
            if found is None:
                self._verify_in_place(mount)
            else:
                yield found

    def _verify_in_place(self, mount: OpenMount) -> None:
        """Raise OSError if a directory above a mount was renamed since it was opened.

        Then it is unknown what is below it: ESTALE for the source itself, else EAGAIN.
        """
        if mount.real is None:
            is_in_place = mount.is_reached(self._source)
        else:
            is_in_place = real_path(mount.directory) == mount.real
        if not is_in_place:
            number = errno.EAGAIN if mount.path else errno.ESTALE
            raise OSError(number, os.strerror(number), paths.join(self._source, mount.path))

    def _locate(self, directory: int, mount: OpenMount, fsid: bytes) -> FoundPath | None:
        """Return where an open directory is below a mount; None if it is not there."""
        with contextlib.suppress(_PathTooLongError):
            return self._locate_by_path(directory, mount)
        names: list[bytes] = []
        is_above, is_lasting = False, True
        with contextlib.closing(ascend(directory)) as steps:
            for step in steps:
                is_lasting &= step.is_there
                if step.name is None:
                    is_above = True
                    names.clear()
                else:
                    names.append(step.name)
                with contextlib.suppress(_PathTooLongError):
                    above = self._locate_above(step.parent, mount, fsid)
                    break
            else:
                above = None
        if above is None:
            return None
        found = FoundPath(
            paths.join(above.path, b"/".join(reversed(names))) if names else above.path,
            is_above or above.is_above,
            is_lasting and above.is_lasting,
        )
        if not is_lasting and not self._is_passing(directory, mount, found.path):
            return None
        return found

    def _locate_above(self, directory: int, mount: OpenMount, fsid: bytes) -> FoundPath | None:
        """Return where an open directory is that is above one; None if it is not in the source.

        Raises _PathTooLongError if that is for the directories above it to tell.
        """
        key = fsid + handle_of(directory)
        if key in self.foreign.keys:
            return None
        known = self._known.get(key, ())
        if len(known) == len(self._open[fsid]) == 1:
            return known[0]
        return self._locate_by_path(directory, mount)

    def _locate_by_path(self, directory: int, mount: OpenMount) -> FoundPath | None:
        """Return where an open directory is below a mount; None if it is not there.

        Raises _PathTooLongError if the kernel does not tell.
        """
        real = real_path(directory)
        if real is None or mount.real is None:
            if os.path.samestat(os.fstat(directory), os.fstat(mount.directory)):
                return FoundPath(mount.path)
            raise _PathTooLongError
        below = paths.relative_to(real, b"" if mount.real == b"/" else mount.real)
        if below is None:
            return None
        path = paths.join(mount.path, below) if below else mount.path
        is_there = is_at(directory, mount.directory, below)
        if not is_there and not self._is_passing(directory, mount, path):
            return None
        return FoundPath(path, is_lasting=is_there)

    def _is_passing(self, directory: int, mount: OpenMount, path: bytes) -> bool:
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
        return is_below(directory, mount.directory)


@contextlib.contextmanager
def _opened_handle(mount: OpenMount, key: bytes) -> Iterator[int]:
    """Open the directory of a key for the duration of the context."""
    directory = open_handle(mount.directory, key[FSID_SIZE:])
    try:
        yield directory
    finally:
        os.close(directory)
