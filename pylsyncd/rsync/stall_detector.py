"""Whether an rsync makes progress."""

import time

# Seconds between looks, and seconds that opening a file may take.
_LOOK_INTERVAL = 1.0
_LONGEST_OPEN = 5.0

# The kernel's name for what a process does that opens a FIFO to which nobody writes.
_IN_FIFO = b"wait_for_partner"


class StallDetector:
    """Tells whether an rsync makes progress: it says, reads, writes or computes something.

    Only its main process is looked at. A remote shell's keep-alives are no progress, and that a
    peer is mute is noticed by rsync itself, by its --timeout; but not that it hangs in a FIFO.
    """

    def __init__(self, pid: int, silence: float) -> None:
        self._proc = f"/proc/{pid}"
        self._silence = silence
        self.check_interval = min(_LOOK_INTERVAL, silence / 4)
        """Seconds from one look to the next."""
        self._signs: list[bytes] = []
        self._progress = self._outside = time.monotonic()
        self._next = self._progress + self.check_interval

    def record_output(self) -> None:
        """Take note that the process has said something."""
        self._progress = time.monotonic()

    def stall_reason(self) -> str:
        """Return what keeps the process, in words, if it is to be ended; else nothing."""
        now = time.monotonic()
        if now < self._next:
            return ""
        self._next = now + self.check_interval
        signs = [_content(f"{self._proc}/io"), *self._processor_time()]
        if signs != self._signs:
            self._signs, self._progress = signs, now
        if _content(f"{self._proc}/wchan") != _IN_FIFO:
            self._outside = now
        if now - self._outside >= _LONGEST_OPEN:
            return "it opened a named pipe that had taken a file's place"
        if now - self._progress >= self._silence:
            return f"it made no progress for {self._silence:.0f} s"
        return ""

    def _processor_time(self) -> list[bytes]:
        # proc(5): fields 14 and 15; the second one, a name in brackets, may hold spaces.
        return _content(f"{self._proc}/stat").rpartition(b")")[2].split()[11:13]


def _content(path: str) -> bytes:
    """Return a file's content; nothing if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
