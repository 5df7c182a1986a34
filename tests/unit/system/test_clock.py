"""The present moment."""

import os
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


def test_a_boot_began_with_the_first_process() -> None:
    moment = clock.now()
    # Of a machine, or of the container that the tests run in.
    assert 0.0 <= moment.boot_began <= moment.running
    ticks = int(Path("/proc/1/stat").read_bytes().rpartition(b")")[2].split()[19])
    assert moment.boot_began == ticks / os.sysconf("SC_CLK_TCK")
