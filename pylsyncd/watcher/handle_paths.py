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
import itertools
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
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

# Of the directories above one whose path is too long for the kernel, so many have no known path
# between two that have one.
_STEPS_BETWEEN_KNOWN: Final = 16


class FoundPath(NamedTuple):
    """Where a directory is."""

    path: bytes
    """Relative to the source."""
    is_above: bool = False
    """It is somewhere below that path: it was renamed while it was looked up."""
    is_lasting: bool = True
    """Whether it is there until an event tells otherwise."""


class _Passed(NamedTuple):
    """A step up from a directory to its parent."""

    key: bytes
    """The key of the parent."""
    name: bytes | None
    is_there: bool


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
        found, is_gone = self._look_up(key)
        if not found:
            # What is gone has no more events, unless it was out of reach for a moment only.
            if not is_gone:
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
                    if self._look_up(key) == ((), False):
                        self.foreign.ignore_files_in(directory)

    def _look_up(self, key: bytes) -> tuple[tuple[FoundPath, ...], bool]:
        """Return the paths of a directory, and whether it is gone."""
        paths_found, is_gone = [], False
        for mount in self._open.get(key[:FSID_SIZE], ()):
            found = None
            try:
                with _opened_handle(mount, key) as directory:
                    found = self._locate(directory, mount, key[:FSID_SIZE])
            except OSError as error:
                if error.errno not in GONE:
                    raise
                is_gone = True
            if found is None and mount.is_removed and key.endswith(handle_of(mount.directory)):
                # What was in it is removed, too.
                found = FoundPath(mount.path, is_lasting=False)
            if found is None:
                self._verify_in_place(mount)
            else:
                paths_found.append(found)
        return tuple(paths_found), is_gone

    def _verify_in_place(self, mount: OpenMount) -> None:
        """Raise OSError if a directory above a mount was renamed since it was opened.

        Then it is unknown what is below it: ESTALE for the source itself, else EAGAIN.
        """
        if mount.is_removed:
            return
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
        passed: list[_Passed] = []
        with contextlib.closing(ascend(directory)) as steps:
            for step in steps:
                key = fsid + handle_of(step.parent)
                passed.append(_Passed(key, step.name, step.is_there))
                with contextlib.suppress(_PathTooLongError):
                    above = self._locate_above(step.parent, key, mount)
                    break
            else:
                above = None
        if above is not None:
            found = _go_down(above, passed)
            if found.is_lasting or self._is_passing(directory, mount, found.path):
                self._remember_passed(above, passed)
                return found
        elif len(self._open[fsid]) == 1:
            self._verify_in_place(mount)
            for directory_above in passed[:-1]:
                self.foreign.add(directory_above.key)
        return None

    def _remember_passed(self, above: FoundPath, passed: Sequence[_Passed]) -> None:
        """Remember some paths of directories above a long one, so that others get theirs soon."""
        for start in range(1, len(passed), _STEPS_BETWEEN_KNOWN):
            key = passed[start - 1].key
            found = _go_down(above, passed[start:])
            if found.is_lasting and len(self._open[key[:FSID_SIZE]]) == 1:
                self._remember(key, (found,))

    def _locate_above(self, directory: int, key: bytes, mount: OpenMount) -> FoundPath | None:
        """Return where an open directory is that is above one; None if it is not in the source.

        Raises _PathTooLongError if that is for the directories above it to tell.
        """
        if key in self.foreign.keys:
            return None
        known = self._known.get(key, ())
        if len(known) == len(self._open[key[:FSID_SIZE]]) == 1:
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


def _go_down(above: FoundPath, passed: Sequence[_Passed]) -> FoundPath:
    """Return where a directory is from which some steps up lead to another one."""
    names = [step.name for step in reversed(passed)]
    named = list(itertools.takewhile(lambda name: name is not None, names))
    path = b"/".join([above.path, *filter(None, named)] if above.path else filter(None, named))
    return FoundPath(
        path,
        is_above=above.is_above or len(named) < len(names),
        is_lasting=above.is_lasting and all(step.is_there for step in passed),
    )
