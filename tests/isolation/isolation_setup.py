"""Destinations side by side, with an rsync that hangs or is slow for some of them."""

import os
import shlex
import time
from pathlib import Path

from support.daemon import Pylsyncd
from support.destinations import Destination, local
from support.trees import equal_within

WINDOW = 0.2  # seconds
FILES = 20
EQUALITY_TIMEOUT = 60.0  # seconds
MAX_STEP = 0.1  # seconds between two looks for a file that count
RETRY_REQUEST_INTERVAL = 2.0  # seconds
SLOW_RSYNC_KILOBYTES = 8  # per second
TIMEOUT = 4  # seconds

SCRIPT = """#!/bin/sh
case " $* " in
*" --version "*) ;;
*/hanging/*) until [ -e {recovered} ]; do sleep 0.1; done;;
*/slow/*) [ -e {recovered} ] || exec rsync --bwlimit={kilobytes} "$@";;
esac
exec rsync "$@"
"""


class IsolationSetup:
    """A source, two good destinations, and an rsync that hangs or is slow for bad ones."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.source = directory / "source"
        self.source.mkdir()
        self.recovered = directory / "recovered"
        self.program = directory / "selective-rsync"
        script = SCRIPT.format(
            recovered=shlex.quote(str(self.recovered)), kilobytes=SLOW_RSYNC_KILOBYTES
        )
        self.program.write_text(script)
        self.program.chmod(0o755)
        self.good = [local(directory / name) for name in ("good", "other")]

    def bad(self, name: str) -> Destination:
        """Return a destination whose name makes the wrapper hang or slow down."""
        (self.directory / name).mkdir()
        return local(self.directory / name)

    def daemon(self, *more: Destination) -> Pylsyncd:
        """Return a daemon for the good destinations and others."""
        return Pylsyncd(
            *(
                "-v",
                "-i",
                "-w",
                str(WINDOW),
                "--rsync",
                self.program,
                *("--timeout", str(TIMEOUT)),
            ),
            f"{self.source}/./",
            *(destination.argument for destination in (*self.good, *more)),
            names=[destination.name for destination in self.good],
        )

    def delays(self, daemon: Pylsyncd, label: str) -> list[float]:
        """Write files one by one; return the seconds until the good destinations have each."""
        found = []
        for number in range(FILES):
            name = f"{label}-{number}"
            (self.source / name).write_bytes(b"x" * 3000)
            waited, last = 0.0, time.monotonic()
            copies = [os.path.join(copy.path, os.fsencode(name)) for copy in self.good]
            while not all(map(os.path.exists, copies)):
                assert waited < EQUALITY_TIMEOUT, f"{name} was not copied\n{daemon.log_tail}"
                time.sleep(0.005)
                # While this process is suspended, so may be all others.
                now = time.monotonic()
                waited, last = waited + min(now - last, MAX_STEP), now
            found.append(waited)
        return found

    def expect_equal(self, daemon: Pylsyncd, *destinations: Destination) -> None:
        """Wait until the destinations equal the source, with a flush before each retry."""
        deadline = time.monotonic() + EQUALITY_TIMEOUT
        for destination in (*self.good, *destinations):
            while found := self._differences(destination):
                daemon.flush()
                late = time.monotonic() > deadline
                assert not late, "\n".join([destination.argument, *found, daemon.log_tail])

    def _differences(self, destination: Destination) -> list[str]:
        return equal_within(
            os.fsencode(self.source),
            destination.path,
            RETRY_REQUEST_INTERVAL,
            ignore=destination.ignore,
        )
