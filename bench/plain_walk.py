"""The baseline for a catch-up scan: a walk of a tree with an lstat of every entry.

    python bench/plain_walk.py DIRECTORY

It is run as a process of its own, as the daemon is; and it imports nothing but what it needs.
"""

import os
import sys


def walk(top: str) -> int:
    """Return the number of entries below a directory."""
    count = 0
    waiting = [top]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                count += 1
                os.lstat(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return count


if __name__ == "__main__":
    walk(sys.argv[1])
