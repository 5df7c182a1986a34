"""When to scan after the kernel has dropped events. Pure: times come in, in seconds.

A scan in the middle of a storm would be worth nothing, since the next events are dropped, too. So
it waits for the storm to pass, though not for ever, and scans in a row are ever further apart.
"""

# Seconds without an overflow after which a storm counts as over, and the longest time that one
# puts the scan off.
_CALM = 0.5
_LONGEST_WAIT = 30.0

# The pause after a scan, in times of what it took, and its bounds; it doubles with each scan that
# begins within the longest pause after the last one's end.
_SHARE = 4.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class OverflowBackoff:
    """The overflows that no scan has mended yet."""

    def __init__(self) -> None:
        self.count = 0
        """How often events were dropped since the start."""
        self._first: float | None = None
        self._last = 0.0
        self._pause = 0.0
        self._ended: float | None = None

    @property
    def due_at(self) -> float | None:
        """When to scan; None when nothing was dropped since the last one."""
        if self._first is None:
            return None
        after_storm = min(self._last + _CALM, self._first + _LONGEST_WAIT)
        return after_storm if self._ended is None else max(after_storm, self._ended + self._pause)

    def record_overflow(self, now: float) -> bool:
        """Take note that events were dropped; tell whether it is the first since the last scan."""
        self.count += 1
        is_first = self._first is None
        if is_first:
            self._first = now
        self._last = now
        return is_first

    def record_scan_start(self) -> None:
        """Begin a scan: what is dropped from now on is for the next one."""
        self._first = None

    def record_scan_end(self, began: float, now: float) -> None:
        """End the scan that began then."""
        is_in_a_row = self._ended is not None and began - self._ended <= _LONGEST_PAUSE
        shortest = max(_FIRST_PAUSE, _SHARE * (now - began))
        self._pause = min(_LONGEST_PAUSE, max(shortest, 2.0 * self._pause * is_in_a_row))
        self._ended = now
