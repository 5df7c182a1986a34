"""When to try again. Pure: neither clock nor randomness."""

from dataclasses import dataclass

from pylsyncd.rsync.outcomes import Verdict


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds to wait before the next attempt; they double up to a maximum."""

    first_pause: float = 1.0
    max_pause: float = 300.0
    held_pause: float = 900.0
    """Before another attempt at a destination that only an administrator can repair."""
    max_source_unsafe_pause: float = 30.0
    """While the source fails its checks: a check is cheap, and local."""
    max_retry_now_pause: float = 4.0
    """While the source keeps changing under rsync."""
    immediate_retries: int = 3
    """How many retries in a row need no pause."""

    def pause_after(self, verdict: Verdict, failures: int, jitter: float) -> float:
        """Return the pause after that many failures in a row; ``jitter`` is from 0.0 to 1.0.

        Jitter shortens the pause by up to a quarter, so that destinations that failed together do
        not all come back at once.
        """
        if verdict is Verdict.RETRY_NOW and failures <= self.immediate_retries:
            return 0.0
        if verdict is Verdict.HELD:
            pause = self.held_pause
        else:
            limits = {
                Verdict.RETRY_NOW: self.max_retry_now_pause,
                Verdict.SOURCE_UNSAFE: self.max_source_unsafe_pause,
            }
            limit = limits.get(verdict, self.max_pause)
            pause = min(limit, self.first_pause * 2.0 ** min(failures - 1, _MAX_DOUBLINGS))
        return pause * (1.0 - jitter / 4.0)


# Enough from any first pause to any maximum, and no overflow of a float.
_MAX_DOUBLINGS = 64
