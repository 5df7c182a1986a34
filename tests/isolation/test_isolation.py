"""A destination that hangs, refuses or is slow delays no other one, and catches up afterwards."""

import os
import shlex
import statistics
import time
from pathlib import Path

import pytest
from support.daemon import Pylsyncd
from support.destinations import Destination, local, on_rsync_daemon
from support.servers import RsyncDaemon
from support.trees import equal_within

WINDOW = 0.2  # seconds
FILES = 20
EQUALITY_TIMEOUT = 60.0  # seconds
RETRY_REQUEST_INTERVAL = 2.0  # seconds
# The extra time of a good destination beside bad ones; meeting one limit is enough.
MAX_RATIO, MAX_EXTRA_MEDIAN_SECONDS = 1.5, 0.3
MAX_EXTRA_SECONDS = 3.0  # for the slowest file
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
            begin = time.monotonic()
            copies = [os.path.join(copy.path, os.fsencode(name)) for copy in self.good]
            while not all(map(os.path.exists, copies)):
                assert time.monotonic() < begin + EQUALITY_TIMEOUT, (
                    f"{name} was not copied\n{daemon.log_tail}"
                )
                time.sleep(0.005)
            found.append(time.monotonic() - begin)
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


@pytest.fixture
def setup(tmp_path: Path) -> IsolationSetup:
    return IsolationSetup(tmp_path)


def directory(setup: IsolationSetup, name: str) -> Destination:
    """Return a destination whose name makes the wrapper hang or slow down."""
    (setup.directory / name).mkdir()
    return local(setup.directory / name)


def server_of(setup: IsolationSetup, name: str, **options: str) -> RsyncDaemon:
    """Return an rsync daemon with one module, both of this name; it is not started."""
    module, server_directory = setup.directory / name, setup.directory / f"{name}-server"
    module.mkdir()
    server_directory.mkdir()
    return RsyncDaemon(server_directory, {name: module}, {name: options})


def compare(alone: list[float], beside: list[float], daemon: Pylsyncd) -> None:
    median_alone, median_beside = statistics.median(alone), statistics.median(beside)
    assert median_beside < max(median_alone * MAX_RATIO, median_alone + MAX_EXTRA_MEDIAN_SECONDS), (
        f"a good destination takes {median_beside:.3f} s beside bad ones, "
        f"{median_alone:.3f} s alone\n{daemon.log_tail}"
    )
    assert max(beside) < max(alone) + MAX_EXTRA_SECONDS, (
        f"a good destination once took {max(beside):.3f} s beside bad ones\n{daemon.log_tail}"
    )


def test_two_good_destinations_are_as_fast_beside_bad_ones_as_alone(setup: IsolationSetup) -> None:
    with setup.daemon() as daemon:
        daemon.wait_ready()
        alone = setup.delays(daemon, "alone")
    closed, strict = server_of(setup, "closed"), server_of(setup, "strict", **{"read only": "yes"})
    refusing = [on_rsync_daemon(closed, "closed", "one"), on_rsync_daemon(strict, "strict", "two")]
    others = [directory(setup, "hanging"), directory(setup, "slow"), *refusing]
    with strict, setup.daemon(*others) as daemon:
        daemon.wait_ready()
        beside = setup.delays(daemon, "beside")
        compare(alone, beside, daemon)
        # All destinations work again, and need every file.
        setup.recovered.touch()
        strict.configure({"strict": {"read only": "no"}})
        with closed:
            setup.expect_equal(daemon, *others)
            last = setup.delays(daemon, "after")
            setup.expect_equal(daemon, *others)
    compare(alone, last, daemon)


def test_a_slow_rsync_is_not_treated_as_a_hanging_one(setup: IsolationSetup) -> None:
    slow = directory(setup, "slow")
    # At this speed rsync takes longer than the timeout of a hanging one.
    (setup.source / "big").write_bytes(os.urandom(SLOW_RSYNC_KILOBYTES * 1024 * TIMEOUT * 3))
    with setup.daemon(slow) as daemon:
        setup.expect_equal(daemon)
        daemon.wait_for(r"\[slow\] initial sync complete", EQUALITY_TIMEOUT)
        setup.expect_equal(daemon, slow)
