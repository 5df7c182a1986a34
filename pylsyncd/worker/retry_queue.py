"""Changes to carry, and when."""

import random
import time

from pylsyncd.model.moments import earliest
from pylsyncd.pipeline.backlog import Backlog
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy

# Seconds. What is waited for makes the changes due by itself.
_MAX_WAIT_FOR_OTHERS = 600.0


class RetryQueue:
    """Changes that are tried together, and the time of the next attempt."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self.backlog = Backlog()
        self.due_at = 0.0
        """By the monotonic clock."""
        self.failure_count = 0
        """Failures in a row with the same verdict."""
        self.verdict = Verdict.DONE
        self.since: float | None = None
        """When the first of the changes was seen, by the monotonic clock; None if unknown."""

    def is_due(self) -> bool:
        """Return True if there are changes to try now."""
        return bool(self.backlog) and time.monotonic() >= self.due_at

    def make_due(self) -> None:
        """Let the next attempt start at once."""
        self.due_at = 0.0

    def schedule_retry(self, verdict: Verdict) -> None:
        """Count a failure and schedule the next attempt."""
        # Another verdict starts from the shortest pause: its cause is another one.
        self.failure_count = self.failure_count + 1 if verdict is self.verdict else 1
        self.verdict = verdict
        jitter = random.random()  # noqa: S311  # no secret
        pause = self._policy.pause_after(verdict, self.failure_count, jitter)
        self.due_at = time.monotonic() + pause

    def await_others(self) -> None:
        """Wait for newer changes, or for others that are being sent."""
        self.failure_count = 0
        self.verdict = Verdict.DONE
        self.due_at = time.monotonic() + _MAX_WAIT_FOR_OTHERS

    def reset(self) -> None:
        """Forget failures and times once the backlog is empty."""
        self.failure_count = 0
        self.verdict = Verdict.DONE
        self.due_at = 0.0
        self.since = None

    def include_since(self, since: float | None) -> None:
        """Lower ``since`` to the time of other changes in the backlog."""
        self.since = earliest(self.since, since)
