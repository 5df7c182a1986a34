"""Which files are large enough to be sent by themselves."""

import contextlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from pylsyncd.model import paths
from pylsyncd.system import walk

MAX_EXCLUDED_LARGE_FILES = 100
"""How many large files are left out of the directories that are listed.

Each has to be named to that rsync. Where there are more, they are what such directories are for.
"""


@dataclass(frozen=True, slots=True)
class SizeLimit:
    """The size up to which files are sent together; larger ones are sent by themselves."""

    max_size: int
    """Bytes."""
    preserves_hard_links: bool
    """Files with several names are not left out: alone, one would not be linked to the others."""

    def is_exceeded_by(self, status: os.stat_result) -> bool:
        """Tell whether a file is to be left out."""
        is_large = stat.S_ISREG(status.st_mode) and status.st_size > self.max_size
        return is_large and not (self.preserves_hard_links and status.st_nlink > 1)

    def is_exceeded_at(self, root: int, path: bytes) -> bool:
        """Tell the same of what is at a path; what is not there is not large."""
        try:
            return self.is_exceeded_by(os.lstat(path, dir_fd=root))
        except OSError:
            return False

    def large_files_in(
        self, root: int, directory: bytes, is_left_out: Callable[[bytes], bool]
    ) -> set[bytes]:
        """Return the paths of the large files in a directory, but for those left out anyway."""
        found = set()
        # What cannot be listed now, rsync says itself.
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            descriptor = walk.open_below(root, directory)
            stack.callback(os.close, descriptor)
            for entry in stack.enter_context(os.scandir(descriptor)):
                path = paths.join(directory, os.fsencode(entry.name))
                if self._is_entry_exceeding(entry) and not is_left_out(path):
                    found.add(path)
        return found

    def _is_entry_exceeding(self, entry: "os.DirEntry[str]") -> bool:
        try:
            # Most of what is no file is told without asking the disk.
            is_file = entry.is_file(follow_symlinks=False)
            return is_file and self.is_exceeded_by(entry.stat(follow_symlinks=False))
        except OSError:
            # It went meanwhile.
            return False
