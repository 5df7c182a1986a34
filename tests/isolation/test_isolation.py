"""A destination that hangs, refuses or is slow delays no other one, and is paid when it is back."""

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
# How much longer a good destination may take beside bad ones: either is enough.
MAX_RATIO, MAX_EXTRA_MEDIAN_SECONDS = 1.5, 0.3
MAX_EXTRA_SECONDS = 3.0  # seconds more than alone, for the slowest of all
SLOW_RSYNC_KILOBYTES = 8  # per second, for the slow one
TIMEOUT = 4  # seconds

SCRIPT = """#!/bin/sh
case " $* " in
*" --version "*) ;;
*/hanging/*) until [ -e {well} ]; do sleep 0.1; done;;
*/slow/*) [ -e {well} ] || exec rsync --bwlimit={kilobytes} "$@";;
esac
exec rsync "$@"
"""


class IsolationSetup:
    """A source, two good destinations, and the bad ones that a test asks for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.source = directory / "source"
        self.source.mkdir()
        self.well = directory / "well"
        self.program = directory / "selective-rsync"
        script = SCRIPT.format(well=shlex.quote(str(self.well)), kilobytes=SLOW_RSYNC_KILOBYTES)
        self.program.write_text(script)
        self.program.chmod(0o755)
        self.good = [local(directory / name) for name in ("good", "other")]

    def daemon(self, *more: Destination) -> Pylsyncd:
        """Return a daemon for the good destinations, and for more."""
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
        """Write one file after the other; return the seconds until all good ones have each."""
        found = []
        for number in range(FILES):
            name = f"{label}-{number}"
            (self.source / name).write_bytes(b"x" * 3000)
            begin = time.monotonic()
            copies = [os.path.join(copy.path, os.fsencode(name)) for copy in self.good]
            while not all(map(os.path.exists, copies)):
                assert time.monotonic() < begin + EQUALITY_TIMEOUT, (
                    f"{name} did not come\n{daemon.log_tail}"
                )
                time.sleep(0.005)
            found.append(time.monotonic() - begin)
        return found

    def expect_equal(self, daemon: Pylsyncd, *destinations: Destination) -> None:
        """Fail when one does not become equal, though the daemon is asked to try it."""
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
def site(tmp_path: Path) -> IsolationSetup:
    return IsolationSetup(tmp_path)


def directory(site: IsolationSetup, name: str) -> Destination:
    """Return a directory whose name the substitute for rsync knows."""
    (site.directory / name).mkdir()
    return local(site.directory / name)


def server_of(site: IsolationSetup, name: str, **options: str) -> RsyncDaemon:
    """Return a server with one module, which it is called like; it is not started yet."""
    module, place = site.directory / name, site.directory / f"{name}-server"
    module.mkdir()
    place.mkdir()
    return RsyncDaemon(place, {name: module}, {name: options})


def compare(alone: list[float], beside: list[float], daemon: Pylsyncd) -> None:
    quiet, loud = statistics.median(alone), statistics.median(beside)
    assert loud < quiet * MAX_RATIO or loud < quiet + MAX_EXTRA_MEDIAN_SECONDS, (
        f"a good destination takes {loud:.3f} s beside bad ones, {quiet:.3f} s alone\n"
        f"{daemon.log_tail}"
    )
    assert max(beside) < max(alone) + MAX_EXTRA_SECONDS, (
        f"once a good destination took {max(beside):.3f} s beside bad ones\n{daemon.log_tail}"
    )


def test_two_good_destinations_are_as_fast_beside_bad_ones_as_alone(site: IsolationSetup) -> None:
    with site.daemon() as daemon:
        daemon.wait_ready()
        alone = site.delays(daemon, "alone")
    closed, strict = server_of(site, "closed"), server_of(site, "strict", **{"read only": "yes"})
    refusing = [on_rsync_daemon(closed, "closed", "one"), on_rsync_daemon(strict, "strict", "two")]
    others = [directory(site, "hanging"), directory(site, "slow"), *refusing]
    with strict, site.daemon(*others) as daemon:
        daemon.wait_ready()
        beside = site.delays(daemon, "beside")
        compare(alone, beside, daemon)
        # All are well again, and are owed everything.
        site.well.touch()
        strict.configure({"strict": {"read only": "no"}})
        with closed:
            site.expect_equal(daemon, *others)
            last = site.delays(daemon, "after")
            site.expect_equal(daemon, *others)
    compare(alone, last, daemon)


def test_a_slow_rsync_is_not_taken_for_one_that_hangs(site: IsolationSetup) -> None:
    slow = directory(site, "slow")
    # At this speed rsync takes twice as long as a hanging one has.
    (site.source / "big").write_bytes(os.urandom(SLOW_RSYNC_KILOBYTES * 1024 * TIMEOUT * 3))
    with site.daemon(slow) as daemon:
        site.expect_equal(daemon)
        daemon.wait_for(r"\[slow\] initial sync complete", EQUALITY_TIMEOUT)
        site.expect_equal(daemon, slow)
