"""The present moment."""

import time
from pathlib import Path

from pylsyncd.system import clock


def test_now_is_the_wall_clock_the_time_since_boot_and_the_boot_id() -> None:
    before = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    moment = clock.now()
    after = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before[0] <= moment.wall <= after[0]
    assert before[1] <= moment.running <= after[1]
    assert moment.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_two_moments_of_one_boot_have_the_same_boot_id() -> None:
    assert clock.now().boot == clock.now().boot
