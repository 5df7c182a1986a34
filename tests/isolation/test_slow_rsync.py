"""A destination whose rsync is slower than the timeout of one that hangs."""

import os
from pathlib import Path

from isolation.isolation_setup import (
    EQUALITY_TIMEOUT,
    SLOW_RSYNC_KILOBYTES,
    TIMEOUT,
    IsolationSetup,
)


def test_a_slow_rsync_is_not_treated_as_a_hanging_one(tmp_path: Path) -> None:
    setup = IsolationSetup(tmp_path)
    slow = setup.bad("slow")
    # At this speed rsync takes longer than the timeout of a hanging one.
    (setup.source / "big").write_bytes(os.urandom(SLOW_RSYNC_KILOBYTES * 1024 * TIMEOUT * 3))
    with setup.daemon(slow) as daemon:
        setup.expect_equal(daemon)
        daemon.wait_for(r"\[slow\] initial sync complete", EQUALITY_TIMEOUT)
        setup.expect_equal(daemon, slow)
