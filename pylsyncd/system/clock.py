"""The present moment."""

import time
from functools import cache

from pylsyncd.model.moments import Moment

_BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"


def now() -> Moment:
    """Return the present moment."""
    return Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), _boot_id())


# Cached, so that it is still known when the process has run out of descriptors.
@cache
def _boot_id() -> str:
    """Return the kernel's identifier of this boot; empty where /proc lacks it."""
    try:
        with open(_BOOT_ID_FILE, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
