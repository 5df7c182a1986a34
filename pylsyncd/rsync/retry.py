"""When to try again. No clock, no randomness of its own: both come in."""

from dataclasses import dataclass

from pylsyncd.rsync.outcomes import Verdict


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds to wait before the next attempt; they double from ``first`` up to ``longest``."""

    first: float = 1.0
    longest: float = 300.0
    held: float = 900.0
    """Before a destination that only a person can mend is tried once more."""
    guarded: float = 30.0
    """The longest one while the source is not what it should be: to look is cheap, and local."""
    again: float = 4.0
    """The longest one when it was the source that changed under rsync."""
    at_once: int = 3
    """How often in a row that may be tried again without a pause."""

    def after(self, verdict: Verdict, failures: int, jitter: float) -> float:
        """Return the pause after that many failures in a row; ``jitter`` is from 0.0 to 1.0.

        It takes away up to a quarter, so that destinations which failed together do not all come
        back at once.
        """
        if verdict is Verdict.AGAIN and failures <= self.at_once:
            return 0.0
        if verdict is Verdict.HELD:
            pause = self.held
        else:
            longest = {Verdict.AGAIN: self.again, Verdict.GUARDED: self.guarded}
            limit = longest.get(verdict, self.longest)
            pause = min(limit, self.first * 2.0 ** min(failures - 1, _DOUBLINGS))
        return pause * (1.0 - jitter / 4.0)


# Enough from any first pause to any longest one, and not too many for a float.
_DOUBLINGS = 64
