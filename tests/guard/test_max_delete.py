"""The limit of deletions: a run beyond it is held until it is released."""

import os
from pathlib import Path

import pytest
from guard.guarded import HELD, Guarded
from support.daemon import Pylsyncd
from support.destinations import on_rsync_daemon
from support.servers import RsyncDaemon

pytestmark = pytest.mark.usefixtures("watched_by")

# Like a daemon of rsync 3.4.1 or older.
UNCOUNTED = """#!/bin/bash
set -o pipefail
rsync "$@" | sed 's/^Number of deleted files: .*/Number of deleted files: 0/'
"""


def test_a_run_beyond_max_delete_is_held_until_released(tmp_path: Path) -> None:
    place = Guarded(tmp_path)
    place.fill()
    with place.daemon("-i", "--max-delete", "3") as daemon:
        for number in range(5):
            (place.source / f"d/{number}").write_text("x")
        place.expect_equal(daemon)
        place.remember()
        with daemon.paused():
            for number in range(5):
                (place.source / f"d/{number}").unlink()
        daemon.wait_for(HELD)
        place.expect_untouched(daemon)
        daemon.release()
        place.expect_equal(daemon)


def test_max_delete_holds_with_a_daemon_that_does_not_count_deletions(
    tmp_path: Path, rsync_daemon: RsyncDaemon
) -> None:
    source, program = tmp_path / "source", tmp_path / "uncounted"
    program.write_text(UNCOUNTED)
    program.chmod(0o755)
    files = [source / str(number) for number in range(5)]
    source.mkdir()
    for file in files:
        file.touch()
    to = on_rsync_daemon(rsync_daemon, "rsyncd", tmp_path.name)
    always = ("-v", "-i", "-w", "0.2", "--rsync", program)

    def daemon(*options: str) -> Pylsyncd:
        return Pylsyncd(
            *always, *options, f"{source}/./", to.argument, names=[to.name], state=tmp_path / "st"
        )

    with daemon("--max-delete", "3") as limited:
        limited.wait_ready()
        with limited.paused():
            for file in files[:4]:
                file.unlink()
        limited.wait_for("4 would be deleted, --max-delete allows 3")
        assert len(os.listdir(to.path)) == len(files)
    files[4].unlink()
    with daemon() as unlimited:
        unlimited.wait_for("the source is empty and the destination is not: nothing is deleted")
        assert len(os.listdir(to.path)) == len(files)
        unlimited.release()
        unlimited.wait_for("synced 0 files, deleted 5")
        assert not os.listdir(to.path)
