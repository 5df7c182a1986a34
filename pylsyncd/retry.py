"""When to try again. No clock, no randomness of its own: both come in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds to wait before the next attempt; they double from ``first`` up to ``longest``."""

    first: float = 1.0
    longest: float = 300.0
    held: float = 900.0
    """Before a destination that only a person can mend is tried once more."""
    at_once: int = 3
    """How often in a row the same may be tried again without a pause."""

    def after(self, failures: int, jitter: float) -> float:
        """Return the pause after that many failures in a row; ``jitter`` is from 0.0 to 1.0.

        It takes away up to a quarter, so that destinations which failed together do not all come
        back at once.
        """
        pause = min(self.longest, self.first * 2.0 ** min(failures - 1, 32))
        return pause * (1.0 - jitter / 4.0)
