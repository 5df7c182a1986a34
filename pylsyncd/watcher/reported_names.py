"""The names that events have reported lately, so that a scan does not report them again. No I/O."""

from collections import deque
from collections.abc import Collection

# Nanoseconds that a ctime may lie before its change: the kernel takes it from the clock's last
# tick, 10 ms at most.
_TICK_NS = 10_000_000

# A name takes 150 bytes, the first one of a directory 350. Names beyond that are reported again,
# which costs time and no correctness.
_MAX_NAMES_PER_PERIOD = 20_000

_PERIODS = 3

_ITSELF = b""


class ReportedNames:
    """Names by the watch descriptor of their directory, with the time of the last event.

    A directory's own name stands for itself: with the time of the last event in it. The names of
    the last three periods are kept.
    """

    def __init__(self) -> None:
        self._periods: deque[dict[int, dict[bytes, int]]] = deque([{}], maxlen=_PERIODS)
        self._room = _MAX_NAMES_PER_PERIOD
        self._incomplete_periods = 0

    def add(self, wd: int, names: Collection[bytes], now_ns: int) -> None:
        """Add names for which changes are taken now, before any destination looks at them."""
        known = self._periods[-1].get(wd)
        if known is None:
            if self._room <= 0:
                return
            self._room -= 1
            known = self._periods[-1][wd] = {}
        known[_ITSELF] = now_ns
        if self._room > 0:
            self._room -= len(names)
            known.update(dict.fromkeys(names, now_ns))

    @property
    def is_incomplete(self) -> bool:
        """Whether there were too many names: then names may be unknown that were reported."""
        return self._room <= 0 or self._incomplete_periods > 0

    def start_period(self) -> None:
        """Start a period, and forget the oldest one."""
        is_full = self._room <= 0
        self._incomplete_periods = _PERIODS if is_full else max(0, self._incomplete_periods - 1)
        self._periods.append({})
        self._room = _MAX_NAMES_PER_PERIOD

    def clear(self) -> None:
        """Forget all names: the clock was set back, so their times cannot be compared."""
        self._periods.clear()
        self.start_period()

    def has_reported(self, wd: int, name: bytes, ctime_ns: int) -> bool:
        """Return True if each change of a file up to this ctime came before its last event."""
        return self._last_event(wd, name) - _TICK_NS > ctime_ns

    def has_reported_directory(self, wd: int, ctime_ns: int) -> bool:
        """Return True if each change of a directory up to this ctime came before its last event."""
        return self.has_reported(wd, _ITSELF, ctime_ns)

    def _last_event(self, wd: int, name: bytes) -> int:
        for period in reversed(self._periods):
            if (time_ns := period.get(wd, {}).get(name)) is not None:
                return time_ns
        return 0
