"""Counts the entries of directories, to find out whether rsync should list them itself.

To count takes up to 0.1 ms for a directory, however low the limit is: the kernel returns about a
thousand entries at once. So a directory that had too many is not counted in each window.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

from pylsyncd.system import walk

# What the kernel returns at once of most directories: to count all of it costs little more.
_MIN_COUNTED = 1_000

# About 100 bytes each.
_MAX_KNOWN_DIRECTORIES = 10_000

# A directory may lose entries. So this share of the known ones counts no more the next time.
_FORGOTTEN_SHARE = 8


class EntryCounts:
    """The numbers of entries of a source's directories. Used by one thread.

    A count that is out of date makes a run of rsync cheaper or more expensive, and nothing else.
    """

    def __init__(self, source: bytes) -> None:
        self._source = source
        # Of directories that had more entries than was asked for: how many they had at least.
        self._known: dict[bytes, int] = {}

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[bytes, int], int]]:
        """Open the source, and yield a function that counts a directory's entries up to a limit.

        Where nothing can be counted, it returns the limit.
        """
        with contextlib.ExitStack() as stack:
            try:
                root = stack.enter_context(walk.opened_root(self._source))
            except OSError:
                yield _return_limit
            else:
                yield partial(self._count, root)

    def _count(self, root: int, directory: bytes, limit: int) -> int:
        known = self._known.pop(directory, 0)
        if known >= limit:
            self._known[directory] = known - max(1, known // _FORGOTTEN_SHARE)
            return limit
        try:
            with walk.opened_below(root, directory) as opened, os.scandir(opened) as entries:
                count = len([*islice(entries, max(limit, _MIN_COUNTED))])
        except OSError:
            return limit
        if count >= limit:
            if len(self._known) >= _MAX_KNOWN_DIRECTORIES:
                self._known.clear()
            self._known[directory] = count
        return min(count, limit)


def _return_limit(_directory: bytes, limit: int) -> int:
    return limit
