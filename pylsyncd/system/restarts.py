"""When a failed thread is replaced: pauses that grow, and end early if a person asks."""

import random
import time

MIN_PAUSE = 1.0
MAX_PAUSE = 300.0
"""Seconds from a failure to the replacement: the first pause, and the longest."""

HEALTHY_AFTER = 3600.0
"""Seconds without a failure after which the pauses begin with the first one again."""

# Enough from the first pause to the longest, and no overflow of a float.
_MAX_DOUBLINGS = 16


class RestartSchedule:
    """The pauses before the replacements of one thread. Used by one thread at a time."""

    def __init__(self) -> None:
        self._failures = 0
        self._restarted_at = 0.0

    def next_pause(self) -> float:
        """Count a failure; return the seconds until the replacement starts.

        Jitter shortens them by up to a quarter, so that threads that failed together do not all
        come back at once.
        """
        now = time.monotonic()
        if now - self._restarted_at >= HEALTHY_AFTER:
            self._failures = 0
        self._failures += 1
        pause = min(MAX_PAUSE, MIN_PAUSE * 2.0 ** min(self._failures - 1, _MAX_DOUBLINGS))
        pause *= 1.0 - random.random() / 4.0  # noqa: S311  # no secret
        self._restarted_at = now + pause
        return pause


class DelayedStart:
    """The time at which the replacement of a failed thread starts, by the monotonic clock."""

    def __init__(self, pause: float) -> None:
        now = time.monotonic()
        self.due_at = now + pause
        self._earliest = now + min(pause, MIN_PAUSE)

    def hasten(self) -> None:
        """Start soon: a person asks for it."""
        self.due_at = min(self.due_at, self._earliest)
