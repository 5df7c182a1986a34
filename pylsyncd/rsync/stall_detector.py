"""Detects an rsync that makes no progress."""

import time

from pylsyncd.rsync.outcomes import STALLED_IN_FIFO

# Seconds between two checks, and seconds that opening a file may take.
_CHECK_INTERVAL = 1.0
_MAX_OPEN_TIME = 5.0

# The kernel's name for a process that waits in open(2) for the other end of a FIFO.
_FIFO_WAIT_CHANNEL = b"wait_for_partner"


class StallDetector:
    """The progress of one rsync: when it last printed, read, wrote or computed.

    Only its main process is watched. The keep-alives of a remote shell are no progress. rsync's
    own --timeout detects a silent peer, but not an rsync that hangs in a FIFO.
    """

    def __init__(self, pid: int, stall_timeout: float) -> None:
        self._proc = f"/proc/{pid}"
        self._stall_timeout = stall_timeout
        self.check_interval = min(_CHECK_INTERVAL, stall_timeout / 4)
        """Seconds between two checks."""
        self._counters: list[bytes] = []
        self._idle_since = self._in_fifo_since = time.monotonic()
        self._check_due_at = self._idle_since + self.check_interval

    def record_output(self) -> None:
        """Record that the process has printed something."""
        self._idle_since = time.monotonic()

    def stall_reason(self) -> str:
        """Return why the process has to be stopped, empty if it makes progress."""
        now = time.monotonic()
        if now < self._check_due_at:
            return ""
        self._check_due_at = now + self.check_interval
        counters = [_read(f"{self._proc}/io"), *self._cpu_times()]
        if counters != self._counters:
            self._counters, self._idle_since = counters, now
        if _read(f"{self._proc}/wchan") != _FIFO_WAIT_CHANNEL:
            self._in_fifo_since = now
        if now - self._in_fifo_since >= _MAX_OPEN_TIME:
            return STALLED_IN_FIFO
        if now - self._idle_since >= self._stall_timeout:
            return f"it made no progress for {self._stall_timeout:.0f} s"
        return ""

    def _cpu_times(self) -> list[bytes]:
        # proc(5): fields 14 and 15; the second one, a name in brackets, may hold spaces.
        return _read(f"{self._proc}/stat").rpartition(b")")[2].split()[11:13]


def _read(path: str) -> bytes:
    """Return a file's content, empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
