"""A source on a file system whose ctimes are mtimes: sshfs, of a directory of this machine."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard.guarded import Guarded
from support.mounts import Mounts, can_mount_sshfs

pytestmark = pytest.mark.skipif(not can_mount_sshfs(), reason="sshfs cannot be mounted here")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Guarded]:
    with Mounts() as mounts:
        yield Guarded(tmp_path, mounts)


def test_a_file_replaced_elsewhere_by_an_older_one_is_found(place: Guarded) -> None:
    place.backing.mkdir()
    place.fill(place.backing)
    for name in ("older", "much older"):
        (place.backing / name).write_text(name)
        os.utime(place.backing / name, (1e9, 1e9))
    place.mounts.mount_sshfs(place.backing, place.source)
    with place.daemon("-i", "--poll-interval", "0.5") as daemon:
        place.expect_equal(daemon)
        (place.backing / "older").rename(place.backing / "d/c")
        place.expect_equal(daemon)
    # At a start, no scan can find it.
    (place.backing / "much older").rename(place.backing / "d/c")
    with place.daemon() as daemon:
        daemon.wait_for("Starting a full sync: the file system of the source has no times")
        place.expect_equal(daemon)
    place.unmount(place.source)
