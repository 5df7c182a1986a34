"""The kernel's events of a real directory."""

import os
import sys
from pathlib import Path

from support import processes

from pylsyncd.watcher import inotify
from pylsyncd.watcher.inotify import Inotify

MAKES_DIRECTORIES = """
import os, sys
for number in range(int(sys.argv[1])):
    os.mkdir(str(number))
"""
MANY = 15_000


def test_no_event_is_lost_while_a_directory_is_watched_again(tmp_path: Path) -> None:
    # No more than the kernel's queue holds.
    count = min(MANY, inotify.read_limit("max_queued_events") - 1)
    directory = os.open(tmp_path, os.O_RDONLY)
    notify = Inotify()
    try:
        first = notify.add_watch(directory)
        command = [sys.executable, "-c", MAKES_DIRECTORIES, str(count)]
        with processes.running_process(command, cwd=tmp_path) as writer:
            while writer.poll() is None:
                assert {notify.add_watch(directory) for _ in range(1000)} == {first}
        chunks = b"".join(iter(notify.read, b""))
    finally:
        notify.close()
        os.close(directory)
    assert len({name for _, _, name in inotify.decode_events(chunks)}) == count
