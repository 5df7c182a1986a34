"""Finds the files that are so large that they are sent by a run of their own."""

import contextlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from pylsyncd.model import paths
from pylsyncd.system import walk

MAX_EXCLUDED_LARGE_FILES = 100
"""How many large files are left out of the listed directories of one run.

Each takes arguments of that rsync. With more of them, all are sent together with the rest.
"""


@dataclass(frozen=True, slots=True)
class SizeLimit:
    """The size up to which files are sent together; larger ones are sent by a run of their own."""

    max_size: int
    """Bytes."""
    preserves_hard_links: bool
    """Hard-linked files stay in the common run: sent alone, they would lose their links."""

    def is_exceeded_by(self, status: os.stat_result) -> bool:
        """Return True if a file is sent by a run of its own."""
        is_large = stat.S_ISREG(status.st_mode) and status.st_size > self.max_size
        return is_large and not (self.preserves_hard_links and status.st_nlink > 1)

    def is_exceeded_at(self, root: int, path: bytes) -> bool:
        """Return the same for the entry at a path; False if there is none."""
        try:
            return self.is_exceeded_by(os.lstat(path, dir_fd=root))
        except OSError:
            return False

    def large_files_in(
        self, root: int, directory: bytes, is_left_out: Callable[[bytes], bool]
    ) -> set[bytes]:
        """Return the paths of a directory's large files, without those that are left out anyway."""
        found = set()
        # rsync itself reports a directory that cannot be read.
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            descriptor = walk.open_below(root, directory)
            stack.callback(os.close, descriptor)
            for entry in stack.enter_context(os.scandir(descriptor)):
                path = paths.join(directory, os.fsencode(entry.name))
                if self._is_exceeded_by_entry(entry) and not is_left_out(path):
                    found.add(path)
        return found

    def _is_exceeded_by_entry(self, entry: "os.DirEntry[str]") -> bool:
        try:
            # is_file() mostly needs no stat(2).
            is_file = entry.is_file(follow_symlinks=False)
            return is_file and self.is_exceeded_by(entry.stat(follow_symlinks=False))
        except OSError:
            # It is gone.
            return False
