"""The names of files that have several. No I/O."""

import os
from dataclasses import dataclass, field

FileId = tuple[int, int]
"""``st_dev`` and ``st_ino`` of a file."""


@dataclass(slots=True)
class LinkedFile:
    """The names of a file that are in the source and not excluded, as far as they are known."""

    link_count: int
    """How many the file has, wherever they are."""
    known_paths: set[bytes] = field(default_factory=set)

    @property
    def has_all_names(self) -> bool:
        """Whether there can be no other name."""
        return len(self.known_paths) >= self.link_count

    @property
    def weight(self) -> int:
        """What it costs to remember them, in names."""
        return len(self.known_paths) + 1


LinkedFiles = dict[FileId, LinkedFile]

MAX_HARD_LINK_NAMES = 50_000
"""How many names of files with several names are noted; some 200 bytes each."""


class HardLinkCollector:
    """The names of files that have several, as a walk comes by them; not too many."""

    def __init__(self) -> None:
        self.paths_by_file: dict[FileId, set[bytes]] = {}
        self._count = 0

    def add(self, status: os.stat_result, path: bytes) -> bool:
        """Take note of one of several names; tell whether there was room."""
        if self._count >= MAX_HARD_LINK_NAMES:
            return False
        self._count += 1
        self.paths_by_file.setdefault(file_id(status), set()).add(path)
        return True


def file_id(status: os.stat_result) -> FileId:
    """Return which file a status is of."""
    return status.st_dev, status.st_ino
