"""Tells the present moment."""

import time
from functools import cache

from pylsyncd.model.moments import Moment

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def now() -> Moment:
    """Return the present moment."""
    return Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), _boot())


# Cached, so that no later lack of descriptors takes it away.
@cache
def _boot() -> str:
    """Return the kernel's name for this boot; empty where /proc lacks it."""
    try:
        with open(_BOOT_ID, encoding="ascii") as boot_id:
            return boot_id.read().strip()
    except OSError:
        return ""
