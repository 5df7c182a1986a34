"""A destination that hangs, refuses or is slow delays no other one, and catches up afterwards."""

import statistics
from pathlib import Path

from isolation.isolation_setup import IsolationSetup
from support.daemon import Pylsyncd
from support.destinations import on_rsync_daemon
from support.servers import RsyncDaemon

# The extra time of a good destination beside bad ones; meeting one limit is enough.
MAX_RATIO, MAX_EXTRA_MEDIAN_SECONDS = 1.5, 0.3
MAX_EXTRA_SECONDS = 3.0  # for the slowest file


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


def test_two_good_destinations_are_as_fast_beside_bad_ones_as_alone(tmp_path: Path) -> None:
    setup = IsolationSetup(tmp_path)
    with setup.daemon() as daemon:
        daemon.wait_ready()
        alone = setup.delays(daemon, "alone")
    closed, strict = server_of(setup, "closed"), server_of(setup, "strict", **{"read only": "yes"})
    refusing = [on_rsync_daemon(closed, "closed", "one"), on_rsync_daemon(strict, "strict", "two")]
    others = [setup.bad("hanging"), setup.bad("slow"), *refusing]
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
