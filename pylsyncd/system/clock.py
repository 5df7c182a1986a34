"""The present moment."""

import os
import time
from functools import cache

from pylsyncd.model.moments import Moment

_BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
_FIRST_PROCESS_FILE = "/proc/1/stat"
_START_TIME_FIELD = 22


def now() -> Moment:
    """Return the present moment."""
    running = time.clock_gettime(time.CLOCK_BOOTTIME)
    return Moment(time.time(), running, _boot_id(), _boot_began())


# Cached, so that it is still known when the process has run out of descriptors.
@cache
def _boot_id() -> str:
    """Return the kernel's identifier of this boot; empty where /proc lacks it."""
    try:
        with open(_BOOT_ID_FILE, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


@cache
def _boot_began() -> float:
    """Return the start of the first process in seconds since the machine booted (proc_pid_stat(5)).

    0.0 where that is not known, as for the init of a machine.
    """
    try:
        with open(_FIRST_PROCESS_FILE, "rb") as file:
            # After the name, which may contain anything, from the third field on.
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[_START_TIME_FIELD - 3]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
