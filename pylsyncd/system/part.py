"""A thread of the daemon whose death, and whose silence, is noticed."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)


class StoppedError(Exception):
    """What takes long is given up, since the part that does it has to end."""


class ActivityTimer:
    """Tells how long whoever beats has not done so. Beaten by one thread, read by others."""

    def __init__(self) -> None:
        self._busy_since: float | None = None

    def mark_active(self) -> None:
        """Report that the work goes on."""
        self._busy_since = time.monotonic()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Report a wait for what may take any time."""
        self._busy_since = None
        try:
            yield
        finally:
            self.mark_active()

    @property
    def inactive_seconds(self) -> float:
        """Seconds since the last beat, 0.0 during a wait."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since


class SupervisedThread(threading.Thread):
    """Runs :meth:`work`; ``failed(name)`` is called if that raises, after the traceback's line."""

    def __init__(self, name: str, failed: Callable[[str], None]) -> None:
        # A daemon thread, so that one which cannot be ended does not keep the process alive.
        super().__init__(name=name, daemon=True)
        self.on_failed = failed
        self.activity = ActivityTimer()

    def run(self) -> None:
        """Run until the work is done or fails."""
        try:
            self.work()
        except Exception:
            log.exception("%s failed. This is a bug in pylsyncd: please report it.", self.name)
            self.on_failed(self.name)

    def work(self) -> None:
        """Do what the part is there for; overridden by each."""
        raise NotImplementedError
