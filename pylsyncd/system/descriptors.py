"""Descriptors: the standard ones, those that a parent has left open, and ours."""

import fcntl
import os
import sys
from contextlib import suppress

_STANDARD = ("stdin", "stdout", "stderr")
_FIRST_OTHER = len(_STANDARD)


def open_standard_streams() -> None:
    """Open those standard ones that the parent has closed, on nothing.

    Otherwise a file of ours would get their number, and what rsync complains about.
    """
    for number, name in enumerate(_STANDARD):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is taken, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003  # its name
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  # kept


def close_inherited() -> None:
    """Close what the parent has left open, such as a lock, or a pipe that somebody waits for.

    It is told apart from what Python has opened: that is closed when another program is run, and
    what was inherited cannot have been. What systemd hands over stays (sd_listen_fds(3)).
    """
    handed_over = range(0)
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and count.isdecimal():
        handed_over = range(_FIRST_OTHER, _FIRST_OTHER + int(count))
    for number in nonstandard_descriptors():
        with suppress(OSError):
            if number not in handed_over and not _is_ours(number):
                os.close(number)


def discard_output() -> None:
    """Have what is still to be printed go nowhere: whoever reads has seen enough.

    So Python does not try to write the rest when it ends.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def nonstandard_descriptors() -> list[int]:
    """Return the open descriptors beside the standard ones; the one that read them has gone."""
    return [number for number in map(int, os.listdir("/proc/self/fd")) if number >= _FIRST_OTHER]


def _is_ours(descriptor: int) -> bool:
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
