"""When to try again. No clock, no randomness of its own: both come in."""

from dataclasses import dataclass

from pylsyncd.rsync.outcomes import Verdict


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds to wait before the next attempt; they double from ``first`` up to ``longest``."""

    first_pause: float = 1.0
    max_pause: float = 300.0
    held_pause: float = 900.0
    """Before a destination that only a person can mend is tried once more."""
    max_source_unsafe_pause: float = 30.0
    """The longest one while the source is not what it should be: to look is cheap, and local."""
    max_retry_now_pause: float = 4.0
    """The longest one when it was the source that changed under rsync."""
    immediate_retries: int = 3
    """How often in a row that may be tried again without a pause."""

    def pause_after(self, verdict: Verdict, failures: int, jitter: float) -> float:
        """Return the pause after that many failures in a row; ``jitter`` is from 0.0 to 1.0.

        It takes away up to a quarter, so that destinations which failed together do not all come
        back at once.
        """
        if verdict is Verdict.RETRY_NOW and failures <= self.immediate_retries:
            return 0.0
        if verdict is Verdict.HELD:
            pause = self.held_pause
        else:
            longest = {
                Verdict.RETRY_NOW: self.max_retry_now_pause,
                Verdict.SOURCE_UNSAFE: self.max_source_unsafe_pause,
            }
            limit = longest.get(verdict, self.max_pause)
            pause = min(limit, self.first_pause * 2.0 ** min(failures - 1, _DOUBLINGS))
        return pause * (1.0 - jitter / 4.0)


# Enough from any first pause to any longest one, and not too many for a float.
_DOUBLINGS = 64
