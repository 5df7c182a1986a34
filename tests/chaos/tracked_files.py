"""Many files that exist for a whole round and are each changed once at its end.

The writers change the same few paths again and again, so the next change nearby soon repairs a
lost one. Only a pending full sync could repair a lost last change of a tracked file. So all are
changed twice: while the daemon still has pending changes, and when it has none.
"""

import random
from collections.abc import Iterator
from pathlib import Path

DIRECTORIES, FILES_PER_DIRECTORY = 30, 100
BATCHES = 4
"""A batch has so few files of a directory that naming them is cheaper than listing it."""
SAMPLE_SIZE = 20


class TrackedFiles:
    """Some thousand files in a directory that the writers do not use."""

    def __init__(self, directory: Path, rng: random.Random) -> None:
        self._rng = rng
        self._version = 0
        self._files = [
            directory / f"{folder:02}" / f"{number:02}"
            for number in range(FILES_PER_DIRECTORY)
            for folder in range(DIRECTORIES)
        ]
        for folder in range(DIRECTORIES):
            (directory / f"{folder:02}").mkdir(parents=True)
        for path in self._files:
            self._write(path)

    def change_some(self) -> None:
        """Change a few of the files."""
        for path in self._rng.sample(self._files, SAMPLE_SIZE):
            self._write(path)

    def change_all(self) -> Iterator[None]:
        """Change each file once more, in batches; yield after each batch."""
        size = len(self._files) // BATCHES
        for begin in range(0, len(self._files), size):
            for path in self._files[begin : begin + size]:
                self._write(path)
            yield

    def _write(self, path: Path) -> None:
        self._version += 1
        path.write_text(f"{self._version:09}")  # the size never changes
