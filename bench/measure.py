"""The resource usage of a running program, when it is idle, and the format of figures.

CPU is utime + stime from /proc/PID/stat, which includes threads that have ended. The kernel keeps
it in nanoseconds but shows it in ticks (usually 10 ms), so one difference is off by up to a tick in
each field, so a short operation has to be measured many times over.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

TICK = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds: the resolution of CPU figures in /proc."""

QUIET_SECONDS = 0.8
"""A program is idle if it has used no CPU tick and had no child for so long."""

POLL_SECONDS = 0.02


class MeasurementFailed(Exception):  # noqa: N818 - shown in a cell of the table
    """A program died, or did not finish before the deadline."""


class Cpu(NamedTuple):
    """Seconds of CPU since the start of a process."""

    own: float
    children: float
    """Seconds of the children that it has waited for."""

    @property
    def total(self) -> float:
        """Seconds of the process and its children."""
        return self.own + self.children

    def __sub__(self, earlier: "Cpu") -> "Cpu":
        return Cpu(self.own - earlier.own, self.children - earlier.children)


def cpu(pid: int) -> Cpu:
    """Return the CPU time of a process; proc(5), fields 14 to 17 of stat."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    utime, stime, cutime, cstime = (int(field) * TICK for field in fields[11:15])
    return Cpu(utime + stime, cutime + cstime)


def bytes_read(pid: int) -> int:
    """Return what a process has read, from files or not; with its ended children; proc(5), io."""
    with open(f"/proc/{pid}/io", "rb") as file:
        return int(file.readline().split()[1])


def resident_bytes(pid: int) -> int:
    """Return the resident set size of a process."""
    with open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def reset_peak(pid: int) -> None:
    """Reset :func:`peak_bytes`; proc(5), clear_refs."""
    with open(f"/proc/{pid}/clear_refs", "wb") as file:
        file.write(b"5")


def peak_bytes(pid: int) -> int:
    """Return the largest resident set size of a process so far; proc(5), VmHWM of status."""
    with open(f"/proc/{pid}/status", "rb") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(b"VmHWM:"))


def has_children(pid: int) -> bool:
    """Return True if any thread of a process has a child."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        # A thread may have ended meanwhile, and a kernel may be built without this file.
        with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
            if file.read():
                return True
    return False


def wait_until(condition: Callable[[], bool], seconds: float, poll: float = POLL_SECONDS) -> bool:
    """Poll until the condition holds; return False at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll)
    return True


class Idleness:
    """The time for which a process has been idle."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._used = Cpu(-1, -1)
        self._since = time.monotonic()

    def seconds(self) -> float:
        """Read its usage, and return for how long the process has been idle.

        Raises ``OSError`` when there is no such process any more.
        """
        used = cpu(self.pid)
        if used != self._used or has_children(self.pid):
            self._used = used
            self._since = time.monotonic()
        return time.monotonic() - self._since


def wait_idle(pid: int, deadline_seconds: float = 120, quiet: float = QUIET_SECONDS) -> None:
    """Wait until a process is idle; raise ``MeasurementFailed`` if it never is, or has died."""
    idleness = Idleness(pid)
    try:
        if not wait_until(lambda: idleness.seconds() >= quiet, deadline_seconds):
            raise MeasurementFailed(f"busy for {deadline_seconds:.0f} s")
    except OSError as error:
        raise MeasurementFailed("died") from error


def median(figures: Sequence[float]) -> float:
    """Return the median; NaN of nothing."""
    return statistics.median(figures) if figures else float("nan")


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Yield a function that returns the seconds since the block was entered."""
    start = time.monotonic()
    yield lambda: time.monotonic() - start


def seconds_text(seconds: float) -> str:
    """Return a duration in three digits with a suitable unit."""
    scale, unit = next(
        (pair for pair in ((1.0, "s"), (1e3, "ms")) if abs(seconds) * pair[0] >= 1), (1e6, "µs")
    )
    return f"{seconds * scale:#.3g}".rstrip(".") + f" {unit}"
