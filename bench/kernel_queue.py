"""The fill of a program's inotify queue: a full queue drops events, which falsifies figures.

The queue of another process is asked for through a copy of its descriptor (pidfd_getfd(2), Linux
5.6 and later), with FIONREAD, which inotify(7) answers with the bytes that wait.
"""

import array
import contextlib
import ctypes
import fcntl
import os
import termios
import threading
from collections.abc import Iterator

from measure import wait_until

PIDFD_GETFD = 438  # on all architectures but alpha
EVENT_BYTES = 32
"""The size of an event whose name has up to 15 bytes, as in all trees here."""
SAMPLE_SECONDS = 0.004


class QueueFill:
    """The largest number of waiting events and bytes seen."""

    def __init__(self) -> None:
        self.most_bytes = 0
        with open("/proc/sys/fs/inotify/max_queued_events", "rb") as file:
            self.limit = int(file.read())

    @property
    def most_events(self) -> int:
        """The largest number of waiting events."""
        return self.most_bytes // EVENT_BYTES

    def warning(self) -> str:
        """Return a warning if events may have been dropped, else an empty text."""
        if self.most_events < 0.95 * self.limit:
            return ""
        return "queue was full: events were lost"

    def sample(self, descriptor: int) -> None:
        """Sample the queue once."""
        waiting = array.array("i", [0])
        fcntl.ioctl(descriptor, termios.FIONREAD, waiting)
        self.most_bytes = max(self.most_bytes, waiting[0])


def watches(pid: int) -> int:
    """Return the number of inotify watches of a process; proc(5), fdinfo."""
    count = 0
    for number in os.listdir(f"/proc/{pid}/fd"):
        if _refers_to(f"/proc/{pid}/fd/{number}", "inotify"):
            with open(f"/proc/{pid}/fdinfo/{number}", "rb") as file:
                count += sum(line.startswith(b"inotify ") for line in file)
    return count


@contextlib.contextmanager
def watched_queue(pid: int) -> Iterator[QueueFill]:
    """Sample a process's inotify queue during the block."""
    fill = QueueFill()
    done = threading.Event()
    with _copied_queues(pid) as descriptors:

        def look() -> None:
            while not done.wait(SAMPLE_SECONDS):
                for descriptor in descriptors:
                    fill.sample(descriptor)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield fill
        finally:
            done.set()
            thread.join()


def drained(pid: int, seconds: float) -> bool:
    """Wait until a process has read all its events; return False after a timeout."""
    with _copied_queues(pid) as descriptors:

        def is_empty() -> bool:
            fill = QueueFill()
            for descriptor in descriptors:
                fill.sample(descriptor)
            return not fill.most_bytes

        return wait_until(is_empty, seconds, poll=SAMPLE_SECONDS)


@contextlib.contextmanager
def _copied_queues(pid: int) -> Iterator[list[int]]:
    """Yield copies of a process's inotify descriptors; none if that is not permitted."""
    system = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    copies = [
        system.syscall(PIDFD_GETFD, process, int(number), 0)
        for number in os.listdir(f"/proc/{pid}/fd")
        if _refers_to(f"/proc/{pid}/fd/{number}", "inotify")
    ]
    copies = [copy for copy in copies if copy >= 0]
    try:
        yield copies
    finally:
        for descriptor in (process, *copies):
            os.close(descriptor)


def _refers_to(link: str, what: str) -> bool:
    try:
        return what in os.readlink(link)
    except OSError:
        return False
