"""After random operations, the destinations equal the source when `pylsyncctl wait` says so.

A failure prints the seed; ``python -m churn.churn --round 8 --waits 8 --seeds 1 --seed SEED``
repeats the operations, not their timing.
"""

import random
import tempfile
from pathlib import Path

import pytest
from churn.churn import make_destinations, run_round
from support.fanotify import skip_without_fanotify
from support.servers import RsyncDaemon, SshServer
from support.watch_method import FANOTIFY

pytestmark = pytest.mark.usefixtures("watched_by")

SECONDS = 8.0
WAITS = 8
LEAST_OPERATIONS = 1200


def _churn(kind: str, directory: Path, ssh: SshServer | None, rsyncd: RsyncDaemon | None) -> None:
    seed = random.SystemRandom().randrange(10**9)
    destinations = make_destinations(kind, directory, ssh, rsyncd)
    count = run_round(
        directory,
        destinations,
        seed,
        SECONDS,
        WAITS,
        least_operations=LEAST_OPERATIONS,
    )
    assert count.operations >= LEAST_OPERATIONS


@pytest.mark.both_methods
def test_after_churn_a_local_copy_is_equal(tmp_path: Path) -> None:
    _churn("local", tmp_path, None, None)


def test_after_churn_on_a_disk_a_local_copy_is_equal(watched_by: str) -> None:
    with tempfile.TemporaryDirectory(prefix="pylsyncd-churn-", dir="/var/tmp") as directory:
        if watched_by == FANOTIFY:
            skip_without_fanotify(Path(directory))
        _churn("local", Path(directory), None, None)


def test_after_churn_a_copy_by_ssh_is_equal(tmp_path: Path, ssh_server: SshServer) -> None:
    _churn("ssh", tmp_path, ssh_server, None)


def test_after_churn_a_copy_in_a_module_is_equal(tmp_path: Path, rsync_daemon: RsyncDaemon) -> None:
    _churn("rsyncd", tmp_path, None, rsync_daemon)


def test_after_churn_four_copies_are_equal(
    tmp_path: Path, ssh_server: SshServer, rsync_daemon: RsyncDaemon
) -> None:
    _churn("four", tmp_path, ssh_server, rsync_daemon)
