"""A scan for what has changed while pylsyncd did not run, by a thread of its own."""

from collections.abc import Callable
from contextlib import suppress

from pylsyncd.model.changes import MutableChangeset
from pylsyncd.system.threads import StoppedError, SupervisedThread

# Seconds that a stop waits for the thread, which a file system that does not respond may hold up.
_STOP_TIMEOUT = 1.0


class DeferredScan(SupervisedThread):
    """The thread that scans a source whose events are processed already.

    ``scan()`` returns the changes; it calls :meth:`report_progress`, and raises OSError if the
    source is gone. ``on_ended()`` is called by this thread, at its end.
    """

    def __init__(
        self,
        scan: Callable[[], MutableChangeset],
        on_ended: Callable[[], None],
        on_failed: Callable[[str], None],
    ) -> None:
        super().__init__("scan after the start", on_failed)
        self._scan = scan
        self._on_ended = on_ended
        self._should_stop = False
        self.has_ended = False
        """True once the thread does nothing any more. Thread-safe."""
        self.found: MutableChangeset | None = None
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
        if self._should_stop:
            raise StoppedError

    def stop(self) -> None:
        """Stop the thread, and wait a second for its end."""
        self._should_stop = True
        if self.ident is not None:
            self.join(_STOP_TIMEOUT)
