"""Stops what a killed pylsyncd has left running: an old rsync could bring back old content.

Each rsync has the key of its source and destination in its environment. A process of this user with
that key is an orphan if this process holds the lock of that source and destination.
"""

import contextlib
import os
import re
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

# A line of proc_pid_status(5): the real, effective, saved and file system user ids.
_REAL_UID = re.compile(rb"^Uid:\t(\d{1,10})\t", re.MULTILINE)


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
        # Another user's process cannot be read, except by root; one that has ended does not exist.
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as environment:
            is_marked = wanted.intersection(environment.read().split(b"\0"))
            if is_marked and _real_uid(name) == os.geteuid():
                found.add(int(name))
    return found - {os.getpid()}


def _real_uid(name: str) -> int:
    """Return the user id that started a process, even if it runs a set-user-id program.

    Raises OSError if the process has ended.
    """
    with open(f"/proc/{name}/status", "rb") as status:
        found = _REAL_UID.search(status.read())
    return int(found[1]) if found else -1
