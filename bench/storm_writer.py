"""Writes small files and deletes most of them, as fast as possible: four events for each.

    python bench/storm_writer.py DIRECTORY DIRECTORIES FILES NAME

It is a process of its own, so that several write at the same time.
"""

import os
import sys

from workloads import write

KEPT_EVERY = 50
"""One of so many files is not deleted."""

CONTENT = b"x" * 100


def write_storm(root: str, directories: int, files: int, name: str) -> None:
    """Write the files in the directories in turn, each with ``name`` and its number."""
    for number in range(files):
        path = f"{root}/d{number % directories}/{name}{number}"
        write(path, CONTENT)
        if number % KEPT_EVERY:
            os.unlink(path)


if __name__ == "__main__":
    write_storm(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
