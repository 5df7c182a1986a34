"""The names that events have reported lately, so that a scan does not report them again. No I/O."""

from collections import deque
from collections.abc import Collection, Iterator
from typing import Generic, NamedTuple

from pylsyncd.watcher.watches import D

# Nanoseconds that a ctime may lie before its change: the kernel takes it from the clock's last
# tick, 10 ms at most.
_TICK_NS = 10_000_000

# A name takes 150 bytes, the first one of a directory 350. Names beyond that are reported again,
# which costs time and no correctness.
_MAX_NAMES_PER_PERIOD = 20_000

_PERIODS = 3

_ITSELF = b""


class _Events(NamedTuple):
    """The names that had events in one directory, with the times of the last ones."""

    of_contents: dict[bytes, int]
    others: dict[bytes, int]


class ReportedNames(Generic[D]):
    """Names by the watch descriptor of their directory, with the time of the last event.

    A directory's own name stands for itself: with the time of the last event in it. The names of
    the last three periods are kept.
    """

    def __init__(self) -> None:
        self._periods: deque[dict[D, _Events]] = deque([{}], maxlen=_PERIODS)
        self._room = _MAX_NAMES_PER_PERIOD
        self._incomplete_periods = 0

    def add(
        self, wd: D, names: Collection[bytes], now_ns: int, *, has_content: bool = True
    ) -> None:
        """Add names for which changes are taken now, before any destination looks at them.

        ``has_content`` tells that the changes have the hint that the contents are new.
        """
        known = self._periods[-1].get(wd)
        if known is None:
            if self._room <= 0:
                return
            self._room -= 1
            known = self._periods[-1][wd] = _Events({}, {})
        known.others[_ITSELF] = now_ns
        if self._room > 0:
            self._room -= len(names)
            (known.of_contents if has_content else known.others).update(
                dict.fromkeys(names, now_ns)
            )

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

    def has_reported(self, wd: D, name: bytes, ctime_ns: int) -> bool:
        """Return True if each change of a file up to this ctime came before its last event."""
        return any(
            max(events.of_contents.get(name, 0), events.others.get(name, 0)) - _TICK_NS > ctime_ns
            for events in self._events(wd)
        )

    def has_reported_content(self, wd: D, name: bytes, mtime_ns: int) -> bool:
        """Return True if a content with this time was there before the last event about contents.

        A close, or an event of attributes alone, does not tell what was written through mmap.
        """
        return any(
            events.of_contents.get(name, 0) - _TICK_NS > mtime_ns for events in self._events(wd)
        )

    def has_reported_directory(self, wd: D, ctime_ns: int) -> bool:
        """Return True if each change of a directory up to this ctime came before its last event."""
        return self.has_reported(wd, _ITSELF, ctime_ns)

    def _events(self, wd: D) -> Iterator[_Events]:
        return (events for period in self._periods if (events := period.get(wd)) is not None)
