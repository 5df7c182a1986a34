"""A thread that scans the source beside the processing of events."""

from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import Generic, TypeVar

from pylsyncd.system.threads import StoppedError, SupervisedThread

Found = TypeVar("Found")

# Seconds that a stop waits for the thread, which a file system that does not respond may hold up.
_STOP_TIMEOUT = 1.0


class ScanThread(SupervisedThread, Generic[Found]):
    """The thread of one scan.

    ``scan()`` returns what it finds; it calls :meth:`report_progress`, and raises OSError if the
    source is gone. ``on_ended()`` is called by this thread, at its end.
    """

    def __init__(
        self,
        name: str,
        scan: Callable[[], Found],
        on_ended: Callable[[], None],
        on_failed: Callable[[str], None],
    ) -> None:
        super().__init__(name, on_failed)
        self._scan = scan
        self._on_ended = on_ended
        self.should_stop = Event()
        """Set once the thread has to stop."""
        self.has_ended = False
        """True once the thread does nothing any more. Thread-safe."""
        self.found: Found | None = None
        """What it has found; None if the source could not be read, or the thread was stopped."""

    def work(self) -> None:
        """Scan the source."""
        self.activity.mark_active()
        try:
            with suppress(StoppedError, OSError):
                self.found = self._scan()
        finally:
            self.has_ended = True
        self._on_ended()

    def report_progress(self) -> None:
        """Report, from this thread, that the scan makes progress. Raises StoppedError."""
        self.activity.mark_active()
        if self.should_stop.is_set():
            raise StoppedError

    def stop(self) -> None:
        """Stop the thread, and wait a second for its end."""
        self.should_stop.set()
        if self.ident is not None:
            self.join(_STOP_TIMEOUT)
