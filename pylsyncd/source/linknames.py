"""The names of files that have several. No I/O."""

import os
from dataclasses import dataclass, field

File = tuple[int, int]
"""``st_dev`` and ``st_ino`` of a file."""


@dataclass(slots=True)
class Names:
    """The names of a file that are in the source and not excluded, as far as they are known."""

    links: int
    """How many the file has, wherever they are."""
    known: set[bytes] = field(default_factory=set)

    @property
    def is_complete(self) -> bool:
        """Whether there can be no other name."""
        return len(self.known) >= self.links

    @property
    def weight(self) -> int:
        """What it costs to remember them, in names."""
        return len(self.known) + 1


Files = dict[File, Names]

MOST_LINKED = 50_000
"""How many names of files with several names are noted; some 200 bytes each."""


class Linked:
    """The names of files that have several, as a walk comes by them; not too many."""

    def __init__(self) -> None:
        self.names: dict[File, set[bytes]] = {}
        self._count = 0

    def note(self, status: os.stat_result, path: bytes) -> bool:
        """Take note of one of several names; tell whether there was room."""
        if self._count >= MOST_LINKED:
            return False
        self._count += 1
        self.names.setdefault(file_of(status), set()).add(path)
        return True


def file_of(status: os.stat_result) -> File:
    """Return which file a status is of."""
    return status.st_dev, status.st_ino
