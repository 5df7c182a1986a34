"""Ends what a killed pylsyncd has left running: an old rsync could bring back old content.

Every rsync has the key of its source and destination in its environment. Whoever holds the lock of
these two knows that what still runs with that key belongs to nobody.
"""

import contextlib
import os
import signal
import time
from collections.abc import Collection

RUN_KEY_VARIABLE = "PYLSYNCD_RUN_FOR"
"""The variable in the environment of each rsync."""

# Seconds from asking to killing, and between two looks.
_GRACE = 5.0
_BEAT = 0.02


def terminate_orphans(keys: Collection[str]) -> int:
    """End all processes of this user that run with one of the keys; return how many there were.

    To be called by who holds the locks, before the first rsync is run.
    """
    found = living = _marked(keys)
    deadline = time.monotonic() + _GRACE
    number = signal.SIGTERM
    while living:
        for pid in living:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        time.sleep(_BEAT)
        if time.monotonic() >= deadline:
            if number is signal.SIGKILL:
                # The kernel does not let go of them now; they will end before they do anything.
                break
            number, deadline = signal.SIGKILL, deadline + _GRACE
        living = living & _marked(keys)
    return len(found)


def _marked(keys: Collection[str]) -> set[int]:
    wanted = {f"{RUN_KEY_VARIABLE}={key}".encode() for key in keys}
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            # What is another user's cannot be read, and what has gone is not there.
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as environment:
                if wanted.intersection(environment.read().split(b"\0")):
                    found.add(int(name))
    return found - {os.getpid()}
