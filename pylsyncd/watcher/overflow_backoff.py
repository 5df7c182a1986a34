"""When to scan after the kernel has dropped events. Pure: times come in, in monotonic seconds.

A scan in the middle of an event storm is wasted, because the next events are dropped, too. So the
scan waits for the storm to end, but not for ever, and the pauses between scans grow.
"""

# Seconds without an overflow after which a storm has ended, and the longest that a storm delays
# the scan.
_STORM_END_DELAY = 0.5
_MAX_SCAN_DELAY = 30.0

# The pause after a scan, in multiples of its duration, and the limits of the pause. It doubles with
# each scan that starts less than the longest pause after the last one has ended.
_PAUSE_PER_SCAN_SECOND = 4.0
_MIN_PAUSE = 1.0
_MAX_PAUSE = 60.0


class OverflowBackoff:
    """The schedule of the scans that repair overflows of the kernel's event queue."""

    def __init__(self) -> None:
        self.count = 0
        """How many overflows there were."""
        self._first_overflow: float | None = None
        self._last_overflow = 0.0
        self._pause = 0.0
        self._last_scan_end: float | None = None

    @property
    def due_at(self) -> float | None:
        """When to scan; None if nothing was dropped since the last scan."""
        if self._first_overflow is None:
            return None
        storm_end = min(
            self._last_overflow + _STORM_END_DELAY, self._first_overflow + _MAX_SCAN_DELAY
        )
        if self._last_scan_end is None:
            return storm_end
        return max(storm_end, self._last_scan_end + self._pause)

    def record_overflow(self, now: float) -> bool:
        """Record an overflow; return True if it is the first since the last scan."""
        self.count += 1
        is_first = self._first_overflow is None
        if is_first:
            self._first_overflow = now
        self._last_overflow = now
        return is_first

    def record_scan_start(self) -> None:
        """Record that a scan starts: events dropped from now on need another one."""
        self._first_overflow = None

    def record_scan_end(self, started: float, now: float) -> None:
        """Record that the scan that started at ``started`` has ended."""
        end = self._last_scan_end
        is_in_a_row = end is not None and started - end <= _MAX_PAUSE
        shortest = max(_MIN_PAUSE, _PAUSE_PER_SCAN_SECOND * (now - started))
        self._pause = min(_MAX_PAUSE, max(shortest, 2.0 * self._pause * is_in_a_row))
        self._last_scan_end = now
