"""Files that are written and stay open, as logs and databases do."""

import os

from support.operations import Name, Operation, WorkArea, open_nonblocking

MAX_OPEN = 20


class OpenFiles:
    """Files open for writing; the oldest is closed when there are too many."""

    def __init__(self) -> None:
        self._descriptors: dict[bytes, int] = {}

    def append(self, name: Name, content: bytes) -> Operation:
        """Return an operation that appends to a file and does not close it."""
        return Operation(self.append_open, (name, content))

    def overwrite(self, name: Name, content: bytes) -> Operation:
        """Return an operation that writes to the beginning of a file and does not close it."""
        return Operation(self.overwrite_open, (name, content))

    def append_open(self, area: WorkArea, name: Name, content: bytes) -> None:
        """Append to a file, which is opened unless it is open."""
        descriptor = self._open(area.path(name))
        os.lseek(descriptor, 0, os.SEEK_END)
        os.write(descriptor, content)

    def overwrite_open(self, area: WorkArea, name: Name, content: bytes) -> None:
        """Write to the beginning of a file, which is opened unless it is open."""
        os.pwrite(self._open(area.path(name)), content, 0)

    def _open(self, path: bytes) -> int:
        """Return the descriptor of a path; its file may have another path by now."""
        if path in self._descriptors and not os.fstat(self._descriptors[path]).st_nlink:
            os.close(self._descriptors.pop(path))
        if path not in self._descriptors:
            self._descriptors[path] = open_nonblocking(path, os.O_RDWR)
            if len(self._descriptors) > MAX_OPEN:
                os.close(self._descriptors.pop(next(iter(self._descriptors))))
        return self._descriptors[path]

    def close(self) -> None:
        """Close all files."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])
