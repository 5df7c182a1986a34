"""Prints the CPU seconds of a search for hard links after every file has changed.

python bench/hard_link_cost.py DIRECTORY
"""

import os
import sys
import time

from pylsyncd.model.changes import MutableChangeset
from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher.hard_links import HardLinks


def main(source: bytes) -> None:
    """Complete a changeset, and print the time."""
    changes = MutableChangeset()
    for directory in os.listdir(source):
        changes.add_entries(directory, set(os.listdir(os.path.join(source, directory))))
    links = HardLinks(source, Rules())
    begun, count = time.process_time(), len(changes)
    links.add_other_names(changes)
    print(time.process_time() - begun)
    if links.search_count or len(changes) != count:
        sys.exit("there are hard links")


if __name__ == "__main__":
    main(os.fsencode(sys.argv[1]))
