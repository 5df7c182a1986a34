"""Detects that a tree was restored from an older image, by the ctimes that were seen in it.

No program can set a ctime back. To remove an entry sets the ctime of its directory, and to move one
sets that of the entry as well. So of each path that was seen there is still that ctime or a later
one: of the entry itself or, if another one or none is in its place, of a directory above it. Only
in an older image all of them are older.
"""

import contextlib
import heapq
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice

from pylsyncd.model import paths
from pylsyncd.system import walk

MAX_SEEN = 64
"""How many ctimes are kept at most."""

# Where files come and go all the time, they must not displace all others.
_MAX_OF_DIRECTORY = 2

# The entries of a tree among which the newest are searched.
_MAX_EXAMINED = 5000

# Nanoseconds of the coarsest ctime, that of file systems with whole seconds.
_SECOND_NS = 1_000_000_000

IsExcluded = Callable[[bytes, bool], bool]
"""Called with a path, and whether it is a directory's."""


class SeenCtimes:
    """The ctimes that were seen in a tree: the last ones, of a few entries of each directory."""

    def __init__(self, ctimes: Mapping[bytes, int] | None = None) -> None:
        self._ctimes: dict[bytes, int] = {}
        for path, ctime in (ctimes or {}).items():
            self._add(path, ctime)

    def __bool__(self) -> bool:
        return bool(self._ctimes)

    @property
    def ctimes(self) -> Mapping[bytes, int]:
        """The ctimes in nanoseconds, by path, the last ones at the end."""
        return dict(self._ctimes)

    def clear(self) -> None:
        """Forget all: the tree is another one."""
        self._ctimes.clear()

    def look_at(self, root: int, some: Iterable[bytes]) -> None:
        """Look at some paths below an open directory."""
        for path in some:
            # What cannot be looked at proves nothing.
            with contextlib.suppress(OSError):
                self._add(*_ctimes_on_path(root, path)[-1])

    def look_through(self, root: int, tops: Collection[bytes], is_excluded: IsExcluded) -> None:
        """Look for the newest entries on each of the file systems whose ``tops`` are given."""
        share = max(1, MAX_SEEN // len(tops))
        for top in tops:
            found = _newest_by_directory(root, top, is_excluded)
            newest = heapq.nlargest(share, found, key=lambda each: each[1])
            for path, ctime in reversed(newest):
                self._add(path, ctime)

    def _add(self, path: bytes, ctime: int) -> None:
        directory = paths.split(path)[0]
        self._ctimes.pop(path, None)
        siblings = [each for each in self._ctimes if paths.split(each)[0] == directory]
        if len(siblings) >= _MAX_OF_DIRECTORY:
            del self._ctimes[siblings[0]]
        self._ctimes[path] = ctime
        if len(self._ctimes) > MAX_SEEN:
            del self._ctimes[next(iter(self._ctimes))]


def find_older(root: int, ctimes: Mapping[bytes, int]) -> bytes | None:
    """Return the first path below an open directory that is older than it was seen; or None."""
    now = time.time_ns()
    for path, seen in ctimes.items():
        if seen > now:
            # The clock was set back, so later ctimes are older.
            continue
        with contextlib.suppress(OSError):
            if is_older(max(ctime for _, ctime in _ctimes_on_path(root, path)), seen):
                return path
    return None


def is_older(present: int, seen: int) -> bool:
    """Return True if a ctime is older than one that was seen, both in nanoseconds."""
    # Some file systems keep the nanoseconds only in memory.
    is_rounded = present % _SECOND_NS == 0 and seen - present < _SECOND_NS
    return present < seen and not is_rounded


def _ctimes_on_path(root: int, path: bytes) -> list[tuple[bytes, int]]:
    """Return the ctimes of what is there of a path, by path, the entry itself at the end.

    The root is included only if nothing below it is there. Raises OSError if that cannot be found
    out.
    """
    directory = os.dup(root)
    try:
        found, present = [], paths.ROOT
        for name in path.split(b"/") if path else []:
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                present = paths.join(present, name)
                found.append((present, status.st_ctime_ns))
                # Another entry may have taken the place of a directory.
                if present == path or not stat.S_ISDIR(status.st_mode):
                    break
                child = walk.open_child(directory, name)
            except FileNotFoundError:
                break
            os.close(directory)
            directory = child
        return found or [(paths.ROOT, os.fstat(root).st_ctime_ns)]
    finally:
        os.close(directory)


def _newest_by_directory(
    root: int, top: bytes, is_excluded: IsExcluded
) -> Collection[tuple[bytes, int]]:
    """Return the newest entry of each directory of a file system, with its ctime.

    That may be the directory itself. Only the first directories are looked at.
    """
    found: list[tuple[bytes, int]] = []
    waiting, examined = deque([top]), 0
    device: int | None = None
    while waiting and examined < _MAX_EXAMINED:
        path = waiting.popleft()
        with contextlib.suppress(OSError), walk.opened_below(root, path) as directory:
            status = os.fstat(directory)
            device = status.st_dev if device is None else device
            if status.st_dev != device:
                continue
            newest = path, status.st_ctime_ns
            with os.scandir(directory) as entries:
                for entry in islice(entries, _MAX_EXAMINED - examined):
                    examined += 1
                    child = paths.join(path, os.fsencode(entry.name))
                    is_directory = entry.is_dir(follow_symlinks=False)
                    if is_excluded(child, is_directory):
                        continue
                    if is_directory:
                        waiting.append(child)
                    else:
                        ctime = entry.stat(follow_symlinks=False).st_ctime_ns
                        newest = max((child, ctime), newest, key=lambda each: each[1])
            found.append(newest)
    return found
