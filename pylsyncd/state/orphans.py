"""Stops what a killed pylsyncd has left running: an old rsync could bring back old content.

Each rsync has the key of its source and destination in its environment. A process with that key is
an orphan if this process holds the lock of that source and destination.
"""

import contextlib
import os
import signal
import time
from collections.abc import Collection

from pylsyncd.system.processes import terminate

RUN_KEY_VARIABLE = "PYLSYNCD_RUN_FOR"
"""The environment variable with the key."""

_KILL_AFTER = 5.0
# A process that the kernel cannot end now will end before it does anything.
_GIVE_UP_AFTER = 10.0
_POLL_INTERVAL = 0.02


def terminate_orphans(keys: Collection[str]) -> int:
    """Stop all processes of this user with one of the keys; return how many there were.

    To be called with the locks of the keys held, before the first rsync is started.
    """
    found = _find_orphans(keys)
    living = set(found)

    def send_signal(number: signal.Signals) -> None:
        for pid in living:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def wait(seconds: float) -> bool:
        time.sleep(seconds)
        living.intersection_update(_find_orphans(keys))
        return not living

    if found:
        terminate(
            send_signal, wait,
            kill_after=_KILL_AFTER, give_up_after=_GIVE_UP_AFTER, interval=_POLL_INTERVAL,
        )  # fmt: skip
    return len(found)


def _find_orphans(keys: Collection[str]) -> set[int]:
    wanted = {f"{RUN_KEY_VARIABLE}={key}".encode() for key in keys}
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        # Another user's process cannot be read; one that has ended does not exist.
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as environment:
            if wanted.intersection(environment.read().split(b"\0")):
                found.add(int(name))
    return found - {os.getpid()}
