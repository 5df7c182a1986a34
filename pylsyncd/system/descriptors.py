"""File descriptors: the standard streams, and those inherited from the parent process."""

import fcntl
import os
import re
import resource
import sys
from contextlib import suppress

_STANDARD_STREAMS = ("stdin", "stdout", "stderr")
_FIRST_NONSTANDARD = len(_STANDARD_STREAMS)


def open_standard_streams() -> None:
    """Open /dev/null for each standard stream that the parent has closed.

    Otherwise one of our own files would get its number, and with it the errors of rsync.
    """
    for number, name in enumerate(_STANDARD_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            # open(2) returns the lowest free number, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003  # its name
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  # kept


def close_inherited() -> None:
    """Close the descriptors that the parent has left open, such as a lock or the end of a pipe.

    They are those without FD_CLOEXEC, which Python sets on each of its own. Sockets that systemd
    passes stay open (sd_listen_fds(3)).
    """
    passed = range(0)
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and re.fullmatch("[0-9]{1,9}", count):
        passed = range(_FIRST_NONSTANDARD, _FIRST_NONSTANDARD + int(count))
    for number in nonstandard_descriptors():
        with suppress(OSError):
            if number not in passed and not _is_close_on_exec(number):
                os.close(number)


def raise_limit(count: int) -> int:
    """Permit this process to open so many files, if it may; return how many it may open now.

    No more than needed: programs that it starts inherit the limit, and some close each descriptor
    that there could be.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return count if soft == resource.RLIM_INFINITY else soft
    limit = count if hard == resource.RLIM_INFINITY else min(count, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        return limit
    return soft


def discard_unwritable_output() -> None:
    """Send what the standard streams do not take any more to /dev/null.

    Their terminal may be gone, or the reader of a pipe. Otherwise Python would fail to flush them
    at exit, and end with the status 120.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # noqa: PERF203 - each may fail
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def nonstandard_descriptors() -> list[int]:
    """Return the open descriptors above the standard ones.

    Among them is the one that the list was read through, closed by now.
    """
    numbers = map(int, os.listdir("/proc/self/fd"))
    return [number for number in numbers if number >= _FIRST_NONSTANDARD]


def _is_close_on_exec(descriptor: int) -> bool:
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
