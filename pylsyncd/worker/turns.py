"""How many rsyncs run at a time, over all destinations; who waits longest is the next."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator

# Seconds between two looks of those who wait, whether they are still to wait.
_BEAT = 0.1


class RunSlots:
    """A line in which workers wait for their turn. Any thread may use it.

    Whoever wants another turn goes to the end of the line: one that always has work does not keep
    the others waiting longer than each of them keeps it.
    """

    def __init__(self, limit: int | None = None) -> None:
        """Make one for ``limit`` turns at a time; None for any number."""
        self._limit = limit
        self._news = threading.Condition()
        self._line: deque[object] = deque()
        self._running = 0

    def set_limit(self, limit: int | None) -> None:
        """Have another number of turns at a time; those that were taken last on."""
        with self._news:
            self._limit = limit
            self._news.notify_all()

    @contextlib.contextmanager
    def acquire(self, should_stop: Callable[[], bool]) -> Iterator[bool]:
        """Wait for a turn and hold it; give False instead, soon, if ``is_ended`` says so.

        That is asked several times a second with a lock held: it must neither block nor use this.
        The wait may take any time: to a heartbeat it should count as waiting.
        """
        is_granted = self._wait(should_stop)
        try:
            yield is_granted
        finally:
            if is_granted:
                with self._news:
                    self._running -= 1
                    self._news.notify_all()

    def _wait(self, is_ended: Callable[[], bool]) -> bool:
        place = object()
        with self._news:
            self._line.append(place)
            try:
                while not is_ended():
                    if self._is_due(place):
                        self._running += 1
                        return True
                    self._news.wait(_BEAT)
                return False
            finally:
                self._line.remove(place)
                # There may be room for more than one.
                self._news.notify_all()

    def _is_due(self, place: object) -> bool:
        is_free = self._limit is None or self._running < self._limit
        return is_free and self._line[0] is place
