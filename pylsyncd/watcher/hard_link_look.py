"""A look at all files of a source for their hard links, by a thread of its own."""

import time
from collections.abc import Callable

from pylsyncd.model.moments import Moment, earliest_ctime_ns
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import clock, walk
from pylsyncd.watcher.hard_link_search import HardLinkScanResult, SearchArea, scan_hard_links
from pylsyncd.watcher.scan_thread import ScanThread

# Seconds of work and of the pause after it: the look leaves two thirds of a processor to others.
_SLICE = 0.01
_PAUSE = 0.02

# How much earlier the clocks, which are not read at the same time, seem to put the same moment.
_CLOCK_ERROR_NS = 1_000_000


class HardLinkLook(ScanThread[HardLinkScanResult]):
    """The thread that finds all hard links of a source, and which files have changed since.

    It works in slices, and reads only. ``on_found()`` is called by this thread, at its end.
    """

    def __init__(
        self,
        source: bytes,
        rules: Rules,
        since: Moment,
        on_found: Callable[[], None],
        on_failed: Callable[[str], None],
    ) -> None:
        super().__init__("hard-link look", self._look, self._report_found, on_failed)
        self._source = source
        self._rules = rules
        self._since = since
        self._on_found = on_found
        self._is_urgent = False
        self._slice_ends = 0.0

    def hurry(self) -> None:
        """Make no pauses from now on: a caller waits for the result. Thread-safe."""
        self._is_urgent = True

    def _report_found(self) -> None:
        if self.found is not None:
            self._on_found()

    def _look(self) -> HardLinkScanResult:
        self._slice_ends = time.monotonic() + _SLICE
        while True:
            since_ns = self._since_ns()
            with walk.opened_root(self._source) as root:
                found = scan_hard_links(SearchArea(root, self._rules, self._pace), since_ns)
            if self._since_ns() >= since_ns - _CLOCK_ERROR_NS:
                return found
            # The clock was set back meanwhile, and has given earlier ctimes to later changes.

    def _since_ns(self) -> int:
        return earliest_ctime_ns(self._since, clock.now())

    def _pace(self) -> None:
        """Pause after each slice. Raises StoppedError if the thread has to stop."""
        self.report_progress()
        if self._is_urgent or time.monotonic() < self._slice_ends:
            return
        with self.activity.waiting():
            self.should_stop.wait(_PAUSE)
        self._slice_ends = time.monotonic() + _SLICE
