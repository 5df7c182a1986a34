"""A tracked: many files that live as long as a round, and at its end are each changed once.

The writers change the same few paths again and again, so a change that is lost is soon made good
by the next one nearby. For the tracked's last entries nothing does that, but a full sync that is
still owed. So it is closed twice: while the daemon still has much to make good, and when it owes
nothing.
"""

import random
from collections.abc import Iterator
from pathlib import Path

DIRECTORIES, FILES_PER_DIRECTORY = 30, 100
BATCHES = 4
"""At once so many are changed of a directory that naming them is cheaper than listing it."""
SAMPLE_SIZE = 20


class TrackedFiles:
    """Some thousand files in a directory that nobody else touches."""

    def __init__(self, directory: Path, rng: random.Random) -> None:
        self._chance = rng
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
        """Change a few of them."""
        for path in self._chance.sample(self._files, SAMPLE_SIZE):
            self._write(path)

    def change_all(self) -> Iterator[None]:
        """Change each of them once more, in parts; each step is a part."""
        size = len(self._files) // BATCHES
        for begin in range(0, len(self._files), size):
            for path in self._files[begin : begin + size]:
                self._write(path)
            yield

    def _write(self, path: Path) -> None:
        self._version += 1
        path.write_text(f"{self._version:09}")  # the size stays as it is
